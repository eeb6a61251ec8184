"""Open-i's reports from each edition: XML as published, CSV, JSON Lines."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ...csv_file import read_csv
from .table import REPORT_UNREADABLE, Skipped, TableError

__all__ = ["OpenIReport", "picture_key", "read_csv_reports", "read_json_reports", "read_xml_reports"]

PICTURE = re.compile(r"(?:CXR)?(\d+)(?:_\d+)?_(IM-[\d-]+)")


@dataclass(frozen=True)
class OpenIReport:
    """terms: of the index, with qualifiers where the edition has them; pictures: file name and projection, which is
    empty where it is not known."""

    uid: str
    findings: str
    impression: str
    terms: Sequence[str]
    pictures: Sequence[tuple[str, str]]


def picture_key(name: str) -> str:
    """What the names of one picture have in common: CXR1_1_IM-0001-3001.png as published, 1_IM-0001-3001.dcm.png."""
    parts = PICTURE.match(name)
    return f"{parts[1]} {parts[2]}" if parts else name


def read_csv_reports(path: Path, views: Mapping[str, Sequence[tuple[str, str]]]) -> Iterator[OpenIReport]:
    """views: pictures by uid, of the projections. Raises TableError that names the line."""
    for line, row in read_csv(path, ("uid", "findings", "impression"), "Expected Open-i's indiana_reports.csv."):
        if not row["uid"]:
            raise TableError(f"{path}, line {line}: uid is empty.")
        terms = row.get("MeSH") or row.get("Problems") or ""
        yield OpenIReport(row["uid"], row["findings"], row["impression"], terms.split(";"), views.get(row["uid"], ()))


def read_json_reports(path: Path) -> Iterator[OpenIReport]:
    """Raises TableError that names the line."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for line, text in enumerate(stream, start=1):
                if text.strip():
                    yield _report(text, f"{path}, line {line}")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: the reports cannot be read: {error}.") from error


def _report(text: str, at: str) -> OpenIReport:
    try:
        row = json.loads(text)
        terms = row.get("MeSH") or row.get("Problems") or ""
        pictures = [(image["filename"], image.get("projection") or "") for image in row.get("images") or ()]
        findings, impression = row.get("findings") or "", row.get("impression") or ""
        if not isinstance(findings, str) or not isinstance(impression, str):
            raise TypeError(f"findings and impression are {findings!r:.20} and {impression!r:.20}, no texts")
        return OpenIReport(str(row["uid"]), findings, impression, terms.split(";"), pictures)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TableError(
            f"{at}: expected a JSON object with uid, findings, impression and, if known, MeSH and images"
            f" ({type(error).__name__}: {error})."
        ) from None


def read_xml_reports(folder: Path, view_of: Mapping[str, str]) -> Iterator[OpenIReport | Skipped]:
    """view_of: projection by picture, as ``picture_key`` names it. A file that is no XML is skipped."""
    paths = sorted(folder.glob("*.xml"), key=lambda path: (len(path.stem), path.stem))  # 2 before 10
    if not paths:
        raise TableError(f"{folder}: expected indiana_reports.csv or ecgen-radiology/*.xml, found neither.")
    for path in paths:
        try:
            root = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError) as error:
            yield Skipped(path.stem, REPORT_UNREADABLE, str(path), str(error), path.stem)
            continue
        named = root.find(".//uId")
        uid = (named.get("id", "") if named is not None else "") or path.stem
        sections = {
            (part.get("Label") or "").upper(): "".join(part.itertext()).strip() for part in root.iter("AbstractText")
        }
        names = [image.get("id", "") for image in root.iter("parentImage")]
        keys = Counter(map(picture_key, names))
        # Two pictures that the projections cannot tell apart are of unknown view.
        views = [view_of.get(picture_key(name), "") if keys[picture_key(name)] == 1 else "" for name in names]
        yield OpenIReport(
            uid.removeprefix("CXR"),
            sections.get("FINDINGS", ""),
            sections.get("IMPRESSION", ""),
            [major.text or "" for major in root.iter("major")],
            [(f"{name}.png", view) for name, view in zip(names, views, strict=True)],
        )
