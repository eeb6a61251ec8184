"""What an engine is: vectors of one kind of one generation, kept at a place and searched by inner product.

Axes: N rows, D width, Q queries, K results.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from model.errors import ArchiveError

__all__ = ["Engine", "Place", "RecallTooLow", "Sample", "VectorIndex"]


@dataclass(frozen=True)
class Place:
    """Where an engine keeps one kind of one generation.

    name: unique in this archive, letters, digits and underscores, such as ``generation_12_image``; what a server calls
    a collection. folder: its own, for engines that keep files; it need not exist.
    """

    name: str
    folder: Path


@dataclass(frozen=True)
class Sample:
    """Queries like those that will be asked, to set an engine by and to measure it with.

    queries (Q, D) float32 of length 1; own (Q,) int64: the id a query was taken from, which is no answer to it, or -1.
    """

    queries: np.ndarray
    own: np.ndarray

    def __len__(self) -> int:
        return len(self.own)

    def every(self, step: int) -> "Sample":
        return Sample(self.queries[::step], self.own[::step])


class RecallTooLow(ArchiveError):
    """No setting of this engine finds enough of what exact search finds in these vectors."""

    slug = "recall-too-low"


class VectorIndex(Protocol):
    """An immutable set of unit vectors by id. Thread-safe."""

    dimension: int  # D

    def __len__(self) -> int: ...

    def search(self, query: np.ndarray, count: int, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The ``count`` best: ids (K,) int64 and cosines (K,) float64, best first, equal scores by id; fewer only
        when there are fewer.

        query: float32 (D,), length 1. Scores are sums in double precision over the stored float32 vectors, so that
        they do not depend on the engine. among: int64 ids to choose from, unique, unknown ones allowed; searched
        exactly. None: all, searched as well as the engine was set to.
        """
        ...

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """float32 (len(ids), D), as they were given, bit for bit. Raises KeyError for an id that is not there."""
        ...


class Engine(Protocol):
    """Makes, opens and removes indexes."""

    @property
    def name(self) -> str:
        """As stored beside a generation: lower case."""
        ...

    @property
    def local(self) -> bool:
        """True: files in ``place.folder``, each host may have its own; False: kept where all hosts reach it."""
        ...

    def build(self, place: Place, ids: np.ndarray, vectors: np.ndarray, sample: Sample) -> Mapping[str, Any]:
        """Make the index of a place, replacing what is there. Returns the settings chosen, fit for JSON.

        ids: int64 (N,), ascending, unique, N > 0. vectors: float32 (N, D), length 1; may be mapped from a file larger
        than memory, so it is read in parts, in order. Raises RecallTooLow, ArchiveError, OSError.
        """
        ...

    def open(self, place: Place) -> VectorIndex:
        """Raises ArchiveError: index-file-missing when there is nothing, index-file-corrupt when it is not usable."""
        ...

    def remove(self, place: Place) -> None:
        """Remove the index and whatever a build that was killed left there; nothing there is no error."""
        ...
