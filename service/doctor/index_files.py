"""The index: its files, whose encoders it is of, and what is not in it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from index import GenerationInfo, count_since, live_generation, pending_counts
from index.generations.parts import named_engine, place_of, verify
from index.looking import Looking, read_facts
from index.tables import KINDS
from model.errors import AltaError, ArchiveError

from ..engines import engines_of
from .finding import Finding, fail, ok, warn
from .installation import Installation

__all__ = ["check_index"]

MUCH: Final = 50_000  # rows searched one by one beside a generation; each query pays for them


def check_index(installation: Installation) -> Iterator[Finding]:
    if not installation.readable:
        yield fail("index", "It cannot be looked at without the database", "Mend the database first.")
        return
    with installation.catalog() as catalog:
        live = live_generation(catalog)
        if live is None:
            empty = not read_facts(catalog).studies
            remedy = "alta ingest FOLDER, alta embed, alta index build" if empty else "alta embed, alta index build"
            saw = "no generation: nothing can be found yet" + (", and the archive is empty" if empty else "")
            yield warn("index", saw, remedy)
        else:
            yield _files(installation, live)
            yield from _model(installation, live)
            yield _beside(catalog, live)
        yield _pending(installation, catalog)


def _files(installation: Installation, live: GenerationInfo) -> Finding:
    engines = engines_of(installation.settings)
    folder = installation.settings.generations_dir
    try:
        for kind in KINDS:
            if live.rows(kind) and named_engine(engines, live.engine_of(kind)).local:
                verify(place_of(folder, live.id, kind), live.token(kind), hashes=True)
    except ArchiveError as error:
        if error.slug == "index-file-missing":
            return warn("index files", error.message, "The service makes them again from the database when it starts.")
        remedy = (
            "ALTA_MILVUS_URI names the server of the engine." if error.slug == "unknown-engine" else "alta index build"
        )
        return fail("index files", error.message, remedy)
    recall = "not measured" if live.recall is None else f"{live.recall:.3f}"
    checked = live.activated_at or live.created_at
    rows = f"{live.image_rows:,} images, {live.report_rows:,} reports, engine {live.engine}"
    saw = f"generation {live.id} is whole: {rows}; recall@10 {recall} when it was checked, {checked:%Y-%m-%d %H:%M} UTC"
    return ok("index files", saw)


def _model(installation: Installation, live: GenerationInfo) -> Iterator[Finding]:
    with suppress(AltaError):
        if installation.fingerprint == live.model_fingerprint:
            yield ok("index encoders", f"those of ALTA_MODEL_PATH, {live.model_fingerprint[:12]}")
            return
    saw = f"generation {live.id} is of encoders {live.model_fingerprint[:12]}, ALTA_MODEL_PATH has others or none"
    if live.model_path and _fingerprint(Path(live.model_path)) == live.model_fingerprint:
        remedy = (
            f"New studies are embedded with others than are searched: set ALTA_MODEL_PATH={live.model_path}, or go over"
        )
        yield warn("index encoders", saw, f"{remedy} with alta index reindex --model.")
    else:
        where = f" (they lay in {live.model_path})" if live.model_path else ""
        remedy = f"Put those encoders back{where}, or go over to others: alta index reindex --model FOLDER"
        yield fail("index encoders", saw, remedy)


def _beside(catalog: Looking, live: GenerationInfo) -> Finding:
    with catalog.session() as session:
        counts = count_since(session.connection(), live)
    added, hidden = (sum(counts[kind][place] for kind in KINDS) for place in (0, 1))
    saw = f"{added:,} embeddings came since the build and are searched beside it, {hidden:,} are left out"
    return warn("index age", saw, "alta index build") if added + hidden > MUCH else ok("index age", saw)


def _pending(installation: Installation, catalog: Looking) -> Finding:
    try:
        pending = pending_counts(catalog, installation.fingerprint)
    except AltaError:
        return warn("embedding", "Without encoders it is not known what is not embedded", "Mend the encoders first.")
    failed = read_facts(catalog).failures
    saw = ", ".join(f"{count:,} {kind}s not embedded" for kind, count in pending.items())
    if any(pending.values()):
        return warn("embedding", saw, "alta embed, or keep a worker running: alta worker --watch")
    return ok("embedding", f"everything that can be; {failed:,} could not" if failed else "everything")


def _fingerprint(folder: Path) -> str:
    from model.checkpoint import read_fingerprint

    try:
        return read_fingerprint(folder)
    except AltaError:
        return ""
