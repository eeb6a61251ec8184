"""Cells of neighbouring vectors with one byte a number, of which a query reads a few; what it finds is scored again
from the vectors themselves.

Axes: N rows, D width, K results.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from model.errors import ArchiveError

from .arrays import IDS, VECTORS, open_arrays, write_array
from .flat import FlatIndex
from .measure import RECALL_DEPTH, exact_floors, recall_of
from .protocol import Place, RecallTooLow, Sample
from .scoring import rank

__all__ = ["IvfEngine", "IvfIndex"]

CELLS_FILE: Final = "ivf.faiss"
SETTINGS_FILE: Final = "ivf.json"

# The same from 40 thousand rows to some ten million: building then costs the same for every row.
CELLS: Final = 1024
ROWS_A_CELL: Final = 39  # FAISS wants so many at least to place a cell by
TRAINED_ON: Final = 50 * CELLS
BLOCK: Final = 65_536

SHALLOW: Final = (RECALL_DEPTH, 100)  # filters and masks need more than the ten that are shown
DEEP: Final = 1000
TUNED_RECALL: Final = 0.995  # on the engine's sample, so that 0.99 holds on another
SHARE_OF_CELLS: Final = 4  # reading more than a quarter of the cells costs what reading every vector costs
FEW_CELLS: Final = 32  # all of them may be read where there are no more
DEEP_QUERIES: Final = 64  # a thousand answers each tell enough

MORE: Final = 16  # rows fetched beyond K for the second scoring
SAME_CODE: Final = 1e-6
LOSSY: Final = 0.9  # cosine of a vector with what its code stands for: what is far below was stored under a wrong row


class IvfIndex:
    """Cells mapped from a file. Thread-safe.

    probes: by the number of results, how many cells are read; None: so many are found by reading all vectors.
    """

    def __init__(self, cells: Any, exact: FlatIndex, probes: Mapping[int, int | None]) -> None:
        self.dimension = exact.dimension
        self.cells = cells
        self.exact = exact
        self._steps = [
            (depth, probe and faiss.SearchParametersIVF(nprobe=probe))  # type: ignore[call-arg]
            for depth, probe in sorted(probes.items())
        ]

    def __len__(self) -> int:
        return len(self.exact)

    def search(self, query: np.ndarray, count: int, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As ``VectorIndex.search``. Equal vectors lie in one cell, so ties are broken by id here too."""
        parameters = next((step for depth, step in self._steps if depth >= count), None)
        if among is not None or parameters is None or count < 1:
            return self.exact.search(query, count, among)
        fetch = count + max(MORE, count // 4)
        while True:
            scores, rows = self.cells.search(query[None], min(fetch, len(self)), params=parameters)
            found = int(np.count_nonzero(rows[0] >= 0))  # FAISS pads with -1
            if found < min(count, len(self)):  # the cells held too few
                return self.exact.search(query, count)
            all_of_one_code = found > count and scores[0, found - 1] >= scores[0, count - 1] - SAME_CODE
            if found < fetch or not all_of_one_code:
                return rank(query, *self.exact.at(rows[0, :found]), count)
            fetch *= 4

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """As ``VectorIndex.vectors``."""
        return self.exact.vectors(ids)


class IvfEngine:
    name: Final = "ivf"
    local: Final = True

    def build(self, place: Place, ids: np.ndarray, vectors: np.ndarray, sample: Sample) -> Mapping[str, Any]:
        write_array(place.folder / IDS, ids)
        write_array(place.folder / VECTORS, vectors)
        cells = _filled(vectors)
        _require_every_row(cells, vectors)
        path = place.folder / CELLS_FILE
        try:
            faiss.write_index(cells, str(path))
        except RuntimeError as error:  # FAISS has one exception for everything
            raise OSError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error
        lists = int(cells.nlist)
        del cells  # from here on it is read as it will be served
        exact = FlatIndex(*open_arrays(place.folder))
        probes = _tuned(_mapped(path), exact, sample, max(min(lists, FEW_CELLS), lists // SHARE_OF_CELLS))
        settings = {
            "cells": lists,
            "code": "SQ8",
            "trained_on": min(TRAINED_ON, len(ids)),
            "probes": {str(depth): probe for depth, probe in probes.items()},
        }
        (place.folder / SETTINGS_FILE).write_text(json.dumps(settings))
        return settings

    def open(self, place: Place) -> IvfIndex:
        exact = FlatIndex(*open_arrays(place.folder))
        try:
            cells = _mapped(place.folder / CELLS_FILE)
            probes = json.loads((place.folder / SETTINGS_FILE).read_text())["probes"]
        except FileNotFoundError as error:
            raise ArchiveError(f"{error.filename} is missing.", "index-file-missing") from error
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ArchiveError(f"The cells in {place.folder} cannot be read.", "index-file-corrupt") from error
        if cells.ntotal != len(exact) or cells.d != exact.dimension:
            raise ArchiveError(f"The files in {place.folder} do not belong together.", "index-file-corrupt")
        return IvfIndex(cells, exact, {int(depth): probe for depth, probe in probes.items()})

    def remove(self, place: Place) -> None:
        shutil.rmtree(place.folder, ignore_errors=True)


def _filled(vectors: np.ndarray) -> Any:
    """Rows are numbered by position; ids stay in their own file."""
    count, width = vectors.shape
    lists = max(1, min(CELLS, count // ROWS_A_CELL))
    cells: Any = faiss.index_factory(width, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    cells.cp.min_points_per_centroid = 1  # a forced small one need not warn
    taken = np.sort(np.random.default_rng(0).choice(count, min(TRAINED_ON, count), replace=False))
    cells.train(np.asarray(vectors[taken]))
    for start in range(0, count, BLOCK):
        cells.add(np.ascontiguousarray(vectors[start : start + BLOCK]))
    return cells


def _require_every_row(cells: Any, vectors: np.ndarray) -> None:
    """Every row must be in one cell, once, with its own code. Raises ArchiveError: build-check-failed."""
    met = np.zeros(len(vectors), dtype=bool)
    lists = cells.invlists
    for number in range(cells.nlist):
        size = lists.list_size(number)
        if not size:
            continue
        rows = faiss.rev_swig_ptr(lists.get_ids(number), size).copy()
        codes = faiss.rev_swig_ptr(lists.get_codes(number), size * cells.code_size).reshape(size, -1)
        decoded = cells.sq.decode(codes)  # (size, D)
        if cells.by_residual:
            decoded += cells.quantizer.reconstruct(number)
        cosines = np.vecdot(decoded, vectors[rows])
        if met[rows].any() or (cosines < LOSSY).any():
            raise ArchiveError(f"Cell {number} holds rows that are not its own.", "build-check-failed")
        met[rows] = True
    if not met.all():
        raise ArchiveError(f"{np.count_nonzero(~met)} rows are in no cell.", "build-check-failed")


def _tuned(cells: Any, exact: FlatIndex, sample: Sample, limit: int) -> dict[int, int | None]:
    """The fewest cells that reach ``TUNED_RECALL``, by number of results. Raises RecallTooLow for the shown ten."""
    probes: dict[int, int | None] = {}
    least = 1
    few = sample.every(max(1, len(sample) // DEEP_QUERIES))
    floors = exact_floors(exact.matrix, sample, SHALLOW) | exact_floors(exact.matrix, few, (DEEP,))
    for depth, floor in floors.items():
        part = few if depth == DEEP else sample
        probes[depth] = None
        for probe in _ladder(least, limit):
            index = IvfIndex(cells, exact, {depth: probe})
            if recall_of(index, part, floor, depth) >= TUNED_RECALL:
                probes[depth] = least = probe
                break
        if probes[depth] is None:
            break
    if probes[RECALL_DEPTH] is None:
        raise RecallTooLow(f"Reading {limit} of {cells.nlist} cells finds too little of what exact search finds.")
    return probes


def _ladder(least: int, limit: int) -> list[int]:
    """``least``, then about a third more each, up to ``limit``."""
    steps = [min(least, limit)]
    while steps[-1] < limit:
        steps.append(min(limit, max(steps[-1] + 1, steps[-1] * 4 // 3)))
    return steps


def _mapped(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(2, "missing", str(path))
    # IO_FLAG_MMAP would read through FAISS's own threads, at 4 ms a query; this maps and leaves it to the kernel.
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
