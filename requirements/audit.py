"""Asks for known vulnerabilities of what a lock pins: `make audit`.

Exit code 0: every package was looked up and none is known to be vulnerable; 1: one is; 3: some or all could not be
looked up, so nothing is known of them. pip-audit alone ends with 0 where its service knows no package at all.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["NOT_KNOWN", "VULNERABLE", "verdict"]

VULNERABLE = 1
NOT_KNOWN = 3
SECONDS = 900


def verdict(output: str, errors: str) -> tuple[int, str]:
    """The exit code, and what there is to say, from pip-audit's JSON and its standard error."""
    try:
        found: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), "it said nothing")
        return NOT_KNOWN, f"The advisory service cannot be used, so NOTHING is known: {last}"
    vulnerable = [
        f"{each['name']} {each['version']}: {one['id']}, mended in {', '.join(one['fix_versions']) or 'no version yet'}"
        for each in found
        for one in each.get("vulns", ())
    ]
    skipped = [each["name"] for each in found if "skip_reason" in each]
    said = list(vulnerable)
    if skipped:
        said.append(
            f"{len(skipped)} of {len(found)} packages could NOT be looked up: {', '.join(skipped[:8])}"
            f"{', ...' if len(skipped) > 8 else ''}. Is the advisory service reached from here, and does it know them?"
        )
    if not found:
        said.append("There was nothing to look up.")
    if vulnerable:
        return VULNERABLE, "\n".join(said)
    if said:
        return NOT_KNOWN, "\n".join(said)
    return 0, f"{len(found)} packages looked up, no known vulnerability."


def main(lock: str) -> None:
    """Look a lock up."""
    command = [str(Path(sys.executable).with_name("pip-audit")), "--requirement", lock, "--require-hashes"]
    try:
        asked = subprocess.run(
            [*command, "--disable-pip", "--format", "json", "--progress-spinner", "off"],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        code, said = verdict(asked.stdout, asked.stderr)
    except subprocess.TimeoutExpired:
        code, said = NOT_KNOWN, f"The advisory service did not answer within {SECONDS} s, so NOTHING is known."
    print(said, file=sys.stderr if code else sys.stdout)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
