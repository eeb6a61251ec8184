"""A batch through the encoder: one outcome a study, and a study that breaks the encoder costs only itself."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from model.encoder import StudyEncoder, StudyImages
from model.errors import InputError

from ..tables import IMAGE
from .rows import Outcome

__all__ = ["BatchEncoder", "Input"]

# Not to mark a whole archive as failed because the device has no memory left.
MAX_FAILURES_IN_A_ROW: Final = 16

Input = StudyImages | str
_Encode = Callable[[Sequence[Input]], np.ndarray]


class BatchEncoder:
    """Encodes batches one after the other, and raises the error of an encoder that fails on study after study."""

    def __init__(self, encoder: StudyEncoder) -> None:
        self._encoder = encoder
        self._failures_in_a_row = 0

    def __call__(self, kind: str, inputs: Sequence[Input | InputError]) -> list[Outcome]:
        """One outcome an input; an input that is an error is its own outcome."""
        encode: _Encode = self._encoder.encode_studies if kind == IMAGE else self._encoder.encode_texts  # type: ignore[assignment]
        usable = [item for item in inputs if not isinstance(item, InputError)]
        vectors = self._parts(encode, usable) if usable else iter(())
        return [item if isinstance(item, InputError) else next(vectors) for item in inputs]

    def _parts(self, encode: _Encode, items: Sequence[Input]) -> Iterator[Outcome]:
        """What fails is halved: that finds the study that breaks it, and fits a device that is nearly full."""
        try:
            vectors = [_checked(vector) for vector in encode(items)]
        except Exception as error:
            if len(items) > 1:
                middle = len(items) // 2
                yield from self._parts(encode, items[:middle])
                yield from self._parts(encode, items[middle:])
                return
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise
            yield InputError(f"{type(error).__name__}: {error}", getattr(error, "slug", "encoder-error"))
        else:
            self._failures_in_a_row = 0
            yield from vectors


def _checked(vector: np.ndarray) -> Outcome:
    vector = np.asarray(vector, dtype=np.float32)
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or abs(length - 1) > 1e-3:
        return InputError(f"Expected an embedding of length 1, the encoder gave {length}.", "bad-embedding")
    return vector
