"""Nothing is lost, nothing crashes, nothing is silent: every file met is a row."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from index import Catalog, find_study, ingest_folder, ingest_manifest, pending_counts, prior_slots, study_slots
from index.dicom import InstanceFacts, Refusal
from index.intake.examine import Examined, Source, examine, examiner
from index.reports.texts import study_uid_of
from index.tables import Instance, Patient, Study
from model.errors import InputError, UnknownStudy
from tests.conftest import WriteDicom, chest_dataset
from tests.crashing import examine_or_die


def outcomes(catalog: Catalog) -> dict[str, str]:
    """accepted, or the reason of the refusal, by file name."""
    with catalog.session() as session:
        return {Path(row.path).name: row.reason or row.status for row in session.scalars(sa.select(Instance))}


def everything(catalog: Catalog) -> list[tuple[object, ...]]:
    with catalog.session() as session:
        rows = session.execute(
            sa.select(Instance.path, Instance.status, Instance.reason, Instance.sha256, Study.image_source)
            .outerjoin(Study)
            .order_by(Instance.path)
        )
        return [tuple(row) for row in rows]


def test_every_file_becomes_a_row_with_its_reason(catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    write_dicom("good.dcm", study="1.2.3.1")
    write_dicom("sub/ct.dcm", study="1.2.3.2", Modality="CT")
    write_dicom("hip.dcm", study="1.2.3.3", BodyPartExamined="HIP")
    write_dicom("dog.dcm", study="1.2.3.4", PatientSpeciesDescription="Dog")
    write_dicom("no_pixels.dcm", study="1.2.3.5", PixelData=None)
    write_dicom("frames.dcm", study="1.2.3.6", NumberOfFrames=2)
    write_dicom("short.dcm", study="1.2.3.7", PixelData=b"\0\1" * 100)
    write_dicom("blank.dcm", study="1.2.3.8", PixelData=b"\0\1" * 40 * 48)
    write_dicom("nameless.dcm", study="1.2.3.9", StudyInstanceUID=None)
    write_dicom("long_uid.dcm", study="1.2.3.10", StudyInstanceUID="1." * 40 + "1")
    write_dicom("odd_uid.dcm", study="1.2.3.12", StudyInstanceUID="1.2.3/../4")
    write_dicom("raw.dcm", study="1.2.3.13", PresentationIntentType="FOR PROCESSING")
    whole = write_dicom("cut.dcm", study="1.2.3.11").read_bytes()
    (archive / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    (archive / "page.dcm").write_text("<html>")
    (archive / "table.xlsx").write_bytes(b"PK\3\4")
    (archive / "empty.dcm").touch()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(archive / "picture.png")
    (archive / "gone.dcm").symlink_to(archive / "nowhere")
    os.mkfifo(archive / "pipe")
    summary = ingest_folder(catalog, archive, workers=0)
    assert outcomes(catalog) == {
        "good.dcm": "accepted",
        "ct.dcm": "wrong-modality",
        "hip.dcm": "not-a-chest-radiograph",
        "dog.dcm": "not-human",
        "no_pixels.dcm": "no-pixel-data",
        "frames.dcm": "multi-frame",
        "short.dcm": "truncated",
        "blank.dcm": "blank-image",
        "nameless.dcm": "missing-identifier",
        "long_uid.dcm": "bad-uid",
        "odd_uid.dcm": "bad-uid",
        "raw.dcm": "for-processing",
        "cut.dcm": "truncated",
        "page.dcm": "not-dicom",
        "table.xlsx": "not-an-image",
        "empty.dcm": "empty-file",
        "picture.png": "no-identity",
        "gone.dcm": "file-missing",
        "pipe": "not-a-file",
    }
    assert (summary.accepted, summary.refused.total(), summary.studies_new) == (1, 18, 1)
    with catalog.session() as session:
        assert all(row.detail for row in session.scalars(sa.select(Instance).where(Instance.status == "refused")))


def test_broken_compressed_pixels_are_found_at_ingest(catalog: Catalog, archive: Path) -> None:
    dataset = chest_dataset()
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([b"\1\0\0\0" + b"no run length data"])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(archive / "broken.dcm", enforce_file_format=True)
    ingest_folder(catalog, archive, workers=0)
    assert outcomes(catalog) == {"broken.dcm": "undecodable"}


def test_values_no_database_takes_do_not_stop_the_run(catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    write_dicom("odd.dcm", StudyDescription="nul\0", AccessionNumber="9" * 200, InstanceNumber="2147483648")
    write_dicom("refused.dcm", StudyInstanceUID="1." * 60, SOPInstanceUID="2." * 60, ViewPosition="X" * 90, Rows=None)
    (archive / os.fsdecode(b"not utf-8 \xff.dcm")).write_bytes((archive / "odd.dcm").read_bytes())
    summary = ingest_folder(catalog, archive, workers=0)
    assert summary.accepted == 1
    assert summary.refused["bad-file-name"] == 1
    assert summary.refused.total() == 2


def test_ingesting_again_changes_nothing_and_reads_nothing(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dicom("a.dcm", study="1.2.3.1")
    write_dicom("b.dcm", study="1.2.3.2", Modality="CT")
    first = ingest_folder(catalog, archive, workers=0)
    before = everything(catalog)

    def unwanted(source: Source) -> Examined:
        raise AssertionError(f"{source.path} was read again")

    monkeypatch.setattr("index.intake.examine.examine", unwanted)
    again = ingest_folder(catalog, archive, workers=0)
    assert (again.accepted, again.unchanged, again.studies_new) == (0, 1, 0)
    assert again.refused == first.refused
    assert everything(catalog) == before


def test_new_content_at_the_same_path_is_an_update_and_changes_the_source(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("a.dcm", study="1.2.3.1", sop="1.2.9", seed=1)
    ingest_folder(catalog, archive, workers=0)
    before = everything(catalog)
    write_dicom("a.dcm", study="1.2.3.1", sop="1.2.9", seed=2, PatientAge="062Y")
    assert ingest_folder(catalog, archive, workers=0).updated == 1
    after = everything(catalog)
    assert len(before) == len(after) == 1
    assert before[0][4] != after[0][4]
    assert find_study(catalog, "1.2.3.1").age == 62


def test_content_that_becomes_unusable_leaves_its_study_without_an_image(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    path = write_dicom("a.dcm", study="1.2.3.1")
    ingest_folder(catalog, archive, workers=0)
    path.write_bytes(b"overwritten")
    ingest_folder(catalog, archive, workers=0)
    assert outcomes(catalog) == {"a.dcm": "not-dicom"}
    assert study_slots(catalog, "1.2.3.1") == {}


def test_the_same_instance_elsewhere_is_a_duplicate_and_with_other_content_a_conflict(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    first = write_dicom("a.dcm", sop="1.2.9", seed=1)
    (archive / "b.dcm").write_bytes(first.read_bytes())
    write_dicom("c.dcm", sop="1.2.9", seed=2)
    for _ in range(2):
        ingest_folder(catalog, archive, workers=0)
        assert outcomes(catalog) == {"a.dcm": "accepted", "b.dcm": "duplicate", "c.dcm": "conflicting"}


def test_a_moved_file_takes_over_its_instance(catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    path = write_dicom("a.dcm", study="1.2.3.1")
    (archive / "copy.dcm").write_bytes(path.read_bytes())
    ingest_folder(catalog, archive, workers=0)
    source = everything(catalog)[0][4]
    path.unlink()
    ingest_folder(catalog, archive, workers=0)
    assert outcomes(catalog) == {"a.dcm": "file-missing", "copy.dcm": "accepted"}
    assert study_slots(catalog, "1.2.3.1") == {"current_frontal": archive.resolve() / "copy.dcm"}
    assert everything(catalog)[1][4] == source


def test_one_study_cannot_have_two_patients(catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    write_dicom("a.dcm", seed=1, PatientID="P1")
    write_dicom("b.dcm", seed=2, PatientID="P2")
    ingest_folder(catalog, archive, workers=0)
    assert outcomes(catalog) == {"a.dcm": "accepted", "b.dcm": "conflicting-patient"}


def test_a_patient_id_that_arrives_later_names_the_study(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("a.dcm", seed=1, PatientID=None)
    write_dicom("b.dcm", seed=2, PatientID="P1", ViewPosition="LL")
    ingest_folder(catalog, archive, workers=0)
    assert set(outcomes(catalog).values()) == {"accepted"}
    assert find_study(catalog, "1.2.3.1").patient_key == catalog.patient_key("P1")


@pytest.mark.parametrize("issuers", [("HOSPITAL", None), (None, "HOSPITAL")])
def test_an_issuer_that_only_one_image_of_a_study_names_is_no_conflict(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, issuers: tuple[str | None, str | None]
) -> None:
    for number, issuer in enumerate(issuers):
        write_dicom(f"{number}.dcm", seed=number, PatientID="P1", IssuerOfPatientID=issuer)
    ingest_folder(catalog, archive, workers=0)
    assert set(outcomes(catalog).values()) == {"accepted"}
    assert find_study(catalog, "1.2.3.1").patient_key == catalog.patient_key("P1", "HOSPITAL")
    write_dicom("other.dcm", seed=7, PatientID="P1", IssuerOfPatientID="ELSEWHERE")
    write_dicom("third.dcm", seed=8, PatientID="P2")
    ingest_folder(catalog, archive, workers=0)
    assert outcomes(catalog)["other.dcm"] == outcomes(catalog)["third.dcm"] == "conflicting-patient"


def test_patient_ids_are_not_stored(catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    write_dicom("a.dcm", PatientID="SECRET-77")
    ingest_folder(catalog, archive, workers=0)
    with catalog.session() as session:
        assert "SECRET" not in str([row.key for row in session.scalars(sa.select(Patient))])


def test_the_prior_is_the_latest_earlier_study_with_a_frontal_image(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("2020.dcm", study="1.2.3.20", StudyDate="20200101")
    write_dicom("2021.dcm", study="1.2.3.21", StudyDate="20210101")
    write_dicom("2021l.dcm", study="1.2.3.21", seed=1, StudyDate="20210101", ViewPosition="LL")
    write_dicom("2022l.dcm", study="1.2.3.22", StudyDate="20220101", ViewPosition="LL")
    write_dicom("2023.dcm", study="1.2.3.23", StudyDate="20230101")
    write_dicom("other.dcm", study="1.2.3.99", StudyDate="20221231", PatientID="P2")
    ingest_folder(catalog, archive, workers=0)
    assert {slot: path.name for slot, path in study_slots(catalog, "1.2.3.23").items()} == {
        "current_frontal": "2023.dcm",
        "prior_frontal": "2021.dcm",
        "prior_lateral": "2021l.dcm",
    }
    query = InstanceFacts(study_instance_uid="9.9", patient_id="P1", study_date=None)
    assert prior_slots(catalog, query) == {}
    with pytest.raises(UnknownStudy):
        study_slots(catalog, "9.9")


def test_studies_of_one_day_are_ordered_by_time(catalog: Catalog, archive: Path, write_dicom: WriteDicom) -> None:
    write_dicom("late.dcm", study="1.2.3.1", StudyTime="180000")
    write_dicom("early.dcm", study="1.2.3.2", StudyTime="070000")
    write_dicom("unknown.dcm", study="1.2.3.3")
    ingest_folder(catalog, archive, workers=0)
    assert study_slots(catalog, "1.2.3.1")["prior_frontal"].name == "early.dcm"
    assert "prior_frontal" not in study_slots(catalog, "1.2.3.2")
    assert "prior_frontal" not in study_slots(catalog, "1.2.3.3")


def test_a_prior_that_arrives_later_changes_the_source(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("now.dcm", study="1.2.3.2", StudyDate="20240101")
    ingest_folder(catalog, archive, workers=0)
    before = everything(catalog)[0][4]
    write_dicom("then.dcm", study="1.2.3.1", StudyDate="20200101")
    ingest_folder(catalog, archive, workers=0)
    assert everything(catalog)[0][4] != before


def test_a_run_that_stops_anywhere_and_starts_again_ends_in_the_same_rows(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.intake.ingest.BATCH", 2)
    for number in range(7):
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number}", StudyDate=f"202{number}0101", seed=number)
    write_dicom("dup.dcm", study="1.2.3.1", StudyDate="20210101", seed=1)

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    for _ in range(3):
        with pytest.raises(Stop):
            ingest_folder(catalog, archive, progress=stop, workers=0)
    summary = ingest_folder(catalog, archive, workers=0)
    assert summary.unchanged + summary.accepted == 7
    assert list(outcomes(catalog).values()).count("duplicate") == 1
    with catalog.session() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Study)) == 7


def test_two_ingests_at_once_give_the_rows_of_one(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.intake.ingest.BATCH", 2)
    for number in range(8):
        write_dicom(f"{number}.dcm", study=f"1.2.3.{number // 2}", sop=f"1.2.9.{number // 2 * 2}", seed=number)
    errors: list[Exception] = []

    def run() -> None:
        try:
            ingest_folder(catalog, archive, workers=0)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(outcomes(catalog).values()) == ["accepted"] * 4 + ["conflicting"] * 4


def write_picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 48), dtype=np.uint8)).save(path)


def test_a_manifest_of_pictures(catalog: Catalog, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png", "c.jpg"):
        write_picture(tmp_path / "images" / name, ord(name[0]))
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(
        "study_id,patient_id,image_path,view,study_order,sex,age,text,other\n"
        "s1,p1,images/a.jpg,PA,0,F,61,Clear lungs.,x\n"
        "s1,p1,images/b.png,L,0,F,61,Clear lungs.,x\n"
        "s2,p1,images/c.jpg,AP,1,F,62,,x\n"
        "s3,p1,images/missing.jpg,AP,2,,,,x\n"
        "s3,p1,images/a.jpg,AP,2,,,,x\n"
        "s4,p1,,AP,2,,,,x\n"
        ",p1,images/d.jpg,AP,2,,,,x\n"
    )
    for run in range(2):
        summary = ingest_manifest(catalog, manifest, workers=0)
        assert (summary.accepted, summary.unchanged) == ((3, 0), (0, 3))[run]
        assert summary.refused == {"file-missing": 1, "listed-twice": 1, "missing-identifier": 2}
        assert summary.reports_matched == 1
        assert len(everything(catalog)) == 7
    record = find_study(catalog, study_uid_of("s1"))
    assert record.study_instance_uid.startswith("2.25.")
    assert (record.accession_number, record.views, record.sex, record.age) == ("s1", ("LATERAL", "PA"), "F", 61)
    assert record.report is not None
    assert {slot: path.name for slot, path in study_slots(catalog, study_uid_of("s2")).items()} == {
        "current_frontal": "c.jpg",
        "prior_frontal": "a.jpg",
        "prior_lateral": "b.png",
    }


def test_corrected_facts_in_a_manifest_are_taken_over(catalog: Catalog, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", 1)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("study_id,image_path,view,age\ns1,a.jpg,PA,61\n")
    ingest_manifest(catalog, manifest, workers=0)
    manifest.write_text("study_id,image_path,view,age\ns1,a.jpg,AP,16\n")
    assert ingest_manifest(catalog, manifest, workers=0).updated == 1
    record = find_study(catalog, study_uid_of("s1"))
    assert (record.views, record.age) == (("AP",), 16)


def test_a_manifest_of_dicom_files_keeps_the_patient_of_their_headers(
    catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    for number in range(2):
        write_dicom(f"{number}.dcm", seed=number, PatientID="P1", IssuerOfPatientID="HOSPITAL")
    manifest = tmp_path / "manifest.csv"
    rows = "".join(f"1.2.3.1,{{patient}},archive/{number}.dcm\n" for number in range(2))
    for _ in range(3):
        manifest.write_text("study_id,patient_id,image_path\n" + rows.format(patient="P1"))
        ingest_manifest(catalog, manifest, workers=0)
        assert set(outcomes(catalog).values()) == {"accepted"}
        assert find_study(catalog, "1.2.3.1").patient_key == catalog.patient_key("P1", "HOSPITAL")


def test_a_corrected_patient_in_a_manifest_keeps_the_issuer_of_the_header(
    catalog: Catalog, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("a.dcm", PatientID="P1", IssuerOfPatientID="HOSPITAL")
    manifest = tmp_path / "manifest.csv"
    for patient in ("P1", "P2"):
        manifest.write_text(f"study_id,patient_id,image_path\n1.2.3.1,{patient},archive/a.dcm\n")
        ingest_manifest(catalog, manifest, workers=0)
    assert find_study(catalog, "1.2.3.1").patient_key == catalog.patient_key("P2", "HOSPITAL")


def test_two_texts_of_one_study_are_both_kept(catalog: Catalog, tmp_path: Path) -> None:
    for seed in (1, 2):
        write_picture(tmp_path / f"{seed}.jpg", seed)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("study_id,image_path,text\ns1,1.jpg,Frontal view.\ns1,2.jpg,Lateral view.\n")
    ingest_manifest(catalog, manifest, workers=0)
    report = find_study(catalog, study_uid_of("s1")).report
    assert report is not None
    assert report.text == "Frontal view.\n\nLateral view."


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "", "\0\0\0"])
def test_a_table_without_image_paths_is_an_error(sqlite_catalog: Catalog, tmp_path: Path, content: str) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(content)
    with pytest.raises(InputError):
        ingest_manifest(sqlite_catalog, manifest, workers=0)


def test_a_missing_folder_is_an_error(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        ingest_folder(sqlite_catalog, tmp_path / "none")
    assert caught.value.slug == "no-such-folder"


def test_linked_folders_are_followed_once_and_in_no_circle(
    catalog: Catalog, archive: Path, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("in/a.dcm", study="1.2.3.1")
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    write_dicom("b.dcm", study="1.2.3.2").rename(elsewhere / "b.dcm")
    (archive / "again").symlink_to(archive / "in")
    (archive / "in" / "circle").symlink_to(archive)
    (archive / "link").symlink_to(elsewhere.parent)
    (archive / "shorter").symlink_to(elsewhere)
    summary = ingest_folder(catalog, archive, workers=0)
    assert (summary.accepted, summary.refused.total()) == (2, 0)
    assert outcomes(catalog) == {"a.dcm": "accepted", "b.dcm": "accepted"}


def test_a_study_of_a_lateral_alone_is_kept_and_not_embedded(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom
) -> None:
    write_dicom("then.dcm", study="1.2.3.1", StudyDate="20200101")
    write_dicom("now.dcm", study="1.2.3.2", StudyDate="20240101", ViewPosition="LL")
    ingest_folder(catalog, archive, workers=0)
    assert find_study(catalog, "1.2.3.2").views == ("LL",)
    assert pending_counts(catalog, "f" * 64)["image"] == 1
    assert set(study_slots(catalog, "1.2.3.2")) == {"current_lateral"}  # for the screen


def test_refused_files_are_read_again_when_asked_and_crashed_ones_always(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dicom("slug.dcm")
    slug = "undecodable"

    def refuse(source: Source) -> Examined:
        status = source.path.stat()
        return Examined(source, status.st_size, status.st_mtime_ns, refusal=Refusal(slug, "As the test says."))

    with monkeypatch.context() as patched:
        patched.setattr("index.intake.examine.examine", refuse)
        ingest_folder(catalog, archive, workers=0)
    ingest_folder(catalog, archive, workers=0)
    assert outcomes(catalog) == {"slug.dcm": "undecodable"}
    slug = "decoder-crashed"
    with monkeypatch.context() as patched:
        patched.setattr("index.intake.examine.examine", refuse)
        ingest_folder(catalog, archive, workers=0, retry_refused=True)
    assert outcomes(catalog) == {"slug.dcm": "decoder-crashed"}
    ingest_folder(catalog, archive, workers=0)
    assert outcomes(catalog) == {"slug.dcm": "accepted"}


def test_a_file_that_kills_its_decoder_costs_only_itself(
    write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_dicom(name, study=f"1.2.{number}") for number, name in enumerate(("a.dcm", "killer.dcm", "b.dcm"))]
    monkeypatch.setattr("index.intake.examine.examine", examine_or_die)
    with examiner(workers=1) as examined:
        results = examined([Source(path) for path in paths])
    assert [result.refusal and result.refusal.slug for result in results] == [None, "decoder-crashed", None]


def test_every_real_dicom_file_gets_what_its_readme_expects(sqlite_catalog: Catalog, shared_data: Path) -> None:
    ingest_folder(sqlite_catalog, shared_data / "dicom", workers=0)
    assert outcomes(sqlite_catalog) == {
        "chest_CR_mono1_15bit_j2k_lossy.dcm": "accepted",
        "chest_DX_mono1_8bit_dog.dcm": "accepted",  # nothing in its header says it is a dog
        "hip_CR_mono2_10bit_explicitLE.dcm": "not-a-chest-radiograph",
        "hip_CR_mono2_10bit_j2k_lossless.dcm": "not-a-chest-radiograph",
        "hip_CR_mono2_10bit_jpeg_lossless_sv1.dcm": "not-a-chest-radiograph",
        "hip_CR_mono2_10bit_rle.dcm": "not-a-chest-radiograph",
        "hip_CR_mono2_10bit_jpeg_extended.dcm": "not-a-chest-radiograph",
        "tibia_CR_mono1_10bit_j2k_lossless.dcm": "not-a-chest-radiograph",
        "MR_truncated_pixels.dcm": "wrong-modality",
        "CT_bad_meta.dcm": "wrong-modality",
        "CT_small.dcm": "wrong-modality",
        "SR_basic_text.dcm": "report",
        "SC_deflated_mono2_8bit.dcm": "unsupported-transfer-syntax",  # its header cannot be read safely
        "OT_modality_lut_12bit_signed.dcm": "wrong-modality",
        "OT_voi_lut_8bit.dcm": "wrong-modality",
        "no_file_meta_CT.dcm": "not-dicom",
        "palette_color_no_meta.dcm": "not-dicom",
        "html_named_dcm.dcm": "not-dicom",
        "meta_missing_transfersyntax.dcm": "no-transfer-syntax",
        "README.md": "not-an-image",
    }


@pytest.mark.parametrize("share", [0.001, 0.01, 0.5, 0.999])
def test_a_truncated_jpeg_2000_file_is_refused_as_such(shared_data: Path, tmp_path: Path, share: float) -> None:
    data = (shared_data / "dicom" / "chest_CR_mono1_15bit_j2k_lossy.dcm").read_bytes()
    path = tmp_path / "cut.dcm"
    path.write_bytes(data[: int(len(data) * share)])
    found = examine(Source(path)).refusal
    assert found is not None
    assert found.slug in ("truncated", "no-pixel-data")


def test_the_real_manifest_is_taken_in_whole(sqlite_catalog: Catalog, shared_data: Path) -> None:
    summary = ingest_manifest(sqlite_catalog, shared_data / "cxr" / "manifest.csv", workers=0)
    assert (summary.accepted, summary.studies_new, summary.refused.total()) == (513, 454, 0)
    assert summary.reports_matched == 185
