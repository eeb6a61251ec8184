"""How a long job tells its caller how far it is."""

from typing import Protocol

__all__ = ["Progress"]


class Progress(Protocol):
    """Called after every batch with the units done so far and the units known so far."""

    def __call__(self, done: int, total: int, /) -> None: ...
