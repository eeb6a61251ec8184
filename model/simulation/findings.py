"""What can be seen on a simulated chest radiograph: the finding classes, and one finding of one study."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["DEVICES", "FINDINGS", "Change", "Finding", "Side"]

Side = Literal["left", "right", "bilateral"]
Change = Literal["new", "increased", "decreased", "unchanged"]

FINDINGS: tuple[str, ...] = (
    "cardiomegaly",
    "pleural effusion",
    "pneumothorax",
    "consolidation",
    "edema",
    "atelectasis",
    "nodule",
    "support devices",
)
DEVICES: tuple[str, ...] = (
    "endotracheal tube",
    "central line",
    "pacemaker",
    "nasogastric tube",
    "sternal wires",
    "chest tube",
)

_GRADES = {
    "cardiomegaly": ("mild", "moderate", "severe"),
    "edema": ("mild", "moderate", "severe"),
    "atelectasis": ("mild", "moderate", "severe"),
    "pleural effusion": ("small", "moderate", "large"),
    "pneumothorax": ("small", "moderate", "large"),
    "consolidation": ("small", "moderate", "large"),
    "nodule": ("small", "moderate", "large"),
}


@dataclass(frozen=True)
class Finding:
    """One finding of one study.

    `side` is the patient's side, None where it has no meaning (cardiomegaly, midline devices). `zone` is the lung zone
    ("upper", "mid", "lower") of a focal finding, else None. `severity` runs from 0 (barely there) to 1 (extreme).
    `change` compares with the patient's prior study and is None when there is none. `device` is one of `DEVICES` for
    support devices, else None. `place` is (lateral, vertical, depth): 0..1 from midline to chest wall, 0..1 from apex
    to diaphragm, -1..1 from sternum to spine. `texture` seeds the shape, fixed over a patient.
    """

    name: str
    side: Side | None
    zone: Literal["upper", "mid", "lower"] | None
    severity: float
    change: Change | None
    lateral_only: bool = False
    device: str | None = None
    place: tuple[float, float, float] = (0.5, 0.5, 0.0)
    texture: int = 0

    @property
    def grade(self) -> str | None:
        """The severity as a word (mild/moderate/severe or small/moderate/large); None for support devices."""
        words = _GRADES.get(self.name)
        if words is None:
            return None
        return words[0] if self.severity < 0.4 else words[1] if self.severity < 0.7 else words[2]

    @property
    def diameter(self) -> float | None:
        """Diameter of a nodule in millimetres, 9..30; None for every other finding."""
        return 9.0 + 21.0 * self.severity if self.name == "nodule" else None

    @property
    def sides(self) -> tuple[Literal["left", "right"], ...]:
        """The single sides this finding is on, right first; empty when `side` is None."""
        if self.side == "bilateral":
            return ("right", "left")
        return () if self.side is None else (self.side,)
