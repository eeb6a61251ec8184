"""``alta evaluate calibrate``: probabilities and decisions from a labelled sample of one site."""

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.errors import AltaError

from ..settings import Settings
from .console import staged_progress
from .evaluation_options import (
    LEVEL_OF,
    Findings,
    Images,
    Level,
    NoLeakCheck,
    Output,
    Prompts,
    Rounds,
    Rows,
    Split,
    Tables,
    prompt_pairs,
)
from .evaluation_run import Asked, check_leaks, facts_of, load, publish, require_writable

if TYPE_CHECKING:
    from model.evaluation.outcome import Outcome

__all__ = ["calibrate"]


def calibrate(
    rows: Rows,
    model: Annotated[Path | None, typer.Option(help="Folder of the encoders; receives calibration.json.")] = None,
    images: Images = None,
    split: Split = "test",
    training_table: Tables = None,
    no_leak_check: NoLeakCheck = False,
    output: Output = None,
    rounds: Rounds = 1000,
    prompts: Prompts = None,
    finding: Findings = None,
    level: Level = "frontal",
    sensitivity: Annotated[
        float | None, typer.Option(min=0.5, max=1.0, help="The threshold reaches it; default: best Youden index.")
    ] = None,
    day: Annotated[
        datetime | None,
        typer.Option(
            "--date",
            formats=["%Y-%m-%d"],
            metavar="DATE",
            help="Written into the file, such as 2024-01-31; default: today.",
        ),
    ] = None,
) -> None:
    """Fit probabilities, thresholds and an uncertain band per finding on a labelled sample of your own site."""
    from model.calibration import Calibration
    from model.evaluation.calibrate import calibrate_findings
    from model.evaluation.comparison import compare
    from model.evaluation.embedding import embed_images
    from model.evaluation.labels import read_labels
    from model.evaluation.lists import read_list
    from model.evaluation.outcome import ScoredLabels
    from model.evaluation.report import Report
    from model.evaluation.zero_shot import score_findings

    folder = model or Settings().model_path
    chosen = {"prompts": prompts, "finding": finding, "level": level, "sensitivity": sensitivity}
    asked = Asked(rows, (folder,), images, split, training_table or (), not no_leak_check, output, rounds, chosen)
    listed = read_list(rows, images, split)
    leaks = check_leaks(asked, listed, (folder,))
    pairs = prompt_pairs(prompts)
    labels = read_labels(listed, pairs, finding or ())
    encoder = load(folder)
    for place in (folder, output):
        if place is not None:
            require_writable(place)
    with staged_progress() as progress:
        embedded = embed_images(encoder, listed, LEVEL_OF[level], progress)
    scores = score_findings(encoder, embedded, {name: pairs[name] for name in labels.has})
    cases = {
        name: ScoredLabels(listed.patients[known], scores[name][known], labels.has[name][known])
        for name, known in labels.known.items()
    }
    fit = calibrate_findings(cases, pairs, sensitivity)
    skipped = tuple(f"Not calibrated: {name}: {reason}." for name, reason in fit.left_out.items())
    if not fit.fitted:
        raise AltaError(" ".join(("No finding can be calibrated; nothing was written.", *skipped)))
    facts = facts_of(listed)
    calibration = Calibration(
        encoder.fingerprint,
        (day.date() if day else date.today()).isoformat(),
        rows.name,
        facts["sha256"],
        facts["rows"],
        facts["patients"],
        level,
        fit.fitted,
        fit.left_out,
    )
    replaced = Calibration.describe(folder)
    path = calibration.save(folder)
    outcomes: dict[str, Outcome] = {"before": fit.before, "after": fit.after}
    notes = (
        leaks,
        *skipped,
        *_few(fit.after),
        "Figures are cross-validated over five folds of whole patients; what is saved is fitted on all of them."
        " before: softmax of the two cosines. Lower brier and calibration_error are better; probabilities hold at the"
        " sample's prevalence.",
        "The interval of calibration_error may lie above its value: drawing patients again adds chance deviations,"
        " which count as miscalibration.",
        f"Calibration written to {path}." + (f" It replaces {replaced}." if replaced else ""),
    )
    found = {
        "list": facts,
        "models": {folder.name: {"path": str(folder), "fingerprint": encoder.fingerprint}},
        "options": asked.spoken(),
        "leak_check": leaks,
    }
    publish(
        Report("calibrate", {"calibrate": compare(outcomes, rounds)}, {"calibrate": outcomes}, found, notes, rounds),
        output,
    )


def _few(after: "Outcome") -> list[str]:
    """Figures that rest on next to nothing."""
    from model.evaluation.calibrate import FEWEST

    shaky = {
        name: measure.over
        for name, measure in after.measures.items()
        if measure.over is not None and measure.over < FEWEST
    }
    return [
        f"{name} rests on {over} cases that were decided; fewer than {FEWEST} say little."
        for name, over in shaky.items()
    ]
