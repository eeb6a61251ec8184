"""Every check, one after the other, whatever each of them meets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError

from model.errors import AltaError

from ..settings import Settings
from .data_folder import check_data_folder
from .database import check_clock, check_database
from .decoders import check_decoders
from .encoders import check_calibration, check_device, check_encoders
from .exposure import check_access, check_names
from .finding import Finding, fail
from .index_files import check_index
from .installation import Check, Installation
from .network import check_network
from .time_zone import check_time_zone
from .versions import check_versions

__all__ = ["Examination", "examine"]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("packages", check_versions),
    ("settings", check_names),
    ("access", check_access),
    ("data folder", check_data_folder),
    ("database", check_database),
    ("clock", check_clock),
    ("time zone", check_time_zone),
    ("device", check_device),
    ("encoders", check_encoders),
    ("calibration", check_calibration),
    ("index", check_index),
    ("decoders", check_decoders),
)
WITHOUT_SETTINGS = ("packages", "settings", "decoders")
HIDDEN = "***"
REPORT = "Look at what it says; if that tells nothing, it is a defect of alta doctor worth reporting."


@dataclass(frozen=True)
class Examination:
    findings: tuple[Finding, ...]

    @property
    def failures(self) -> int:
        return sum(finding.state == "fail" for finding in self.findings)

    @property
    def warnings(self) -> int:
        return sum(finding.state == "warn" for finding in self.findings)


def examine(environ: Mapping[str, str], *, network: bool = False, pacs: tuple[str, ...] = ()) -> Iterator[Finding]:
    """Findings as they are made. Never raises but for being stopped; no finding holds a secret of the settings.

    environ: in which unknown names are looked for; the settings are read from the process's own environment.
    """
    try:
        settings = Settings()
    except (SettingsError, ValidationError) as error:
        # Defaults, for what needs no settings; those that do would look at another installation.
        yield from _wrong_settings(error)
        installation = Installation(Settings.model_construct(), environ)
        chosen = [(name, check) for name, check in CHECKS if name in WITHOUT_SETTINGS]
    else:
        installation = Installation(settings, environ, pacs)
        chosen = [*CHECKS, *((("network", check_network),) if network or pacs else ())]
    secrets = _secrets(installation.settings)
    for name, check in chosen:
        for finding in _guarded(name, check, installation):
            yield Finding(finding.check, finding.state, _hide(finding.saw, secrets), _hide(finding.remedy, secrets))


def _guarded(name: str, check: Check, installation: Installation) -> Iterator[Finding]:
    try:
        yield from check(installation)
    except AltaError as error:
        yield fail(name, error.message, "See what the other lines say.")
    except Exception as error:  # of a broken installation anything may come
        yield fail(name, f"{type(error).__name__}: {error}", REPORT)


def _wrong_settings(error: SettingsError | ValidationError) -> Iterator[Finding]:
    remedy = "docs/api.md lists what each setting may be. Nothing that depends on the settings was looked at."
    if isinstance(error, SettingsError):  # raised before a value reaches its field's own check
        yield fail("settings", f"{error}. Lists and mappings are written as JSON", remedy)
        return
    for wrong in error.errors():
        yield fail("settings", f"ALTA_{'.'.join(map(str, wrong['loc'])).upper()}: {wrong['msg']}", remedy)


def _secrets(settings: Settings) -> list[str]:
    """Every secret value of the settings, longest first: one may be a part of another."""
    found: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, SecretStr):
            found.append(value.get_secret_value())
        elif isinstance(value, Mapping):
            for each in value.values():
                collect(each)

    for name in type(settings).model_fields:
        collect(getattr(settings, name))
    for text in list(found):
        found.extend(text.split(":", 1)[1:])  # user:password
    try:
        found.append(sa.make_url(settings.database_url).password or "")
    except sa.exc.ArgumentError:
        found.append(settings.database_url)
    return sorted({text for text in found if text}, key=len, reverse=True)


def _hide(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return " ".join(text.split())
