"""Where requests meet the encoders."""

from .encoders import Encoders
from .inference import Inference

__all__ = ["Encoders", "Inference"]
