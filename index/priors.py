"""How old a prior study may be: one rule for the whole archive, read wherever slots are filled.

Without a limit any earlier study may be the prior. With one, both study dates must be known and at most that many days
apart: a study of which only ``study_order`` is known is then no prior, because nothing says how old it is.

A change of the limit goes through the patients in the order of their row ids (``index.prior_change``). Until it is
through, the new limit holds for the patients up to a row id and the old one for the others, so that at every moment
what a study is embedded from follows from the rows.
"""

import json
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .slots import Dated
from .tables import Setting

__all__ = ["PriorChange", "PriorWindow", "in_window", "prior_window", "store_prior_window"]

WITHIN: Final = "prior_within_days"  # absent: no limit
CHANGE: Final = "prior_within_days_change"  # absent: none under way


@dataclass(frozen=True)
class PriorChange:
    """A change under way. up_to: the patient row up to which the new limit holds."""

    within_days: int | None
    up_to: int


@dataclass(frozen=True)
class PriorWindow:
    """within_days: the most days between a study and its prior, None without a limit."""

    within_days: int | None = None
    change: PriorChange | None = None

    def of_patient(self, patient_id: int) -> int | None:
        """The limit that holds for a patient row."""
        if self.change is not None and patient_id <= self.change.up_to:
            return self.change.within_days
        return self.within_days


def prior_window(session: Session) -> PriorWindow:
    """What is configured, as the transaction sees it."""
    query = sa.select(Setting.name, Setting.value).where(Setting.name.in_((WITHIN, CHANGE)))
    found = dict(session.execute(query).all())
    within = int(found[WITHIN]) if WITHIN in found else None
    return PriorWindow(within, PriorChange(**json.loads(found[CHANGE])) if CHANGE in found else None)


def store_prior_window(session: Session, window: PriorWindow) -> None:
    """Write what ``prior_window`` reads."""
    session.execute(sa.delete(Setting).where(Setting.name.in_((WITHIN, CHANGE))))
    rows = []
    if window.within_days is not None:
        rows.append({"name": WITHIN, "value": str(window.within_days)})
    if window.change is not None:
        change = {"within_days": window.change.within_days, "up_to": window.change.up_to}
        rows.append({"name": CHANGE, "value": json.dumps(change)})
    if rows:
        session.execute(sa.insert(Setting), rows)


def in_window(earlier: Dated, current: Dated, within_days: int | None) -> bool:
    """Whether an earlier study is known to be recent enough to be the prior of ``current``."""
    if within_days is None:
        return True
    if earlier.study_date is None or current.study_date is None:
        return False
    return (current.study_date - earlier.study_date).days <= within_days
