"""``alta train`` and ``alta simulate``."""

import logging
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from model.errors import AltaError, InputError

from .console import console, progress_bar, staged_progress
from .estimate import Machine, print_estimate

__all__ = ["simulate", "train"]

CORES = len(os.sched_getaffinity(0))
ESTIMATE = "Estimate"  # the group of its options in --help


def train(
    config: Annotated[Path, typer.Argument(help="TOML file of the run, for example configs/demo.toml.")],
    output: Annotated[Path | None, typer.Option(help="Folder that receives the checkpoint and log.jsonl.")] = None,
    cache: Annotated[Path, typer.Option(help="Folder of decoded pictures, kept between runs.")] = Path("runs/cache"),
    workers: Annotated[int, typer.Option(help="Processes that decode or render.")] = CORES,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, or begin where there is none.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the encoders of another run in the output folder.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto (a GPU a process where there are any), cpu or cuda.")] = "auto",
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Print what the run costs; train nothing.", rich_help_panel=ESTIMATE)
    ] = False,
    tokens: Annotated[
        float | None,
        typer.Option(
            help="Mean tokens a report. Left out: counted in the study table, else 60.", rich_help_panel=ESTIMATE
        ),
    ] = None,
    peak_tflops: Annotated[
        float, typer.Option(min=0.001, help="Of one device; 989: an H100, bfloat16.", rich_help_panel=ESTIMATE)
    ] = 989,
    utilisation: Annotated[
        float, typer.Option(min=0.001, max=1, help="Share of the peak that is reached.", rich_help_panel=ESTIMATE)
    ] = 0.4,
    studies_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Of the whole run, as measured.", rich_help_panel=ESTIMATE)
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Devices that the run is to have.", rich_help_panel=ESTIMATE)
    ] = 1,
) -> None:
    """Train encoders. The same configuration, seed and processes give the same checkpoint on the same kind of machine.

    Several processes: torchrun --nproc-per-node 2 --no-python alta train CONFIG --output DIR
    """
    if estimate:
        print_estimate(config, Machine(peak_tflops, utilisation, processes, studies_per_second), tokens)
        return
    if output is None:
        raise InputError(
            "alta train needs --output DIR, the folder that receives the checkpoint; with --estimate, which only prints"
            " what the run would cost, it needs none."
        )
    from model.training import read_config
    from model.training import train as run
    from model.training.validation import better

    read = read_config(config)
    leads = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    if not leads:
        logging.getLogger("model").setLevel(logging.ERROR)  # all would say the same
    before = signal.signal(signal.SIGTERM, _interrupt)  # a scheduler's; stopped as by Ctrl-C
    try:
        with staged_progress() if leads else nullcontext(lambda stage, done, total: None) as progress:
            state = run(read, output, cache, workers, progress, resume, device, overwrite)
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped. With --resume the run goes on from its last validation; see {output}.") from None
    finally:
        signal.signal(signal.SIGTERM, before)
    if leads:
        figures = ", ".join(f"{name} {value}" for name, value in (state.best or {}).items())
        chosen = read.selection
        if state.base and not better(state.best or {}, state.base, chosen):
            console.print(
                f"No step was better than the base by {chosen}: {state.base.get(chosen)} before,"
                f" {(state.best or {}).get(chosen)} after. The base may serve better than what was written.",
                markup=False,
            )
        validations = f"{state.validations} validation{'' if state.validations == 1 else 's'}"
        console.print(
            f"Encoders written to {output}: step {state.best_step} of {state.done}, the best of {validations} by"
            f" {chosen}: {figures}. Losses and validation:"
            f" {output / 'log.jsonl'}. Next: ALTA_MODEL_PATH={output} alta embed",
            markup=False,
        )


class Interrupted(AltaError):
    slug = "interrupted"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def simulate(
    folder: Annotated[Path, typer.Argument(help="Receives dicom/, reports.csv, truth.jsonl and masks/.")],
    seed: Annotated[int, typer.Option(help="Names the cohort.")] = 7,
    studies: Annotated[int, typer.Option(min=1, help="Studies of the cohort.")] = 300,
    size: Annotated[int, typer.Option(min=64, help="Rows and columns of the images.")] = 512,
) -> None:
    """Write a simulated archive: DICOM files and reports of patients that never were."""
    from model.simulation import write_cohort

    with progress_bar("simulating") as progress:
        write_cohort(seed, studies, folder, size, lambda done: progress(done, studies))
    console.print(
        f"{studies} studies in {folder}. Next: alta ingest {folder}/dicom --reports {folder}/reports.csv", markup=False
    )
