"""Writes the locks from ``pyproject.toml`` and ``constraints.txt``: `make lock`.

``common.lock`` is everything but torch and what torch brings for CUDA; ``cpu.lock`` and ``cuda.lock`` include it and
add the torch of their kind. CUDA's torch is the package registry's own. CPU wheels of torch (``+cpu``) come from an
index that pip is told of (``PIP_EXTRA_INDEX_URL``, ``PIP_FIND_LINKS``); each run adds the hash of the wheel for its own
Python and machine, and keeps those that are there.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement

__all__ = ["EXTRAS", "LOCKS", "PLATFORMS", "blocks", "hashes", "requirement", "split"]

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
EXTRAS = ("postgres", "traces")  # what the image has
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": machine}
    | {"python_version": python, "python_full_version": f"{python}.0"}
    | {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    for machine in MACHINES
    for python in PYTHONS
]
CUDA_ONLY = re.compile(r"^(nvidia|cuda)-|^triton$")
HEADER = "# Made by `make lock` from pyproject.toml and constraints.txt. Linux, x86_64 and aarch64. Do not edit.\n"
INCLUDES = HEADER + "-r common.lock\n"


def blocks(lock: str) -> list[str]:
    """The pinned requirements of a lock, each with its hashes, in its order."""
    return re.findall(r"^[A-Za-z0-9][^\n]*==[^\n]*\n(?:    --hash=[^\n]*\n)*", lock, re.MULTILINE)


def requirement(block: str) -> Requirement:
    """What a block of a lock pins."""
    return Requirement(block.partition("\n")[0].removesuffix("\\").strip())


def hashes(block: str) -> set[str]:
    """Its hashes, as ``sha256:...``."""
    return set(re.findall(r"--hash=(\S+)", block))


def split(resolved: str) -> tuple[list[str], list[str], str]:
    """What is common, what only CUDA needs, and torch, of what holds on some of PLATFORMS."""
    common, cuda, torch = [], [], ""
    for block in blocks(resolved):
        wanted = requirement(block)
        if not _installable(wanted.marker):
            continue
        if wanted.name == "torch":
            torch = block
        elif CUDA_ONLY.match(wanted.name):
            cuda.append(block)
        else:
            common.append(block)
    return common, cuda, torch


def _installable(marker: Marker | None) -> bool:
    return marker is None or any(marker.evaluate(platform) for platform in PLATFORMS)


def _resolve(locks: tuple[str, ...], *arguments: str) -> str:
    """What uv makes of ``arguments``; what the locks have and what still fits stays as it is."""
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / "resolved"
        before = [LOCKS / name for name in locks]
        resolved.write_text("".join(block for lock in before if lock.exists() for block in blocks(lock.read_text())))
        subprocess.run([*command, "-o", str(resolved), *arguments], cwd=ROOT, check=True)
        return resolved.read_text()


def _cpu_torch(version: str) -> str:
    """torch's CPU build with the hashes known so far and, where pip finds one for this machine, its wheel's."""
    wanted = f"torch=={version.partition('+')[0]}+cpu"
    known: set[str] = set()
    before = LOCKS / "cpu.lock"
    if before.exists():
        known = {one for block in blocks(before.read_text()) if block.startswith(f"{wanted} ") for one in hashes(block)}
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet"]
    found = subprocess.run([*command, "--report", "-", wanted], check=False, capture_output=True, text=True)
    if found.returncode == 0:
        archive = json.loads(found.stdout)["install"][0]["download_info"]["archive_info"]
        known |= {f"{name}:{value}" for name, value in archive["hashes"].items()}
    elif not known:
        sys.exit(f"pip finds no {wanted}. Tell it of an index with torch's CPU wheels: PIP_EXTRA_INDEX_URL.")
    return f"{wanted} \\\n" + " \\\n".join(f"    --hash={one}" for one in sorted(known)) + "\n"


def main() -> None:
    """Write all four locks."""
    extras = [argument for extra in EXTRAS for argument in ("--extra", extra)]
    common, cuda, torch = split(
        _resolve(("common.lock", "cuda.lock"), "-c", "constraints.txt", *extras, "pyproject.toml")
    )
    version = next(iter(requirement(torch).specifier)).version
    tools = _resolve(("supply.lock",), "-c", "constraints.txt", "requirements/supply.in")
    written = {
        "common.lock": HEADER + "".join(common),
        "cpu.lock": INCLUDES + _cpu_torch(version),
        "cuda.lock": INCLUDES + torch + "".join(cuda),
        "supply.lock": HEADER + "".join(split(tools)[0]),
    }
    for name, text in written.items():
        if not (LOCKS / name).exists() or (LOCKS / name).read_text() != text:
            (LOCKS / name).write_text(text)


if __name__ == "__main__":
    main()
