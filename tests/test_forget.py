"""A forgotten patient is nowhere: not in rows, bytes, indexes, own files or backups; and does not come back unasked."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, Gallery, build_generation, embed_pending, ingest_folder, migrate, open_catalog
from index.engines import LOCAL_ENGINES
from index.generations.table import LIVE, RETIRED, list_generations
from index.intake.ingest import ingest_received
from index.intake.received import ReceivedStore
from index.keeping.backup import back_up, drop_backup, restore_backup
from index.keeping.backup_file import sqlite_url
from index.keeping.forget import Forgotten, forget_patient, preview_forget
from index.keeping.forget_proof import mentions
from index.keeping.forgotten import NamedPatient, remember_patient
from index.tables import Base, Embedding, ForgottenPatient, Instance, Patient, Report, Setting, Study
from model.errors import ArchiveError, EmptyIndex
from tests.conftest import WriteDicom
from tests.fakes import FakeEncoder
from tests.test_backup import leave_half_written
from tests.test_received import sent

GONE = NamedPatient("P0")
ROOT = Path(__file__).parents[1]


class World:
    """An archive with everything in which a patient may hide. P0 is to be forgotten, P1 to stay."""

    def __init__(self, catalog: Catalog, folder: Path, write_dicom: WriteDicom) -> None:
        self.catalog, self.folder, self.write_dicom = catalog, folder, write_dicom
        self.archive, self.generations = folder / "archive", folder / "generations"
        self.store = ReceivedStore(folder / "received", min_free_bytes=0)
        self.reports = folder / "reports.csv"
        self.encoder = FakeEncoder()

    def fill(self) -> None:
        for patient in range(2):
            for number in range(2):  # the UIDs of P0 begin those of P1
                study = f"1.2.3.{number}" + "7" * patient
                about = {"PatientID": f"P{patient}", "StudyDate": f"202{number}0101"}
                self.write_dicom(f"{patient}-{number}.dcm", study=study, seed=10 * patient + number, **about)
        self.write_dicom("0-ct.dcm", study="1.2.3.0", sop="1.2.3.0.99", PatientID="P0", Modality="CT")
        self.reports.write_text(
            "study_instance_uid,accession_number,patient_id,text\n"
            "1.2.3.0,,P0,Effusion of the first.\n"
            "1.2.3.07,,P1,Effusion of the second.\n"
            ",A500,P0,Waits for a study of P0.\n"
            ",A1,,Waits: names nobody.\n"
            ",A600,P1,Waits for a study of P1.\n"
        )
        ingest_folder(self.catalog, self.archive, self.reports, workers=0)
        for patient in range(2):
            self.store.keep(sent(study=f"1.2.4.{patient}", seed=50 + patient, PatientID=f"P{patient}"))
        ingest_received(self.catalog, self.store, workers=0)
        self.index()
        self.index()

    def index(self) -> None:
        embed_pending(self.catalog, self.encoder)
        build_generation(self.catalog, self.generations, self.encoder.fingerprint)

    def forget(self, patient: NamedPatient = GONE) -> Forgotten:
        return forget_patient(self.catalog, patient, store=self.store, generations=self.generations)

    def left(self) -> dict[str, int]:
        """Rows that name P0 or P0's studies, by table, in plain SQL."""
        key = self.catalog.patient_key("P0")
        queries = {
            "patient": sa.select(sa.func.count()).where(Patient.key == key),
            "study": sa.select(sa.func.count()).where(Study.study_instance_uid.in_(("1.2.3.0", "1.2.3.1", "1.2.4.0"))),
            "instance": sa.select(sa.func.count()).where(Instance.patient_key == key),
            "report": sa.select(sa.func.count()).where(
                sa.or_(
                    Report.patient_key == key, Report.study_instance_uid == "1.2.3.0", Report.text.contains("nobody")
                )
            ),
        }
        with self.catalog.session() as session:
            return {name: session.scalar(query) or 0 for name, query in queries.items()}

    def found(self, gallery: Gallery) -> set[str]:
        gallery.refresh(now=True)
        hits = gallery.search("image", np.ones(self.encoder.dimension), 20)
        return {hit.study.study_instance_uid for hit in hits}


OTHERS = {"1.2.3.07", "1.2.3.17", "1.2.4.1"}
EMPTY = dict.fromkeys(("patient", "study", "instance", "report"), 0)


@pytest.fixture
def world(catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom) -> World:
    made = World(catalog, tmp_path, write_dicom)
    made.fill()
    return made


def test_nothing_of_the_patient_is_left_and_everything_of_others_is(world: World) -> None:
    assert all(world.left().values())
    with world.catalog.session() as session:
        query = sa.select(Embedding.vector).join(Study, Study.id == Embedding.study_id).join(Study.patient)
        query = query.where(Patient.key == world.catalog.patient_key("P1")).order_by(Embedding.id)
        others = session.scalars(query).all()
    outcome = world.forget()
    assert outcome.complete
    assert world.left() == EMPTY
    found = {place.name: place.found for place in outcome.places}
    assert found["database: patients"] == 1 and found["database: studies"] == 3
    assert found["database: images"] == 4 and found["database: reports"] == 3
    assert found["received objects"] == 1
    with world.catalog.session() as session:
        kept = session.scalars(sa.select(Embedding.vector).order_by(Embedding.id)).all()
        assert kept == others
        assert set(session.scalars(sa.select(Report.text))) == {"Effusion of the second.", "Waits for a study of P1."}
        assert session.scalars(sa.select(Setting)).all() == []
    assert outcome.in_place == [str(world.archive / name) for name in ("0-0.dcm", "0-1.dcm", "0-ct.dcm")]
    assert all(Path(path).exists() for path in outcome.in_place)


def test_searchers_leave_the_patient_out_at_once_and_files_of_indexes_are_gone(world: World) -> None:
    serving = Gallery(world.catalog, world.generations)
    assert world.found(serving) == OTHERS | {"1.2.3.0", "1.2.3.1", "1.2.4.0"}
    older = {path.name for path in world.generations.iterdir() if path.is_dir()}
    world.forget()
    assert world.found(serving) == OTHERS
    assert world.found(Gallery(world.catalog, world.generations)) == OTHERS
    [live] = list_generations(world.catalog, LIVE, RETIRED)
    assert {path.name for path in world.generations.iterdir() if path.is_dir()} == {str(live.id)}
    assert str(live.id) not in older


def test_the_removal_alone_is_enough_for_a_searcher(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = Gallery(world.catalog, world.generations)
    world.found(serving)

    def slow(*_: object, **__: object) -> None:
        assert world.found(serving) == OTHERS  # a build may take hours
        raise KeyboardInterrupt

    monkeypatch.setattr("index.keeping.forget.rebuild_live", slow)
    with pytest.raises(KeyboardInterrupt):
        world.forget()


def test_the_only_patient_may_be_forgotten(catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom) -> None:
    world = World(catalog, tmp_path, write_dicom)
    write_dicom("a.dcm", PatientID="P0")
    ingest_folder(catalog, world.archive, workers=0)
    world.index()
    serving = Gallery(catalog, world.generations)
    assert len(world.found(serving)) == 1
    assert world.forget().complete
    with pytest.raises(EmptyIndex):
        world.found(serving)
    assert [path for path in world.generations.iterdir() if path.is_dir()] == []


def test_the_bytes_are_gone_from_the_database_file(
    sqlite_catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    world = World(sqlite_catalog, tmp_path, write_dicom)
    world.fill()
    database = tmp_path / "alta.db"

    def held() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.glob("alta.db*"))

    for text in (b"Effusion of the first.", b"1.2.4.0", str(world.archive / "0-0.dcm").encode()):
        assert text in held()
    world.forget()
    for text in (b"Effusion of the first.", b"1.2.4.0", str(world.archive / "0-0.dcm").encode()):
        assert text not in held()
    assert b"Effusion of the second." in database.read_bytes()


def test_proof_finds_a_trace_that_was_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.keeping.forget._drop_unused_pages", lambda catalog: "")
    monkeypatch.setattr("index.keeping.forget._delete_securely", lambda session: None)
    monkeypatch.setattr("index.keeping.forget.rebuild_live", lambda *_, **__: None)
    monkeypatch.setattr("index.keeping.forget.Path.unlink", lambda *_, **__: None)
    outcome = world.forget()
    left = {place.name for place in outcome.places if place.left}
    assert not outcome.complete
    assert "received objects" in left
    assert {name.split()[0] for name in left} >= {"received", "generation"}
    if world.catalog.engine.dialect.name == "sqlite":
        assert "database: bytes of its file" in left
    monkeypatch.undo()
    assert world.forget().complete  # it knows still what to look for


def test_a_longer_uid_of_another_patient_is_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"..1.2.3.07/a/1.2.3.0.dcm..1.2.3.0..")
    assert mentions(file, {"1.2.3.0"}, lambda uid: []) == 3
    assert mentions(file, {"1.2.3.0"}, lambda uid: ["1.2.3.07"]) == 2
    assert mentions(file, {"1.2.3.0"}, lambda uid: ["1.2.3.07", "/a/1.2.3.0.dcm"]) == 2  # this text names it
    assert mentions(file, {"1.2.3"}, lambda uid: ["1.2.3.07", "/a/1.2.3.0.dcm"]) == 1
    assert mentions(file, {"1.9"}, lambda uid: []) == 0


@pytest.mark.parametrize("size", [8, 9, 64])
def test_a_trace_across_the_pieces_of_a_file_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("index.keeping.forget_proof.CHUNK", size)
    (tmp_path / "file").write_bytes(b"x" * 5 + b"1.2.3.0" + b"y" * 60 + b"1.2.3.0")
    assert mentions(tmp_path / "file", {"1.2.3.0"}, lambda uid: []) == 2


@pytest.mark.parametrize("kept", ["same schema", "older schema"])
def test_backups_are_cleaned_too(world: World, tmp_path: Path, kept: str) -> None:
    file = tmp_path / "backups" / "alta.db"
    back_up(world.catalog, file)
    if kept == "older schema":
        migrate(sqlite_url(file), "0001")
    killed = file.with_name("alta.db.0a0b.partial")  # what a backup that was killed leaves
    killed.write_bytes(b"1.2.3.0")
    assert b"Effusion of the first." in file.read_bytes()
    outcome = world.forget()
    assert outcome.complete and f"backup {file}" in {place.name for place in outcome.places}
    assert b"Effusion of the first." not in file.read_bytes() and b"1.2.4.0" not in file.read_bytes()
    assert not killed.exists() and [path.name for path in file.parent.iterdir()] == ["alta.db"]
    restored_url = f"sqlite:///{tmp_path / 'restored.db'}"
    restore_backup(restored_url, file)
    restored = World(open_catalog(restored_url), tmp_path, world.write_dicom)
    assert restored.left() == EMPTY
    summary = ingest_folder(restored.catalog, world.archive, workers=0)
    assert summary.refused["forgotten-patient"] == 3  # who was forgotten stays so
    restored.catalog.close()


def test_a_backup_whose_cleaning_was_killed_is_not_damaged_by_the_next(world: World, tmp_path: Path) -> None:
    file = tmp_path / "backups" / "alta.db"
    back_up(world.catalog, file)
    leave_half_written(file)
    assert world.forget().complete
    assert [path.name for path in file.parent.iterdir()] == ["alta.db"]
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    texts = {text for (text,) in connection.execute("SELECT text FROM report")}
    connection.close()
    assert texts == {"Effusion of the second.", "Waits for a study of P1."}


def test_a_backup_from_before_a_study_was_given_to_the_patient_is_cleaned_too(world: World, tmp_path: Path) -> None:
    def image(patient: str) -> None:
        world.write_dicom("moved.dcm", study="1.2.3.5", seed=5, PatientID=patient, StudyDate="20220101")
        ingest_folder(world.catalog, world.archive, workers=0)

    image("P1")  # by mistake
    file = tmp_path / "backups" / "alta.db"
    back_up(world.catalog, file)
    image("P0")
    assert world.forget().complete
    assert b"1.2.3.5" not in file.read_bytes() and b"1.2.3.07" in file.read_bytes()


def test_a_backup_that_cannot_be_reached_is_named_until_it_is_off_the_list(world: World, tmp_path: Path) -> None:
    file = tmp_path / "backups" / "alta.db"
    back_up(world.catalog, file)
    away = file.rename(tmp_path / "away.db")
    outcome = world.forget()
    assert not outcome.complete
    [place] = [place for place in outcome.places if place.name == f"backup {file}"]
    assert place.left is None and "--gone" in place.note
    away.rename(file)  # the disk is mounted again
    assert world.forget().complete
    assert b"Effusion of the first." not in file.read_bytes()
    file.unlink()
    assert not world.forget().complete
    drop_backup(world.catalog, file)
    assert world.forget().complete


def test_an_old_backup_that_comes_from_elsewhere_does_not_bring_the_patient_back(world: World, tmp_path: Path) -> None:
    file = tmp_path / "backups" / "alta.db"
    back_up(world.catalog, file)
    copy = tmp_path / "tape.db"
    copy.write_bytes(file.read_bytes())
    world.forget()
    world.forget(NamedPatient("P1"))  # and now the archive is empty
    url = world.catalog.engine.url.render_as_string(hide_password=False)
    restore_backup(url, copy)
    assert world.left() == EMPTY
    with world.catalog.session() as session:
        assert [session.scalar(sa.select(sa.func.count()).select_from(table)) for table in (Patient, Study)] == [0, 0]
        assert session.scalars(sa.select(Report.text)).all() == []
        assert session.scalar(sa.select(sa.func.count()).select_from(ForgottenPatient)) > 0


def test_what_comes_again_is_refused_at_every_door(world: World) -> None:
    world.forget()
    known = ingest_folder(world.catalog, world.archive, world.reports, workers=0)
    assert known.refused == {"forgotten-patient": 3}
    assert known.reports_refused == {"forgotten-patient": 3}
    again = ingest_folder(world.catalog, world.archive, world.reports, workers=0)
    assert (again.refused, again.studies_new) == ({"forgotten-patient": 3}, 0)
    path = world.store.keep(sent(study="1.2.4.0", seed=50, PatientID="P0"))
    assert ingest_received(world.catalog, world.store, workers=0).refused == {"forgotten-patient": 1}
    assert not path.exists() and world.store.waiting() == []
    nobody = world.store.keep(sent(study="1.2.4.0", seed=51, PatientID=None))  # a study of theirs without a name
    ingest_received(world.catalog, world.store, workers=0)
    assert not nobody.exists()
    assert world.left() == EMPTY
    with world.catalog.session() as session:
        refused = session.scalars(sa.select(Instance).where(Instance.reason == "forgotten-patient")).all()
        assert {(row.sop_instance_uid, row.patient_key, row.acquired) for row in refused} == {(None, None, None)}
        texts = session.scalars(sa.select(Report.text).where(Report.reason == "forgotten-patient")).all()
        assert set(texts) == {""}
    world.index()
    assert world.forget().complete


def test_what_was_received_and_not_read_yet_is_removed_too(world: World) -> None:
    waiting = world.store.keep(sent(study="1.2.4.8", seed=58, PatientID="P0"))
    other = world.store.keep(sent(study="1.2.4.9", seed=59, PatientID="P1"))
    assert world.forget().complete
    assert not waiting.exists() and other.exists()


def test_who_is_remembered_may_come_in_again(world: World) -> None:
    before = embedded(world)
    world.forget()
    ingest_folder(world.catalog, world.archive, world.reports, workers=0)
    assert remember_patient(world.catalog, GONE) and not remember_patient(world.catalog, GONE)
    summary = ingest_folder(world.catalog, world.archive, world.reports, workers=0)
    assert summary.studies_new == 2 and summary.refused == {"wrong-modality": 1}
    world.index()
    theirs = {study: vector for study, vector in before.items() if study != "1.2.4.0"}  # our own copy is gone
    assert embedded(world) == theirs
    with world.catalog.session() as session:
        assert session.scalars(sa.select(ForgottenPatient)).all() == []


def embedded(world: World) -> dict[str, bytes]:
    with world.catalog.session() as session:
        query = sa.select(Study.study_instance_uid, Embedding.vector).join(Study, Study.id == Embedding.study_id)
        return dict(session.execute(query.where(Embedding.kind == "image")).all())


def test_looking_first_changes_nothing(world: World) -> None:
    def everything() -> dict[str, int]:
        with world.catalog.session() as session:
            tables = Base.metadata.sorted_tables
            return {table.name: session.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in tables}

    before = everything()
    seen = preview_forget(world.catalog, GONE, world.store)
    assert everything() == before
    found = {place.name: place.found for place in seen.places}
    assert (found["studies"], found["images"], found["reports"], found["embeddings"]) == (3, 4, 3, 4)
    assert len(seen.in_place) == 3


def test_a_prior_that_is_forgotten_with_a_wrong_patient_is_no_prior(
    catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    """The image of an issuer's patient, accepted into a study of the same ID without one."""
    world = World(catalog, tmp_path, write_dicom)
    write_dicom("a.dcm", study="1.2.3.1", seed=1, PatientID="P0", StudyDate="20200101")
    write_dicom("b.dcm", study="1.2.3.2", seed=2, PatientID="P0", IssuerOfPatientID="North", StudyDate="20210101")
    write_dicom("c.dcm", study="1.2.3.1", seed=3, PatientID="P0", IssuerOfPatientID="North", StudyDate="20200101")
    ingest_folder(catalog, world.archive, workers=0)
    world.index()
    with catalog.session() as session:
        before = dict(session.execute(sa.select(Study.study_instance_uid, Study.image_source)).all())
    assert world.forget(NamedPatient("P0", "North")).complete
    with catalog.session() as session:
        after = dict(session.execute(sa.select(Study.study_instance_uid, Study.image_source)).all())
    assert set(after) <= set(before) and "1.2.3.2" not in after


def test_one_issuer_is_forgotten_and_another_stays(catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom) -> None:
    world = World(catalog, tmp_path, write_dicom)
    for number, issuer in enumerate(("North", "South", None)):
        about = {"PatientID": "P0", "IssuerOfPatientID": issuer}
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", seed=number, **about)
    ingest_folder(catalog, world.archive, workers=0)
    with pytest.raises(ArchiveError) as caught:
        world.forget()
    assert caught.value.slug == "ambiguous-patient"

    def studies() -> set[str]:
        with catalog.session() as session:
            return set(session.scalars(sa.select(Study.study_instance_uid)))

    assert world.forget(NamedPatient("P0", "North")).complete
    assert studies() == {"1.2.3.1", "1.2.3.2"}
    assert world.forget(NamedPatient("P0", "")).complete
    assert studies() == {"1.2.3.1"}
    summary = ingest_folder(catalog, world.archive, workers=0)
    assert (summary.refused, summary.unchanged) == ({"forgotten-patient": 2}, 1)
    assert world.forget().complete  # only one is left, so no issuer need be named
    assert studies() == set()


def test_two_patients_of_one_id_do_not_share_their_reports(
    catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    world = World(catalog, tmp_path, write_dicom)
    for number, issuer in enumerate(("North", "South")):
        about = {"PatientID": "P0", "IssuerOfPatientID": issuer}
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", seed=number, **about)
    world.reports.write_text(
        "study_instance_uid,patient_id,text\n1.2.3.0,P0,Of North.\n1.2.3.1,P0,Of South.\n1.2.3.99,P0,Waits.\n"
    )
    ingest_folder(catalog, world.archive, world.reports, workers=0)
    world.forget(NamedPatient("P0", "North"))
    summary = ingest_folder(catalog, world.archive, world.reports, workers=0)
    assert summary.reports_refused == {"forgotten-patient": 1}
    with catalog.session() as session:
        texts = set(session.scalars(sa.select(Report.text).where(Report.text != "")))
    assert texts == {"Of South.", "Waits."}


def test_a_reason_that_names_a_forgotten_study_names_it_no_longer(
    catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    world = World(catalog, tmp_path, write_dicom)
    write_dicom("a.dcm", study="1.2.3.1", seed=1, PatientID="P0")
    write_dicom("b.dcm", study="1.2.3.1", seed=2, PatientID="P1")
    ingest_folder(catalog, world.archive, workers=0)
    assert world.forget().complete
    with catalog.session() as session:
        row = session.scalars(sa.select(Instance)).one()
        assert row.reason == "conflicting-patient" and "1.2.3.1" not in (row.detail or "")


def test_an_unknown_patient_is_forgotten_in_advance(world: World) -> None:
    outcome = world.forget(NamedPatient("P7"))
    assert outcome.complete and sum(place.found or 0 for place in outcome.places) == 0
    world.write_dicom("7.dcm", study="1.2.3.700", PatientID="P7")
    assert ingest_folder(world.catalog, world.archive, workers=0).refused["forgotten-patient"] == 1


def test_a_worker_that_embeds_meanwhile_does_not_bring_the_patient_back(world: World) -> None:
    class Forgetting(FakeEncoder):
        def encode_studies(self, studies):  # type: ignore[no-untyped-def]
            world.forget()
            return super().encode_studies(studies)

    with world.catalog.write() as session:
        session.execute(sa.delete(Embedding))
    embed_pending(world.catalog, Forgetting())
    assert set(embedded(world)) == OTHERS
    assert world.left() == EMPTY


KILLED_AT = (
    "rebuild_live",
    "_clean_backup",
    *(
        pytest.param(where, marks=pytest.mark.slow)
        for where in (
            "ingest_received",
            "Path.unlink",
            "generations.remove_old",
            "_clean_backups",
            "_drop_unused_pages",
            "look_everywhere",
        )
    ),
)
KILL = """
import os, signal, sys
from pathlib import Path
import index.keeping.forget as forget
import index.generations.lifecycle as generations
from index import open_catalog
from index.keeping.forgotten import NamedPatient
from index.intake.received import ReceivedStore

url, folder, where = sys.argv[1:]
store = ReceivedStore(Path(folder) / "received", min_free_bytes=0)

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

owner, _, name = where.rpartition(".")
setattr({"": forget, "Path": Path, "generations": generations}[owner], name, die)
patient = NamedPatient("P0")
forget.forget_patient(open_catalog(url), patient, store=store, generations=Path(folder) / "generations")
"""


@pytest.mark.parametrize("where", KILLED_AT)
def test_killed_anywhere_and_run_again_nothing_is_left(world: World, url: str, tmp_path: Path, where: str) -> None:
    file = tmp_path / "backups" / "alta.db"
    back_up(world.catalog, file)
    waiting = world.store.keep(sent(study="1.2.4.8", seed=58, PatientID="P0"))
    owned = [path for path in (world.folder / "received" / "objects").rglob("*.dcm") if b"P0" in path.read_bytes()]
    command = [sys.executable, "-c", KILL, url, str(tmp_path), where]
    killed = subprocess.run(command, cwd=ROOT, env=os.environ, check=False, stderr=subprocess.PIPE)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert {name: count for name, count in world.left().items() if count} == {}  # at once, whatever came then
    outcome = world.forget()
    assert outcome.complete
    assert world.left() == EMPTY
    assert len(owned) == 2 and not any(path.exists() for path in [*owned, waiting])
    assert b"Effusion of the first." not in file.read_bytes()
    [live] = list_generations(world.catalog, LIVE, RETIRED)
    assert {path.name for path in world.generations.iterdir() if path.is_dir()} == {str(live.id)}
    assert world.found(Gallery(world.catalog, world.generations)) == OTHERS
    with world.catalog.session() as session:
        assert session.scalars(sa.select(Setting)).all() == []


def test_the_log_names_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        world.forget()
    [line] = [record.getMessage() for record in caplog.records if record.name == "index.keeping.forget"]
    assert line == "a patient was forgotten: 3 studies, 4 images, 3 reports; nothing is left"
    named = ("P0", "1.2.3.0", "1.2.4.0", world.catalog.patient_key("P0"))
    assert not any(name in record.getMessage() for record in caplog.records for name in named)
    assert "P0" not in repr(GONE)


def test_a_generation_in_milvus_is_made_there_again(
    sqlite_catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    from index.engines.milvus import MilvusEngine

    world = World(sqlite_catalog, tmp_path, write_dicom)
    world.fill()
    server = MilvusEngine(str(tmp_path / "milvus.db"))
    engines = {**LOCAL_ENGINES, server.name: server}
    fingerprint = world.encoder.fingerprint
    build_generation(sqlite_catalog, world.generations, fingerprint, engine=server.name, engines=engines)
    with pytest.raises(ArchiveError) as caught:
        world.forget()  # where the server is not configured
    assert caught.value.slug == "unknown-engine" and world.left() == EMPTY
    outcome = forget_patient(sqlite_catalog, GONE, store=world.store, generations=world.generations, engines=engines)
    assert outcome.complete
    [live] = list_generations(sqlite_catalog, LIVE, RETIRED)
    assert live.engine == server.name
    assert f"generation {live.id}" in {place.name for place in outcome.places}
    server.close()
