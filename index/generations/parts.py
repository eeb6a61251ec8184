"""A part: one kind of one generation, kept by an engine at a place of its own.

An engine's files lie in ``<generations>/<id>/<kind>/``, with ``part.json`` that names them, their sizes and hashes.
They are written beside, synced, renamed: a folder with its final name is whole.
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from model.errors import ArchiveError

from ..engines import Engine, Place, VectorIndex
from ..syncing import sync

__all__ = [
    "REBUILD",
    "Manifest",
    "OpenPart",
    "named_engine",
    "open_part",
    "partial_place",
    "place_of",
    "publish",
    "remove_folders",
    "verify",
]

MANIFEST: Final = "part.json"
HASHED_AT_ONCE: Final = 64 << 20  # bytes; larger files are hashed after opening, while they answer
REBUILD: Final = "Run `alta index build`: it is made again from the database, without the encoder."


@dataclass(frozen=True)
class Manifest:
    """What ``part.json`` says. token: names the generation and the catalog it is of; files: (size, SHA-256) by name."""

    token: str
    engine: str
    settings: Mapping[str, Any]
    rows: int
    dimension: int
    files: Mapping[str, tuple[int, str]]


def place_of(folder: Path, generation_id: int, kind: str) -> Place:
    return Place(f"generation_{generation_id}_{kind}", folder / str(generation_id) / kind)


def partial_place(place: Place) -> Place:
    """Where a part lies until it is whole."""
    return Place(place.name, place.folder.with_name(f"{place.folder.name}.partial"))


def publish(place: Place, token: str, engine: str, settings: Mapping[str, Any], rows: int, dimension: int) -> None:
    """Give the part that was built at ``partial_place(place)`` its place."""
    partial = partial_place(place).folder
    paths = sorted(path for path in partial.iterdir() if path.name != MANIFEST)
    with ThreadPoolExecutor(2) as pool:  # hashing releases the interpreter
        hashes = list(pool.map(_hash_synced, paths))
    files = {path.name: (path.stat().st_size, digest) for path, digest in zip(paths, hashes, strict=True)}
    text = json.dumps(asdict(Manifest(token, engine, dict(settings), rows, dimension, files)), indent=1)
    with (partial / MANIFEST).open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    sync(partial)
    shutil.rmtree(place.folder, ignore_errors=True)
    partial.rename(place.folder)
    sync(place.folder.parent)
    sync(place.folder.parent.parent)


class OpenPart:
    """An index that answers, and what is known of its files."""

    def __init__(self, index: VectorIndex, name: str) -> None:
        self.index = index
        self._name = name
        self._error: ArchiveError | None = None
        self._hashing: threading.Thread | None = None

    def hash_beside(self, folder: Path, manifest: Manifest) -> None:
        """Compare the hashes in a thread of its own."""

        def run() -> None:
            try:
                _require_hashes(folder, manifest, self._name)
            except ArchiveError as error:
                self._error = error

        self._hashing = threading.Thread(target=run, name=f"hash {self._name}", daemon=True)
        self._hashing.start()

    def require_whole(self, wait: bool = False) -> None:
        """Raises ArchiveError (index-file-corrupt, index-file-missing) once a file was found to be another."""
        if wait and self._hashing is not None:
            self._hashing.join()
        if self._error is not None:
            raise ArchiveError(self._error.message, self._error.slug)


def open_part(
    engines: Mapping[str, Engine], name: str, place: Place, token: str, *, hash_first: bool = False
) -> OpenPart:
    """Open what is at a place. Sizes are compared first, hashes too where the files are small or ``hash_first``.

    name: of the engine; a part made again here may have had to take the exact one, which its manifest then says.
    Raises ArchiveError: index-file-missing, index-file-corrupt, unknown-engine.
    """
    engine = named_engine(engines, name)
    if not engine.local:
        return OpenPart(engine.open(place), place.name)
    manifest = verify(place, token, hashes=False)
    at_once = hash_first or sum(size for size, _ in manifest.files.values()) <= HASHED_AT_ONCE
    if at_once:
        _require_hashes(place.folder, manifest, place.name)
    try:
        part = OpenPart(named_engine(engines, manifest.engine).open(place), place.name)
    except ArchiveError as error:
        raise ArchiveError(f"{error.message} {REBUILD}", error.slug) from error
    if not at_once:
        part.hash_beside(place.folder, manifest)
    return part


def named_engine(engines: Mapping[str, Engine], name: str) -> Engine:
    """Raises ArchiveError: unknown-engine."""
    if name not in engines:
        message = f"Expected an engine among {', '.join(sorted(engines))}, found {name}."
        raise ArchiveError(message, "unknown-engine")
    return engines[name]


def verify(place: Place, token: str, *, hashes: bool) -> Manifest:
    """Raises ArchiveError: index-file-missing, index-file-corrupt."""
    try:
        found = json.loads((place.folder / MANIFEST).read_text())
        files = {name: (int(size), str(digest)) for name, (size, digest) in found.pop("files").items()}
        manifest = Manifest(**found, files=files)
        sizes = {name: (place.folder / name).stat().st_size for name in files}
    except OSError as error:
        message = f"The file {Path(error.filename or place.folder).name} of {place.name} is missing. {REBUILD}"
        raise ArchiveError(message, "index-file-missing") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArchiveError(f"{MANIFEST} of {place.name} is not readable. {REBUILD}", "index-file-corrupt") from error
    if manifest.token != token:  # the folder of another database
        raise ArchiveError(f"{place.name} in {place.folder} is of another archive. {REBUILD}", "index-file-missing")
    for name, (size, _) in files.items():
        if sizes[name] != size:
            message = f"{name} of {place.name} has {sizes[name]} bytes, expected {size}. {REBUILD}"
            raise ArchiveError(message, "index-file-corrupt")
    if hashes:
        _require_hashes(place.folder, manifest, place.name)
    return manifest


def remove_folders(folder: Path, keep: Callable[[], Collection[int]]) -> None:
    """Remove the folders of all generations but these, and the files of older versions of this product.

    keep: asked once the folders have been listed: one that a build makes in between is not among them.
    """
    found = list(folder.iterdir()) if folder.is_dir() else []
    kept = set(keep())
    for path in found:
        if path.is_dir() and path.name.isdigit() and int(path.name) not in kept:
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith("generation-"):
            path.unlink(missing_ok=True)


def _require_hashes(folder: Path, manifest: Manifest, name: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        try:
            found = dict(zip(manifest.files, pool.map(_hash, (folder / file for file in manifest.files)), strict=True))
        except OSError as error:
            raise ArchiveError(f"{name} cannot be read ({error}). {REBUILD}", "index-file-missing") from error
    for file, (_, digest) in manifest.files.items():
        if found[file] != digest:
            raise ArchiveError(f"{file} of {name} is not as it was written. {REBUILD}", "index-file-corrupt")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_synced(path: Path) -> str:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return _hash(path)
