"""The calibration that lies beside encoders, or why there is none to use."""

import logging
from dataclasses import dataclass
from pathlib import Path

from model.calibration import Calibration
from model.errors import CheckpointError

__all__ = ["FoundCalibration", "load_calibration"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundCalibration:
    """calibration: None where there is none, or, with ``unusable``, where a file is there that cannot be used."""

    calibration: Calibration | None = None
    unusable: bool = False


def load_calibration(folder: Path, fingerprint: str) -> FoundCalibration:
    """Never raises: without a calibration scores are what they are, and the reply says so."""
    try:
        calibration = Calibration.load(folder, fingerprint)
    except CheckpointError as error:
        log.warning("the calibration is not used: %s", error.message)
        return FoundCalibration(unusable=True)
    if calibration is not None:
        log.info("calibrated findings of encoders %s: %s", fingerprint[:12], ", ".join(calibration.findings))
    return FoundCalibration(calibration)
