"""What the average study of a run holds: images, kept patches, tokens. Reads no picture."""

import random
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..alta import ALTAConfig
from ..errors import CheckpointError
from ..losses import TrainingBatch
from ..text import ReportTokenizer
from .batches import BatchMaker
from .config import TrainConfig, TrainingConfigError
from .load import listed_studies
from .start import write_vocabulary
from .studies import TrainingStudies

__all__ = ["ASSUMED_TOKENS", "Workload", "expected_workload", "workload_of"]

ASSUMED_TOKENS = 60.0  # a report's findings and impression, special tokens included
SAMPLE = 2000  # reports of a table that are cut into tokens


@dataclass(frozen=True)
class Workload:
    """Means over the studies of a run or a batch; padding is not in them.

    images: slots that are encoded; kept: patches of each; tokens and their square: of a report, special ones included;
    masked: tokens that are predicted.
    """

    images: float
    kept: int
    tokens: float
    tokens_squared: float
    masked: float


def workload_of(batch: TrainingBatch, config: ALTAConfig) -> Workload:
    lengths = batch.attention_mask.sum(1).double()
    read = batch.present.cpu().numpy() & np.array(config.slots_read)
    return Workload(
        _encoded(config, read),
        config.image.patches if batch.noise is None else _kept(config),
        float(lengths.mean()),
        float((lengths**2).mean()),
        float((batch.labels != -100).sum()) / len(lengths),
    )


def expected_workload(config: TrainConfig, tokens: float | None = None) -> tuple[TrainConfig, Workload, int, list[str]]:
    """For a run: the configuration with the vocabulary's size where it is known, the mean study, how many studies there
    are, and in sentences what was measured and what assumed.

    A study table gives the images of a study, and with the base's vocabulary, or one learned from its reports as the
    run would, their tokens. ``tokens`` overrides that. Raises TrainingConfigError, TableError.
    """
    table = None if config.data.table is None else Path(config.data.table)
    if tokens is not None and not 3 <= tokens <= config.model.text.context_length:
        raise TrainingConfigError(
            f"{tokens:g} tokens a report; expected 3 to {config.model.text.context_length}, model.text.context_length."
        )
    assumed = tokens or min(ASSUMED_TOKENS, config.model.text.context_length)
    lengths = np.array([assumed])
    told = f"{assumed:g} tokens a report, special ones included: {'as given' if tokens else 'assumed'}."
    if table is None:
        notes = ["All slots that the configuration reads hold an image: assumed, since studies are simulated.", told]
        everywhere = np.array([config.model.slots_read])
        return config, _workload(config, everywhere, lengths), config.data.studies, notes
    studies = listed_studies(config, "train")
    read = studies.present & np.array(config.model.slots_read)
    notes = [f"{table}: {len(studies)} studies of split train with {read.sum(1).mean():.2f} images that are read."]
    try:
        config, drawn = _report_lengths(config, studies)
    except CheckpointError as error:
        told = told if tokens else f"{told.removesuffix('.')}, since they cannot be counted: {error}"
    else:
        if tokens is None:
            lengths = drawn
            told = f"{lengths.mean():.1f} tokens a report, special ones included: mean of {len(lengths)} of the table."
    notes.append(told)
    return config, _workload(config, read, lengths), len(studies), notes


def _workload(config: TrainConfig, read: np.ndarray, lengths: np.ndarray) -> Workload:
    """read (N, S) bool: images that there are; lengths (N,)."""
    model = config.model
    masked = float((lengths - 2).mean()) * model.text.mask_ratio
    return Workload(_encoded(model, read), _kept(model), float(lengths.mean()), float((lengths**2).mean()), masked)


def _encoded(config: ALTAConfig, read: np.ndarray) -> float:
    return float(sum(config.slots_read)) if config.absent_slots == "encoded" else float(read.sum(1).mean())


def _kept(config: ALTAConfig) -> int:
    return round(config.image.patches * (1 - config.image.mask_ratio))


def _report_lengths(config: TrainConfig, studies: TrainingStudies) -> tuple[TrainConfig, np.ndarray]:
    """Tokens of reports as the run would draw them, and the configuration with the vocabulary's size. Raises
    CheckpointError where the base's vocabulary is not there."""
    with tempfile.TemporaryDirectory() as name:
        write_vocabulary(config, [studies.body(row) for row in range(len(studies))], Path(name))
        tokenizer = ReportTokenizer(Path(name) / "vocab.txt", config.model.text.context_length)
    text = replace(config.model.text, vocabulary=len(tokenizer.vocabulary))
    config = replace(config, model=replace(config.model, text=text))
    maker = BatchMaker(studies, tokenizer, config.model, config.transform, config.data.one_section)
    rows = np.random.default_rng(0).permutation(len(studies))[:SAMPLE]
    chance = random.Random(0)
    return config, tokenizer([maker.text(row, chance) for row in rows]).attention_mask.sum(1)
