"""Training: configuration, rendered studies, batches and the loop."""

from .config import TrainConfig, TrainingConfigError, read_config
from .loop import train

__all__ = ["TrainConfig", "TrainingConfigError", "read_config", "train"]
