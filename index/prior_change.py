"""Changing how old a prior may be: every study whose prior is another one then is embedded again.

One transaction a batch of patients, each of which leaves the archive consistent; a change that was killed goes on where
it was. What changes here is only what the studies should be embedded from; ``embed_pending`` does the work.
"""

from dataclasses import replace
from typing import Final

import sqlalchemy as sa

from model.errors import InputError

from .catalog import Catalog
from .intake.study_sources import image_source, refresh_sources
from .priors import PriorChange, PriorWindow, prior_window, store_prior_window
from .progress import Progress
from .studies import histories
from .tables import Patient

__all__ = ["change_prior_window", "count_prior_changes", "read_prior_window"]

BATCH: Final = 200  # patients


def read_prior_window(catalog: Catalog) -> PriorWindow:
    """The configured limit, and the change under way if one was killed."""
    with catalog.session() as session:
        return prior_window(session)


def count_prior_changes(catalog: Catalog, within_days: int | None, *, progress: Progress | None = None) -> int:
    """How many studies would have to be embedded again under another limit. Raises InputError bad-prior-window."""
    _require_days(within_days)
    changes = after = done = 0
    total = _patients(catalog)
    while True:
        with catalog.session() as session:
            ids = session.scalars(_next_patients(after)).all()
            for history in histories(session, ids).values():
                changed = replace(history, within_days=within_days)
                changes += sum(study.image_source != image_source(changed, study) for study in history)
        if not ids:
            return changes
        after = ids[-1]
        done += len(ids)
        if progress:
            progress(done, max(done, total))


def change_prior_window(catalog: Catalog, within_days: int | None, *, progress: Progress | None = None) -> int:
    """Let priors be at most ``within_days`` old, None for any age; returns how many studies that makes stale.

    A change that an earlier run left unfinished is finished first. Safe to kill, and to run twice at once.
    Raises InputError bad-prior-window.
    """
    _require_days(within_days)
    changed, done, total = 0, 0, _patients(catalog)
    while True:
        with catalog.write() as session:
            window = prior_window(session)
            if window.change is None:
                if window.within_days == within_days:
                    return changed
                window = replace(window, change=PriorChange(within_days, up_to=0))
                done = 0
            assert window.change is not None
            ids = session.scalars(_next_patients(window.change.up_to)).all()
            if ids:
                store_prior_window(session, replace(window, change=replace(window.change, up_to=ids[-1])))
                changed += refresh_sources(session, ids)
            else:
                store_prior_window(session, PriorWindow(window.change.within_days))
        done += len(ids)
        if progress:
            progress(done, max(done, total))


def _next_patients(after: int) -> sa.Select[int]:
    return sa.select(Patient.id).where(Patient.id > after).order_by(Patient.id).limit(BATCH)


def _patients(catalog: Catalog) -> int:
    with catalog.session() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Patient)) or 0


def _require_days(within_days: int | None) -> None:
    if within_days is not None and within_days < 1:
        raise InputError(f"Expected a limit of 1 day or more, found {within_days}.", "bad-prior-window")
