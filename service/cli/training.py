"""``alta train`` and ``alta simulate``."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from .console import console, progress_bar, staged_progress

__all__ = ["simulate", "train"]

CORES = len(os.sched_getaffinity(0))


def train(
    config: Annotated[Path, typer.Argument(help="TOML file of the run, for example configs/demo.toml.")],
    output: Annotated[Path, typer.Option(help="Folder that receives the checkpoint and log.jsonl.")],
    cache: Annotated[Path, typer.Option(help="Folder of decoded pictures, kept between runs.")] = Path("runs/cache"),
    workers: Annotated[int, typer.Option(help="Processes that decode or render.")] = CORES,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    device: Annotated[str, typer.Option(help="auto (a GPU a process where there are any), cpu or cuda.")] = "auto",
) -> None:
    """Train encoders. The same configuration, seed and processes give the same checkpoint on the same kind of machine.

    Several processes: torchrun --nproc-per-node 2 --no-python alta train CONFIG --output DIR
    """
    from model.training import read_config
    from model.training import train as run

    leads = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    with staged_progress() if leads else nullcontext(lambda stage, done, total: None) as progress:
        state = run(read_config(config), output, cache, workers, progress, resume, device)
    if leads:
        figures = ", ".join(f"{name} {value}" for name, value in (state.best or {}).items())
        console.print(
            f"Encoders written to {output}, as of step {state.best_step}: {figures}. Losses and validation:"
            f" {output / 'log.jsonl'}. Next: ALTA_MODEL_PATH={output} alta embed",
            markup=False,
        )


def simulate(
    folder: Annotated[Path, typer.Argument(help="Receives dicom/, reports.csv, truth.jsonl and masks/.")],
    seed: Annotated[int, typer.Option(help="Names the cohort.")] = 7,
    studies: Annotated[int, typer.Option(min=1)] = 300,
    size: Annotated[int, typer.Option(min=64, help="Rows and columns of the images.")] = 512,
) -> None:
    """Write a simulated archive: DICOM files and reports of patients that never were."""
    from model.simulation import write_cohort

    with progress_bar("simulating") as progress:
        write_cohort(seed, studies, folder, size, lambda done: progress(done, studies))
    console.print(
        f"{studies} studies in {folder}. Next: alta ingest {folder}/dicom --reports {folder}/reports.csv", markup=False
    )
