"""A function run in a process of its own."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

__all__ = ["separately"]


def separately(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result, computed by a fresh process; it is found by its name, so it is one of a module."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result(timeout=120)
