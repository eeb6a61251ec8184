"""A zip file: its DICOM members become the archive's own copies, so the zip may be deleted afterwards."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from ..dicom import Refusal
from ..intake.examine import Source
from ..intake.received import ReceivedStore
from ..reports.texts import MAX_TEXT, ReportText, read_text
from .zip_members import Member, members_of

__all__ = ["ZipSource"]

PICTURES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class ZipSource:
    """DICOM members are kept in the store; all others are refused, each as ``<zip>#<name>``, nothing is unpacked by
    name. ``*.txt`` members are reports, named by an accession number or study instance UID.

    A zip file that was cut short gives what can be read of it. Content that the store already holds changes nothing.
    ``files`` raises InputError: no-such-file, not-a-zip; ArchiveError: storage-full.
    """

    def __init__(self, path: Path, store: ReceivedStore) -> None:
        self.name = str(path)
        self.store = store
        self._path = path.absolute()
        self._known = 0

    def files(self) -> Iterator[Source]:
        names: Counter[str] = Counter()
        for member in members_of(self._path, lambda name: True, self._count):
            shown = _shown(member.name)
            names[shown] += 1
            if names[shown] > 1:  # a zip may hold one name several times
                shown += f" ({names[shown]})"
            where = Path(f"{self._path}#{shown}") if shown else self._path
            if member.refusal or member.data is None:
                yield Source(where, refusal=member.refusal)
                continue
            head = member.data.read(132)
            if head[128:] == b"DICM":
                yield self._kept(member.data)
            elif not _is_text(member.name):
                yield Source(where, refusal=_no_dicom(member.name, head))

    def reports(self) -> Iterator[ReportText]:
        for member in members_of(self._path, _is_text, lambda count: None):
            if member.data is None or (text := member.data.read(MAX_TEXT + 1))[128:132] == b"DICM":
                continue  # has its row
            yield self._report(member, text)

    def known(self) -> int:
        return self._known

    def _count(self, members: int) -> None:
        self._known = members

    def _kept(self, data: BinaryIO) -> Source:
        data.seek(0)
        digest = hashlib.file_digest(data, "sha256")  # type: ignore[arg-type]  # typeshed's BinaryIO has no readinto
        known = self.store.find(digest.hexdigest())
        if known:  # not sent anew: if another version took its place since, that one stays
            return Source(known)
        data.seek(0)
        return Source(self.store.keep(data), replaces=True)

    def _report(self, member: Member, text: bytes) -> ReportText:
        stem = PurePosixPath(member.name).stem.replace("\x00", "")[:64] or "_"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{stem}.txt")
            path.write_bytes(text)
            report = read_text(path)
        return replace(report, source=f"{self._path}#{_shown(member.name)}", by_name=True)


def _is_text(name: str) -> bool:
    return name.lower().endswith(".txt")


def _no_dicom(name: str, head: bytes) -> Refusal:
    """The reasons are those of files in a folder."""
    suffix = PurePosixPath(name).suffix.lower()
    if not head:
        return Refusal("empty-file", "The member is empty.")
    if head.startswith(b"PK\3\4") or suffix == ".zip":
        return Refusal("nested-archive", "A zip file within a zip file is not unpacked. Ingest it by itself.")
    if head.startswith(PICTURES):
        message = "A JPEG or PNG picture names no study or patient. List it in a manifest and ingest that."
        return Refusal("no-identity", message)
    if suffix in (".dcm", ".dicom"):
        return Refusal("not-dicom", "Expected a DICOM file; found no DICM prefix at byte 128.")
    return Refusal("not-an-image", "Expected a DICOM file.")


def _shown(name: str) -> str:
    """A name that cannot move a terminal's cursor or turn the reading direction."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name)
