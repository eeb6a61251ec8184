"""Open-i, the chest radiographs and reports of Indiana University (Demner-Fushman and others 2016).

One of three layouts, and one study a patient in each:
- as published: ecgen-radiology/1.xml (AbstractText by Label, MeSH/major, parentImage ids such as
  CXR1_1_IM-0001-3001) and NLMCXR_png/CXR1_1_IM-0001-3001.png;
- the common CSV edition: indiana_reports.csv (uid, MeSH, Problems, image, indication, comparison, findings,
  impression), indiana_projections.csv (uid, filename, projection) and images/images_normalized/1_IM-0001-3001.dcm.png;
- JSON Lines with the columns of indiana_reports.csv and, as ``images``, the rows of the projections.
Only the projections say which picture is frontal: not captions, nor the numbers in file names.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...csv_file import read_csv
from .assemble import NO_FRONTAL, Study, report_note, study_row
from .open_i_labels import open_i_labels
from .open_i_reports import OpenIReport, picture_key, read_csv_reports, read_json_reports, read_xml_reports
from .table import Skipped, StudyRow, TableError

__all__ = ["read_open_i"]

REPORTS, PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"
FOLDERS = ("images/images_normalized", "images", "NLMCXR_png", "images/NLMCXR_png")
VIEW_OF = {"frontal": "FRONTAL", "lateral": "LATERAL"}
SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")

Projections = dict[str, list[tuple[str, str]]]  # by uid: file name, projection


def read_open_i(
    source: Path, images: Path | None = None, projections: Path | None = None
) -> Iterator[StudyRow | Skipped]:
    """A row a report; one without a frontal picture keeps its text alone, and its pictures are skipped.

    source: a folder in one of the layouts, or a file of reports (.csv, .jsonl). A file without ``images`` gives text
    alone; a folder must have its pictures. Raises TableError where the layout is another.
    """
    folder = source if source.is_dir() else source.parent
    table = folder / REPORTS if source.is_dir() else source
    if source.is_dir() and images is None:
        images = next((folder / name for name in FOLDERS if (folder / name).is_dir()), None)
        if images is None:
            raise TableError(
                f"{source}: expected pictures in {', '.join(FOLDERS)}; name their folder with --images, or give the"
                " file of reports itself to have the text alone."
            )
    if projections is None and (folder / PROJECTIONS).is_file():
        projections = folder / PROJECTIONS
    if images and projections is None and table.suffix == ".csv" and table.is_file():
        raise TableError(
            f"{table}: expected {PROJECTIONS} beside it for the views of {images}; name it, --projections."
        )
    views = _projections(projections) if projections else {}
    files = _Files(images) if images else None
    seen: set[str] = set()
    for report in _reports(source, views):
        if isinstance(report, Skipped):
            yield report
        elif report.uid in seen:
            yield Skipped(report.uid, "repeated row", patient_id=report.uid)
        else:
            seen.add(report.uid)
            yield from _study(report, files)


def _reports(source: Path, views: Projections) -> Iterator[OpenIReport | Skipped]:
    if source.is_dir() and (source / REPORTS).is_file():
        yield from read_csv_reports(source / REPORTS, views)
    elif source.is_dir():
        folder = source / "ecgen-radiology"
        yield from read_xml_reports(folder if folder.is_dir() else source, _by_picture(views))
    elif source.suffix in (".jsonl", ".json"):
        yield from read_json_reports(source)
    else:
        yield from read_csv_reports(source, views)


def _study(report: OpenIReport, files: "_Files | None") -> Iterator[StudyRow | Skipped]:
    study = Study(report.uid, report.uid)
    for name, projection in report.pictures if files else ():
        path = files.find(name) if files else ""
        view = VIEW_OF.get(projection.lower())
        if view is None:
            yield Skipped(report.uid, "view not known", path, projection, patient_id=report.uid)
        elif path in study.views[view]:
            yield Skipped(report.uid, "repeated row", path, patient_id=report.uid)
        else:
            study.views[view].append(path)
    if files and not study.frontal:
        yield Skipped(report.uid, f"{NO_FRONTAL}, its report is kept", study.lateral, patient_id=report.uid)
        study.views.clear()
    labels = open_i_labels(report.terms)
    yield study_row(study, None, report_note("", report.findings, report.impression, labels))


def _projections(path: Path) -> Projections:
    views: Projections = defaultdict(list)
    for _, row in read_csv(path, ("uid", "filename", "projection"), "Give Open-i's projections with --projections."):
        views[row["uid"]].append((row["filename"], row["projection"]))
    return views


def _by_picture(views: Projections) -> Mapping[str, str]:
    return {picture_key(name): projection for pictures in views.values() for name, projection in pictures}


class _Files:
    """Pictures of a folder by their file name, else by what all editions' names have in common."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise TableError(f"{folder}: expected a folder of pictures (--images).")
        self._folder = folder.resolve()
        self._paths = {path.name: path for path in sorted(self._folder.rglob("*")) if path.suffix.lower() in SUFFIXES}
        keys = Counter(picture_key(name) for name in self._paths)
        self._by_key = {picture_key(name): path for name, path in self._paths.items() if keys[picture_key(name)] == 1}

    def find(self, name: str) -> str:
        return str(self._paths.get(name) or self._by_key.get(picture_key(name)) or self._folder / name)
