"""HTTP routes: parse, one call, shape the reply."""

from . import dicomweb, documents, health, metrics, reports, search, studies, zero_shot

__all__ = ["ROUTERS"]

ROUTERS = (
    search.router,
    zero_shot.router,
    studies.router,
    dicomweb.router,
    reports.router,
    health.router,
    metrics.router,
    documents.router,
)
