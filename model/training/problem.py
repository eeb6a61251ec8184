"""What is raised where a run cannot be as it is written down."""

from ..errors import AltaError

__all__ = ["TrainingConfigError"]


class TrainingConfigError(AltaError):
    slug = "bad-training-config"
