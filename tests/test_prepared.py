"""Images are read ahead of the encoder in processes of their own, each once, and a bad file costs its study."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, DecoderPool, embed_pending, ingest_folder, pending_counts
from index.embedding.job import AHEAD
from index.embedding.prepared import ComingStudy, prepare_file
from index.embedding.removal import remove_embeddings
from model.encoder import StudyImages
from model.errors import ImageError
from model.image import ImageTransform
from tests.conftest import WriteDicom
from tests.crashing import prepare_broken
from tests.fakes import FakeEncoder
from tests.test_embed import embeddings, failures

WAIT_S = 60  # a step that never comes fails the test, instead of hanging it


def take_in(catalog: Catalog, archive: Path, write_dicom: WriteDicom, names: Sequence[str]) -> None:
    """A study of a patient of its own for each file name."""
    for number, name in enumerate(names):
        write_dicom(f"{name}.dcm", study=f"1.2.{number}", seed=number, PatientID=f"P{number}")
    ingest_folder(catalog, archive, workers=0)


def test_a_file_that_kills_its_decoder_or_hangs_in_it_costs_only_its_study(
    sqlite_catalog: Catalog,
    archive: Path,
    write_dicom: WriteDicom,
    encoder: FakeEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_in(sqlite_catalog, archive, write_dicom, ["a", "killer", "b", "hanger", "c"])
    monkeypatch.setattr("index.embedding.prepared._prepare_behind", prepare_broken)
    monkeypatch.setattr("index.embedding.prepared.DecoderPool", partial(DecoderPool, seconds=2))
    summary = embed_pending(sqlite_catalog, encoder, batch_size=5, workers=2)
    assert summary.images == 3
    assert sorted(failures(sqlite_catalog)) == [("1.2.1", "decoder-crashed"), ("1.2.3", "decoder-timeout")]
    # It may have been the machine's fault: the next run tries them again.
    monkeypatch.setattr("index.embedding.prepared._prepare_behind", prepare_file)
    assert embed_pending(sqlite_catalog, encoder, workers=1).images == 2
    assert failures(sqlite_catalog) == []


def test_the_log_names_no_file(caplog: pytest.LogCaptureFixture) -> None:
    broken: Future[np.ndarray] = Future()
    broken.set_exception(ValueError("/archive/Secret^Patient.dcm"))
    result = ComingStudy({"current_frontal": broken}).result()
    assert isinstance(result, ImageError)
    assert result.slug == "unreadable"
    assert "ValueError" in caplog.text
    assert "Secret" not in caplog.text


def test_where_no_process_can_be_started_images_are_read_here(
    sqlite_catalog: Catalog,
    archive: Path,
    write_dicom: WriteDicom,
    encoder: FakeEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_in(sqlite_catalog, archive, write_dicom, ["a", "b"])
    monkeypatch.setattr(DecoderPool, "start", lambda self: False)
    assert embed_pending(sqlite_catalog, encoder, workers=2).images == 2


def test_a_process_gives_the_numbers_of_this_one(
    sqlite_catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    take_in(sqlite_catalog, archive, write_dicom, ["a", "b", "c"])
    embed_pending(sqlite_catalog, encoder, workers=0)
    here = embeddings(sqlite_catalog)
    with sqlite_catalog.write() as session:
        remove_embeddings(session, sa.true())
    embed_pending(sqlite_catalog, encoder, workers=2)
    assert embeddings(sqlite_catalog) == here


def test_an_image_that_is_the_prior_of_the_next_study_is_decoded_once(
    sqlite_catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder
) -> None:
    for number in range(12):  # six patients of two studies, which arrive one patient after the other and back again
        patient = number if number < 6 else 11 - number
        date = "20200101" if number < 6 else "20210101"
        write_dicom(f"{number}.dcm", study=f"1.2.{number}", seed=number, PatientID=f"P{patient}", StudyDate=date)
    ingest_folder(sqlite_catalog, archive, workers=0)
    summary = embed_pending(sqlite_catalog, encoder, batch_size=2, workers=0)
    assert (summary.images, summary.decoded) == (12, 12)


class Watched(FakeEncoder):
    """Calls ``before`` with the number of the call before it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def before(self, call: int) -> None: ...

    def encode_studies(self, studies: Sequence[StudyImages]) -> np.ndarray:
        self.calls += 1
        self.before(self.calls)
        return super().encode_studies(studies)


def test_reading_runs_ahead_of_the_encoder_and_not_without_end(
    sqlite_catalog: Catalog, archive: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in(sqlite_catalog, archive, write_dicom, [str(number) for number in range(16)])
    read: list[Path] = []
    second_batch = threading.Event()

    def counted(path: Path, sha256: str, transform: ImageTransform) -> np.ndarray:
        read.append(path)
        if len(read) == 4:
            second_batch.set()
        return prepare_file(path, sha256, transform)

    class Encoder(Watched):
        def before(self, call: int) -> None:
            if call == 2:  # of eight: by now there was time to begin a batch more than the one that is encoded
                assert second_batch.wait(WAIT_S)
            assert len(read) <= 2 * (call + AHEAD)

    monkeypatch.setattr("index.embedding.prepared.prepare_file", counted)
    assert embed_pending(sqlite_catalog, Encoder(), batch_size=2, workers=0).images == 16
    assert len(read) == 16


def test_rows_are_written_while_the_next_batch_is_encoded(
    sqlite_catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    take_in(sqlite_catalog, archive, write_dicom, ["a", "b", "c"])
    written = threading.Event()

    class Encoder(Watched):
        def before(self, call: int) -> None:
            if call == 2:
                assert written.wait(WAIT_S)

    summary = embed_pending(
        sqlite_catalog, Encoder(), batch_size=1, workers=0, progress=lambda done, total: written.set()
    )
    assert summary.images == 3
    assert pending_counts(sqlite_catalog, FakeEncoder().fingerprint)["image"] == 0
