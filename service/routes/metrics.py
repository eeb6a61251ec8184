"""What Prometheus scrapes."""

import anyio.to_thread
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from index.access.keys import ADMIN, METRICS

from ..access import requires
from ..deps import ResourcesDep

__all__ = ["router"]

EXAMPLE = """\
# HELP alta_http_requests_running Requests under way.
# TYPE alta_http_requests_running gauge
alta_http_requests_running 1.0
"""

router = APIRouter(tags=["service"], dependencies=[requires(METRICS, ADMIN)])


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Text exposition format 0.0.4.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": EXAMPLE}},
        }
    },
)
async def metrics(resources: ResourcesDep) -> Response:
    """Counters, histograms and gauges for Prometheus. No label is about a patient; docs/operations.md lists them."""
    # Not among the requests' own threads: what is full can be seen from outside nevertheless.
    written = await anyio.to_thread.run_sync(
        generate_latest, resources.observer.metrics.registry, limiter=resources.probes
    )
    return Response(written, media_type=CONTENT_TYPE_PLAIN_0_0_4)
