"""From raw data to a study table, and from the table to what training reads."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from index import Catalog, ingest_folder
from index.training_table import archive_studies
from model.image import ImageTransform, read_radiograph
from model.training import pictures
from model.training.pictures import load_studies
from model.training.studies import ABSENT
from model.training.tables import (
    StudyRow,
    TableError,
    prepare,
    read_csv_studies,
    read_table,
    write_table,
)
from model.training.tables.split import split_of
from tests.conftest import WriteDicom

TRANSFORM = ImageTransform(resize=16, crop=16)


def picture(path: Path, seed: int = 0) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 36), np.uint8)).save(path)
    return str(path)


def write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


# A table of one's own


def test_rows_without_a_study_id_are_numbered_and_reports_are_taken_apart(tmp_path: Path) -> None:
    rows = [
        {"study_id": "", "patient_id": "p", "image_path": "a.png", "report": "Clear."},
        {
            "study_id": "s",
            "patient_id": "p",
            "image_path": "b.png",
            "report": "INDICATION: x FINDINGS: y IMPRESSION: z",
        },
    ]
    first, second = read_csv_studies(write_csv(tmp_path / "t.csv", rows))
    assert (first.study_id, first.text) == ("1", "Clear.")
    assert (second.study_id, second.findings, second.impression, second.text) == ("s", "y", "z", "")


def test_the_published_training_columns_are_understood(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    row = {
        "patient_id": "p1", "image_path": "a.png", "auxview_image_path": "-1", "last_image_path": "b.png",
        "last_auxview_image_path": "-1", "report": "Clear.",
    }  # fmt: skip
    [found] = read_csv_studies(write_csv(tmp_path / "train.csv", [row]))
    assert found.slots() == (str(tmp_path / "a.png"), "", str(tmp_path / "b.png"), "")
    assert (found.study_id, found.text) == ("1", "Clear.")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image_path": "a.png", "report": "x"}], "expected a column patient_id"),
        ([{"patient_id": "p", "report": "x"}], "current_frontal or image_path"),
        (
            [{"patient_id": "p", "image_path": "a"}, {"patient_id": "", "image_path": "b"}],
            "line 3: patient_id is empty",
        ),
        ([{"patient_id": "p", "image_path": "a", "split": "trian"}], "line 2: split is 'trian', expected train"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(TableError, match=message):
        list(read_csv_studies(write_csv(tmp_path / "t.csv", rows)))


# Preparing


def studies(folder: Path, count: int = 20) -> list[StudyRow]:
    """Two a patient, the second with the first as its prior."""
    rows = []
    for number in range(count):
        before = picture(folder / f"{number - 1}.png", number - 1) if number % 2 else ""
        rows.append(
            StudyRow(
                study_id=f"s{number}",
                patient_id=f"p{number // 2}",
                current_frontal=picture(folder / f"{number}.png", number),
                prior_frontal=before,
                findings=f"Finding {number}.",
                labels="Edema" if number % 2 else "No Finding",
            )
        )
    return rows


def test_shares_of_the_split_are_about_those_asked_for() -> None:
    drawn = [split_of(str(number), 0, 0.1, 0.2) for number in range(5000)]
    assert drawn.count("test") / 5000 == pytest.approx(0.2, abs=0.02)
    assert drawn.count("validate") / 5000 == pytest.approx(0.1, abs=0.02)


def test_patients_are_whole_and_the_table_reads_back(tmp_path: Path) -> None:
    prepared = prepare(studies(tmp_path), tmp_path / "out", validate_share=0.3, test_share=0.3)
    rows = read_table(tmp_path / "out" / "studies.csv")
    assert len(rows) == 20 == sum(prepared.studies.values()) and prepared.patients == 10
    assert all(len({row.split for row in rows if row.patient_id == f"p{n}"}) == 1 for n in range(10))
    assert prepared.slots == {"current_frontal": 20, "current_lateral": 0, "prior_frontal": 10, "prior_lateral": 0}
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["patients"] == 10
    again = prepare(studies(tmp_path, 10), tmp_path / "fewer", validate_share=0.3, test_share=0.3)
    assert again.patients == 5
    fewer = {row.study_id: row.split for row in read_table(tmp_path / "fewer" / "studies.csv")}
    assert all(fewer[row.study_id] == row.split for row in rows[:10])


def test_a_patient_whom_the_data_put_in_two_splits_is_held_out(tmp_path: Path) -> None:
    rows = [
        StudyRow("1", "p", "train", picture(tmp_path / "a.png"), findings="a"),
        StudyRow("2", "p", "validate", picture(tmp_path / "b.png"), findings="b"),
        StudyRow("3", "q", "train", picture(tmp_path / "c.png"), findings="c"),
    ]
    prepare(rows, tmp_path)
    assert [row.split for row in read_table(tmp_path / "studies.csv")] == ["validate", "validate", "train"]


def test_missing_pictures_are_counted_listed_and_limited(tmp_path: Path) -> None:
    rows = studies(tmp_path)
    Path(rows[0].current_frontal).unlink()  # also the prior of study 1
    with pytest.raises(TableError, match=r"2 of 30 pictures are missing.*--max-bad-share"):
        prepare(rows, tmp_path / "out")
    assert not (tmp_path / "out" / "studies.csv").exists()
    prepared = prepare(rows, tmp_path / "out", max_bad_share=0.1)
    assert prepared.skipped == {"current_frontal missing": 1, "prior_frontal missing": 1}
    kept = {row.study_id: row for row in read_table(tmp_path / "out" / "studies.csv")}
    assert "s0" not in kept and kept["s1"].prior_frontal == ""
    listed = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert [entry["study_id"] for entry in listed] == ["s0", "s1"]


def test_patients_of_an_evaluation_list_and_studies_without_a_report_are_left_out(tmp_path: Path) -> None:
    rows = [*studies(tmp_path), StudyRow("silent", "p99")]
    prepared = prepare(rows, tmp_path / "out", exclude={"p0", "p3"})
    assert prepared.skipped == {"patient of the exclusion list": 4, "no report": 1}
    assert not {"p0", "p3", "p99"} & {row.patient_id for row in read_table(tmp_path / "out" / "studies.csv")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("train", "trian", 1), "line 2: split is 'trian'"),
        (lambda text: text.replace("patient_id", "patient", 1), "column patient_id missing"),
        (lambda text: text.replace("s0,", ",", 1), "line 2: study_id and patient_id"),
        (lambda text: text.replace(",train,", ",test,", 1), "a patient .* is in two splits"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = tmp_path / "studies.csv"
    write_table(path, [StudyRow("s0", "p", "train"), StudyRow("s1", "p", "train")])
    path.write_text(change(path.read_text()))
    with pytest.raises(TableError, match=message):
        read_table(path)


# Pictures


def load(table: Path, cache: Path, split: str = "train", bad: float = 0.0, workers: int = 1):  # type: ignore[no-untyped-def]
    return load_studies(table, split, cache, TRANSFORM, 2, workers, lambda done, total: None, bad)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    prepare(studies(tmp_path, 12), tmp_path / "table", validate_share=0.0, test_share=0.0)
    return tmp_path / "table" / "studies.csv"


def test_pictures_are_decoded_once_and_placed_as_the_product_does(table: Path, tmp_path: Path) -> None:
    found = load(table, tmp_path / "cache")
    assert found.frontal.shape == (12, 32, 32)  # priors are other studies' frontals
    assert found.slots[:2].tolist() == [[0, ABSENT, ABSENT, ABSENT], [1, ABSENT, 0, ABSENT]]
    pixels = read_radiograph(Path(read_table(table)[3].current_frontal)).pixels
    expected = np.round(ImageTransform(resize=32, crop=32).place(pixels) * 255)
    assert np.array_equal(found.slot_pictures("current_frontal", np.array([3]))[0], expected)
    assert found.labels[:2] == [frozenset(), frozenset({"Edema"})] and found.findings[5] == "Finding 5."


def test_decoding_goes_on_where_it_was_killed(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "CHUNK", 4)
    decoded, decode = [], pictures._decode_chunk

    def counted(paths: list[str], transform: ImageTransform) -> object:
        decoded.extend(paths)
        if len(decoded) == 8 and not list(tmp_path.glob("cache/*/killed")):
            (next(tmp_path.glob("cache/*")) / "killed").touch()
            raise KeyboardInterrupt
        return decode(paths, transform)

    monkeypatch.setattr(pictures, "_decode_chunk", counted)
    with pytest.raises(KeyboardInterrupt):
        load(table, tmp_path / "cache")
    found = load(table, tmp_path / "cache")
    assert len(decoded) == 8 + 8  # the first four were kept
    assert np.array_equal(found.frontal, load(table, tmp_path / "other").frontal)


def test_pictures_that_cannot_be_read_are_listed_and_limited(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path(read_table(table)[0].current_frontal).write_bytes(b"no picture")
    with pytest.raises(TableError, match=r"1 of 12 pictures cannot be read.*max_bad_share.*not-an-image"):
        load(table, tmp_path / "cache", bad=0.05)
    found = load(table, tmp_path / "cache", bad=0.1, workers=2)
    assert found.ids[0] == "s1" and len(found) == 11
    assert found.slots[0].tolist() == [1, ABSENT, ABSENT, ABSENT]  # its prior is the broken one
    path = next(tmp_path.glob("cache/*/skipped.jsonl"))
    assert "1 of 12 pictures of split train cannot be read, so 1 of 12 studies are left out" in caplog.text
    assert str(path) in caplog.text
    [listed] = path.read_text().splitlines()
    assert "not-an-image" in json.loads(listed)["reason"]


# The archive


def test_the_archive_is_training_data_under_pseudonyms(
    catalog: Catalog, archive: Path, write_dicom: WriteDicom, tmp_path: Path
) -> None:
    write_dicom("early.dcm", study="1.2.3.1", seed=1, StudyDate="20230101")
    write_dicom("late.dcm", study="1.2.3.2", seed=2, StudyDate="20240101")
    write_dicom("side.dcm", study="1.2.3.2", seed=3, StudyDate="20240101", ViewPosition="LL")
    write_dicom("silent.dcm", study="1.2.3.3", seed=4, PatientID="P2")
    reports = write_csv(
        tmp_path / "reports.csv",
        [
            {"study_instance_uid": "1.2.3.1", "findings": "Clear.", "impression": "Normal."},
            {"study_instance_uid": "1.2.3.2", "findings": "New effusion.", "impression": ""},
        ],
    )
    ingest_folder(catalog, archive, reports)
    rows = {row.study_id: row for row in archive_studies(catalog)}
    assert set(rows) == {"1.2.3.1", "1.2.3.2"}
    assert [Path(path).name for path in rows["1.2.3.2"].slots()] == ["late.dcm", "side.dcm", "early.dcm", ""]
    assert rows["1.2.3.2"].findings == "New effusion."
    assert rows["1.2.3.1"].patient_id == rows["1.2.3.2"].patient_id != "P1"
    prepare(rows.values(), tmp_path / "out", test_share=0.0, validate_share=0.0)
    assert len(load(tmp_path / "out" / "studies.csv", tmp_path / "cache")) == 2
