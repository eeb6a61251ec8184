"""The HTTP application: one function from settings to app, nothing at import time."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import anyio
import anyio.to_thread
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from index import Catalog, Gallery, live_generation, open_catalog
from index.returns.queue import begin_routes
from model.checkpoint import read_fingerprint
from model.encoder import StudyEncoder
from model.errors import ArchiveError

from .access import Access, AuditTrail, Gate
from .admission import Admission
from .decoder import Decoder
from .engines import engines_of
from .errors import add_error_handlers
from .inference import Encoders, batching_of
from .middleware import RequestFrame
from .observing import ArchiveWatch, Observer, Tracing, require_tracing
from .openapi import complete_openapi
from .operations import Operations
from .readiness import Readiness
from .receiving import Receiver
from .resources import Resources
from .routes import ROUTERS
from .schemas import MAX_EXCLUDED
from .search import CURSOR_SECRET
from .settings import Settings

__all__ = ["create_app"]

log = logging.getLogger(__name__)

DECODE_SECONDS = 60.0  # a request waits for it; the slowest usable file takes some 10, on an idle core

PROBES = 4  # threads

DESCRIPTION = """\
Finds the past chest radiographs and reports that resemble a study. Errors are problem documents (RFC 9457) whose
`type` can be followed. Not for clinical use.
"""


def create_app(settings: Settings, *, encoder: StudyEncoder | None = None) -> FastAPI:
    """Everything is opened when the app starts: the catalog, which must be migrated, and the encoders.

    encoder: used instead of loading ``settings.model_path``.
    """
    observer = Observer()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # A thread for each request that is let in, so that none waits unseen, and some for what is always let in.
        anyio.to_thread.current_default_thread_limiter().total_tokens = settings.max_requests + 8
        loaded = encoder or _load(settings, settings.model_path)
        catalog = open_catalog(settings.catalog_url)
        catalog.secret(CURSOR_SECRET)  # made now where there is none: no search waits for a writer
        encoders = Encoders(
            loaded,
            settings.model_path,
            load=lambda path: _load(settings, path),
            find=read_fingerprint,
            batching=batching_of(settings),
            observer=observer,
        )
        gallery = Gallery(catalog, settings.generations_dir, usable=encoders.usable, engines=engines_of(settings))
        _open(gallery, encoders, catalog)
        decoder = Decoder(settings.decode_workers, DECODE_SECONDS)
        decoder.warm_up()
        receiver = Receiver(settings, catalog, decoder)
        begin_routes(catalog, [route.name for route in settings.return_routes])
        app.state.resources = Resources(
            settings, catalog, gallery, encoders, decoder, receiver, observer, anyio.CapacityLimiter(PROBES)
        )
        observer.tracing = Tracing() if require_tracing(settings.traces) else None
        app.state.readiness = Readiness(app.state.resources)
        app.state.operations = operations = Operations(app.state.resources)
        watch = ArchiveWatch(catalog, gallery, lambda: encoders.depths, operations.pending, operations.returns)
        observer.metrics.registry.register(watch)
        app.state.access = access = Access(settings)
        try:
            yield
        finally:
            operations.close()
            access.close()
            observer.metrics.registry.unregister(watch)
            if observer.tracing is not None:
                observer.tracing.close()
            encoders.close()
            decoder.close()
            catalog.close()

    app = FastAPI(
        title="ALTA retrieval",
        version=version("alta-retrieval"),
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        docs_url=None,  # ours needs no CDN, see routes/documents.py
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # names for generated clients
        # The body itself is limited in RequestFrame, which answers with a problem document.
        form_limits={"max_files": settings.max_files, "max_fields": 3 * MAX_EXCLUDED},
    )
    app.add_middleware(AuditTrail)
    app.add_middleware(Admission, limit=settings.max_requests, seconds=settings.request_timeout_s)
    app.add_middleware(Gate)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "X-Request-ID"),
            expose_headers=("X-Request-ID", "Retry-After", "RateLimit", "RateLimit-Policy", "Location"),
        )
    app.add_middleware(RequestFrame, settings=settings, observer=observer)
    add_error_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    complete_openapi(app)
    return app


def _open(gallery: Gallery, encoders: Encoders, catalog: Catalog) -> None:
    """What can be opened is open before the first request; what cannot is said when it is asked for."""
    live = live_generation(catalog)
    if live is not None:
        encoders.prepare(live)
    try:
        gallery.refresh()
    except ArchiveError as error:
        log.error("generation %s cannot be opened: %s", live.id if live else "none", error.message)


def _load(settings: Settings, path: Path) -> StudyEncoder:
    from model.alta_encoder import load_encoder  # torch, which the rest of the command line does not need

    return load_encoder(path, settings.device, settings.dtype)
