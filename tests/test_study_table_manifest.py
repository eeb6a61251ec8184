"""A manifest with a row a picture: studies, views, follow-ups, reports and labels out of it."""

from pathlib import Path

import pytest

from model.training.pictures import load_studies
from model.training.tables import Skipped, StudyRow, TableError, prepare, read_manifest, read_table
from tests.test_cli import Alta, alta  # noqa: F401
from tests.test_study_tables import TRANSFORM, picture, write_csv

Row = dict[str, object]


def row(name: str, patient: str, study: str, view: str = "PA", **more: object) -> Row:
    return {
        "study_id": study, "patient_id": patient, "image_path": f"images/{name}.png", "view": view, "study_order": "",
        "offset_days": "", "findings": "", "text": "Clear.", "near_dup_of": "", **more,
    }  # fmt: skip


@pytest.fixture
def rows() -> list[Row]:
    report = "INDICATION: Cough. FINDINGS: Clear lungs. IMPRESSION: Normal."
    return [
        row("late", "p", "p_d9", "AP Supine", offset_days=9, study_order=1, findings="Edema;Pleural Effusion"),
        row("early-l", "p", "p_d-3", "L", offset_days=-3, study_order=0, text=report, findings="No Finding"),
        row("early-f", "p", "p_d-3", "frontal (PA/AP unknown)", offset_days=-3, study_order=0, text=report),
        row("early-pa", "p", "p_d-3", "PA", offset_days=-3, study_order=0, text=""),
        row("loose", "p", "p_u", "AP"),
        row("side", "q", "q_0", "lateral"),
        row("odd", "q", "q_1", "RAO"),
        row("copy", "q", "q_2", near_dup_of="images/late.png"),
    ]


def write(folder: Path, rows: list[Row]) -> Path:
    for number, values in enumerate(rows):
        picture(folder / str(values.get("image_path", values.get("File", ""))), number)
    return write_csv(folder / "manifest.csv", rows)


def read(path: Path, **named: object) -> tuple[dict[str, StudyRow], list[Skipped]]:
    found = list(read_manifest(path, **named))  # type: ignore[arg-type]
    studies = {row.study_id: row for row in found if isinstance(row, StudyRow)}
    return studies, [row for row in found if isinstance(row, Skipped)]


def names(row: StudyRow) -> list[str]:
    return [Path(path).stem for path in row.slots()]


def test_pictures_become_studies_with_views_and_priors(tmp_path: Path, rows: list[Row]) -> None:
    found, skipped = read(write(tmp_path, rows))
    assert names(found["p_d-3"]) == ["early-pa", "early-l", "", ""]  # PA before one of unknown direction
    assert names(found["p_d9"]) == ["late", "", "early-pa", "early-l"]
    assert names(found["p_u"]) == ["loose", "", "", ""]  # no time, no prior
    assert sorted((entry.study_id, entry.reason) for entry in skipped) == [
        ("q_0", "no frontal picture"),
        ("q_1", "view not known"),
        ("q_2", "copy of another picture"),
    ]


def test_report_and_labels_are_those_of_the_picture_that_has_them(tmp_path: Path, rows: list[Row]) -> None:
    found, _ = read(write(tmp_path, rows))
    first = found["p_d-3"]  # the frontal's note is empty, the lateral's comes next
    assert (first.findings, first.impression, first.text) == ("Clear lungs.", "Normal.", "")
    assert first.labels == "No Finding" and found["p_d9"].labels == "Edema;Pleural Effusion"
    assert found["p_d9"].text == "Clear." and found["p_u"].labels == ""


def test_other_names_of_columns_and_dates(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [
            {"Subject_ID": "p", "File": "b.png", "ViewPosition": "AP", "StudyDate": "20240301", "Said": "Effusion."},
            {"Subject_ID": "p", "File": "a.png", "ViewPosition": "LL", "StudyDate": "2024-01-31", "Said": "Clear."},
            {"Subject_ID": "p", "File": "c.png", "ViewPosition": "PA", "StudyDate": "2024-01-31", "Said": "Clear."},
        ],
    )
    found, _ = read(path, columns={"section_impression": "Said"})
    assert list(found) == ["p_2024-01-31", "p_20240301"]  # without study_id, what was taken on one day
    assert names(found["p_20240301"]) == ["b", "", "c", "a"] and found["p_20240301"].impression == "Effusion."


def test_a_field_can_be_left_out_or_read_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path, [{**row("a", "p", "s", findings="Edema"), "text_imaging": "Wet lungs."}])
    found, _ = read(path, columns={"text": "text_imaging", "labels": ""})
    assert (found["s"].text, found["s"].labels) == ("Wet lungs.", "")


def test_the_time_that_most_studies_have_orders_them(tmp_path: Path) -> None:
    rows = [
        row("a", "p", "1", study_order=0, offset_days=5),
        row("b", "p", "2", study_order=1),
        row("c", "p", "3", study_order=1),
        row("d", "p", "4", study_order=2),
    ]
    found, _ = read(write(tmp_path, rows))
    assert [names(found[study])[2] for study in "1234"] == ["", "a", "a", "c"]  # 2 and 3 are at one time


def test_study_names_of_a_patients_own_get_the_patients_before_them(tmp_path: Path) -> None:
    rows = [row("a", "p", "study1"), row("b", "q", "study1"), row("c", "q", "study2")]
    found, _ = read(write(tmp_path, rows))
    assert set(found) == {"p/study1", "q/study1", "q/study2"}


def test_a_repeated_picture_counts_once(tmp_path: Path) -> None:
    found, skipped = read(write(tmp_path, [row("a", "p", "1"), row("a", "p", "1"), row("a", "q", "2")]))
    assert list(found) == ["1"]
    assert [entry.reason for entry in skipped] == ["repeated row", "picture of another patient"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset_days": "soon"}, "line 3: offset_days is 'soon', expected a number"),
        ({"offset_days": "nan"}, "line 3: offset_days is 'nan', expected a number"),
        ({"patient_id": ""}, "line 3: patient_id is empty"),
        ({"image_path": ""}, "line 3: image_path is empty"),
        ({"study_id": ""}, "line 3: the picture is of no study"),
        (
            {"findings": "The heart is large and the left lung base is wet."},
            "line 3: expected names of findings.*--column",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_line(tmp_path: Path, change: Row, message: str) -> None:
    path = write_csv(tmp_path / "manifest.csv", [row("a", "p", "1"), {**row("b", "p", "2"), **change}])
    with pytest.raises(TableError, match=message):
        read(path)


def test_a_bad_date_and_two_splits_of_a_study_are_named(tmp_path: Path) -> None:
    base = {"patient_id": "p", "image_path": "a.png", "view": "PA", "study_date": "1/22/2020"}
    with pytest.raises(TableError, match="line 2: study_date is '1/22/2020', expected YYYY-MM-DD"):
        read(write_csv(tmp_path / "manifest.csv", [base]))
    rows = [{**row(name, "p", "1"), "split": split} for name, split in (("a", "train"), ("b", "test"))]
    with pytest.raises(TableError, match="line 3: study 1 is of split 'test' here and 'train' in line 2"):
        read(write_csv(tmp_path / "manifest.csv", rows))


@pytest.mark.parametrize("absent", ["patient_id", "image_path", "view", "study_id"])
def test_a_missing_column_is_named_with_what_to_do(tmp_path: Path, absent: str) -> None:
    kept = ("patient_id", "image_path", "view", "study_id")
    values = {name: value for name, value in row("a", "p", "1").items() if name in kept and name != absent}
    with pytest.raises(TableError, match=f"column {absent} missing; found .*--column {absent}=COLUMN"):
        read(write_csv(tmp_path / "manifest.csv", [values]))


@pytest.mark.parametrize(("columns", "message"), [({"txt": "a"}, "expected one of"), ({"text": "x"}, "no column x")])
def test_a_column_that_is_not_there_cannot_be_named(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    with pytest.raises(TableError, match=message):
        read(write(tmp_path, [row("a", "p", "1")]), columns=columns)


def test_a_trial_counts_what_its_own_patients_lose(tmp_path: Path) -> None:
    rows = [row("a", "p", "1", "RAO"), row("b", "p", "2"), row("c", "q", "3", "RAO"), row("d", "q", "4")]
    prepared = prepare(read_manifest(write(tmp_path, rows)), tmp_path / "out", limit=1)
    assert (prepared.patients, prepared.skipped) == (1, {"view not known": 1})


def test_a_patient_in_two_splits_goes_where_most_is_held_out(tmp_path: Path) -> None:
    rows = [
        {**row("a", "p", "1"), "split": "train"},
        {**row("b", "p", "2"), "split": "val"},
        {**row("c", "q", "3"), "split": "training"},
    ]
    prepare(read_manifest(write(tmp_path, rows)), tmp_path / "out")
    assert [row.split for row in read_table(tmp_path / "out" / "studies.csv")] == ["validate", "validate", "train"]


def test_from_the_command_line(alta: Alta, tmp_path: Path, rows: list[Row]) -> None:  # noqa: F811
    path = write(tmp_path, rows)
    (tmp_path / "images" / "loose.png").unlink()
    (tmp_path / "images" / "early-l.png").write_bytes(b"JFIF")
    command = ("data", "prepare", "manifest", path, "--output", "table", "--check", "decode", "--workers", 1)
    code, _, err = alta(*command)
    assert code == 1 and "3 of 6 pictures are missing or undecodable" in err
    code, out, err = alta(*command, "--max-bad-share", 0.5, "--column", "labels=")
    assert code == 0 and "left out: view not known" in out and "No Finding" not in out, err
    assert [names(row) for row in read_table(Path("table/studies.csv"))] == [
        ["early-pa", "", "", ""],
        ["late", "", "early-pa", ""],
    ]
    code, _, err = alta(*command, "--column", "labels")
    assert code == 1 and "expected FIELD=COLUMN" in err


def test_the_real_manifest(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "cxr" / "manifest.csv"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    prepared = prepare(read_manifest(path), tmp_path / "out", max_bad_share=0.0)
    assert (sum(prepared.studies.values()), prepared.patients) == (179, 110)
    assert prepared.slots == {
        "current_frontal": 179, "current_lateral": 38, "prior_frontal": 52, "prior_lateral": 10,
    }  # fmt: skip
    assert prepared.skipped == {"copy of another picture": 5, "no report": 269, "no frontal picture": 2}
    labelled = prepare(read_manifest(path), tmp_path / "all", keep_unreported=True)
    assert sum(labelled.studies.values()) > 400
    loaded = load_studies(
        tmp_path / "out" / "studies.csv", "test", tmp_path / "cache", TRANSFORM, 1, 1, lambda *n: None, 0.0
    )
    assert len(loaded) == prepared.studies["test"]
