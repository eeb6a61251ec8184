"""``ALTA_*`` variables that no setting has: most are misspelt, and the setting that was meant is not in force."""

import difflib
import re
from collections.abc import Mapping
from typing import Final

from model.errors import InputError

from .settings import Settings

__all__ = ["describe_unknown", "refuse_misspelt", "unknown_settings"]

PREFIX: Final = "ALTA_"
# Not settings: of the suite, and what Kubernetes adds where a Service is named `alta`.
OTHERS: Final = re.compile(r"ALTA_(TEST_.*|SERVICE_(HOST|PORT.*)|PORT_\d+_(TCP|UDP).*)")
# Meant by names that resemble it too little: without a database that was named, a new one in a file would be used.
SHORTENED: Final = {
    f"{PREFIX}{name}": f"{PREFIX}DATABASE_URL" for name in ("DB_URL", "DB", "DATABASE", "DB_URI", "DSN")
}
ALIKE: Final = 0.8  # difflib's ratio


def unknown_settings(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Names that no setting has, in upper case, with the name that may have been meant."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    given = sorted(name.upper() for name in environ if name.upper().startswith(PREFIX))
    unknown = [name for name in given if name not in known and not OTHERS.fullmatch(name)]
    return {name: SHORTENED.get(name) or _resembling(name, known) for name in unknown}


def _resembling(name: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, 1, ALIKE)), None)


def describe_unknown(name: str, meant: str | None) -> str:
    return f"{name} is no setting{f'. Did you mean {meant}?' if meant else ' of this release (docs/api.md lists them)'}"


def refuse_misspelt(environ: Mapping[str, str]) -> None:
    """Before serving: a misspelt ALTA_AUTHENTICATION would leave the door open. Raises InputError unknown-setting."""
    for name, meant in unknown_settings(environ).items():
        if meant:
            raise InputError(f"Refusing to serve: {describe_unknown(name, meant)}", "unknown-setting")
