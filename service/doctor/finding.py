"""One thing that was looked at."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "fail", "ok", "warn"]

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """saw: what is there, in one line; remedy: what to do about it, empty where all is well."""

    check: str
    state: State
    saw: str
    remedy: str = ""


def ok(check: str, saw: str) -> Finding:
    return Finding(check, "ok", saw)


def warn(check: str, saw: str, remedy: str) -> Finding:
    return Finding(check, "warn", saw, remedy)


def fail(check: str, saw: str, remedy: str) -> Finding:
    return Finding(check, "fail", saw, remedy)
