"""Which Python, which release, and whether every package is one that the release was declared to work with."""

import platform
from collections.abc import Iterator
from importlib import metadata

from packaging.markers import default_environment
from packaging.requirements import Requirement

from .finding import Finding, fail, ok, warn
from .installation import Installation

__all__ = ["check_versions"]

PRODUCT = "alta-retrieval"
AS_TESTED = "Install the versions that were tested: pip install -c constraints.txt . (or from requirements/cpu.lock)."
SHOWN = ("torch", "faiss-cpu", "sqlalchemy", "pydicom", "fastapi")


def check_versions(installation: Installation) -> Iterator[Finding]:
    about = metadata.metadata(PRODUCT)
    yield ok("release", f"{PRODUCT} {about['Version']}")
    python = platform.python_version()
    wanted = about["Requires-Python"]
    if Requirement(f"python{wanted}").specifier.contains(python, prereleases=True):
        yield ok("python", f"{python} on {platform.system()} {platform.machine()}")
    else:
        yield fail("python", f"{python}; expected {wanted}", "Install the release in an environment of another Python.")
    needed = _needed(installation)
    wrong = sorted(filter(None, (_problem(requirement) for requirement in needed)))
    if not wrong:
        shown = ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)
        yield ok("packages", f"{len(needed)} as declared; {shown}")
    for problem in wrong:
        yield (fail if problem.endswith("missing") else warn)("packages", problem, AS_TESTED)


def _needed(installation: Installation) -> list[Requirement]:
    """What the release declares, and the extra of a database that is configured."""
    extras = {"", "postgres"} if installation.settings.database_url.startswith("postgres") else {""}
    declared = [Requirement(text) for text in metadata.requires(PRODUCT) or ()]
    return [each for each in declared if any(_applies(each, extra) for extra in extras)]


def _applies(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is None:
        return not extra
    return requirement.marker.evaluate({**default_environment(), "extra": extra})  # type: ignore[dict-item]


def _problem(requirement: Requirement) -> str:
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name}: expected {requirement.specifier or 'any version'}, missing"
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return f"{requirement.name}: expected {requirement.specifier}, found {found}"
