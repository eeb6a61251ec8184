"""What is written under deploy/ and beside it, read as the programs that it is for read it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

__all__ = [
    "DEPLOY",
    "ENV_EXAMPLE",
    "ROOT",
    "compose",
    "filled_in",
    "manifests",
    "settings_of",
    "variables",
    "written_files",
]

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MANIFESTS = DEPLOY / "kubernetes"
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")  # docker compose's ${NAME}, ${NAME:-default}, ${NAME:?why}


def written_files() -> list[Path]:
    """Every file that says how to deploy."""
    beside = [ROOT / name for name in ("Dockerfile", "docker-compose.yml")]
    return beside + sorted(path for path in DEPLOY.rglob("*") if path.is_file())


def _environment_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


ENV_EXAMPLE = _environment_file(DEPLOY / "env.example")


def variables(text: str) -> set[str]:
    """The names that compose puts in."""
    return {name for name, _, _ in VARIABLE.findall(text)}


def filled_in(written: Any, given: Mapping[str, str]) -> Any:
    """As compose puts variables in, in every text of what was parsed. Fails where one has to be given and is not."""

    def value(found: re.Match[str]) -> str:
        name, how, rest = found.groups()
        if how == "?":
            assert given.get(name), rest
        return given.get(name) or (rest if how == "-" else "")

    if isinstance(written, dict):
        return {name: filled_in(one, given) for name, one in written.items()}
    if isinstance(written, list):
        return [filled_in(one, given) for one in written]
    return VARIABLE.sub(value, written) if isinstance(written, str) else written


def compose(path: str = "docker-compose.yml", **given: str) -> dict[str, Any]:
    """A compose file with the variables that are ``given``, passwords and a time zone."""
    needed = {"DEPLOY_DB_PASSWORD": "p@ss/%", "DEPLOY_TZ": "Europe/Berlin", "DEPLOY_ORTHANC_PASSWORD": "p@cs"}
    return filled_in(yaml.safe_load((ROOT / path).read_text()), {**needed, **given})


def manifests(*folders: str) -> Iterator[dict[str, Any]]:
    """The resources in these folders of deploy/kubernetes, as they are written."""
    for folder in folders:
        for path in sorted((MANIFESTS / folder).glob("*.yaml")):
            for resource in yaml.safe_load_all(path.read_text()):
                if "kustomize" not in resource["apiVersion"]:
                    yield resource


def settings_of(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the product makes of it. Raises pydantic's ValidationError, as `alta` would end with."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"ALTA_{name.upper()}", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings()
