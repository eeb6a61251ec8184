"""Which study is the prior: never too old, found late, lost again, and the same after a change that was killed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from index import Catalog, embed_pending, ingest_folder, ingest_manifest, pending_counts, prior_slots, study_slots
from index.dicom import describe_dicom
from index.intake.ingest import ingest_received
from index.intake.received import ReceivedStore
from index.prior_change import change_prior_window, count_prior_changes, read_prior_window
from index.priors import PriorWindow
from index.tables import Embedding, Study
from model.errors import InputError
from tests.conftest import WriteDicom, chest_dataset
from tests.fakes import FakeEncoder
from tests.test_received import sent

CURRENT = "1.2.3.9"
PRIOR = "1.2.3.1"
BATCH = "index.prior_change.BATCH"


def vectors(catalog: Catalog) -> dict[str, bytes]:
    with catalog.session() as session:
        query = sa.select(Study.study_instance_uid, Embedding.vector).join(Study, Study.id == Embedding.study_id)
        return dict(session.execute(query.where(Embedding.kind == "image")).all())


def prior_of(catalog: Catalog, study: str = CURRENT) -> Path | None:
    return study_slots(catalog, study).get("prior_frontal")


def years(write_dicom: WriteDicom, patients: int = 1) -> None:
    """A study in June of 2018, 2020 and 2021 of each patient: 1.2.3.<patient>.<year>."""
    for patient in range(patients):
        for number, year in enumerate((2018, 2020, 2021)):
            study = f"1.2.3.{patient}.{year}"
            about = {"PatientID": f"P{patient}", "StudyDate": f"{year}0615", "AccessionNumber": study}
            write_dicom(f"{patient}-{year}.dcm", study=study, seed=10 * patient + number, **about)


def test_without_a_limit_any_earlier_study_is_the_prior(catalog: Catalog, archive: Path, write_dicom) -> None:
    years(write_dicom)
    ingest_folder(catalog, archive, workers=0)
    assert prior_of(catalog, "1.2.3.0.2021") == archive / "0-2020.dcm"
    assert prior_of(catalog, "1.2.3.0.2020") == archive / "0-2018.dcm"


def test_a_prior_is_at_most_so_many_days_old(catalog: Catalog, archive: Path, write_dicom) -> None:
    years(write_dicom)
    ingest_folder(catalog, archive, workers=0)
    change_prior_window(catalog, 365)  # 2020-06-15 to 2021-06-15
    assert prior_of(catalog, "1.2.3.0.2021") == archive / "0-2020.dcm"
    assert prior_of(catalog, "1.2.3.0.2020") is None
    change_prior_window(catalog, 364)
    assert prior_of(catalog, "1.2.3.0.2021") is None


def test_a_prior_of_unknown_age_is_none_under_a_limit(catalog: Catalog, tmp_path: Path, write_dicom) -> None:
    for number in range(2):
        write_dicom(f"{number}.dcm", seed=number)
    manifest = tmp_path / "studies.csv"
    rows = [f"archive/{number}.dcm,1.2.9.{number},P,{number}" for number in range(2)]
    manifest.write_text("\n".join(["image_path,study_instance_uid,patient_id,study_order", *rows]))
    for number in range(2):
        write_dicom(f"{number}.dcm", study=f"1.2.9.{number}", seed=number, StudyDate=None)
    ingest_manifest(catalog, manifest, workers=0)
    assert prior_of(catalog, "1.2.9.1") == tmp_path / "archive" / "0.dcm"
    change_prior_window(catalog, 100_000)
    assert prior_of(catalog, "1.2.9.1") is None


def test_a_query_image_finds_its_prior_under_the_same_limit(catalog: Catalog, archive: Path, write_dicom) -> None:
    years(write_dicom)
    ingest_folder(catalog, archive, workers=0)
    query = describe_dicom(chest_dataset("1.2.3.77", PatientID="P0", StudyDate="20220615"))
    assert prior_slots(catalog, query) == {"prior_frontal": archive / "0-2021.dcm"}
    assert prior_slots(catalog, replace(query, study_date=None)) == {}
    change_prior_window(catalog, 364)
    assert prior_slots(catalog, query) == {}


def test_changing_the_limit_makes_exactly_the_studies_stale_whose_prior_changes(
    catalog: Catalog, archive: Path, write_dicom, encoder: FakeEncoder
) -> None:
    years(write_dicom, patients=3)
    ingest_folder(catalog, archive, workers=0)
    embed_pending(catalog, encoder)
    unlimited = vectors(catalog)
    assert count_prior_changes(catalog, 400) == 3
    assert pending_counts(catalog, encoder.fingerprint)["image"] == 0
    assert change_prior_window(catalog, 400) == 3
    assert read_prior_window(catalog) == PriorWindow(400)
    assert pending_counts(catalog, encoder.fingerprint)["image"] == 3
    embed_pending(catalog, encoder)
    limited = vectors(catalog)
    assert {study for study in limited if limited[study] != unlimited[study]} == {f"1.2.3.{n}.2020" for n in range(3)}
    assert change_prior_window(catalog, 400) == 0
    assert change_prior_window(catalog, None) == 3
    embed_pending(catalog, encoder)
    assert vectors(catalog) == unlimited
    assert read_prior_window(catalog) == PriorWindow()


class Killed(Exception):
    pass


def kill_after(batches: int) -> Callable[[int, int], None]:
    calls = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == batches:
            raise Killed

    return progress


@pytest.mark.parametrize("target", [400, 300, None])
def test_a_change_killed_midway_leaves_a_consistent_archive_and_is_finished_by_the_next(
    catalog: Catalog, archive: Path, write_dicom, encoder: FakeEncoder, monkeypatch, target: int | None
) -> None:
    monkeypatch.setattr(BATCH, 1)
    years(write_dicom, patients=4)
    ingest_folder(catalog, archive, workers=0)
    embed_pending(catalog, encoder)
    before = vectors(catalog)
    with pytest.raises(Killed):
        change_prior_window(catalog, 400, progress=kill_after(2))
    half = read_prior_window(catalog)
    assert half.within_days is None and half.change is not None and half.change.within_days == 400
    embed_pending(catalog, encoder)  # someone embeds, and a study comes, before it is finished
    write_dicom("new.dcm", study="1.2.3.0.2022", seed=99, PatientID="P0", StudyDate="20220601")
    ingest_folder(catalog, archive, workers=0)
    for patient in range(4):
        expected = None if patient < 2 else archive / f"{patient}-2018.dcm"
        assert prior_of(catalog, f"1.2.3.{patient}.2020") == expected
    change_prior_window(catalog, target)
    assert read_prior_window(catalog) == PriorWindow(target)
    embed_pending(catalog, encoder)
    assert count_prior_changes(catalog, target) == 0
    after = vectors(catalog)
    same = {study for study in before if after[study] == before[study]}
    first_years = {f"1.2.3.{patient}.2018" for patient in range(4)}
    at_400 = first_years | {f"1.2.3.{patient}.2021" for patient in range(4)}
    assert same == {400: at_400, 300: first_years, None: set(before)}[target]


def test_a_limit_below_a_day_is_an_error(catalog: Catalog) -> None:
    for act in (change_prior_window, count_prior_changes):
        with pytest.raises(InputError) as caught:
            act(catalog, 0)
        assert caught.value.slug == "bad-prior-window"


def current_embedded(catalog: Catalog, archive: Path, write_dicom: WriteDicom, encoder: FakeEncoder) -> bytes:
    write_dicom("current.dcm", study=CURRENT, seed=9, StudyDate="20240301")
    ingest_folder(catalog, archive, workers=0)
    embed_pending(catalog, encoder)
    return vectors(catalog)[CURRENT]


def prior_file(write_dicom: WriteDicom, **tags: object) -> Path:
    about = {"study": PRIOR, "seed": 1, "StudyDate": "20230301", "sop": "1.2.3.1.1"} | tags
    return write_dicom("prior.dcm", **about)


def embedded_again(catalog: Catalog, encoder: FakeEncoder) -> bytes:
    """The current study's vector, which has to be stale first."""
    assert pending_counts(catalog, encoder.fingerprint)["image"] >= 1
    before = vectors(catalog)[CURRENT]
    embed_pending(catalog, encoder)
    after = vectors(catalog)[CURRENT]
    assert after != before
    return after


@pytest.mark.parametrize("door", ["folder", "manifest", "received"])
def test_a_prior_that_comes_late_makes_the_later_study_stale(
    catalog: Catalog, archive: Path, tmp_path: Path, write_dicom, encoder: FakeEncoder, door: str
) -> None:
    current_embedded(catalog, archive, write_dicom, encoder)
    path = prior_file(write_dicom)
    if door == "folder":
        ingest_folder(catalog, archive, workers=0)
    elif door == "manifest":
        manifest = tmp_path / "late.csv"
        manifest.write_text(f"image_path,study_instance_uid,patient_id,study_date\n{path},{PRIOR},P1,2023-03-01\n")
        ingest_manifest(catalog, manifest, workers=0)
    else:
        store = ReceivedStore(tmp_path / "received", min_free_bytes=0)
        path = store.keep(path.read_bytes())
        ingest_received(catalog, store, workers=0)
    assert prior_of(catalog) == path
    embedded_again(catalog, encoder)


def test_a_late_prior_that_is_too_old_changes_nothing(
    catalog: Catalog, archive: Path, write_dicom, encoder: FakeEncoder
) -> None:
    change_prior_window(catalog, 100)
    current_embedded(catalog, archive, write_dicom, encoder)
    prior_file(write_dicom)
    ingest_folder(catalog, archive, workers=0)
    assert prior_of(catalog) is None
    assert pending_counts(catalog, encoder.fingerprint)["image"] == 1  # the late study itself


def test_a_prior_whose_only_frontal_is_refused_later_is_none(
    catalog: Catalog, archive: Path, write_dicom, encoder: FakeEncoder
) -> None:
    alone = current_embedded(catalog, archive, write_dicom, encoder)
    prior_file(write_dicom)
    ingest_folder(catalog, archive, workers=0)
    embedded_again(catalog, encoder)
    prior_file(write_dicom, PixelData=b"\0\1" * 10)
    assert ingest_folder(catalog, archive, workers=0).refused == {"truncated": 1}
    assert prior_of(catalog) is None
    assert embedded_again(catalog, encoder) == alone


def test_a_prior_that_turns_out_to_be_a_lateral_is_none(
    catalog: Catalog, archive: Path, write_dicom, encoder: FakeEncoder
) -> None:
    alone = current_embedded(catalog, archive, write_dicom, encoder)
    prior_file(write_dicom)
    ingest_folder(catalog, archive, workers=0)
    embedded_again(catalog, encoder)
    prior_file(write_dicom, ViewPosition="LL")
    ingest_folder(catalog, archive, workers=0)
    assert embedded_again(catalog, encoder) == alone


def test_a_superseded_prior_is_replaced_by_what_came_instead(
    catalog: Catalog, tmp_path: Path, encoder: FakeEncoder
) -> None:
    store = ReceivedStore(tmp_path / "received", min_free_bytes=0)

    def send(**tags: object) -> Path:
        path = store.keep(sent(**tags))
        ingest_received(catalog, store, workers=0)
        return path

    send(study=CURRENT, seed=9, StudyDate="20240301")
    send(study=PRIOR, seed=1, StudyDate="20230301", sop="1.2.3.1.1")
    embed_pending(catalog, encoder)
    path = send(study=PRIOR, seed=2, StudyDate="20230301", sop="1.2.3.1.1")
    assert prior_of(catalog) == path
    embedded_again(catalog, encoder)
    send(study=PRIOR, seed=3, StudyDate="20250301", sop="1.2.3.1.1")  # and it was made later, after all
    assert prior_of(catalog) is None


def test_a_study_that_moves_to_another_patient_takes_its_place_as_prior_along(
    catalog: Catalog, archive: Path, write_dicom, encoder: FakeEncoder
) -> None:
    prior_file(write_dicom, PatientID="P2")
    write_dicom("other.dcm", study="1.2.3.8", seed=8, PatientID="P2", StudyDate="20240301")
    alone = current_embedded(catalog, archive, write_dicom, encoder)
    assert prior_of(catalog, "1.2.3.8") is not None
    with_prior = vectors(catalog)["1.2.3.8"]
    prior_file(write_dicom, PatientID="P1")
    ingest_folder(catalog, archive, workers=0)
    assert prior_of(catalog, "1.2.3.8") is None and prior_of(catalog) == archive / "prior.dcm"
    assert embedded_again(catalog, encoder) != alone
    assert vectors(catalog)["1.2.3.8"] != with_prior
