"""``alta evaluate``: measure encoders."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from model.errors import AltaError

from ..settings import DEMO_ENCODERS, Settings
from .console import console, staged_progress

__all__ = ["evaluate"]

evaluate = typer.Typer(no_args_is_help=True, help="Measure encoders.")

CORES = len(os.sched_getaffinity(0))


@evaluate.command("simulated")
def simulated(
    seed: Annotated[int, typer.Option(help="Cohort; training used 1 and 2.")] = 1000,
    studies: Annotated[int, typer.Option(min=100, help="Studies of the cohort.")] = 1000,
    model: Annotated[Path, typer.Option(help="Folder of the encoders.")] = DEMO_ENCODERS,
    workers: Annotated[int, typer.Option(help="Processes that render.")] = CORES,
) -> None:
    """Retrieval and zero-shot figures on simulated patients that no training has seen."""
    from model.alta_encoder import load_encoder
    from model.evaluation.simulated import evaluate_simulated

    encoder = load_encoder(model)
    with staged_progress() as progress:
        results = evaluate_simulated(encoder, seed, studies, workers, progress)
    table = Table("figure", "single image", "study", "over", title=f"Cohort {seed}, {studies} studies; 95 % intervals")
    single, study = results["single_image"], results["study"]
    for name in study.figures:
        over = study.counts.get(name, "")
        table.add_row(name, str(single.figures[name]), str(study.figures[name]), str(over))
    table.add_section()
    for name in study.zero_shot:
        table.add_row(f"zero-shot AUROC: {name}", str(single.zero_shot[name]), str(study.zero_shot[name]))
    console.print(table)
    each = study.counts["studies_of_each_class"]
    console.print(
        f"Precision: {study.counts['queries_precision']} studies with exactly one finding class, {each} of each of 8"
        " classes (chance 0.125); the own pair is in the gallery. AUROC by chance is 0.5, R@k by chance k / studies."
    )
    figures = {
        level: {
            **{name: interval.as_list() for name, interval in result.figures.items()},
            "zero_shot_auroc": {name: interval.as_list() for name, interval in result.zero_shot.items()},
        }
        for level, result in results.items()
    }
    print(json.dumps({"seed": seed, "studies": studies, **figures}))


@evaluate.command("archive")
def archive() -> None:
    """Paired retrieval on the archive itself: how early a study's own report comes, against chance."""
    from index import open_catalog, read_pairs
    from model.checkpoint import read_fingerprint
    from model.evaluation.paired import evaluate_paired

    settings = Settings()
    catalog = open_catalog(settings.catalog_url)
    pairs = read_pairs(catalog, read_fingerprint(settings.model_path))
    catalog.close()
    if not pairs.texts:
        raise AltaError("No study of the archive has both embeddings of these encoders. Next: alta embed")
    result = evaluate_paired(pairs.images, pairs.reports, pairs.texts, pairs.patients)
    table = Table("figure", "value (95 % interval)", "chance", title=f"{len(pairs.texts)} studies with a report")
    for name, interval in result.figures.items():
        table.add_row(name, str(interval), f"{result.chance[name]:.3f}")
    console.print(table)
    figures = {name: interval.as_list() for name, interval in result.figures.items()}
    print(json.dumps({"studies": len(pairs.texts), "figures": figures, "chance": result.chance}))
