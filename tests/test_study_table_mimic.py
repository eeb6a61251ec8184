"""MIMIC-CXR-JPG in its published layout: slots, priors, sections, labels, splits, and what is missing."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from model.training.tables import Skipped, StudyRow, TableError, prepare, read_mimic, read_table, write_table
from tests.test_cli import Alta, alta  # noqa: F401
from tests.test_study_tables import picture, write_csv


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    """Two patients in the published layout: one with three studies, the second at the same hour as the third."""
    root = tmp_path / "mimic"
    images = [  # dicom_id, subject, study, view, date, time
        ("a-lat", 10000032, 50000001, "LATERAL", 21800506, 213014.53),
        ("a-ap", 10000032, 50000001, "AP", 21800506, 213014.53),
        ("a-pa2", 10000032, 50000001, "PA", 21800506, 213014.53),
        ("a-pa1", 10000032, 50000001, "PA", 21800506, 213014.53),
        ("b-ap", 10000032, 50000002, "AP", 21800626, 90000.0),
        ("b-ll", 10000032, 50000002, "LL", 21800626, 90000.0),
        ("c-ap", 10000032, 50000003, "AP", 21800626, 163000.0),
        ("d-lat", 10000032, 50000004, "LATERAL", 21800627, 80000.0),
        ("e-pa", 11111111, 50000005, "PA", 21800701, 100000.0),
    ]
    names = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime")
    write_csv(root / "mimic-cxr-2.0.0-metadata.csv.gz", [dict(zip(names, row, strict=True)) for row in images])
    splits = [
        {"dicom_id": row[0], "study_id": row[2], "subject_id": row[1], "split": "test" if row[1] > 11e6 else "train"}
        for row in images
    ]
    write_csv(root / "mimic-cxr-2.0.0-split.csv", splits)
    labels = {"Cardiomegaly": "1.0", "Edema": "0.0", "No Finding": ""}
    write_csv(
        root / "mimic-cxr-2.0.0-chexpert.csv",
        [
            {"subject_id": 10000032, "study_id": 50000001, **labels},
            {"subject_id": 10000032, "study_id": 50000002, **labels, "Edema": "-1.0"},
        ],
    )
    for number, (name, subject, study, *_) in enumerate(images):
        picture(root / "files" / f"p{str(subject)[:2]}" / f"p{subject}" / f"s{study}" / f"{name}.jpg", number)
        report = root / "reports" / "files" / f"p{str(subject)[:2]}" / f"p{subject}" / f"s{study}.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(
            "                     FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n\n INDICATION:  ___F with"
            f" cough\n\n FINDINGS: \n \n The lungs\n are clear {study}.\n \n IMPRESSION: \n \n No acute process.\n"
        )
    return root


def test_mimic_studies_have_their_slots_sections_and_labels(mimic: Path) -> None:
    found = list(read_mimic(mimic, mimic / "reports"))
    rows = {row.study_id: row for row in found if isinstance(row, StudyRow)}
    assert set(rows) == {"50000001", "50000002", "50000003", "50000005"}
    assert [row for row in found if isinstance(row, Skipped)] == [Skipped("50000004", "no frontal picture")]

    def names(study: str) -> list[str]:
        return [Path(path).stem for path in rows[study].slots()]

    assert names("50000001") == ["a-pa1", "a-lat", "", ""]  # PA over AP, the lowest of two
    assert names("50000002") == ["b-ap", "b-ll", "a-pa1", "a-lat"]
    assert names("50000003") == ["c-ap", "", "b-ap", "b-ll"]  # the same day, but later
    first = rows["50000001"]
    assert (first.findings, first.impression, first.text) == (
        "The lungs are clear 50000001.",
        "No acute process.",
        "",
    )
    assert first.labels == "Cardiomegaly" and rows["50000002"].labels == ""  # uncertain: unknown
    assert (first.split, rows["50000005"].split) == ("train", "test")
    assert all(Path(path).is_file() for row in rows.values() for path in row.slots() if path)


def test_another_folder_is_no_mimic(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"metadata\.csv.*is this MIMIC-CXR-JPG"):
        list(read_mimic(tmp_path, tmp_path))


def test_a_report_without_findings_and_impression_says_what_was_seen_after_its_headings(mimic: Path) -> None:
    (mimic / "reports/files/p10/p10000032/s50000001.txt").write_text(
        "                     FINAL REPORT\n PORTABLE CHEST\n \n INDICATION:  Edema.\n \n COMPARISON:  ___.\n"
        " \n As compared to the previous radiograph,\n no change.\n \n NOTIFICATION:  Dr. ___ by telephone.\n"
    )
    [first] = [row for row in read_mimic(mimic, mimic / "reports") if row.study_id == "50000001"]
    assert isinstance(first, StudyRow)
    assert (first.findings, first.impression) == ("", "")
    assert first.text == "As compared to the previous radiograph, no change."


def test_missing_report_files_and_unknown_views_are_skipped_and_counted(mimic: Path, tmp_path: Path) -> None:
    table = mimic / "mimic-cxr-2.0.0-metadata.csv.gz"
    content = gzip.decompress(table.read_bytes()).decode()
    table.write_bytes(gzip.compress(content.replace("LL", "SWIMMERS").encode("utf-8-sig")))
    missing = mimic / "reports/files/p10/p10000032/s50000003.txt"
    missing.unlink()
    with pytest.raises(TableError, match=r"1 of 4 reports are missing or unreadable.*s50000003\.txt.*--max-bad-share"):
        prepare(read_mimic(mimic, mimic / "reports"), tmp_path / "out")
    prepared = prepare(read_mimic(mimic, mimic / "reports"), tmp_path / "out", max_bad_share=0.3)
    assert prepared.skipped == {"view not known": 1, "no frontal picture": 1, "report missing": 1}
    assert sum(prepared.studies.values()) == 3
    with pytest.raises(TableError, match=r"expected the unpacked mimic-cxr-reports\.zip"):
        list(read_mimic(mimic, tmp_path))


def test_a_study_in_two_splits_is_held_out_in_whatever_order(mimic: Path) -> None:
    table = mimic / "mimic-cxr-2.0.0-split.csv"
    lines = table.read_text().splitlines()
    lines[2] = lines[2].replace("train", "test")  # its first and its last two pictures are of train
    table.write_text("\n".join(lines))
    assert [row.split for row in read_mimic(mimic, mimic / "reports") if row.study_id == "50000001"] == ["test"]  # type: ignore[union-attr]


def test_a_label_row_without_a_positive_finding_says_nothing(mimic: Path) -> None:
    table = mimic / "mimic-cxr-2.0.0-chexpert.csv"
    table.write_text(table.read_text().replace("1.0", ""))
    assert all(row.labels == "" for row in read_mimic(mimic, mimic / "reports") if isinstance(row, StudyRow))


@pytest.mark.parametrize(("column", "value"), [("StudyDate", "May"), ("StudyTime", "nan")])
def test_a_time_that_is_none_names_its_line(mimic: Path, column: str, value: str) -> None:
    table = mimic / "mimic-cxr-2.0.0-metadata.csv.gz"
    with gzip.open(table, "rt", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[1][column] = value
    write_csv(table, rows)  # type: ignore[arg-type]
    with pytest.raises(TableError, match=f"line 3: StudyDate and StudyTime are .*{value}"):
        list(read_mimic(mimic, mimic / "reports"))


def test_from_raw_data_to_encoders(alta: Alta, mimic: Path, tmp_path: Path) -> None:  # noqa: F811
    code, out, _ = alta("data", "prepare", "mimic-cxr-jpg", mimic, "--reports", mimic / "reports", "--output", "table")
    assert code == 0 and "train" in out and 'table = "table/studies.csv"' in out
    rows = read_table(tmp_path / "table" / "studies.csv")
    write_table(
        tmp_path / "table" / "studies.csv",
        [*rows, StudyRow("v", "v", "validate", current_frontal=rows[0].current_frontal, findings="Clear.")],
    )
    Path("run.toml").write_text(
        'name = "t"\nobjective = "mrm"\n[data]\ntable = "table/studies.csv"\n[optim]\nbatch = 2\nsteps = 2\n'
        "warmup_steps = 1\n[model.image]\nsize = 32\nwidth = 16\ndepth = 1\nheads = 2\ndecoder_width = 8\n"
        "decoder_depth = 1\ndecoder_heads = 2\n[model.text]\nvocabulary = 200\nwidth = 16\ndepth = 1\nheads = 2\n"
        "intermediate = 16\npositions = 64\ncontext_length = 64\n[transform]\nresize = 32\ncrop = 32\n"
    )
    code, out, err = alta("train", "run.toml", "--output", "base", "--workers", 1, "--device", "cpu")
    assert code == 0, err
    record = json.loads(Path("base/training.json").read_text())
    assert record["table"] == "table/studies.csv" and record["table_sha256"]
    Path("adapt.toml").write_text(
        'name = "a"\n[base]\ncheckpoint = "base"\n[data]\ntable = "table/studies.csv"\n[optim]\nbatch = 2\nsteps = 2\n'
        "warmup_steps = 1\nlocal_group = 2\n"
    )
    code, out, err = alta("train", "adapt.toml", "--output", "adapted", "--workers", 1, "--device", "cpu")
    assert code == 0 and "recall_at_10" in out, err
    code, out, err = alta("adapters", "apply", "adapted/adapters", "--base", "base", "--output", "applied")
    assert code == 0, err
    code, _, err = alta("adapters", "apply", "adapted/adapters", "--output", "applied")
    assert code == 1 and "--base" in err
