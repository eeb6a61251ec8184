"""From rows of a list to embeddings, batch by batch, and what is said of texts that were cut."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..encoder import StudyEncoder, StudyImages
from ..errors import ImageError
from ..image import read_radiograph
from .lists import FRONTAL, EvaluationList, ListRow

__all__ = ["LEVELS", "Progress", "embed_images", "embed_texts", "in_batches", "silent"]

Progress = Callable[[str, int, int], None]
LEVELS = ("single_image", "study")  # the current frontal alone, or every image there is


def silent(stage: str, done: int, total: int) -> None:
    """Progress for nobody."""


def embed_images(
    encoder: StudyEncoder, rows: EvaluationList, level: str = "single_image", progress: Progress = silent
) -> np.ndarray:
    """(R, D), a row a line. Files are read batch by batch. Raises ListError that names the line of a bad file."""

    def encode(part: Sequence[ListRow]) -> np.ndarray:
        return encoder.encode_studies([_study(encoder, rows, row, level) for row in part])

    return in_batches(encode, rows.rows, "images", progress)


def embed_texts(
    encoder: StudyEncoder, texts: Sequence[str], limit: int | None = None, progress: Progress = silent
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(R, D), and a note when some are longer than ``limit`` tokens (the encoder's own without one), as far as the
    encoder has positions."""
    encode = partial(encoder.encode_texts, limit=limit) if limit else encoder.encode_texts
    embedded = in_batches(encode, list(texts), "texts", progress)
    read = min(limit or encoder.context_length, encoder.positions)
    cut = sum(count > read for count in encoder.count_tokens(texts))
    notes = (f"{cut} of {len(texts)} texts are longer than the {read} tokens that are read.",) if cut else ()
    return embedded, notes


def in_batches(
    encode: Callable[[Any], np.ndarray], items: Sequence[Any], stage: str, progress: Progress, size: int = 32
) -> np.ndarray:
    parts = []
    for start in range(0, len(items), size):
        parts.append(encode(items[start : start + size]))
        progress(stage, min(start + size, len(items)), len(items))
    return np.concatenate(parts)


def _study(encoder: StudyEncoder, rows: EvaluationList, row: ListRow, level: str) -> StudyImages:
    slots = row.images if level == "study" else {FRONTAL: row.images[FRONTAL]}
    try:
        return StudyImages(**{slot: encoder.transform(read_radiograph(path).pixels) for slot, path in slots.items()})
    except (ImageError, OSError) as error:
        raise rows.error(row, f"{row.images[FRONTAL]}: {error}") from error
