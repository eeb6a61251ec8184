"""Where on a radiograph the encoders see the words of a phrase, and where that lies on the picture as it was taken.

A map shows what the encoders associate with a phrase, relative to the rest of the same picture: it always has a highest
place, whether or not what the phrase says is there. Without torch.

Axes: N patches (rows x columns, in reading order), T tokens of the phrase without special ones, E embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .pixels import Box

__all__ = ["FilmGeometry", "PhraseWord", "SimilarityMap", "WordMap", "associate", "spread"]


@dataclass(frozen=True)
class FilmGeometry:
    """How encoder input lies on the film it was made of.

    height, width: of the film in px, as it is shown upright, which is as it is stored too. seen: what of the upright
    film the encoders see. mirrored: whether the stored film had to be turned left to right, and upside down, to be
    upright.
    """

    height: int
    width: int
    seen: Box
    mirrored: tuple[bool, bool] = (False, False)

    @property
    def stored(self) -> Box:
        """What of the stored film the encoders see."""
        return self.seen.mirrored(self.height, self.width, *self.mirrored)

    def as_stored(self, values: np.ndarray) -> np.ndarray:
        """A map (rows, columns) of the upright film as one of the stored film."""
        rows, columns = self.mirrored
        return values[:: -1 if columns else 1, :: -1 if rows else 1]


@dataclass(frozen=True)
class PhraseWord:
    """A word as it was written; the places of its pieces among the tokens of the phrase, special ones not counted."""

    text: str
    pieces: tuple[int, ...]


@dataclass(frozen=True)
class WordMap:
    """values: float32 (rows, columns) of patches, -1..1."""

    word: str
    values: np.ndarray


@dataclass(frozen=True)
class SimilarityMap:
    """values: of the whole phrase, the mean over its words, float32 (rows, columns) of patches, -1..1."""

    values: np.ndarray
    words: tuple[WordMap, ...]


def associate(patches: np.ndarray, pieces: np.ndarray, words: Sequence[PhraseWord]) -> SimilarityMap:
    """patches (rows, columns, E) and pieces (T, E) from the local heads, not normalised. At least one word.

    A patch's value for a piece is the cosine between the piece and what sets the patch apart from the mean patch of its
    picture: what all patches share says nothing of a place. The map of a word is the mean over its pieces. Compared
    with plain cosines and with the attention of the local loss by ``benchmarks.similarity_map``.
    """
    apart = patches - patches.mean((0, 1))
    cosines = _unit(apart) @ _unit(pieces).T  # (rows, columns, T)
    maps = [WordMap(word.text, cosines[:, :, list(word.pieces)].mean(-1).astype(np.float32)) for word in words]
    return SimilarityMap(np.stack([each.values for each in maps]).mean(0), tuple(maps))


def spread(values: np.ndarray, box: Box, height: int, width: int) -> np.ndarray:
    """A map over the pixels it was made of: float32 (height, width), NaN outside of ``box``.

    values: (rows, columns) of patches that fill the box; between patch centres linear, towards the edge constant.
    """
    down = _weights(box.top, box.bottom, height, values.shape[0])  # (height, rows)
    across = _weights(box.left, box.right, width, values.shape[1])  # (width, columns)
    return (down @ values.astype(np.float32) @ across.T).astype(np.float32)


def _weights(start: float, end: float, pixels: int, patches: int) -> np.ndarray:
    """(pixels, patches) float32: what each patch counts for each pixel along one axis; NaN outside of start..end."""
    centre = np.arange(pixels) + 0.5
    place = np.clip((centre - start) / (end - start) * patches - 0.5, 0, patches - 1)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(patches)))
    weights[(centre < start) | (centre > end)] = np.nan
    return weights.astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)
