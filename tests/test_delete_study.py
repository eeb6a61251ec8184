"""A deleted study is in no answer at once, its own copies are gone, and it comes back only once it is restored."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, Gallery, build_generation, embed_pending, ingest_folder, pending_counts
from index.intake.ingest import ingest_received
from index.intake.received import ReceivedStore
from index.keeping.delete_study import Deletion, delete_study, preview_deletion, restore_study
from index.keeping.forget import forget_patient
from index.keeping.forgotten import NamedPatient
from index.reports.sent import take_reports
from index.reports.texts import ReportText
from index.tables import Base, DeletedStudy, Instance, Patient, Report, Study
from model.errors import UnknownStudy
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder
from tests.report_samples import Sample, sr
from tests.test_received import sent

EARLIER, LATER, OTHER, SENT = "1.2.3.1", "1.2.3.2", "1.2.3.3", "1.2.4.1"
ENCODER = FakeEncoder()


class World:
    """Two studies of a patient and one of another in a folder, one more that was sent; with reports, searchable."""

    def __init__(self, catalog: Catalog, folder: Path, write_dicom: WriteDicom) -> None:
        self.catalog, self.folder, self.archive = catalog, folder, folder / "archive"
        self.store = ReceivedStore(folder / "received", min_free_bytes=0)
        self.reports = folder / "reports.csv"
        for uid, patient, date in (
            (EARLIER, "P1", "20200101"),
            (LATER, "P1", "20210101"),
            (OTHER, "P2", "20200101"),
        ):
            write_dicom(f"{uid}.dcm", study=uid, seed=int(uid[-1]), PatientID=patient, StudyDate=date)
        self.reports.write_text(
            f"study_instance_uid,accession_number,text\n{EARLIER},,Effusion.\n,A2,Clear.\n{SENT},,Pneumothorax.\n"
        )
        self.send()
        self.ingest()
        embed_pending(catalog, ENCODER, workers=0)

    @cached_property
    def gallery(self) -> Gallery:
        """Built when it is first searched."""
        build_generation(self.catalog, self.folder / "generations", ENCODER.fingerprint)
        return Gallery(self.catalog, self.folder / "generations")

    def send(self) -> Path:
        path = self.store.keep(sent(study=SENT, seed=9, PatientID="P3"))
        ingest_received(self.catalog, self.store, workers=0)
        return path

    def ingest(self) -> None:
        ingest_folder(self.catalog, self.archive, self.reports, workers=0)

    def delete(self, uid: str) -> Deletion:
        return delete_study(self.catalog, uid, self.store)

    def found(self) -> set[str]:
        """Studies that a search in images and one in reports give."""
        self.gallery.refresh(now=True)
        query = np.ones(ENCODER.dimension)
        hits = [*self.gallery.search("image", query, 20), *self.gallery.search("report", query, 20)]
        return {hit.study.study_instance_uid for hit in hits}

    def refused(self) -> list[tuple[str, str]]:
        with self.catalog.session() as session:
            query = sa.select(Instance.path, Instance.reason).where(Instance.status == "refused")
            return [(Path(path).name, reason or "") for path, reason in session.execute(query)]

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        with self.catalog.session() as session:
            return {
                name: sorted(map(tuple, session.execute(sa.select(table))), key=repr)
                for name, table in Base.metadata.tables.items()
            }


@pytest.fixture
def world(catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom) -> World:
    return World(catalog, tmp_path, write_dicom)


def count(catalog: Catalog, table: type[Study] | type[Report] | type[Patient] | type[DeletedStudy]) -> int:
    with catalog.session() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_searchers_drop_it_at_once_and_its_file_in_a_folder_stays(world: World) -> None:
    assert world.found() == {EARLIER, LATER, OTHER, SENT}
    done = world.delete(OTHER)
    assert done == Deletion(images=1, reports=0, embeddings=1, in_place=1)
    assert world.found() == {EARLIER, LATER, SENT}
    assert (world.archive / f"{OTHER}.dcm").exists() and world.refused() == [(f"{OTHER}.dcm", "deleted")]
    assert count(world.catalog, Study) == 3 and count(world.catalog, Patient) == 2


def test_no_later_study_is_shown_in_its_place(world: World) -> None:
    world.found()
    held = world.gallery.snapshot  # of a search that began before
    assert held is not None
    world.delete(OTHER)
    world.store.keep(sent(study="1.2.99", seed=77, PatientID="P9"))
    ingest_received(world.catalog, world.store, workers=0)
    hits = held.search("image", np.ones(ENCODER.dimension), 20)
    assert {hit.study.study_instance_uid for hit in hits} == {EARLIER, LATER, SENT}


def test_its_own_copies_and_reports_are_gone(world: World) -> None:
    path = world.send()
    done = world.delete(SENT)
    assert done == Deletion(images=1, reports=1, embeddings=2, own_copies=1)
    assert not path.exists() and world.refused() == []
    with world.catalog.session() as session:
        assert session.scalars(sa.select(Report.text).where(Report.text.contains("Pneumothorax"))).all() == []


def test_later_studies_whose_prior_it_was_are_embedded_again(world: World) -> None:
    assert world.delete(EARLIER).priors == 1
    assert pending_counts(world.catalog, ENCODER.fingerprint)["image"] == 1
    embed_pending(world.catalog, ENCODER, workers=0)
    assert world.found() == {LATER, OTHER, SENT}


def test_a_dry_run_tells_the_same_and_changes_nothing(world: World) -> None:
    before = world.rows()
    for uid in (EARLIER, SENT):
        preview = preview_deletion(world.catalog, uid, world.store)
        assert world.rows() == before
        assert preview == World.delete(world, uid) and preview.images == 1
        restore_study(world.catalog, uid, world.store)
        before = world.rows()


def test_nothing_of_it_comes_back_unasked(world: World, write_dicom: WriteDicom) -> None:
    for uid in (EARLIER, SENT):
        world.delete(uid)
    path = world.send()  # the same door, the same file
    write_dicom("another.dcm", study=EARLIER, seed=50, PatientID="P1", ViewPosition="LL")
    write_dicom("copy.dcm", study=SENT, seed=9, PatientID="P3")
    world.ingest()
    assert world.found() == {LATER, OTHER} and not path.exists()
    assert {reason for _, reason in world.refused()} == {"deleted"} and len(world.refused()) == 4
    with world.catalog.session() as session:
        refused = session.execute(
            sa.select(Report.status, Report.text, Report.reason).where(Report.reason == "deleted")
        )
        assert {tuple(row) for row in refused} == {("refused", "", "deleted")}


def test_a_report_that_is_sent_for_it_is_refused_and_says_why(world: World) -> None:
    world.delete(EARLIER)
    (outcome,) = take_reports(world.catalog, [ReportText("sent", "Effusion.", study_instance_uid=EARLIER)])
    assert (outcome.status, outcome.reason) == ("refused", "deleted")


def test_a_restored_study_comes_back_with_the_next_ingest(world: World) -> None:
    world.delete(EARLIER)
    world.delete(SENT)
    world.ingest()
    assert restore_study(world.catalog, EARLIER, world.store)
    assert not restore_study(world.catalog, EARLIER, world.store)
    world.ingest()
    embed_pending(world.catalog, ENCODER, workers=0)
    assert world.found() == {EARLIER, LATER, OTHER}
    assert restore_study(world.catalog, SENT, world.store)
    world.send()
    world.ingest()
    embed_pending(world.catalog, ENCODER, workers=0)
    assert world.found() == {EARLIER, LATER, OTHER, SENT} and world.refused() == []
    assert count(world.catalog, DeletedStudy) == 0


def test_duplicates_and_older_versions_go_with_it(world: World, write_dicom: WriteDicom) -> None:
    write_dicom("copy.dcm", study=EARLIER, seed=1, PatientID="P1", StudyDate="20200101")
    newer = world.store.keep(sent(study=SENT, sop=f"{SENT}.10", seed=10, PatientID="P3"))
    ingest_received(world.catalog, world.store, workers=0)
    world.ingest()
    assert (f"{newer.name}", "") not in world.refused()
    world.delete(EARLIER)
    world.delete(SENT)
    assert sorted(world.refused()) == [(f"{EARLIER}.dcm", "deleted"), ("copy.dcm", "deleted")]
    assert list(world.store.folder.rglob("*.dcm")) == []


def test_a_structured_report_of_the_archives_own_goes_with_its_study(world: World) -> None:
    before = set(world.store.folder.rglob("*.dcm"))
    world.store.keep(sr(Sample(study="1.2.7.1", patient="P7")))
    world.store.keep(sent(study="1.2.7.1", seed=70, PatientID="P7"))
    ingest_received(world.catalog, world.store, workers=0)
    done = world.delete("1.2.7.1")
    assert (done.reports, done.own_copies) == (1, 2)
    assert set(world.store.folder.rglob("*.dcm")) == before


def test_a_report_that_two_studies_could_have_had_is_the_others_now(world: World, write_dicom: WriteDicom) -> None:
    for uid, patient in (("1.2.5.1", "P5"), ("1.2.5.2", "P6")):
        write_dicom(f"{uid}.dcm", study=uid, seed=60, PatientID=patient, AccessionNumber="SAME")
    world.reports.write_text("accession_number,text\nSAME,Nodule.\n")
    world.ingest()
    world.delete("1.2.5.1")
    with world.catalog.session() as session:
        query = sa.select(Study.study_instance_uid).join(Report).where(Report.text == "Nodule.")
        assert session.scalars(query).all() == ["1.2.5.2"]


def test_deleting_again_is_no_error_and_an_unknown_study_is(world: World) -> None:
    world.delete(OTHER)
    assert world.delete(OTHER) == Deletion() == preview_deletion(world.catalog, OTHER, world.store)
    for act in (delete_study, preview_deletion):
        with pytest.raises(UnknownStudy):
            act(world.catalog, "9.9", world.store)
    assert count(world.catalog, DeletedStudy) == 1


@pytest.mark.parametrize("goes_on", ["delete", "restore"])
def test_killed_between_rows_and_files_it_is_completed(
    world: World, monkeypatch: pytest.MonkeyPatch, goes_on: str
) -> None:
    path = world.send()

    def killed(*_: object, **__: object) -> None:
        raise SystemError("killed")

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(SystemError):
        world.delete(SENT)
    monkeypatch.undo()
    assert path.exists() and SENT not in world.found()
    act: Callable[..., object] = delete_study if goes_on == "delete" else restore_study
    act(world.catalog, SENT, world.store)
    assert not path.exists() and world.refused() == []


def test_a_file_that_is_sent_again_meanwhile_is_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = Path.unlink
    again: list[Thread] = []

    def restore_and_send() -> None:
        restore_study(world.catalog, SENT, world.store)
        world.send()

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".dcm" and not again:
            again.append(Thread(target=restore_and_send))
            again[0].start()
            again[0].join(0.5)  # as far as it comes
        remove(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    world.delete(SENT)
    again[0].join()

    with world.catalog.session() as session:
        (image,) = session.scalars(sa.select(Instance).where(Instance.study.has(Study.study_instance_uid == SENT)))
    assert Path(image.path).exists()


def test_killed_in_its_transaction_nothing_has_happened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.rows()

    def killed(*_: object, **__: object) -> None:
        raise SystemError("killed")

    monkeypatch.setattr("index.keeping.delete_study.match_reports", killed)
    with pytest.raises(SystemError):
        world.delete(EARLIER)
    assert world.rows() == before


def test_forgetting_the_patient_reaches_what_was_deleted_before(world: World) -> None:
    world.delete(EARLIER)
    forget_patient(world.catalog, NamedPatient("P1"), store=world.store, generations=world.folder / "generations")
    key = world.catalog.patient_key("P1")
    with world.catalog.session() as session:
        assert session.scalars(sa.select(Instance.id).where(Instance.patient_key == key)).all() == []


def test_what_is_kept_of_a_deleted_study_is_a_pseudonym(world: World) -> None:
    world.delete(EARLIER)
    with world.catalog.session() as session:
        (kept,) = session.scalars(sa.select(DeletedStudy)).all()
        details = session.scalars(sa.select(Instance.detail)).all()
    assert EARLIER not in kept.key and all(EARLIER not in (detail or "") for detail in details)
