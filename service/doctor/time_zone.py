"""The time zone of this process: what HL7 messages and images tell without one is in it, and results tell it."""

import re
import time
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .finding import Finding, fail, ok, warn
from .installation import Installation

__all__ = ["check_time_zone", "is_zone"]

WRITTEN_OUT: Final = re.compile(r"(<[A-Za-z0-9+-]{3,}>|[A-Za-z]{3,})[+-]?\d.*")  # POSIX's form, as in CET-1CEST
REMEDY: Final = "Name the hospital's zone in the environment of every process, as in TZ=Europe/Berlin."


def check_time_zone(installation: Installation) -> Iterator[Finding]:
    named = installation.environ.get("TZ", "")
    here = time.localtime()
    offset = time.strftime("%z", here)
    if named and not is_zone(named):
        yield fail("time zone", f"TZ={named} is no zone of this machine, and is taken for UTC", REMEDY)
    elif named:
        yield ok("time zone", f"TZ={named}, now {offset}")
    elif not here.tm_gmtoff and installation.settings.return_routes:
        saw = "UTC, for TZ is not set: results that are sent back tell its times where a study names no zone"
        yield warn("time zone", saw, f"{REMEDY} If it is UTC, TZ=Etc/UTC.")
    else:
        yield ok("time zone", f"this machine's, now {offset}")


def is_zone(name: str) -> bool:
    """Whether the C library finds it; Python's own would look into its package ``tzdata``, too."""
    name = name.removeprefix(":")
    return any((Path(root) / name).is_file() for root in zoneinfo.TZPATH) or bool(WRITTEN_OUT.fullmatch(name))
