"""Where requests meet the encoders."""

from .batching import Observer
from .encoders import Encoders
from .inference import Batching, Inference, batching_of

__all__ = ["Batching", "Encoders", "Inference", "Observer", "batching_of"]
