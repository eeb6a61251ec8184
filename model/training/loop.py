"""The training loop: batches in, losses down, one checkpoint out.

Each step is a function of the configuration and the step's number, so a seed reproduces a run on one kind of machine,
and a run that was killed ends as one that was not: to the bit on a CPU, on a GPU but for the order in which it adds.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from ..alta import ALTA
from ..checkpoint import Provenance, save_checkpoint, write_whole
from ..errors import AltaError
from ..losses import TrainingBatch
from ..text import ReportTokenizer
from .adapters import export_adapters
from .batches import BatchMaker
from .config import TrainConfig, TrainingConfigError, check_shares
from .distributed import World, join_world
from .journal import Journal
from .load import check_studies, load_training
from .lora import merged_parameters
from .objectives import OBJECTIVES
from .optimizer import make_optimizer, set_learning_rate
from .output import RECORD, STATE, check_output, clear_output
from .start import build_model, check_start, provenance_of, write_vocabulary
from .state import RunState, keep_state, restore_state, run_mark
from .step import TrainingDiverged, Update
from .studies import TrainingStudies
from .validation import FEWEST, better, scored_findings, validate

__all__ = ["NotWritten", "train"]

LOG_EVERY = 50  # steps
AHEAD = 2  # batches that are made while a step runs

Progress = Callable[[str, int, int], None]  # stage, done, total


class NotWritten(AltaError):
    """The disk is full, or gone."""

    slug = "not-written"


def train(
    config: TrainConfig,
    output: Path,
    cache: Path,
    workers: int,
    progress: Progress = lambda stage, done, total: None,
    resume: bool = False,
    device: str = "auto",
    overwrite: bool = False,
) -> RunState:
    """Read or render the studies, settle the vocabulary, train, and write the best checkpoint into ``output``.

    ``log.jsonl`` there gets one line of losses every fifty steps and one of figures with every validation, the first
    of the base as it comes;
    ``training.json`` says what the run was; ``adapters/`` holds what an adapting run has learned, alone. ``resume``
    continues an interrupted run of the same configuration and table from its last validation, or begins where there is
    none. ``overwrite``: encoders of another run in ``output`` are replaced.

    Raises TrainingConfigError, TrainingDiverged with the studies of the batch, NotWritten, CheckpointError of the base.
    """
    world = join_world(device)
    check_shares(config, world.size)
    check_output(output, config, resume, overwrite)
    check_start(config)
    check_studies(config)
    provenance = provenance_of(config)
    going_on = resume and (output / STATE).exists()
    with _made(output):
        if not world.leads:
            world.wait()  # until rank 0 has made the cache and the vocabulary
        table_sha256 = _sha256(config.data.table)
        studies, validation = load_training(config, cache, workers, progress)
        _check_selection(config, validation)
    if world.leads:
        if not going_on:
            with _writing(output):
                clear_output(output)
                write_vocabulary(config, [studies.body(row) for row in range(len(studies))], output)
        world.wait()
    tokenizer = ReportTokenizer(output / "vocab.txt", config.model.text.context_length)
    config, model = build_model(config, tokenizer)
    model.to(world.device)
    update = Update(model, make_optimizer(model, config.optim), config, world)
    state = restore_state(output, model, update, config, table_sha256) if going_on else RunState()
    run = _Run(config, output, model, tokenizer, update, validation, state, world, table_sha256, provenance)
    run.go(studies, progress)
    world.leave()
    return state


@dataclass(frozen=True)
class _Run:
    """A run from where ``state`` is to its last step."""

    config: TrainConfig
    output: Path
    model: ALTA
    tokenizer: ReportTokenizer
    update: Update
    validation: TrainingStudies
    state: RunState
    world: World
    table_sha256: str | None
    provenance: Provenance

    def go(self, studies: TrainingStudies, progress: Progress) -> None:
        config, state, world = self.config, self.state, self.world
        maker = BatchMaker(
            studies,
            self.tokenizer,
            config.model,
            config.transform,
            config.data.one_section,
            config.data.same_report,
            world.device,
        )
        before, started = state.seconds, time.monotonic()
        with _writing(self.output):
            kept = state.done or -1  # a run that begins anew keeps no line, of its base neither
            opened = Journal(self.output, world, kept, config.trackers, config.name)
        with opened as journal:
            if config.base.given and state.done == 0:  # what the run has to improve
                if world.leads:
                    state.base = validate(self.model, self.validation, self.tokenizer, config, world.device)
                    with _writing(self.output):
                        journal.write({"step": 0, "validation": state.base})
                world.wait()
            batches = _prefetched(maker, config, len(studies), world, state.done)
            for step, (rows, batch) in enumerate(batches, start=state.done):
                set_learning_rate(self.update.optimizer, step, config.optim)
                try:
                    values = self.update(batch, _seed(config, step, world))
                except TrainingDiverged as error:
                    raise TrainingDiverged(_diverged(error, step, [studies.ids[row] for row in rows])) from error
                state.done, state.seconds = step + 1, round(before + time.monotonic() - started, 1)
                if world.leads:
                    progress("training", state.done, config.optim.steps)
                last = state.done == config.optim.steps
                if state.done % LOG_EVERY == 0 or last:
                    rate = self.update.optimizer.param_groups[0]["lr"]
                    with _writing(self.output):
                        journal.write({"step": state.done, "seconds": state.seconds, "learning_rate": rate, **values})
                if state.done % config.validation.every == 0 or last:
                    if world.leads:
                        self._validate(journal)
                    world.wait()  # else the others would meet the limit of a step's collectives

    def _validate(self, journal: Journal) -> None:
        """Figures into the journal, the checkpoint if it is the best, and the state to resume from, in this order:
        killed in between, the resumed run does it again."""
        config, state = self.config, self.state
        figures = validate(self.model, self.validation, self.tokenizer, config, self.world.device)
        state.validations += 1
        with _writing(self.output):
            if better(figures, state.best, config.selection):
                state.best, state.best_step = figures, state.done
                self._save()
            journal.write({"step": state.done, "validation": figures})
            keep_state(self.output, state, self.model, self.update, config, self.table_sha256)

    def _save(self) -> None:
        config, provenance = self.config, self.provenance
        stored = torch.float16 if config.stored_dtype == "float16" else torch.float32
        merged = merged_parameters(self.model)
        save_checkpoint(
            self.output,
            self.model,
            self.tokenizer.vocabulary,
            config.transform,
            provenance,
            stored,
            merged,
            run_mark(config, self.table_sha256),
        )
        record = {
            "objective": config.objective,
            "step": self.state.best_step,
            "validation": self.state.best,
            "table": config.data.table,
            "table_sha256": self.table_sha256,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "trainable": sum(p.numel() for p in self.update.learned),
            "config": asdict(config),
        }
        written = (json.dumps(record, indent=2) + "\n").encode()
        if OBJECTIVES[config.objective].needs_base and config.optim.trainable == "objective":
            export_adapters(self.output / "adapters", self.model, self.tokenizer, config.transform, provenance, written)
        write_whole(self.output / RECORD, written)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder, which is there; if it is new and the run fails while it is empty, it goes again."""
    new = not folder.exists()
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotWritten(
            f"{folder} cannot be written: {error}. What a run had written there before is whole. Make room, or mend"
            " what this says, and go on with --resume."
        ) from error


def _check_selection(config: TrainConfig, validation: TrainingStudies) -> None:
    if config.selection == "zero_shot_auroc" and not scored_findings(validation):
        raise TrainingConfigError(
            f"validation.select is zero_shot_auroc, but no finding is known of {FEWEST} validation studies and known"
            f" not to be there of {FEWEST} others. Label more, or select by recall_at_10."
        )


def _diverged(error: TrainingDiverged, step: int, ids: list[str]) -> str:
    return (
        f"{error.message} Training stopped at step {step + 1}; the last checkpoint is kept. Lower"
        f" optim.base_learning_rate or look at the studies of this batch: {', '.join(ids)}"
    )


def _sha256(table: str | None) -> str | None:
    """None where there is no file: who reads it then says so."""
    return hashlib.sha256(Path(table).read_bytes()).hexdigest() if table and Path(table).is_file() else None


def _seed(config: TrainConfig, step: int, world: World) -> int:
    """Another one for every step and process, the same in every run; a step may use the thousand that follow."""
    return ((config.seed * 1_000_003 + step) * world.size + world.rank) * 1009


def _rows(config: TrainConfig, studies: int) -> Iterator[np.ndarray]:
    """Rows of every step: the studies in a new order each epoch, the incomplete last batch left out."""
    step, epoch, batch = 0, 0, config.optim.batch
    while True:
        order = np.random.default_rng((config.seed, epoch)).permutation(studies)
        for start in range(0, len(order) - batch + 1, batch):
            if step == config.optim.steps:
                return
            yield order[start : start + batch]
            step += 1
        epoch += 1


def _prefetched(
    maker: BatchMaker, config: TrainConfig, studies: int, world: World, first: int
) -> Iterator[tuple[np.ndarray, TrainingBatch]]:
    """Rows of every batch, and this process's share of it, made by one thread ahead of the step that uses it; an error
    there is raised here."""
    with ThreadPoolExecutor(1) as thread:
        ahead: deque[tuple[np.ndarray, Future[TrainingBatch]]] = deque()
        for step, rows in islice(enumerate(_rows(config, studies)), first, None):
            seed = _seed(config, step, world)
            ahead.append((rows, thread.submit(maker, world.share(rows), seed, config.data.augmentation)))
            if len(ahead) > AHEAD:
                rows, batch = ahead.popleft()
                yield rows, batch.result()
        for rows, batch in ahead:
            yield rows, batch.result()
