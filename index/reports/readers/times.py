"""Points in time as HL7 and DICOM write them."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

__all__ = ["parse_timestamp", "zone_of"]

_TIMESTAMP: Final = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6})\d*)?)?)?)?)?)?([+-]\d{4})?"
)


def parse_timestamp(text: str, zone: str = "") -> datetime | None:
    """``YYYY[MM[DD[HH[MM[SS[.ffffff]]]]]][+ZZZZ]`` (HL7 TS, PS3.5 DT); None for anything else.

    zone: used where the text has none, such as ``+0100``. Without either it is the local time of this machine (TZ).
    """
    found = _TIMESTAMP.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        moment = datetime(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0))
        moment += timedelta(seconds=int(second or 0), microseconds=int((fraction or "").ljust(6, "0")))
        if not (offset := offset or zone):
            return moment.astimezone(UTC)
        sign = -1 if offset[0] == "-" else 1
        away = sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
        return moment.replace(tzinfo=timezone(away)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def zone_of(text: str) -> str:
    """The zone that a timestamp names, "" for none."""
    found = _TIMESTAMP.fullmatch(text.strip())
    return (found[8] if found else None) or ""
