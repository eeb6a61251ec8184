"""``alta evaluate``: encoders against lists, simulated patients and the archive. docs/evaluation.md explains all."""

import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from model.errors import AltaError

from ..settings import Settings
from .calibration import calibrate
from .commands import Commands
from .console import staged_progress
from .evaluation_options import (
    LEVEL_OF,
    Findings,
    Images,
    Level,
    Models,
    NoLeakCheck,
    Output,
    Prompts,
    Rounds,
    Rows,
    Split,
    Tables,
    prompt_pairs,
)
from .evaluation_run import (
    UNCHECKED,
    Asked,
    leave_out_trained,
    load,
    name_models,
    publish,
    require_writable,
    run_protocol,
)

__all__ = ["evaluate"]

evaluate = Commands("Measure encoders. Formats and protocols: docs/evaluation.md.")

CORES = len(os.sched_getaffinity(0))


def _retrieval(name: str, protocol: str, text: str) -> None:
    """Register a protocol that has no options of its own; ``protocol`` is its function's name."""

    def command(
        rows: Rows,
        model: Models = None,
        images: Images = None,
        split: Split = "test",
        training_table: Tables = None,
        no_leak_check: NoLeakCheck = False,
        output: Output = None,
        rounds: Rounds = 1000,
    ) -> None:
        from model.evaluation import retrieval

        asked = Asked(rows, model or (), images, split, training_table or (), not no_leak_check, output, rounds)
        run: Callable[..., Any] = getattr(retrieval, protocol)
        run_protocol(name, asked, run)

    evaluate.command(name, help=text)(command)


_retrieval("image-to-text", "image_to_text", "5x200: impressions for images, by class. P@5/10/100.")
_retrieval("image-to-image", "image_to_image", "8x200: candidate images for query images, by class. P@5/10/50.")
_retrieval("text-to-image", "text_to_image", "8x200: candidate images for query texts, by class. P@5/10/50.")


@evaluate.command("paired")
def paired(
    rows: Rows,
    model: Models = None,
    images: Images = None,
    split: Split = "test",
    training_table: Tables = None,
    no_leak_check: NoLeakCheck = False,
    output: Output = None,
    rounds: Rounds = 1000,
    level: Level = "frontal",
) -> None:
    """Own report and own study among all of the list: R@1/5/10, mean and median rank, both ways."""
    from model.evaluation.retrieval import evaluate_pairs

    asked = Asked(
        rows, model or (), images, split, training_table or (), not no_leak_check, output, rounds, {"level": level}
    )
    run_protocol("paired", asked, lambda encoder, rows, report: evaluate_pairs(encoder, rows, LEVEL_OF[level], report))


@evaluate.command("zero-shot-5x200")
def zero_shot_5x200(
    rows: Rows,
    model: Models = None,
    images: Images = None,
    split: Split = "test",
    training_table: Tables = None,
    no_leak_check: NoLeakCheck = False,
    output: Output = None,
    rounds: Rounds = 1000,
    prompts: Prompts = None,
) -> None:
    """5x200: the class whose prompts are nearest. Accuracy. --prompts takes phrases by class."""
    from model.evaluation.prompt_files import read_class_prompts
    from model.evaluation.zero_shot import classify_5x200

    asked = Asked(
        rows, model or (), images, split, training_table or (), not no_leak_check, output, rounds, {"prompts": prompts}
    )
    given = read_class_prompts(prompts) if prompts else None
    run_protocol("zero-shot-5x200", asked, lambda encoder, rows, report: classify_5x200(encoder, rows, given, report))


@evaluate.command("zero-shot-rsna")
def zero_shot_rsna(
    rows: Rows,
    model: Models = None,
    images: Images = None,
    split: Split = "test",
    training_table: Tables = None,
    no_leak_check: NoLeakCheck = False,
    output: Output = None,
    rounds: Rounds = 1000,
) -> None:
    """RSNA pneumonia by two prompts: AUROC; accuracy and F1 by ten folds."""
    from model.evaluation.zero_shot import classify_rsna

    asked = Asked(rows, model or (), images, split, training_table or (), not no_leak_check, output, rounds)
    run_protocol("zero-shot-rsna", asked, lambda encoder, rows, report: classify_rsna(encoder, rows, progress=report))


@evaluate.command("labelled")
def labelled(
    rows: Rows,
    model: Models = None,
    images: Images = None,
    split: Split = "test",
    training_table: Tables = None,
    no_leak_check: NoLeakCheck = False,
    output: Output = None,
    rounds: Rounds = 1000,
    prompts: Prompts = None,
    finding: Findings = None,
    level: Level = "frontal",
) -> None:
    """Any labelled list: zero-shot AUROC of every finding."""
    from model.evaluation.zero_shot import classify_labelled

    chosen = {"prompts": prompts, "finding": finding, "level": level}
    asked = Asked(rows, model or (), images, split, training_table or (), not no_leak_check, output, rounds, chosen)
    pairs = prompt_pairs(prompts)
    run_protocol(
        "labelled",
        asked,
        lambda encoder, rows, report: classify_labelled(encoder, rows, pairs, finding or (), LEVEL_OF[level], report),
    )


evaluate.command("calibrate")(calibrate)


@evaluate.command("simulated")
def simulated(
    seed: Annotated[int, typer.Option(help="Cohort; training used 1 and 2.")] = 1000,
    studies: Annotated[int, typer.Option(min=100, help="Studies of the cohort.")] = 1000,
    model: Models = None,
    workers: Annotated[int, typer.Option(help="Processes that render.")] = CORES,
    output: Output = None,
    rounds: Rounds = 1000,
) -> None:
    """Retrieval and zero-shot figures on simulated patients that no training has seen."""
    from model.evaluation.comparison import compare
    from model.evaluation.report import Report
    from model.evaluation.simulated import LEVELS, evaluate_simulated

    if output is not None:
        require_writable(output)
    models = name_models(model or ())
    encoders = {name: load(path) for name, path in models.items()}
    with staged_progress() as progress:
        found = evaluate_simulated(list(encoders.values()), seed, studies, workers, progress)
    by_model = dict(zip(models, found, strict=True))
    shown = {level: level.replace("_", " ") for level in LEVELS}
    if len(models) == 1:  # the two levels stand side by side
        (levels,) = found
        outcomes = {"simulated": {shown[level]: levels[level] for level in LEVELS}}
    else:
        outcomes = {shown[level]: {name: levels[level] for name, levels in by_model.items()} for level in LEVELS}
    facts = {
        "seed": seed,
        "studies": studies,
        "models": {n: {"path": str(models[n]), "fingerprint": e.fingerprint} for n, e in encoders.items()},
    }
    notes = (f"Cohort {seed}, {studies} studies.",)
    parts = {title: compare(columns, rounds) for title, columns in outcomes.items()}
    publish(Report("simulated", parts, outcomes, facts, notes, rounds), output)


@evaluate.command("archive")
def archive(
    model: Models = None,
    training_table: Tables = None,
    no_leak_check: NoLeakCheck = False,
    output: Output = None,
    rounds: Rounds = 1000,
) -> None:
    """Paired retrieval on the archive itself: how early a study's own report comes, against chance. Patients that the
    encoders were trained on are left out."""
    from index import open_catalog, read_pairs
    from model.checkpoint import read_fingerprint
    from model.evaluation.comparison import compare
    from model.evaluation.outcome import Outcome
    from model.evaluation.paired import measure_paired
    from model.evaluation.report import Report

    if output is not None:
        require_writable(output)
    models = name_models(model or ())
    fingerprints = {name: read_fingerprint(path) for name, path in models.items()}
    catalog = open_catalog(Settings().catalog_url)
    pairs = {name: read_pairs(catalog, fingerprint) for name, fingerprint in fingerprints.items()}
    catalog.close()
    common = set.intersection(*(set(found.study_instance_uids) for found in pairs.values()))
    if not common:
        raise AltaError("No study of the archive has both embeddings of these encoders. Next: alta embed")
    leaks, known = UNCHECKED, set[str]()
    if not no_leak_check:
        leaks, known = leave_out_trained(list(pairs.values()), training_table or (), list(models.values()))
    common -= known
    if not common:
        raise AltaError(f"{leaks} None is left: hold patients out with alta data prepare archive.")
    outcomes = {}
    for name, found in pairs.items():
        kept = [row for row, uid in enumerate(found.study_instance_uids) if uid in common]
        texts = [found.texts[row] for row in kept]
        outcomes[name] = Outcome(measure_paired(found.images[kept], found.reports[kept], texts, found.patients[kept]))
    facts = {
        "studies": len(common),
        "models": {name: {"path": str(models[name]), "fingerprint": value} for name, value in fingerprints.items()},
        "leak_check": leaks,
    }
    notes = (leaks, f"{len(common)} studies with a report; reports that read the same are one.")
    publish(
        Report("archive", {"archive": compare(outcomes, rounds)}, {"archive": outcomes}, facts, notes, rounds), output
    )
