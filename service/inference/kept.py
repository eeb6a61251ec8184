"""Directions of texts that were asked for lately, so that they need not be encoded again."""

from collections.abc import Sequence

import numpy as np

from index.known_texts import KnownTexts

__all__ = ["KeptDirections"]


class KeptDirections(KnownTexts[np.ndarray]):
    """The directions used last, by what was said: a text or, as one direction, several. Of one pair of encoders."""

    def keep(self, said: Sequence[str | None], row: np.ndarray) -> None:
        own = np.array(row)  # not a view, which would hold its whole batch
        own.setflags(write=False)
        super().keep(said, own)
