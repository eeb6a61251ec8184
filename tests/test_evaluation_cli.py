"""``alta evaluate`` as one types it, on small encoders and lists."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from index import embed_pending, ingest_folder, migrate, open_catalog
from model.alta_encoder import load_encoder
from model.calibration import Calibration
from model.checkpoint import read_fingerprint
from model.evaluation import cohort
from model.evaluation.metrics import TIE_RULE
from model.evaluation.retrieval import CLASSES_5, CLASSES_8
from model.simulation import write_cohort
from service import cli
from service.cli.console import console
from service.cli.evaluation_run import name_models
from service.settings import Settings
from tests.evaluation_lists import class_list, write_list, write_picture
from tests.tiny import write_tiny_checkpoint

BOTH_WAYS = ("image_to_text", "text_to_image")
PAIRED = ("r1", "r5", "r10", "mean_rank", "median_rank")

Alta = Callable[..., tuple[int, str, str]]


@pytest.fixture
def alta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Alta:
    """``alta("labelled", list)`` is ``alta evaluate labelled list``: exit code, standard output, standard error."""
    monkeypatch.setenv("ALTA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ALTA_MODEL_PATH", str(tmp_path / "encoders"))
    monkeypatch.setenv("ALTA_DEVICE", "cpu")
    monkeypatch.delenv("ALTA_DATABASE_URL", raising=False)
    monkeypatch.setattr(console, "width", 300)
    monkeypatch.setattr(console, "stderr", False)
    write_tiny_checkpoint(tmp_path / "encoders")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["alta", "evaluate", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def last_line(out: str) -> dict[str, Any]:
    return json.loads(out.strip().splitlines()[-1])


def labelled_list(folder: Path, each: int = 14) -> Path:
    rows = class_list(folder / "pictures", ("Edema", "No Finding"), each)
    return write_list(folder / "list.csv", [row | {"findings": row["class"]} for row in rows])


def test_every_protocol_answers(alta: Alta, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    five = [row | {"impression": "The heart is large."} for row in class_list(folder, CLASSES_5, 3)]
    eight = class_list(folder, CLASSES_8, 3, role="candidate")
    asked = [{"class": "Edema", "role": "query", "patient_id": name, "image_path": f"{name}.png"} for name in "qr"]
    for seed, row in enumerate(asked):
        write_picture(folder / row["image_path"], 3, seed)
    sick = [row | {"class": "pneumonia" if number % 2 else "normal"} for number, row in enumerate(five)]
    lists = {
        "image-to-text": (five, {"p5", "p10"}),
        "image-to-image": ([*eight, *asked], {"p5", "p10"}),
        "text-to-image": ([*eight, *(row | {"text": "large heart"} for row in asked)], {"p5", "p10"}),
        "zero-shot-5x200": (five, {"accuracy", *(f"accuracy: {name}" for name in CLASSES_5)}),
        "zero-shot-rsna": (sick, {"auroc", "accuracy", "f1"}),
        "paired": (five, {f"{direction}_{name}" for direction in BOTH_WAYS for name in PAIRED}),
    }
    for protocol, (rows, figures) in lists.items():
        path = write_list(tmp_path / f"{protocol}.csv", rows)
        code, out, err = alta(protocol, path, "--images", folder, "--rounds", 20)
        assert code == 0, err
        found = last_line(out)
        assert found["protocol"] == protocol and set(found["figures"][protocol]) == figures
        assert TIE_RULE in out and "Leak check: not done for" in out
        for figure in found["figures"][protocol].values():
            value, low, high = figure["encoders"]
            assert low <= value <= high


def test_encoders_are_compared_with_the_first(alta: Alta, tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path / "other", seed=1)
    path = labelled_list(tmp_path)
    models = ("--model", tmp_path / "encoders", "--model", tmp_path / "other", "--model", tmp_path / "encoders")
    code, out, err = alta(
        "labelled", path, "--images", tmp_path / "pictures", *models, "--rounds", 30, "--output", tmp_path / "out"
    )
    assert code == 0, err
    found = last_line(out)
    assert found == json.loads((tmp_path / "out" / "results.json").read_text())
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"results.json", "results.md", "roc.png"}
    first, other, again = found["models"]
    assert (first, other, again) == ("encoders", "other", "encoders (2)")
    figure = found["figures"]["labelled"]["auroc: Edema"]
    assert figure[f"{again} - {first}"] == [0, 0, 0] and figure[f"{other} - {first}"] != [0, 0, 0]
    assert figure[other][0] - figure[first][0] == pytest.approx(figure[f"{other} - {first}"][0], abs=2e-4)
    assert f"{other} - {first}" in out and found["models"][other]["fingerprint"] == read_fingerprint(tmp_path / "other")


def test_patients_that_were_trained_on_are_refused(alta: Alta, tmp_path: Path) -> None:
    path = labelled_list(tmp_path)
    table = write_list(tmp_path / "studies.csv", [{"patient_id": "p0-1", "split": "train"}])
    labelled = ("labelled", path, "--images", tmp_path / "pictures", "--rounds", 20)
    code, _, err = alta(*labelled, "--training-table", table)
    assert code == 1 and "1 of the 14 patients to be evaluated were trained on" in err and "p0-1" in err
    assert alta(*labelled, "--training-table", table, "--no-leak-check")[0] == 0
    # The table that the encoders' own record names is checked without being asked for.
    (tmp_path / "encoders" / "training.json").write_text(json.dumps({"table": str(table)}))
    assert "p0-1" in alta(*labelled)[2]
    # Nor does naming another table make one forget it, unless it is lost.
    other = write_list(tmp_path / "t.csv", [{"patient_id": "x", "split": "train"}])
    assert "p0-1" in alta(*labelled, "--training-table", other)[2]
    table.unlink()
    code, out, _ = alta(*labelled, "--training-table", other)
    assert code == 0 and "Leak check: no patient was trained on, by" in out
    assert "which is not there. Name the table with --training-table" in alta(*labelled)[2]
    code, out, _ = alta(*labelled, "--no-leak-check")
    assert code == 0 and last_line(out)["leak_check"] == "Leak check: switched off (--no-leak-check)."


def test_a_base_that_is_lost_is_not_passed_over(alta: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = ("labelled", labelled_list(tmp_path), "--images", tmp_path / "pictures", "--rounds", 20)
    monkeypatch.chdir(tmp_path)
    fold = write_list(tmp_path / "fold.csv", [{"patient_id": "x", "split": "train"}])
    whole = write_list(tmp_path / "whole.csv", [{"patient_id": "p0-1", "split": "train"}])
    record = {"table": str(fold), "config": {"base": {"checkpoint": "base"}}}
    (tmp_path / "encoders" / "training.json").write_text(json.dumps(record))
    code, _, err = alta(*labelled)
    assert code == 1 and "adapted from base, which is not there" in err and "--training-table" in err
    assert alta(*labelled, "--training-table", whole)[0] == 1  # the base's own
    code, out, _ = alta(*labelled, "--training-table", fold)
    assert code == 0 and "could not be checked, unless by a named table" in out and "adapted from base" in out
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "training.json").write_text(json.dumps({"table": str(whole)}))
    (tmp_path / "elsewhere").mkdir()
    for place in (tmp_path, tmp_path / "elsewhere"):
        monkeypatch.chdir(place)
        code, _, err = alta(*labelled)
        assert code == 1 and "1 of the 14 patients" in err


def test_a_finding_without_prompts_is_the_fault_of_the_option(alta: Alta, tmp_path: Path) -> None:
    path = labelled_list(tmp_path)
    code, _, err = alta("labelled", path, "--images", tmp_path / "pictures", "--finding", "Pneumothroax")
    assert code == 1 and "--finding Pneumothroax: there are no prompts for it. Known: " in err and "line" not in err


def test_at_a_terminal_the_table_stays_in_sight(alta: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = ("labelled", labelled_list(tmp_path), "--images", tmp_path / "pictures", "--rounds", 20)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert last_line(alta(*labelled)[1])["protocol"] == "labelled"
    out = alta(*labelled, "--output", tmp_path / "out")[1]
    assert "Results written" in out and '"protocol"' not in out
    written = (tmp_path / "out" / "results.md").read_text()
    fingerprint = read_fingerprint(tmp_path / "encoders")
    for expected in (
        f"- list: path {tmp_path / 'list.csv'}",
        f"fingerprint {fingerprint}",
        "level frontal",
        "- date: 2",
    ):
        assert expected in written
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["date"] in written
    assert found["options"] == {"split": "test", "images": str(tmp_path / "pictures"), "level": "frontal"}


def test_what_would_fail_at_the_end_fails_at_the_start(
    alta: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = ("labelled", labelled_list(tmp_path), "--images", tmp_path / "pictures", "--rounds", 20)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("service.cli.evaluation_run.load", lambda path: pytest.fail("nothing is embedded"))
    code, _, err = alta(*labelled, "--model", tmp_path / "encoders", "--model", tmp_path / "absent")
    assert code == 1 and "absent: there is no such folder; expected" in err
    for protocol in (labelled, ("simulated",)):
        code, _, err = alta(*protocol, "--output", tmp_path / "file")
        assert code == 1 and "file: nothing can be written there: File exists" in err


def test_results_that_cannot_be_written_are_still_shown(
    alta: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.evaluation.report.write_whole", full)
    path = labelled_list(tmp_path)
    code, out, err = alta(
        "labelled", path, "--images", tmp_path / "pictures", "--rounds", 20, "--output", tmp_path / "o"
    )
    assert code == 1 and "the results cannot be written: No space left" in err and last_line(out)["figures"]


def test_a_calibration_is_saved_beside_the_weights(alta: Alta, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    # Of the two sides of a pair, one order makes scores rise with the finding.
    path = labelled_list(tmp_path, each=20)
    arguments = ("calibrate", path, "--images", tmp_path / "pictures", "--prompts", prompts, "--rounds", 20)
    outcomes = []
    for positive, negative in (("effusion", "clear lungs"), ("clear lungs", "effusion")):
        prompts.write_text(json.dumps({"Edema": {"positive": [positive], "negative": [negative]}}))
        outcomes.append(alta(*arguments, "--date", "2025-02-03"))
    assert sorted(code for code, _, _ in outcomes) == [0, 1]
    refused = next(err for code, _, err in outcomes if code)
    assert "No finding can be calibrated; nothing was written" in refused and "do not reliably rise" in refused
    out = next(out for code, out, _ in outcomes if not code)
    worked = ["effusion", "clear lungs"] if not outcomes[0][0] else ["clear lungs", "effusion"]
    figures = last_line(out)["figures"]["calibrate"]
    assert {"brier: Edema", "calibration_error: Edema", "uncertain: Edema"} <= set(figures)
    assert figures["brier: Edema"]["after - before"][0] < 0
    fingerprint = read_fingerprint(tmp_path / "encoders")  # is not changed by it
    saved = Calibration.load(tmp_path / "encoders", fingerprint)
    assert saved is not None and saved.date == "2025-02-03" and saved.studies == 40 and saved.patients == 20
    assert saved.findings["Edema"].positives == 20
    assert "may lie above its value" in out and last_line(out)["leak_check"].startswith("Leak check: not done")
    assert "replaces" not in out
    prompts.write_text(json.dumps({"Edema": {"positive": worked[:1], "negative": worked[1:]}}))
    out = alta(*arguments, "--date", "2025-02-04")[1]
    assert "It replaces that of 2025-02-03 on list.csv (40 studies; calibrated: Edema)." in out


def test_too_small_a_sample_writes_no_calibration(alta: Alta, tmp_path: Path) -> None:
    path = labelled_list(tmp_path, each=6)
    code, _, err = alta("calibrate", path, "--images", tmp_path / "pictures", "--finding", "Edema")
    assert code == 1 and "too few cases: 6 with the finding, 6 without" in err
    assert not (tmp_path / "encoders" / "calibration.json").exists()


def test_simulated_patients_show_both_levels(alta: Alta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort, "RENDERED_SIZE", 64)
    code, out, err = alta("simulated", "--studies", 100, "--workers", 1, "--rounds", 20)
    assert code == 0, err
    found = last_line(out)
    figure = found["figures"]["simulated"]["image_to_text_r10"]
    assert set(figure) == {"single image", "study", "study - single image", "chance", "over"}
    assert figure["chance"] == pytest.approx(0.1, abs=0.02) and found["studies"] == 100


def test_the_archive_is_measured_on_the_studies_that_every_encoder_has_embedded(
    alta: Alta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_checkpoint(tmp_path / "other", seed=1)
    write_cohort(7, 4, tmp_path / "sim", 64, lambda done: None)
    models = ("--model", tmp_path / "encoders", "--model", tmp_path / "other")
    url = Settings().catalog_url
    (tmp_path / "data").mkdir()
    migrate(url)
    catalog = open_catalog(url)
    ingest_folder(catalog, tmp_path / "sim" / "dicom", tmp_path / "sim" / "reports.csv")
    embed_pending(catalog, load_encoder(tmp_path / "encoders", "cpu"))
    assert "Next: alta embed" in alta("archive", *models)[2]
    embed_pending(catalog, load_encoder(tmp_path / "other", "cpu"))
    catalog.close()
    code, out, err = alta("archive", *models, "--rounds", 20)
    assert code == 0, err
    found = last_line(out)
    assert found["studies"] == 4 and found["figures"]["archive"]["image_to_text_r5"]["other"] == [1, 1, 1]
    # Patients that were trained on are left out, with every study of theirs.
    with (tmp_path / "sim" / "reports.csv").open() as stream:
        patient_of = {row["study_instance_uid"]: row["patient_id"] for row in csv.DictReader(stream)}
    trained = next(iter(patient_of))
    own = sum(patient == patient_of[trained] for patient in patient_of.values())
    rows = [{"study_id": uid, "patient_id": "x", "split": "train" if uid == trained else "test"} for uid in patient_of]
    table = write_list(tmp_path / "studies.csv", rows)
    (tmp_path / "other" / "training.json").write_text(json.dumps({"table": str(table)}))
    code, out, err = alta("archive", *models, "--rounds", 20)
    assert code == 0, err
    assert last_line(out)["studies"] == 4 - own and f"{own} studies of 1 patients that were trained on" in out
    assert last_line(alta("archive", *models, "--rounds", 20, "--no-leak-check")[1])["studies"] == 4
    strange = write_list(tmp_path / "s.csv", [row | {"study_id": "s"} for row in rows])
    (tmp_path / "other" / "training.json").unlink()
    out = alta("archive", *models, "--rounds", 20, "--training-table", strange)[1]
    assert "none of the archive's studies is in" in out and "could not be matched" in out
    table = write_list(tmp_path / "t.csv", [row | {"split": "train"} for row in rows])
    code, _, err = alta("archive", *models, "--training-table", table)
    assert code == 1 and "None is left" in err


def test_a_wrong_list_is_one_line_of_error(alta: Alta, tmp_path: Path) -> None:
    path = labelled_list(tmp_path)
    lines = path.read_text().splitlines()
    lines[4] = lines[4].removesuffix("Edema") + "Scoliosis"
    path.write_text("\n".join(lines))
    code, out, err = alta("labelled", path, "--images", tmp_path / "pictures")
    assert code == 1 and "line 5: findings has Scoliosis" in err and "Traceback" not in out + err
    assert len(err.strip().splitlines()) == 1


def test_folders_of_one_name_are_told_apart_by_the_end_of_their_paths() -> None:
    given = [Path("/runs/a/best"), Path("/runs/b/best"), Path("/runs/c"), Path("/runs/a/best")]
    assert list(name_models(given)) == ["a/best", "b/best", "c", "a/best (2)"]
