"""The whole chain from files to a searchable archive, made to be killed anywhere and started again.

``python -m tests.archive_chain`` reads ``URL MATERIAL HOME WORKERS`` from a line, runs the chain in a fork of itself,
and tells on its output ``pid N``, every stage as it begins, and ``ended STATUS``. A fork, so that a round costs no
imports; it happens before anything is opened and without threads.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import index.generations.lifecycle
from index import Gallery, GenerationInfo, build_generation, embed_pending, ingest_folder, ingest_received, open_catalog
from index.intake.received import ReceivedStore

from .conftest import chest_dataset
from .fakes import FakeEncoder

__all__ = ["STAGES", "run_chain", "write_material"]

STAGES = (
    "ingest", "embed", "build", "switch", "switched", "send", "take in", "embed again", "build again", "switch again",
    "switched again", "search",
)  # fmt: skip
PATIENTS = 24


def write_material(folder: Path) -> None:
    """``archive``: studies with priors, laterals, and files to refuse; ``sent``: later studies of the same patients, a
    prior that comes late, new versions of archived images; ``reports.csv`` for both and for nobody."""
    lines = ["accession_number,text"]
    for patient in range(PATIENTS):
        for visit in range(1 + patient % 3):
            study = f"1.2.{patient}.{visit}"
            about = {"study": study, "PatientID": f"P{patient}", "AccessionNumber": f"A{patient}.{visit}"}
            about["StudyDate"] = f"20{20 - visit:02d}0101" if patient % 2 else f"20{10 + visit:02d}0101"
            place = "sent" if visit == 2 or (visit and patient % 4 == 1) else "archive"
            _write(folder / place / f"{patient}-{visit}.dcm", seed=100 * patient + visit, **about)
            if patient % 5 == 0:
                lateral = {**about, "ViewPosition": "LL", "sop": f"{study}.99"}
                _write(folder / place / f"{patient}-{visit}-lateral.dcm", seed=5000 + patient, **lateral)
            lines.append(f"A{patient}.{visit},Report of visit {visit} of patient {patient} with words{patient}.")
    for patient in (0, 6, 12):  # sent again with other pixels
        again = {"study": f"1.2.{patient}.0", "sop": f"1.2.{patient}.0.{100 * patient + 1}", "PatientID": f"P{patient}"}
        again |= {"AccessionNumber": f"A{patient}.0", "StudyDate": "20100101"}
        _write(folder / "sent" / f"{patient}-again.dcm", seed=9000 + patient, **again)
    _write(folder / "archive" / "ct.dcm", study="1.3.1", Modality="CT")
    _write(folder / "archive" / "hand.dcm", study="1.3.2", BodyPartExamined="HAND")
    _write(folder / "archive" / "short.dcm", study="1.3.3", PixelData=b"\0\1" * 99)
    _write(folder / "sent" / "mr.dcm", study="1.3.4", Modality="MR")
    (folder / "archive" / "0-0-copy.dcm").write_bytes((folder / "archive" / "0-0.dcm").read_bytes())
    (folder / "archive" / "letter.pdf").write_bytes(b"%PDF-1.4")
    (folder / "reports.csv").write_text("\n".join([*lines, "NOBODY,A report whose study never comes."]))


def _write(path: Path, **arguments: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    chest_dataset(**arguments).save_as(path, enforce_file_format=True)  # type: ignore[arg-type]


def run_chain(url: str, material: Path, home: Path, workers: int, tell: "Tell") -> None:
    """Every stage again from its beginning: what is done already is found done. ``home``: what the archive keeps."""
    catalog = open_catalog(url)
    encoder = FakeEncoder()
    generations = home / "generations"
    tell("ingest")
    ingest_folder(catalog, material / "archive", material / "reports.csv", workers=workers)
    for again in ("", " again"):
        tell(f"embed{again}")
        embed_pending(catalog, encoder, batch_size=4, workers=workers)
        tell(f"build{again}")
        with _telling_of_the_switch(tell, again):
            build_generation(catalog, generations, encoder.fingerprint)
        if not again:
            tell("send")
            store = _send(material / "sent", home)
            tell("take in")
            ingest_received(catalog, store, workers=workers)
    tell("search")
    gallery = Gallery(catalog, generations)
    gallery.refresh()
    gallery.search("image", np.ones(encoder.dimension), 5)
    catalog.close()


def _send(sent: Path, home: Path) -> ReceivedStore:
    """A peer that sends a file until it is told that the file is safe."""
    store = ReceivedStore(home / "received", min_free_bytes=0)
    safe = home / "safe"
    safe.mkdir(exist_ok=True)
    for path in sorted(sent.iterdir()):
        if not (safe / path.name).exists():
            store.keep(path.read_bytes())
            (safe / path.name).touch()
    return store


class Tell:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, what: str) -> None:
        os.write(self._descriptor, f"{what}\n".encode())


@contextmanager
def _telling_of_the_switch(tell: Tell, again: str) -> Iterator[None]:
    """The one transaction that makes a generation live is too short to be met by chance."""
    real = index.generations.lifecycle.activate

    def activate(*arguments: Any) -> GenerationInfo:
        tell(f"switch{again}")
        found = real(*arguments)
        tell(f"switched{again}")
        return found

    index.generations.lifecycle.activate = activate
    try:
        yield
    finally:
        index.generations.lifecycle.activate = real


def _serve() -> None:
    tell = Tell(sys.stdout.fileno())
    tell("ready")
    for line in sys.stdin:
        url, material, home, workers = line.split()
        child = os.fork()
        if child == 0:
            try:
                run_chain(url, Path(material), Path(home), int(workers), tell)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        tell(f"pid {child}")
        _, status = os.waitpid(child, 0)
        tell(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    _serve()
