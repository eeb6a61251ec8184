"""One part: an engine chosen, the index built beside, opened again, checked and put in its place."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from model.errors import ArchiveError

from ..engines import Engine, RecallTooLow, sample_queries
from .check import SAMPLE, check_part
from .parts import named_engine, partial_place, place_of, publish
from .rows import Rows
from .table import GenerationInfo

__all__ = ["IVF_FROM", "build_part", "engine_for"]

logger = logging.getLogger(__name__)

# Below, reading every vector takes less than a millisecond and needs no setting.
IVF_FROM: Final = 50_000
TUNING_SEED: Final = 0


def engine_for(rows: int) -> str:
    """The engine for so many rows on one machine."""
    return "ivf" if rows >= IVF_FROM else "flat"


def build_part(
    folder: Path,
    info: GenerationInfo,
    kind: str,
    rows: Rows,
    others: np.ndarray | None,
    engine_name: str,
    engines: Mapping[str, Engine],
) -> tuple[dict[str, Any], float]:
    """Build a part that is not there; returns its settings and recall@10. others: vectors of the other kind.

    An engine of this machine that cannot reach the recall is replaced by the exact one; the settings say so.
    Raises ArchiveError, OSError.
    """
    try:
        return _build(folder, info, kind, rows, others, named_engine(engines, engine_name))
    except RecallTooLow as error:
        if engine_name == "flat" or not engines[engine_name].local:
            raise ArchiveError(error.message, "build-check-failed") from error
        logger.warning("generation %d, %s: %s Exact search instead.", info.id, kind, error.message)
        settings, recall = _build(folder, info, kind, rows, others, engines["flat"])
        return settings | {"instead_of": engine_name}, recall


def _build(
    folder: Path, info: GenerationInfo, kind: str, rows: Rows, others: np.ndarray | None, engine: Engine
) -> tuple[dict[str, Any], float]:
    place = place_of(folder, info.id, kind)
    built_at = partial_place(place) if engine.local else place
    shutil.rmtree(partial_place(place).folder, ignore_errors=True)
    sample = sample_queries(rows.ids, rows.vectors, others, SAMPLE, TUNING_SEED)
    chosen = engine.build(built_at, rows.ids, rows.vectors, sample)
    recall = check_part(kind, engine.open(built_at), rows, others)
    settings = {"engine": engine.name, **chosen}
    if engine.local:
        publish(place, info.token(kind), engine.name, settings, len(rows.ids), rows.vectors.shape[1])
    return settings, recall
