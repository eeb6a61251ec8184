"""Lists the licences of what the locks install, and fails on one that nobody decided on: `make licences PYTHON=...`.

Reads ``licences.toml``. Exit code 1 where a licence is neither permissive nor excepted, or unknown.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

__all__ = ["is_allowed", "undecided"]

ALLOWED = Path(__file__).with_name("licences.toml")
OURS = "alta-retrieval"


def is_allowed(licence: str, permissive: Collection[str]) -> bool:
    """Whether terms, an SPDX expression or names joined by semicolons, are permissive: all of AND, one of OR."""
    alternatives = re.split(r"\s+OR\s+", _bare(licence))
    return any(
        all(_bare(part) in permissive for part in re.split(r"\s+AND\s+|;\s*", _bare(alternative)))
        for alternative in alternatives
    )


def _bare(terms: str) -> str:
    terms = terms.strip()
    return terms[1:-1] if terms.startswith("(") and terms.endswith(")") else terms


def undecided(
    found: Collection[Mapping[str, str]], permissive: Collection[str], exceptions: Collection[str]
) -> list[str]:
    """Packages, with their terms, that are neither permissive nor excepted by name."""
    wrong = [each for each in found if each["Name"].lower().replace("_", "-") not in (OURS, *exceptions)]
    return [f"{each['Name']}: {each['License']}" for each in wrong if not is_allowed(each["License"], permissive)]


def main(python: str) -> None:
    """List what is installed beside ``python``."""
    lister = str(Path(sys.executable).with_name("pip-licenses"))
    listed = subprocess.run(
        [lister, "--python", python, "--from", "mixed", "--format", "json", "--with-system"],
        check=True,
        capture_output=True,
        text=True,
    )
    found = sorted(json.loads(listed.stdout), key=lambda each: each["Name"].lower())
    allowed = tomllib.loads(ALLOWED.read_text())
    for each in found:
        reason = allowed["exceptions"].get(each["Name"].lower())
        print(f"{each['Name']} {each['Version']}: {each['License']}{f'  [{reason}]' if reason else ''}")
    if wrong := undecided(found, allowed["permissive"], allowed["exceptions"]):
        sys.exit("Not decided on in requirements/licences.toml:\n" + "\n".join(wrong))
    print(f"{len(found)} packages, all permissive or excepted.")


if __name__ == "__main__":
    main(sys.argv[1])
