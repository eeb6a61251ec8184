"""What every kind of ``alta data prepare`` shares: splits, folds, trials, checks of pictures, and what is written."""

import gzip
import json
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from model.csv_file import read_csv
from model.training.tables import (
    Folds,
    Skipped,
    StudyRow,
    TableError,
    prepare,
    read_csv_studies,
    read_table,
    undecodable,
)
from model.training.tables import decoding as decoding_module
from model.training.tables.split import split_of
from tests.test_cli import Alta, alta  # noqa: F401
from tests.test_study_tables import picture, studies, write_csv


def splits(table: Path) -> dict[str, str]:
    return {row.patient_id: row.split for row in read_table(table / "studies.csv")}


# Splits


def test_folds_test_and_validate_every_patient_exactly_once(tmp_path: Path) -> None:
    rows = studies(tmp_path, 120)  # 60 patients
    found = []
    for fold in range(1, 6):
        prepare(rows, tmp_path / str(fold), folds=Folds(5, fold))
        found.append(splits(tmp_path / str(fold)))
    for patient in {row.patient_id for row in rows}:
        assert Counter(split[patient] for split in found) == {"test": 1, "validate": 1, "train": 3}
    assert all(min(Counter(split.values()).values()) >= 4 for split in found)  # of 12 on average
    for fold, split in enumerate(found):
        following = found[(fold + 1) % 5]
        assert {p for p in split if split[p] == "validate"} == {p for p in split if following[p] == "test"}


def test_folds_depend_on_the_patient_and_the_seed_alone(tmp_path: Path) -> None:
    prepare(studies(tmp_path, 40), tmp_path / "all", folds=Folds(4, 2))
    prepare(studies(tmp_path, 20), tmp_path / "fewer", folds=Folds(4, 2))
    prepare(studies(tmp_path, 40), tmp_path / "other", folds=Folds(4, 2), seed=1)
    everybody = splits(tmp_path / "all")
    assert splits(tmp_path / "fewer").items() <= everybody.items()
    assert splits(tmp_path / "other") != everybody


@pytest.mark.parametrize(("count", "fold"), [(2, 1), (5, 0), (5, 6)])
def test_folds_that_cannot_be_are_refused(count: int, fold: int) -> None:
    with pytest.raises(TableError, match="expected"):
        Folds(count, fold)


def test_a_given_split_without_validation_gives_up_training_patients_for_it(tmp_path: Path) -> None:
    rows = [
        StudyRow(str(n), f"p{n}", "test" if n % 2 else "train", picture(tmp_path / f"{n}.png"), findings="Clear.")
        for n in range(100)
    ]
    prepare(rows, tmp_path, validate_share=0.2, test_share=0.2)
    found = splits(tmp_path)
    assert all(found[f"p{n}"] == "test" for n in range(1, 100, 2))
    assert all(found[f"p{n}"] == split_of(f"p{n}", 0, 0.2, 0.0) for n in range(0, 100, 2))
    assert Counter(found.values())["validate"] > 0


def test_a_patient_named_as_test_and_left_open_is_tested(tmp_path: Path) -> None:
    shown = picture(tmp_path / "a.png")
    rows = [StudyRow(str(n), "p", split, shown, findings="Clear.") for n, split in enumerate(("test", ""))]
    prepare(rows, tmp_path)
    assert splits(tmp_path) == {"p": "test"}


def test_reports_alone_train_or_are_left_out(tmp_path: Path) -> None:
    rows = [
        *(StudyRow(f"t{n}", f"t{n}", findings="Clear.") for n in range(20)),
        StudyRow("1", "p", "test", picture(tmp_path / "a.png"), findings="Clear."),
        StudyRow("2", "p", "test", findings="Effusion."),
        StudyRow("3", "q", "train", picture(tmp_path / "b.png"), findings="Clear."),
    ]
    prepared = prepare(rows, tmp_path, test_share=0.4)
    assert prepared.text_only == 20 and prepared.skipped == {"no frontal picture, and the patient is held out": 1}
    assert all(splits(tmp_path)[f"t{n}"] == "train" for n in range(20))


# What is left out


def test_repeated_rows_and_what_a_reader_skipped_are_listed(tmp_path: Path) -> None:
    rows = studies(tmp_path, 4)
    prepared = prepare([*rows, rows[0], Skipped("s9", "view not known", "/x.png", "OBLIQUE")], tmp_path / "out")
    assert sum(prepared.studies.values()) == 4
    assert prepared.skipped == {"repeated row": 1, "view not known": 1}
    listed = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert {"study_id": "s9", "reason": "view not known", "path": "/x.png", "detail": "OBLIQUE"} in listed


def test_a_picture_of_two_patients_cannot_be_in_two_splits(tmp_path: Path) -> None:
    shown, other = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    rows = [
        StudyRow("1", "p", "train", shown, findings="a"),
        StudyRow("2", "p", "train", shown, findings="b"),
        StudyRow("3", "q", "test", other, prior_frontal=shown, findings="c"),
        StudyRow("4", "q", "test", other, findings="d"),
    ]
    prepared = prepare(rows, tmp_path / "out")
    assert prepared.skipped == {"picture of another patient": 1}
    assert [row.study_id for row in read_table(tmp_path / "out" / "studies.csv")] == ["1", "2", "4"]
    listed = json.loads((tmp_path / "out" / "skipped.jsonl").read_text())
    assert (listed["study_id"], listed["path"], listed["detail"]) == ("3", shown, "patient p")


def test_a_limit_takes_the_first_patients_whole(tmp_path: Path) -> None:
    reading = iter(studies(tmp_path, 20))
    prepared = prepare(reading, tmp_path / "out", limit=3)
    assert set(splits(tmp_path / "out")) == {"p0", "p1", "p2"} and sum(prepared.studies.values()) == 6
    assert next(reading).study_id == "s7"  # the reader was not read to its end


def test_a_table_of_ones_own_gives_patients_together(tmp_path: Path) -> None:
    rows = [{"patient_id": patient, "image_path": "a.png", "report": "Clear."} for patient in "abab"]
    assert [row.patient_id for row in read_csv_studies(write_csv(tmp_path / "t.csv", rows))] == list("aabb")


def test_labelled_studies_without_a_report_are_kept_on_demand(tmp_path: Path) -> None:
    shown = [picture(tmp_path / f"{name}.png") for name in "abc"]
    rows = [
        StudyRow("1", "a", "", shown[0], labels="Edema"),
        StudyRow("2", "b", "", shown[1]),
        StudyRow("3", "c", "", shown[2], findings="Clear."),
    ]
    assert prepare(rows, tmp_path / "reported").skipped == {"no report": 2}
    kept = prepare(rows, tmp_path / "labelled", keep_unreported=True)
    assert kept.skipped == {"no report": 1} and kept.labels == {"Edema": 1, "unknown": 1}


def test_a_diagnosis_does_not_say_that_findings_are_absent() -> None:
    assert StudyRow("1", "p", labels="COVID-19").known_findings() is None
    assert StudyRow("1", "p", labels="Edema;Scoliosis").known_findings() == {"Edema", "Scoliosis"}
    assert StudyRow("1", "p", labels="No Finding").known_findings() == frozenset()


def test_the_summary_counts_studies_patients_words_and_labels(tmp_path: Path) -> None:
    rows = studies(tmp_path, 20)
    prepared = prepare(rows, tmp_path / "out", validate_share=0.3, test_share=0.3)
    assert sum(prepared.patients_of.values()) == prepared.patients == 10
    assert prepared.words == {"median": 2, "p95": 2, "most": 2} and prepared.distinct_reports == 20
    assert prepared.labels == {"Edema": 10, "No Finding": 10}
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written["words"] == prepared.words and len(written["studies_sha256"]) == 64


# Pictures that do not decode


@pytest.fixture
def damaged(tmp_path: Path) -> list[StudyRow]:
    """20 studies; the picture of study 0, prior of study 1, is cut off, and that of study 4 is a text."""
    rows = studies(tmp_path)
    whole = Path(rows[0].current_frontal).read_bytes()
    Path(rows[0].current_frontal).write_bytes(whole[: len(whole) // 2])
    Path(rows[4].current_frontal).write_text("not a picture")
    return rows


def test_pictures_that_do_not_decode_are_dropped_and_listed(damaged: list[StudyRow], tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"4 of 30 pictures are missing or undecodable.*truncated.*--max-bad-share"):
        prepare(damaged, tmp_path / "out", decode=undecodable)
    assert not (tmp_path / "out" / "studies.csv").exists()
    prepared = prepare(damaged, tmp_path / "out", decode=undecodable, max_bad_share=0.2)
    assert prepared.skipped == {"current_frontal undecodable": 2, "prior_frontal undecodable": 2}
    kept = {row.study_id: row for row in read_table(tmp_path / "out" / "studies.csv")}
    assert not {"s0", "s4"} & kept.keys() and kept["s1"].prior_frontal == "" == kept["s5"].prior_frontal
    listed = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert {entry["detail"].split(":")[0] for entry in listed} == {"truncated", "not-an-image"}


def test_pictures_that_are_there_are_taken_as_good_without_a_check(damaged: list[StudyRow], tmp_path: Path) -> None:
    assert prepare(damaged, tmp_path / "out").skipped == {}


def test_several_processes_find_the_same(damaged: list[StudyRow], monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [row.current_frontal for row in damaged]
    monkeypatch.setattr(decoding_module, "CHUNK", 4)
    seen: list[tuple[int, int]] = []
    found = undecodable(paths, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert found == undecodable(paths) and set(found) == {paths[0], paths[4]}
    assert seen == [(4, 20), (8, 20), (12, 20), (16, 20), (20, 20)]


def test_a_killed_process_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Killed:
        def __init__(self, *arguments: object, **named: object) -> None: ...

        def map(self, *arguments: object) -> None:
            raise decoding_module.BrokenProcessPool

        def shutdown(self, **named: object) -> None: ...

    monkeypatch.setattr(decoding_module, "CHUNK", 1)
    monkeypatch.setattr(decoding_module, "ProcessPoolExecutor", Killed)
    with pytest.raises(TableError, match=r"killed.*fewer --workers"):
        undecodable(["a", "b"], workers=2)


# What is written


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    rows = studies(tmp_path / "pictures")
    prepared = prepare(rows, tmp_path / "out", dry_run=True)
    assert sum(prepared.studies.values()) == 20 and not (tmp_path / "out").exists()
    Path(rows[2].current_frontal).unlink()
    with pytest.raises(TableError, match=r"2 of 30 pictures are missing.*run without --dry-run.*2\.png"):
        prepare(rows, tmp_path / "out", dry_run=True)
    with pytest.raises(TableError, match="The source has no study: nothing was read"):
        prepare([], tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()


def test_the_table_comes_last_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("model.training.tables.prepare")  # the package's attribute is the function
    written: list[str] = []

    def write_whole(path: Path, content: bytes) -> None:
        written.append(path.name)
        if path.name == "studies.csv":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_whole", write_whole)
    with pytest.raises(TableError, match=r"studies\.csv cannot be written: No space left.*--output"):
        prepare(studies(tmp_path), tmp_path / "out")
    assert written == ["skipped.jsonl", "summary.json", "studies.csv"]


# CSV files


def test_a_row_is_named_by_the_line_it_starts_at(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n1,"two\nlines"\n3,4,5\n')
    reading = read_csv(tmp_path / "t.csv")
    assert next(reading) == (2, {"a": "1", "b": "two\nlines"})
    with pytest.raises(TableError, match="line 4: more cells than the header"):
        next(reading)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"a\n\xff\n", "expected UTF-8, found byte 0xff"),
        ("t.csv.gz", gzip.compress(b"a,b\n" * 5000, mtime=0)[:-20], "cut off or damaged"),
        ("t.csv.gz", b"a,b\n", "cannot be read"),
        ("t.csv", b"c\n1\n", "column a, b missing; found c. Do this."),
        ("t.csv", b"", "column a, b missing; found nothing"),
        ("absent.csv", None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=message):
        list(read_csv(tmp_path / name, ("a", "b") if "column" in message else (), "Do this."))


# The command line


def own_table(folder: Path, count: int = 30) -> Path:
    rows = [
        {"patient_id": f"p{n}", "image_path": Path(picture(folder / f"{n}.png", n)).name, "report": f"Finding {n}."}
        for n in range(count)
    ]
    return write_csv(folder / "t.csv", rows)


def test_the_options_of_every_kind(alta: Alta, tmp_path: Path) -> None:  # noqa: F811
    table = own_table(tmp_path / "own")
    (tmp_path / "own" / "3.png").write_bytes(b"")
    common = ("data", "prepare", "csv", table, "--output", "out")
    code, out, err = alta(*common, "--check", "decode", "--workers", 1, "--dry-run")
    assert code == 1 and "empty-file" in err and not Path("out").exists()
    code, out, _ = alta(*common, "--check", "decode", "--workers", 1, "--max-bad-share", 0.1, "--dry-run")
    assert code == 0 and "current_frontal undecodable" in out and "nothing was written" in out
    assert not Path("out").exists()
    code, out, _ = alta(*common, "--limit", 10, "--folds", 3, "--fold", 2, "--seed", 5)
    assert code == 0 and "words of a report" in out
    written = json.loads(Path("out/summary.json").read_text())
    assert written["patients"] == 10 and written["folds"] == {"count": 3, "test": 2} and written["seed"] == 5
    left_out = write_csv(tmp_path / "list.csv", [{"patient_id": "p0"}, {"patient_id": "p1"}])
    common = (*common, "--overwrite")
    code, out, _ = alta(*common, "--exclude-list", left_out, "--max-bad-share", 0.1)
    assert code == 0 and json.loads(Path("out/summary.json").read_text())["patients"] == 28
    left_out.write_text("patient_id\nP0 \n")
    code, out, _ = alta(*common, "--exclude-list", left_out, "--max-bad-share", 0.1)
    assert code == 0 and "no patient of" in out and "are they named as there?" in out
    left_out.write_bytes(b"patient_id\n\xff\n")
    code, _, err = alta(*common, "--exclude-list", left_out)
    assert code == 1 and "expected UTF-8" in err
    code, _, err = alta(*common, "--folds", 3)
    assert code == 1 and "--folds and --fold go together" in err


def test_prepared_tables_join(alta: Alta, tmp_path: Path) -> None:  # noqa: F811
    alta("data", "prepare", "csv", own_table(tmp_path / "own"), "--output", "a", "--test-share", 0.3)
    reports = write_csv(
        tmp_path / "r.csv", [{"uid": 900 + n, "findings": f"x {n}.", "impression": ""} for n in range(5)]
    )
    alta("data", "prepare", "open-i", reports, "--output", "b")
    code, _, err = alta("data", "prepare", "csv", "a/studies.csv", "b/studies.csv", "--output", "both")
    assert code == 0, err
    both = splits(tmp_path / "both")
    assert both == {**splits(tmp_path / "a"), **splits(tmp_path / "b")} and len(both) == 35


@pytest.mark.parametrize("kind", ["mimic-cxr-jpg", "chexpert-plus", "open-i", "manifest", "csv", "archive"])
def test_every_kind_has_the_common_options(alta: Alta, kind: str) -> None:  # noqa: F811
    code, out, _ = alta("data", "prepare", kind, "--help")
    assert code == 0
    for option in ("--dry-run", "--limit", "--folds", "--fold", "--check", "--workers", "--max-bad", "--exclude-list"):
        assert option in out
