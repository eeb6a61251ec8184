"""CheXpert Plus as published: a picture a row, studies by folder, labels in JSON Lines."""

import json
from pathlib import Path

import pytest

from model.prompts import PROMPT_SETS
from model.training.tables import Skipped, StudyRow, TableError, prepare, read_chexpert_plus, read_table
from tests.test_cli import Alta, alta  # noqa: F401
from tests.test_study_tables import picture, write_csv

ALL_COLUMNS = (
    "path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order",
    "report", "section_narrative", "section_clinical_history", "section_history", "section_comparison",
    "section_technique", "section_procedure_comments", "section_findings", "section_impression",
    "section_end_of_impression", "section_summary", "section_accession_number", "age", "sex", "race",
    "ethnicity", "interpreter_needed", "insurance_type", "recent_bmi", "deceased", "split",
)  # fmt: skip
PICTURES = [  # patient, study, view, AP or PA, order, findings, impression, split
    ("00001", 1, "view1_frontal", "AP", 2, "", "Small left effusion.", "train"),
    ("00001", 2, "view1_frontal", "AP", 1, "Heart is\nlarge.", "", "train"),
    ("00001", 2, "view2_frontal", "PA", 1, "Heart is large.", "No edema.", "train"),
    ("00001", 2, "view3_lateral", "", 1, "Heart is large.", "No edema.", "train"),
    ("00001", 3, "view1_lateral", "", 3, "Clear.", "", "train"),
    ("00002", 1, "view1_frontal", "AP", 1, "", "", "train"),
    ("00002", 2, "view1_frontal", "LL", 2, "Clear.", "", "train"),
    ("64541", 1, "view1_frontal", "AP", 1, "", "Clear lungs.", "valid"),
]


def rows_of(pictures: list[tuple[str, int, str, str, int, str, str, str]]) -> list[dict[str, object]]:
    rows = []
    for patient, study, view, direction, order, findings, impression, split in pictures:
        name = f"{split}/patient{patient}/study{study}/{view}"
        report = f"NARRATIVE:\nChest.\n\nIMPRESSION:\n{impression}" if impression or findings else "Film of the chest."
        rows.append(
            {
                **dict.fromkeys(ALL_COLUMNS, ""),
                "path_to_image": f"{name}.jpg",
                "path_to_dcm": f"{name}.dcm",
                "frontal_lateral": "Frontal" if "frontal" in view else "Lateral",
                "ap_pa": direction,
                "deid_patient_id": f"patient{patient}",
                "patient_report_date_order": order,
                "report": report,
                "section_findings": findings,
                "section_impression": impression,
                "split": split,
            }
        )
    return rows


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    root = tmp_path / "chexpert"
    rows = rows_of(PICTURES)
    write_csv(root / "df_chexpert_plus_240401.csv", rows)
    for number, row in enumerate(rows):
        picture(root / "PNG" / str(row["path_to_image"]).replace(".jpg", ".png"), number)
    return root


def read(root: Path, **named: Path) -> tuple[dict[str, StudyRow], list[Skipped]]:
    found = list(read_chexpert_plus(root, **named))
    studies = {row.study_id: row for row in found if isinstance(row, StudyRow)}
    return studies, [row for row in found if isinstance(row, Skipped)]


def names(row: StudyRow) -> list[str]:
    return ["/".join(Path(path).parts[-2:]) for path in row.slots()]


def test_studies_are_folders_and_priors_follow_the_report_order(chexpert: Path) -> None:
    rows, skipped = read(chexpert)
    assert list(rows) == ["patient00001/study2", "patient00001/study1", "patient00002/study1", "patient64541/study1"]
    earlier, later = rows["patient00001/study2"], rows["patient00001/study1"]
    assert names(earlier) == ["study2/view2_frontal.png", "study2/view3_lateral.png", "", ""]  # PA before AP
    assert names(later) == ["study1/view1_frontal.png", "", "study2/view2_frontal.png", "study2/view3_lateral.png"]
    assert (earlier.patient_id, earlier.split) == ("patient00001", "train")
    assert all(Path(path).is_file() for row in rows.values() for path in row.slots() if path)
    assert [(entry.study_id, entry.reason) for entry in skipped] == [
        ("patient00002/study2", "view contradicts itself"),
        ("patient00001/study3", "no frontal picture"),
    ]


def test_the_report_is_that_of_the_frontal_in_its_sections_or_whole(chexpert: Path) -> None:
    rows, _ = read(chexpert)
    assert (rows["patient00001/study2"].findings, rows["patient00001/study2"].impression) == (
        "Heart is large.",
        "No edema.",
    )
    assert rows["patient00001/study1"].impression == "Small left effusion."
    assert rows["patient00002/study1"].text == "Film of the chest."


def test_a_study_in_two_splits_tests_and_an_order_is_a_number(chexpert: Path) -> None:
    rows = rows_of(PICTURES[1:4])
    rows[0]["split"] = "valid"
    table = write_csv(chexpert / "df_chexpert_plus_240401.csv", rows)
    assert read(chexpert)[0]["patient00001/study2"].split == "test"
    write_csv(table, [rows[0], rows[1] | {"patient_report_date_order": "nan"}])
    with pytest.raises(TableError, match=r"line 8: patient_report_date_order is 'nan', expected a number"):
        read(chexpert)


def test_valid_patients_test_and_training_patients_are_divided(chexpert: Path, tmp_path: Path) -> None:
    pictures = [(f"1{n:04}", 1, "view1_frontal", "AP", 1, "Clear.", "", "train") for n in range(60)]
    rows = rows_of([*pictures, ("64541", 1, "view1_frontal", "AP", 1, "Clear.", "", "valid")])
    write_csv(chexpert / "df_chexpert_plus_240401.csv", rows)
    for row in rows:
        picture(chexpert / "PNG" / str(row["path_to_image"]).replace(".jpg", ".png"))
    prepared = prepare(read_chexpert_plus(chexpert), tmp_path / "out", validate_share=0.2, test_share=0.5)
    assert prepared.patients_of["test"] == 1 and 4 <= prepared.patients_of["validate"] <= 20
    held_out = [row.patient_id for row in read_table(tmp_path / "out" / "studies.csv") if row.split == "test"]
    assert held_out == ["patient64541"]


@pytest.mark.parametrize("place", ["PNG/PNG", ".", "elsewhere"])
def test_pictures_are_found_where_archives_unpack_them(chexpert: Path, place: str) -> None:
    (chexpert / "PNG").rename(chexpert / "moved")
    (chexpert / place).parent.mkdir(parents=True, exist_ok=True)
    if place == ".":
        for folder in ("train", "valid"):
            (chexpert / "moved" / folder).rename(chexpert / folder)
        for path in list(chexpert.rglob("*.png")):
            path.rename(path.with_suffix(".jpg"))  # content decides, not the name
    else:
        (chexpert / "moved").rename(chexpert / place)
    rows, _ = read(chexpert, **({"images": chexpert / place} if place == "elsewhere" else {}))
    assert all(Path(path).is_file() for row in rows.values() for path in row.slots() if path)


def label_lines(*given: tuple[str, dict[str, float]]) -> str:
    lines = [{"path_to_image": name, **dict.fromkeys(PROMPT_SETS), **labels} for name, labels in given]
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_labels_are_positive_findings_and_uncertain_ones_unknown(chexpert: Path) -> None:
    path = chexpert / "impression_fixed.json"
    path.write_text(
        label_lines(
            ("train/patient00001/study1/view1_frontal.jpg", {"Pleural Effusion": 1.0, "Edema": -1.0}),
            ("train/patient00001/study2/view2_frontal.jpg", {"Cardiomegaly": 1.0, "Edema": 0.0, "Support Devices": 1}),
            ("train/patient00002/study1/view1_frontal.jpg", {}),
            ("valid/patient64541/study1/view1_frontal.png", {"No Finding": 1.0}),
        )
    )
    rows, _ = read(chexpert, labels=path)
    assert {study: row.labels for study, row in rows.items()} == {
        "patient00001/study2": "Cardiomegaly;Support Devices",
        "patient00001/study1": "",  # uncertain
        "patient00002/study1": "",  # nothing mentioned
        "patient64541/study1": "No Finding",
    }


@pytest.mark.parametrize("content", ["{", "[]", '{"path_to_image": "a.jpg"}', '{"Edema": 1}'])
def test_labels_of_another_format_are_named_by_line(chexpert: Path, content: str) -> None:
    path = chexpert / "labels.json"
    path.write_text(label_lines(("a.jpg", {})) + content)
    with pytest.raises(TableError, match=r"labels\.json, line 2: expected JSON with path_to_image"):
        read(chexpert, labels=path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patient_report_date_order": "first"}, "line 3: patient_report_date_order is 'first', expected a number"),
        ({"path_to_image": "a.jpg"}, "line 3: expected path_to_image as train/patient00001/study1/view1_frontal"),
        ({"deid_patient_id": ""}, "line 3: .*deid_patient_id"),
        ({"split": "training set"}, "line 3: split is 'training set'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_line(chexpert: Path, change: dict[str, str], message: str) -> None:
    rows = rows_of([PICTURES[5], PICTURES[7]])
    for row in rows:
        row["report"] = "One line."
    write_csv(chexpert / "df_chexpert_plus_240401.csv", [rows[0], {**rows[1], **change}])
    with pytest.raises(TableError, match=message):
        read(chexpert)


def test_missing_columns_and_tables_are_named(chexpert: Path, tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "split"} for row in rows_of(PICTURES)]
    write_csv(chexpert / "df_chexpert_plus_240401.csv", rows)
    with pytest.raises(TableError, match=r"240401\.csv: column split missing; found path_to_image.*CheXpert Plus"):
        read(chexpert)
    with pytest.raises(TableError, match=r"df_chexpert_plus_240401\.csv cannot be read"):
        read(tmp_path)


def test_a_repeated_row_counts_once(chexpert: Path) -> None:
    rows = rows_of(PICTURES)
    write_csv(chexpert / "df_chexpert_plus_240401.csv", [*rows, rows[0]])
    found, skipped = read(chexpert)
    assert len(found) == 4 and Skipped("patient00001/study1", "repeated row", str(rows[0]["path_to_image"])) in skipped


def test_a_patient_in_both_splits_is_tested(chexpert: Path, tmp_path: Path) -> None:
    rows = rows_of([PICTURES[0], PICTURES[7], PICTURES[2]])
    rows[2]["split"] = "valid"
    write_csv(chexpert / "df_chexpert_plus_240401.csv", rows)
    prepare(read_chexpert_plus(chexpert), tmp_path / "out")
    assert {row.split for row in read_table(tmp_path / "out" / "studies.csv")} == {"test"}


def test_from_the_command_line(alta: Alta, chexpert: Path) -> None:  # noqa: F811
    path = chexpert / "PNG/train/patient00002/study1/view1_frontal.png"
    path.write_bytes(path.read_bytes()[:200])
    command = ("data", "prepare", "chexpert-plus", chexpert, "--output", "table", "--check", "decode", "--workers", 1)
    code, _, err = alta(*command)
    assert code == 1 and "1 of 7 pictures are missing or undecodable" in err
    code, out, err = alta(*command, "--max-bad-share", 0.2)
    assert code == 0 and "left out: current_frontal undecodable" in out, err
    assert len(read_table(Path("table/studies.csv"))) == 3
