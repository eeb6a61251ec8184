"""HTTP routes: parse, one call, shape the reply."""

from . import (
    accession,
    dicomweb,
    documents,
    health,
    intake,
    jobs,
    metrics,
    operations,
    rendering,
    reports,
    search,
    similarity_map,
    studies,
    zero_shot,
)

__all__ = ["ROUTERS"]

ROUTERS = (
    search.router,
    zero_shot.router,
    similarity_map.router,
    studies.router,
    accession.router,
    rendering.router,
    dicomweb.router,
    intake.router,
    reports.router,
    jobs.router,
    health.router,
    metrics.router,
    operations.router,
    documents.router,
)
