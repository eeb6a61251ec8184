"""Pictures of a study table, for training."""

from collections.abc import Callable
from pathlib import Path

from ..image import ImageTransform
from .config import TrainingConfigError
from .studies import TrainingStudies


def load_studies(
    table: Path,
    split: str,
    cache: Path,
    transform: ImageTransform,
    target_scale: int,
    workers: int,
    progress: Callable[[int, int], None],
    max_bad_share: float,
) -> TrainingStudies:
    raise TrainingConfigError(f"{table}: study tables cannot be read yet; leave data.table out.")
