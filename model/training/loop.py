"""The training loop: batches in, four losses, one checkpoint out.

Each step is a function of the configuration and the step's number, so a seed reproduces a run on one kind of machine.
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..alta import ALTA
from ..checkpoint import Provenance, save_checkpoint
from ..evaluation.metrics import hit_ranks
from ..losses import TrainingBatch, alta_losses
from ..text import ReportTokenizer, report_body, train_vocabulary
from .batches import BatchMaker
from .config import TrainConfig
from .distributed import World, join_world
from .journal import Journal
from .optimizer import choose_trainable, make_optimizer, set_learning_rate
from .studies import RenderedStudies, render_cohort

__all__ = ["train"]

MAX_LOGIT_SCALE = math.log(100)  # CLIP's and ALTA's clamp
LOG_EVERY = 50
SAVE_EVERY = 250
STATE = "state.pt"  # what an interrupted run continues from

Progress = Callable[[str, int, int], None]  # stage, done, total


def train(
    config: TrainConfig,
    output: Path,
    cache: Path,
    workers: int,
    progress: Progress = lambda stage, done, total: None,
    resume: bool = False,
) -> None:
    """Render the cohort, learn the vocabulary, train, and write the checkpoint into ``output``.

    ``log.jsonl`` there gets one line of losses every fifty steps and one of validation figures with every save.
    ``resume`` continues from the last save of an interrupted run of the same configuration.
    """
    world = join_world()
    output.mkdir(parents=True, exist_ok=True)
    going_on = resume and (output / STATE).exists()
    if not world.leads:
        world.wait()  # until rank 0 has rendered and learned the vocabulary
    studies, validation = _cohorts(config, cache, workers, progress)
    if world.leads:
        if not going_on:
            bodies = [report_body(*parts) for parts in zip(studies.findings_text, studies.impression_text, strict=True)]
            train_vocabulary(bodies, config.model.text.vocabulary, output)
        world.wait()
    tokenizer = ReportTokenizer(output / "vocab.txt", config.model.text.context_length)
    config = _with_vocabulary(config, len(tokenizer.vocabulary))

    # Plain attention in bfloat16 as it stands; the default widens it to float32 first.
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    torch.manual_seed(config.seed)
    model = ALTA(config.model)
    choose_trainable(model, config.optim)
    optimizer = make_optimizer(model, config.optim)
    maker = BatchMaker(studies, tokenizer, config.model, config.transform, config.data.one_section)
    first = _restore(output / STATE, model, optimizer) if going_on else 0
    started = time.monotonic()
    with Journal(output / "log.jsonl", world, going_on) as journal:
        for step, batch in enumerate(_prefetched(maker, config, world, first), start=first):
            set_learning_rate(optimizer, step, config.optim)
            torch.manual_seed(_seed(config, step, world))  # dropout
            values = train_step(model, optimizer, batch, config, world)
            done = step + 1
            if world.leads:
                progress("training", done, config.optim.steps)
            if done % LOG_EVERY == 0 or done == config.optim.steps:
                journal.write({"step": done, "seconds": round(time.monotonic() - started, 1), **values})
            if world.leads and (done % SAVE_EVERY == 0 or done == config.optim.steps):
                journal.write({"step": done, "validation": validate(model, validation, tokenizer, config)})
                _save(output, model, tokenizer, config)
                _keep(output / STATE, model, optimizer, done)


def _cohorts(
    config: TrainConfig, cache: Path, workers: int, progress: Progress
) -> tuple[RenderedStudies, RenderedStudies]:
    data, scale = config.data, config.model.image.target_scale
    training, validation = (
        render_cohort(cache, seed, count, config.transform, scale, workers, lambda *n: progress("rendering", *n))
        for seed, count in ((data.seed, data.studies), (data.validation_seed, data.validation_studies))
    )
    return training, validation


def _save(output: Path, model: ALTA, tokenizer: ReportTokenizer, config: TrainConfig) -> None:
    provenance = config.provenance or Provenance(config.name, f"simulated cohort {config.data.seed}", "", "")
    stored = torch.float16 if config.stored_dtype == "float16" else torch.float32
    save_checkpoint(output, model, tokenizer.vocabulary, config.transform, provenance, stored)


def _seed(config: TrainConfig, step: int, world: World) -> int:
    """Another one for every step and process, the same in every run."""
    return (config.seed * 1_000_003 + step) * world.size + world.rank


def _with_vocabulary(config: TrainConfig, size: int) -> TrainConfig:
    """The configured vocabulary is a limit: simulated reports may have fewer words."""
    return replace(
        config,
        model=replace(config.model, text=replace(config.model.text, vocabulary=size)),
    )


def train_step(
    model: ALTA,
    optimizer: torch.optim.Optimizer,
    batch: TrainingBatch,
    config: TrainConfig,
    world: World,
) -> dict[str, float]:
    """One update; returns the losses, their sum and the gradient norm before clipping."""
    model.train()
    narrow = config.precision == "bfloat16"
    # On a CPU the backward pass of fused attention is several times slower than plain matrix products.
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=narrow),
        sdpa_kernel(SDPBackend.MATH),
    ):
        losses = alta_losses(model, batch, config.optim.local_group, world.gather)
    total = losses.total(config.optim.local_weight, world.share_of_mean(int((batch.labels != -100).sum())))
    if not torch.isfinite(total):
        raise FloatingPointError(f"The loss is {float(total.detach())}: {losses.by_name()}.")
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    world.average_gradients(learned)
    norm = nn.utils.clip_grad_norm_(learned, config.optim.clip_norm)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
    values = {name: round(float(value.detach()), 5) for name, value in losses.by_name().items()}
    return {
        **values,
        "total": round(float(total.detach()), 5),
        "grad_norm": round(float(norm), 4),
    }


@torch.inference_mode()
def validate(
    model: ALTA,
    studies: RenderedStudies,
    tokenizer: ReportTokenizer,
    config: TrainConfig,
) -> dict[str, float]:
    """Recall of the paired report on held-out patients, all patches visible, no augmentation."""
    model.eval()
    maker = BatchMaker(studies, tokenizer, config.model, config.transform, one_section=0.0)
    images, texts = [], []
    for rows in np.array_split(np.arange(len(studies)), max(1, len(studies) // 50)):
        batch = maker(rows, seed=0, augmentation=None)
        slots = torch.cat([model.halve(batch.target)[:, None], batch.others], 1)
        images.append(model.image_encoder.embed_study(model.image_encoder(slots, batch.present)))
        texts.append(model.text_encoder.embed_text(model.text_encoder(batch.input_ids, batch.attention_mask)))
    similarity = (torch.cat(images) @ torch.cat(texts).T).numpy()
    ranks = hit_ranks(similarity, np.eye(len(studies), dtype=bool))
    return {f"recall_at_{k}": round(float((ranks <= k).mean()), 4) for k in (1, 5, 10)}


def _rows(config: TrainConfig) -> Iterator[np.ndarray]:
    """Rows of every step: the cohort in a new order each epoch, the incomplete last batch left out."""
    step, epoch, batch = 0, 0, config.optim.batch
    while True:
        order = np.random.default_rng((config.seed, epoch)).permutation(config.data.studies)
        for start in range(0, len(order) - batch + 1, batch):
            if step == config.optim.steps:
                return
            yield order[start : start + batch]
            step += 1
        epoch += 1


def _keep(path: Path, model: ALTA, optimizer: torch.optim.Optimizer, step: int) -> None:
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
        },
        partial,
    )
    partial.replace(path)


def _restore(path: Path, model: ALTA, optimizer: torch.optim.Optimizer) -> int:
    """The step to go on with."""
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _prefetched(maker: BatchMaker, config: TrainConfig, world: World, first: int) -> Iterator[TrainingBatch]:
    """Batches made by one thread ahead of the step that uses them; an error there is raised here."""
    ready: queue.Queue[TrainingBatch | BaseException | None] = queue.Queue(maxsize=2)

    def make() -> None:
        try:
            for step, rows in islice(enumerate(_rows(config)), first, None):
                augmentation = config.data.augmentation
                ready.put(maker(world.share(rows), _seed(config, step, world), augmentation))
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    threading.Thread(target=make, daemon=True).start()
    while (item := ready.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item
