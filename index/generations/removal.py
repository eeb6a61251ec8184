"""Removing generations that are kept no longer. Whoever does so holds the builder's lock."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from ..catalog import Catalog
from ..engines import Engine
from ..tables import KINDS, Generation
from .parts import place_of, remove_folders
from .table import BUILDING, LIVE, REMOVED, RETIRED, GenerationInfo, list_generations

__all__ = ["old_generations", "remove_old", "remove_parts", "unknown_engines"]

logger = logging.getLogger(__name__)


def remove_old(catalog: Catalog, folder: Path, *, keep: int, engines: Mapping[str, Engine]) -> list[int]:
    """Remove the indexes of all but the live generation and those that were live last; returns which.

    Their rows stay, as removed. What an engine keeps that is not configured here cannot be removed: it stays retired,
    so that it is known to be there. Raises ArchiveError when an engine does not answer.
    """
    removed = []
    for info in old_generations(catalog, keep):
        if missing := unknown_engines(info, engines):
            logger.warning("generation %d stays: %s is not configured here", info.id, " and ".join(missing))
            continue
        remove_parts(folder, info, engines)
        with catalog.write() as session:  # afterwards: killed in between, it is still known what to remove
            query = sa.update(Generation).where(Generation.id == info.id, Generation.state == RETIRED)
            session.execute(query.values(state=REMOVED))
        removed.append(info.id)
    remove_folders(folder, lambda: [info.id for info in list_generations(catalog, LIVE, RETIRED, BUILDING)])
    return removed


def old_generations(catalog: Catalog, keep: int) -> list[GenerationInfo]:
    """The retired generations beyond ``keep``, the live one counted: those that were live longest ago."""
    retired = sorted(
        list_generations(catalog, RETIRED), key=lambda info: (info.activated_at or info.created_at, info.id)
    )
    live = len(list_generations(catalog, LIVE))
    return retired[: max(0, len(retired) - max(0, keep - live))]


def unknown_engines(info: GenerationInfo, engines: Mapping[str, Engine]) -> list[str]:
    """Those that keep a part of a generation and are not among ``engines``."""
    return [name for name in info.engine.split("+") if name not in engines]


def remove_parts(folder: Path, info: GenerationInfo, engines: Mapping[str, Engine]) -> None:
    """Whatever a generation has, whole or not."""
    for name in info.engine.split("+"):
        for kind in KINDS:
            engines[name].remove(place_of(folder, info.id, kind))
    shutil.rmtree(folder / str(info.id), ignore_errors=True)
