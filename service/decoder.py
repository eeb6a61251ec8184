"""The decoder processes as requests use them."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from index import DecoderPool

from .caller import wait_for

__all__ = ["Decoder"]

P = ParamSpec("P")
R = TypeVar("R")


class Decoder(DecoderPool):
    """A call that no caller waits for any more does not begin; see ``caller``."""

    def __call__(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return wait_for(self.submit(function, *args, **kwargs))
