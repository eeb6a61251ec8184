"""Which image goes where: current frontal and lateral, the patient's prior frontal and lateral.

The one rule, for archived studies and for query files alike.
"""

from collections.abc import Sequence
from datetime import date, time
from typing import Final, Protocol, TypeVar

__all__ = [
    "CURRENT_SLOTS",
    "DECUBITUS",
    "FRONTAL",
    "LATERAL",
    "PRIOR_SLOTS",
    "SLOTS",
    "UNKNOWN",
    "View",
    "arrange_slots",
    "is_earlier",
]

FRONTAL: Final = "frontal"
LATERAL: Final = "lateral"
UNKNOWN: Final = "unknown"

CURRENT_SLOTS: Final = ("current_frontal", "current_lateral")
PRIOR_SLOTS: Final = ("prior_frontal", "prior_lateral")
SLOTS: Final = CURRENT_SLOTS + PRIOR_SLOTS

DECUBITUS: Final = ("LLD", "RLD", "DECUBITUS")  # exposed frontally, of a patient lying on one side

# A PA exposure shows heart size truly, an AP one (bed, wheelchair) enlarges it.
_FRONTAL_ORDER: Final = {"PA": 0, "AP": 1}


class View(Protocol):
    """What the rule needs of an image; an ``InstanceFacts`` and an instance row both have it."""

    @property
    def view(self) -> str | None: ...
    @property
    def view_position(self) -> str | None: ...
    @property
    def acquired(self) -> str | None: ...
    @property
    def derived(self) -> bool | None: ...
    @property
    def instance_number(self) -> int | None: ...
    @property
    def sop_instance_uid(self) -> str | None: ...


class Dated(Protocol):
    @property
    def study_date(self) -> date | None: ...
    @property
    def study_time(self) -> time | None: ...
    @property
    def study_order(self) -> float | None: ...


V = TypeVar("V", bound=View)


def arrange_slots(images: Sequence[V]) -> dict[str, V]:
    """The images of one study that are used, by slot name: ``current_frontal``, ``current_lateral``.

    Frontal: upright before decubitus, original before derived, PA before AP before any other, then the earliest
    acquired, then the lowest instance number. Lateral: original before derived, then the earliest likewise. An image
    of unknown view counts as frontal when no other view is known.
    """
    frontal = [image for image in images if image.view == FRONTAL]
    lateral = [image for image in images if image.view == LATERAL]
    if not frontal and not lateral:
        frontal = list(images)
    chosen = {}
    if frontal:
        chosen["current_frontal"] = min(frontal, key=_frontal_order)
    if lateral:
        chosen["current_lateral"] = min(lateral, key=_order)
    return chosen


def is_earlier(one: Dated, other: Dated) -> bool:
    """Whether ``one`` is known to be before ``other``: by study date, else time, else study order."""
    if one.study_date and other.study_date and one.study_date != other.study_date:
        return one.study_date < other.study_date
    same_day = one.study_date is not None and one.study_date == other.study_date
    if same_day and one.study_time and other.study_time and one.study_time != other.study_time:
        return one.study_time < other.study_time
    if one.study_order is not None and other.study_order is not None:
        return one.study_order < other.study_order
    return False


def _frontal_order(image: View) -> tuple[object, ...]:
    position = image.view_position or ""
    # PS3.3 C.7.6.1.1.2: DERIVED pixels come from other images (bone suppressed, stitched, subtracted).
    return position in DECUBITUS, image.derived is True, _FRONTAL_ORDER.get(position, 2), *_order(image)


def _order(image: View) -> tuple[object, ...]:
    # Absent values last; the UID makes the choice independent of the order in which files arrived.
    number = image.instance_number
    return image.derived is True, image.acquired or "9", number is None, number or 0, image.sop_instance_uid or ""
