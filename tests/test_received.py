"""What is sent to the archive is kept before it is acknowledged, taken in once, and replaced by what is sent later."""

import io
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.uid import ImplicitVRLittleEndian

from index import Catalog, embed_pending, ingest_folder, pending_counts
from index.intake.ingest import ingest_received
from index.intake.received import ReceivedStore
from index.tables import Embedding, EmbeddingRemoval, Instance, Study
from model.errors import ArchiveError
from tests.conftest import WriteDicom, chest_dataset
from tests.fakes import FakeEncoder


@pytest.fixture
def store(tmp_path: Path) -> ReceivedStore:
    return ReceivedStore(tmp_path / "received", min_free_bytes=0)


def sent(**arguments: object) -> bytes:
    buffer = io.BytesIO()
    chest_dataset(**arguments).save_as(buffer, enforce_file_format=True)  # type: ignore[arg-type]
    return buffer.getvalue()


def reasons(catalog: Catalog) -> list[str]:
    with catalog.session() as session:
        return sorted(row.reason or row.status for row in session.scalars(sa.select(Instance)))


def test_what_is_kept_waits_until_it_is_taken_in(catalog: Catalog, store: ReceivedStore) -> None:
    path = store.keep(sent())
    assert path.read_bytes() == sent() and [item.path for item in store.waiting()] == [path]
    assert ingest_received(catalog, store, workers=0).accepted == 1
    assert store.waiting() == []
    assert ingest_received(catalog, store, workers=0).accepted == 0


def test_the_same_object_twice_is_one_study(catalog: Catalog, store: ReceivedStore) -> None:
    for _ in range(2):
        store.keep(io.BytesIO(sent()))
        ingest_received(catalog, store, workers=0)
    assert reasons(catalog) == ["accepted"]


def test_a_changed_instance_takes_the_place_of_the_old_one_and_back(catalog: Catalog, store: ReceivedStore) -> None:
    encoder = FakeEncoder()
    first, second = sent(seed=1, sop="1.2.3"), sent(seed=2, sop="1.2.3")
    for data in (first, second, first):
        path = store.keep(data)
        ingest_received(catalog, store, workers=0)
        assert pending_counts(catalog, encoder.fingerprint)["image"] == 1
        embed_pending(catalog, encoder)
        with catalog.session() as session:
            accepted = session.scalars(sa.select(Instance).where(Instance.status == "accepted")).one()
            assert Path(accepted.path) == path
            assert session.scalar(sa.select(sa.func.count()).select_from(Study)) == 1
    with catalog.session() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Embedding)) == 1
        assert session.scalar(sa.select(sa.func.count()).select_from(EmbeddingRemoval)) == 2


def test_the_last_of_several_versions_in_one_go_counts(catalog: Catalog, store: ReceivedStore) -> None:
    first, second = sent(seed=1, sop="1.2.3"), sent(seed=2, sop="1.2.3")
    for data in (first, second, first):
        path = store.keep(data)
    ingest_received(catalog, store, workers=0)
    with catalog.session() as session:
        assert Path(session.scalars(sa.select(Instance.path).where(Instance.status == "accepted")).one()) == path


def test_versions_that_are_taken_in_once_more_after_a_kill_end_with_the_last(
    catalog: Catalog, store: ReceivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.keep(sent(seed=1, sop="1.2.3"))
    newest = store.keep(sent(seed=2, sop="1.2.3"))
    with monkeypatch.context() as killed:  # when the rows were committed, and both objects still waited
        killed.setattr(ReceivedStore, "done", lambda self, waiting: None)
        ingest_received(catalog, store, workers=0)
    ingest_received(catalog, store, workers=0)
    with catalog.session() as session:
        accepted = session.scalars(sa.select(Instance.path).where(Instance.status == "accepted")).one()
    assert Path(accepted) == newest


def test_one_object_in_a_file_and_sent_by_another_system_is_one(
    catalog: Catalog, store: ReceivedStore, tmp_path: Path
) -> None:
    encoder = FakeEncoder()
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "film.dcm").write_bytes(sent(sop="1.2.3"))
    ingest_folder(catalog, folder, workers=0)
    embed_pending(catalog, encoder)
    dataset = chest_dataset(sop="1.2.3")  # PS3.10 7.1 leaves open who writes the file meta information, and how
    dataset.file_meta.ImplementationVersionName = "OTHER"
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    store.keep(buffer.getvalue())
    assert ingest_received(catalog, store, workers=0).refused == {"duplicate": 1}
    assert reasons(catalog) == ["accepted", "duplicate"]
    assert pending_counts(catalog, encoder.fingerprint)["image"] == 0


@pytest.mark.parametrize(
    "changed",
    [{"PatientID": "P2"}, {"StudyDate": "20240302"}, {"ViewPosition": "AP"}, {"AccessionNumber": "B"}, {"seed": 9}],
)
def test_an_object_that_says_something_else_takes_the_place_of_the_old_one(
    catalog: Catalog, store: ReceivedStore, changed: dict[str, object]
) -> None:
    store.keep(sent(sop="1.2.3"))
    ingest_received(catalog, store, workers=0)
    path = store.keep(sent(sop="1.2.3", **changed))
    assert ingest_received(catalog, store, workers=0).updated == 1
    with catalog.session() as session:
        assert session.scalar(sa.select(Instance.path).where(Instance.status == "accepted")) == str(path)


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_study_that_is_sent_anew_for_another_patient_moves_as_a_whole(
    catalog: Catalog, store: ReceivedStore, rounds: int
) -> None:
    def send_all(patient: str, *numbers: int) -> None:
        for number in numbers:
            store.keep(sent(study="1.2.3.1", sop=f"1.2.3.1.{number}", seed=number, PatientID=patient))
            if rounds > 1:
                ingest_received(catalog, store, workers=0)
        ingest_received(catalog, store, workers=0)

    def patients() -> list[str | None]:
        query = sa.select(Instance.patient_key).where(Instance.status == "accepted")
        with catalog.session() as session:
            study = session.scalars(sa.select(Study)).one()
            return [study.patient.key, *session.scalars(query.order_by(Instance.sop_instance_uid))]

    right, wrong = catalog.patient_key("P2"), catalog.patient_key("P1")
    send_all("P1", 1, 2, 3)
    assert patients() == [wrong] * 4
    send_all("P2", 1, 2)  # the third image still says who it is of
    assert patients() == [wrong] * 4
    send_all("P2", 3)
    assert patients() == [right] * 4


def test_an_unusable_new_version_leaves_the_old_one_in_place(catalog: Catalog, store: ReceivedStore) -> None:
    store.keep(sent(sop="1.2.3"))
    store.keep(sent(sop="1.2.3", PixelData=b"\0\1" * 10))
    ingest_received(catalog, store, workers=0)
    assert reasons(catalog) == ["accepted", "truncated"]


def test_what_a_folder_already_gave_is_a_duplicate(
    catalog: Catalog, store: ReceivedStore, archive: Path, write_dicom: WriteDicom
) -> None:
    data = write_dicom("a.dcm").read_bytes()
    ingest_folder(catalog, archive, workers=0)
    store.keep(data)
    ingest_received(catalog, store, workers=0)
    assert reasons(catalog) == ["accepted", "duplicate"]


def test_a_corrected_patient_id_moves_the_study(catalog: Catalog, store: ReceivedStore) -> None:
    for patient in ("P1", "P2"):
        store.keep(sent(sop="1.2.3", PatientID=patient))
        ingest_received(catalog, store, workers=0)
    with catalog.session() as session:
        study = session.scalars(sa.select(Study)).one()
        assert study.patient.key == catalog.patient_key("P2")


def test_a_nearly_full_disk_refuses_before_anything_is_promised(tmp_path: Path) -> None:
    store = ReceivedStore(tmp_path / "received", min_free_bytes=2**62)
    with pytest.raises(ArchiveError) as caught:
        store.keep(b"x")
    assert caught.value.slug == "storage-full"
    assert store.waiting() == []


def test_what_died_in_the_middle_is_swept_away_and_what_lives_is_not(catalog: Catalog, store: ReceivedStore) -> None:
    store.keep(sent(sop="1.2.3"))
    waiting, objects = store.folder / "waiting", store.folder / "objects"
    orphan = waiting / f"{1:020d}-{'ab' * 32}"
    kept: list[list[str]] = []

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if not kept:  # another process takes in what waits while this one still writes
                (objects / "dead.partial").write_bytes(b"half")
                orphan.touch()
                kept.append([])
                ingest_received(catalog, store, workers=0)
                kept.append(sorted(path.suffix for path in objects.iterdir() if path.is_file()))
            return super().read(size)

    path = store.keep(Slow(sent(sop="1.2.4")))
    assert kept[1] == [".partial"]  # that of the living
    assert orphan.exists()  # it might have been the marker of the living
    ingest_received(catalog, store, workers=0)
    assert path.exists()
    assert reasons(catalog) == ["accepted", "accepted"]
    assert not orphan.exists()
    assert [path for path in objects.iterdir() if path.is_file()] == []


def test_an_object_over_the_limit_leaves_nothing(store: ReceivedStore) -> None:
    with pytest.raises(ArchiveError) as caught:
        store.keep(b"x" * 100, limit=99)
    assert caught.value.slug == "too-large"
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


def test_an_object_that_fails_its_check_leaves_nothing(store: ReceivedStore) -> None:
    def check(path: Path) -> None:
        assert path.read_bytes() == b"x"
        raise ArchiveError("No.", "not-wanted")

    with pytest.raises(ArchiveError) as caught:
        store.keep(b"x", check=check)
    assert caught.value.slug == "not-wanted"
    assert [path for path in store.folder.rglob("*") if path.is_file()] == [] and store.waiting() == []
