"""Encoders side by side, patients that were trained on, and the folder of results."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.errors import CheckpointError
from model.evaluation import report as reports
from model.evaluation.comparison import compare
from model.evaluation.leaks import LeakError, recorded_table, recorded_tables, require_no_leak
from model.evaluation.metrics import TIE_RULE
from model.evaluation.outcome import Measure, Outcome, PrecisionCurve, ScoredLabels, area, mean
from model.evaluation.report import Report, write_report
from tests.evaluation_lists import write_list

PATIENTS = np.arange(60) // 2


def outcome(seed: int, shift: float = 0.0) -> Outcome:
    draw = np.random.default_rng(seed)
    positive = np.random.default_rng(9).random(60) < 0.4
    scored = ScoredLabels(PATIENTS, draw.standard_normal(60) + positive, positive)
    values = np.random.default_rng(1).random((60, 10)) + shift
    return Outcome(
        {"p5": mean(PATIENTS, values[:, 4], 0.2), "auroc": area(scored)},
        ("A note.",),
        {"image to text": PrecisionCurve(PATIENTS, np.clip(values, 0, 1), 0.2)},
        {"Edema": scored},
    )


# Side by side


def test_the_same_encoders_differ_by_exactly_nothing() -> None:
    for row in compare({"a": outcome(0), "b": outcome(0)}, 50).rows:
        assert row.differences["b"].as_list() == [0, 0, 0]
        assert row.intervals["a"] == row.intervals["b"] and row.intervals["a"].low < row.intervals["a"].high


def test_a_difference_is_taken_on_the_same_patients() -> None:
    row = compare({"a": outcome(0), "b": outcome(0, shift=0.1)}, 50).rows[0]
    # Every value is 0.1 higher: paired, the difference is certain, however wide the two intervals are.
    difference = row.differences["b"]
    assert [difference.value, difference.low, difference.high] == pytest.approx([0.1] * 3)
    assert row.intervals["a"].high > row.intervals["b"].low


def test_an_interval_of_a_difference_is_that_of_subtracted_samples() -> None:
    first, second = outcome(0), outcome(3)
    seen: dict[str, list[float]] = {"a": [], "b": []}

    def watched(name: str, measure: Measure) -> Measure:
        def compute(rows: np.ndarray) -> float:
            seen[name].append(measure.compute(rows))
            return seen[name][-1]

        return Measure(measure.patients, compute)

    row = compare(
        {n: Outcome({"auroc": watched(n, o.measures["auroc"])}) for n, o in (("a", first), ("b", second))}, 100
    ).rows[0]
    samples = np.array(seen["b"][:100]) - np.array(seen["a"][:100])
    difference = row.differences["b"]
    assert [difference.low, difference.high] == pytest.approx(np.percentile(samples, (2.5, 97.5)).tolist())


def test_a_figure_of_no_rows_is_undefined() -> None:
    nobody = Outcome({"accuracy": mean(np.array([]), np.array([]))})
    row = compare({"a": nobody, "b": nobody}, 20).rows[0]
    assert row.intervals["a"].as_list() == row.differences["b"].as_list() == [None, None, None]


# Patients that were trained on


def table(folder: Path, **splits: str) -> Path:
    rows = [{"study_id": n, "patient_id": patient, "split": split} for n, (patient, split) in enumerate(splits.items())]
    return write_list(folder / "studies.csv", rows)  # type: ignore[arg-type]


def test_patients_of_training_and_validation_are_refused(tmp_path: Path) -> None:
    trained = table(tmp_path, a="train", b="validate", c="test", d="train")
    require_no_leak(["c", "e"], [trained])
    with pytest.raises(LeakError, match=r"2 of the 4 patients .*studies.csv: a, b\. "):
        require_no_leak(["a", "b", "c", "e"], [trained])
    many = table(tmp_path, **{f"p{n}": "train" for n in range(9)})
    with pytest.raises(LeakError, match=r"9 of the 9 .*p0, p1, p2, p3, p4 and 4 more"):
        require_no_leak([f"p{n}" for n in range(9)], [many])


def test_a_table_without_patients_or_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LeakError, match="column patient_id, split missing"):
        require_no_leak(["a"], [write_list(tmp_path / "other.csv", [{"study_id": 1}])])
    with pytest.raises(LeakError, match="cannot be read"):
        require_no_leak(["a"], [tmp_path / "absent.csv"])


def test_splits_go_by_any_of_their_names_and_what_has_none_may_have_been_trained_on(tmp_path: Path) -> None:
    for split in ("Training", "TRAIN", "dev", "Valid", ""):
        with pytest.raises(LeakError, match="1 of the 1 patients"):
            require_no_leak(["a"], [table(tmp_path, a=split)])
    with pytest.raises(LeakError, match=r"line 2: split is 'learn', expected train"):
        require_no_leak(["b"], [table(tmp_path, a="learn")])
    require_no_leak(["a"], [table(tmp_path, a="Test")])


def test_pictures_find_out_patients_under_other_names(tmp_path: Path) -> None:
    rows = [
        {"patient_id": "9f3", "split": "train", "current_frontal": tmp_path / "a.png", "prior_frontal": "b.png"},
        {"patient_id": "7c1", "split": "test", "current_frontal": tmp_path / "c.png", "prior_frontal": ""},
    ]
    trained = write_list(tmp_path / "studies.csv", rows)
    require_no_leak(["MRN 1"], [trained], [tmp_path / "c.png"])
    for name in ("a.png", "b.png", "x/../a.png"):
        with pytest.raises(LeakError, match=r"1 of the 2 images .* other names: .*[ab]\.png"):
            require_no_leak(["MRN 1"], [trained], [tmp_path / "c.png", tmp_path / name])


def test_the_tables_of_the_checkpoints_that_encoders_started_from_count(tmp_path: Path) -> None:
    trained = table(tmp_path, a="train")
    runs = {name: tmp_path / name for name in ("adapted", "base", "first")}
    records = {
        "adapted": {"table": str(trained), "config": {"base": {"checkpoint": str(runs["base"])}}},
        "base": {"table": "gone.csv"},
        "first": {"table": None, "config": {"base": {"checkpoint": None}}},
    }
    for name, record in records.items():
        runs[name].mkdir()
        (runs[name] / "training.json").write_text(json.dumps(record))
    found = recorded_tables([runs["adapted"], runs["first"]])
    assert found.tables == (trained,) and found.unnamed == (runs["first"],)
    assert [error.message.split(" ")[0] for error in found.lost] == [str(runs["base"])]


def test_encoders_whose_record_is_lost_are_known_by_their_provenance(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"provenance": {"trained_on": "table/studies.csv"}}))
    with pytest.raises(CheckpointError, match=r"was trained on table/studies.csv, but its training.json is not there"):
        recorded_table(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"provenance": {"trained_on": "MIMIC-CXR"}}))
    assert recorded_table(tmp_path) is None
    published = {"table": None, "config": {"base": {"checkpoint": None, "mrm": "MRM.pth", "cxr_bert": "bert"}}}
    (tmp_path / "training.json").write_text(json.dumps(published))
    assert recorded_tables([tmp_path]).unnamed == (Path("MRM.pth"), tmp_path)


def test_encoders_name_the_table_that_they_were_trained_on(tmp_path: Path) -> None:
    assert recorded_table(tmp_path) is None
    record = tmp_path / "training.json"
    record.write_text(json.dumps({"table": None}))
    assert recorded_table(tmp_path) is None
    trained = table(tmp_path, a="train")
    digest = hashlib.sha256(trained.read_bytes()).hexdigest()
    for named in (str(trained), "studies.csv"):  # where it was, or beside the weights
        record.write_text(json.dumps({"table": named, "table_sha256": digest}))
        assert recorded_table(tmp_path) == trained
    record.write_text(json.dumps({"table": str(trained), "table_sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match=r"has changed .* --training-table, or pass --no-leak-check"):
        recorded_table(tmp_path)
    record.write_text(json.dumps({"table": "gone.csv"}))
    with pytest.raises(CheckpointError, match=r"gone.csv, which is not there. Name the table with --training-table"):
        recorded_table(tmp_path)


# The folder of results


def report(**columns: Outcome) -> Report:
    return Report(
        "labelled", {"labelled": compare(columns, 20)}, {"labelled": columns}, {"list": {"rows": 60}}, rounds=20
    )


def test_results_are_written_for_people_and_programs(tmp_path: Path) -> None:
    assert write_report(report(a=outcome(0), b=outcome(3)), tmp_path / "out") is None
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["tie_rule"] == TIE_RULE and written["rounds"] == 20 and written["list"] == {"rows": 60}
    figure = written["figures"]["labelled"]["p5"]
    assert set(figure) == {"a", "b", "b - a", "chance", "over"}
    assert figure["a"][1] <= figure["a"][0] <= figure["a"][2] and figure["chance"] == 0.2 and figure["over"] == 60
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| figure | a | b | b - a | chance | over |" in text and "- A note." in text and TIE_RULE in text
    for name in ("precision.png", "roc.png", "scores-a.png", "scores-b.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") and f"({name})" in text


def test_notes_say_which_encoders_they_are_of() -> None:
    cut = "5 of 86 texts are longer."
    columns = {
        name: replace(outcome(0), notes=("Of all.", *own), of_encoder=(cut,))
        for name, own in (("a", ()), ("b", ("Mine.",)))
    }
    assert report(**columns).all_notes[:3] == ("Of all.", f"a, b: {cut}", "b: Mine.")
    assert report(a=columns["a"]).all_notes[:2] == ("Of all.", cut)


def test_encoders_whose_names_a_file_name_cannot_tell_apart_have_their_own_plots(tmp_path: Path) -> None:
    write_report(report(**{"a/b": outcome(0), "a-b": outcome(3)}), tmp_path)
    assert len(list(tmp_path.glob("scores-a-b*.png"))) == 2


def test_without_matplotlib_results_say_how_to_get_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model.evaluation.plots", None)
    assert write_report(report(a=outcome(0)), tmp_path) == reports.NO_PLOTS
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.md"}


def test_a_drawn_roc_curve_is_that_of_counting() -> None:
    plots = pytest.importorskip("model.evaluation.plots")
    draw = np.random.default_rng(0)
    positive = draw.random(300) < 0.4
    scores = np.round(draw.standard_normal(300) + positive, 1)  # ties
    curve = plots._roc(scores, positive)
    steps = sorted(set(scores), reverse=True)
    points = [(0.0, 0.0)] + [((scores[~positive] >= at).mean(), (scores[positive] >= at).mean()) for at in steps]
    for alarms, found in zip(plots.GRID, curve, strict=True):
        below = max(f for a, f in points if a <= alarms + 1e-12)
        above = min((f for a, f in points if a > alarms + 1e-12), default=1.0)
        assert below - 1e-9 <= found <= above + 1e-9
    expected = area(ScoredLabels(np.arange(300), scores, positive)).compute(np.arange(300))
    assert np.trapezoid(curve, plots.GRID) == pytest.approx(expected, abs=0.01)
