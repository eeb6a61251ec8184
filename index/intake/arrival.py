"""By which door a study came, and who sent it."""

import json
from dataclasses import asdict, dataclass
from typing import Final

__all__ = ["DICOM", "DOORS", "FORM", "STOW", "Arrival"]

DICOM: Final = "dicom"  # C-STORE
STOW: Final = "stow"  # POST /dicomweb/studies
FORM: Final = "form"  # POST /v1/studies
DOORS: Final = (DICOM, STOW, FORM)


@dataclass(frozen=True)
class Arrival:
    """door: one of ``DOORS``. sender: calling AE title; empty where a door knows none."""

    door: str
    sender: str = ""

    def written(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, data: bytes) -> "Arrival | None":
        """None of an object that was fetched, or whose keeper died while writing this."""
        try:
            found = json.loads(data)
            return cls(str(found["door"])[:16], str(found["sender"])[:16])
        except (ValueError, KeyError, TypeError):
            return None
