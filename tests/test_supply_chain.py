"""The locks say what pyproject.toml and constraints.txt say, with hashes, for every platform that is served."""

import json
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from requirements.audit import NOT_KNOWN, VULNERABLE, verdict
from requirements.licences import is_allowed, undecided
from requirements.lock import EXTRAS, LOCKS, PLATFORMS, blocks, hashes, requirement, split

ROOT = Path(__file__).parents[1]
REMEDY = "run `make lock` and commit requirements/"


def pins(*names: str) -> dict[str, Version]:
    """What locks pin, by canonical name."""
    found = {}
    for name in names:
        for block in blocks((LOCKS / name).read_text()):
            wanted = requirement(block)
            found[canonicalize_name(wanted.name)] = Version(next(iter(wanted.specifier)).version)
    return found


def constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {canonicalize_name(name): Version(version) for name, _, version in (line.partition("==") for line in lines)}


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for extra in EXTRAS for text in project["optional-dependencies"][extra]]
    return [Requirement(text) for text in [*project["dependencies"], *extras]]


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_lock_pins_everything_that_is_declared_as_the_constraints_do(kind: str) -> None:
    locked, tested = pins("common.lock", f"{kind}.lock"), constraints()
    missing = [str(want) for want in declared() if canonicalize_name(want.name) not in locked]
    assert missing == [], REMEDY
    outside = [str(want) for want in declared() if locked[canonicalize_name(want.name)] not in want.specifier]
    assert outside == [], REMEDY
    other = {
        name: (str(version), str(tested[name]))
        for name, version in locked.items()
        if name in tested and Version(version.public) != tested[name]
    }
    assert other == {}, f"{REMEDY}: locked, and as tested"


def test_what_the_constraints_do_not_pin_is_setuptools_and_cuda() -> None:
    assert set(pins("common.lock", "cpu.lock")) - set(constraints()) == {"setuptools"}
    assert "nvidia-cudnn-cu13" in set(pins("cuda.lock")) - set(constraints())


@pytest.mark.parametrize("lock", ["common.lock", "cpu.lock", "cuda.lock", "supply.lock"])
def test_every_requirement_is_pinned_and_hashed_and_names_no_place(lock: str) -> None:
    text = (LOCKS / lock).read_text()
    found = blocks(text)
    assert found
    assert all(hashes(block) and all(one.startswith("sha256:") for one in hashes(block)) for block in found)
    rest = [line for line in text.replace("".join(found), "").splitlines() if line and not line.startswith("#")]
    assert rest in ([], ["-r common.lock"])
    assert "://" not in text


def test_torch_is_of_its_kind_and_cuda_stays_out_of_the_others() -> None:
    assert pins("cpu.lock")["torch"].local == "cpu" and pins("cuda.lock")["torch"].local is None
    assert not any(name.startswith("nvidia") or name == "torch" for name in pins("common.lock", "supply.lock"))


def test_what_no_served_platform_installs_is_left_out() -> None:
    hashed = " \\\n    --hash=sha256:00\n"
    markers = ("", " ; sys_platform == 'win32'", " ; python_version < '3.11'", " ; platform_machine == 'aarch64'")
    resolved = "".join(f"p{number}==1{marker}{hashed}" for number, marker in enumerate(markers))
    common, cuda, torch = split(f"{resolved}nvidia-x==2{hashed}triton==3{hashed}torch==4{hashed}")
    assert [requirement(block).name for block in common] == ["p0", "p3"]
    assert [requirement(block).name for block in cuda] == ["nvidia-x", "triton"]
    assert requirement(torch).name == "torch"
    assert {platform["platform_machine"] for platform in PLATFORMS} == {"x86_64", "aarch64"}


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("MIT; Zlib", True),
        ("(MIT AND Zlib) OR GPL-3.0-only", True),
        ("ISC License (ISCL)", True),
        ("GNU General Public License v3 (GPLv3); Other/Proprietary License", False),
        ("UNKNOWN", False),
    ],
)
def test_terms_are_permissive_where_all_of_them_are(licence: str, allowed: bool) -> None:
    assert is_allowed(licence, ["MIT", "Zlib", "ISC License (ISCL)"]) is allowed


def test_a_licence_that_nobody_decided_on_is_named_and_one_that_is_excepted_is_not() -> None:
    found = [
        {"Name": "Good", "License": "MIT"},
        {"Name": "odd_one", "License": "GPL-3.0-only"},
        {"Name": "new", "License": "UNKNOWN"},
    ]
    assert undecided(found, ["MIT"], ["odd-one"]) == ["new: UNKNOWN"]


def test_exceptions_are_of_packages_that_are_locked_each_with_a_reason() -> None:
    exceptions = tomllib.loads((LOCKS / "licences.toml").read_text())["exceptions"]
    assert set(exceptions) <= set(pins("common.lock")) and all(exceptions.values())


def test_an_audit_tells_vulnerable_from_not_known() -> None:
    looked_up = {"name": "a", "version": "1", "vulns": []}
    vulnerable = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
    skipped = {"name": "c", "skip_reason": "not found"}

    def asked(*dependencies: object) -> tuple[int, str]:
        return verdict(json.dumps({"dependencies": dependencies}), "")

    assert asked(looked_up) == (0, "1 packages looked up, no known vulnerability.")
    code, said = asked(looked_up, vulnerable, skipped)
    assert code == VULNERABLE and "b 2: CVE-1, mended in 2.1" in said and "c" in said
    code, said = asked(looked_up, skipped)
    assert code == NOT_KNOWN and "1 of 2 packages could NOT be looked up: c" in said
    assert asked()[0] == NOT_KNOWN
    code, said = verdict("", "Traceback\nConnectionError: no route\n")
    assert code == NOT_KNOWN and said.endswith("ConnectionError: no route")
