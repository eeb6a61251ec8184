"""Durable jobs: asked for here, done by `alta worker`."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Body, Path, Query, Request, Response

from index.access.keys import ADMIN
from index.jobs.deliveries import deliveries_of
from index.jobs.queue import cancel, enqueue, list_jobs, read_job
from index.jobs.records import JobRecord

from ..access import requires
from ..deps import Receiving, ResourcesDep
from ..jobs.kinds import KINDS
from ..jobs.requests import IngestJob, JobRequest
from ..jobs.roots import require_named_within
from ..jobs.webhooks import require_allowed
from ..openapi import problem_responses
from ..resources import Resources
from ..schemas import EXAMPLE_REQUEST_ID, JobReply, JobsReply, JobState

__all__ = ["router"]

MOST: Final = 500

JobId = Annotated[
    str,
    Path(
        pattern=r"^[0-9A-Za-z-]{1,64}$",
        description="As given when the job was asked for.",
        examples=[EXAMPLE_REQUEST_ID],
    ),
]
KindName = Literal["embed", "index-build", "reindex", "ingest", "prune", "verify"]

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[requires(ADMIN)])


@router.post("", status_code=202, dependencies=[Receiving], responses=problem_responses(401, 403, 413, 422, 429, 503))
def ask_for_job(
    resources: ResourcesDep,
    asked: Annotated[
        JobRequest,
        Body(discriminator="kind", examples=[{"kind": "embed"}, {"kind": "ingest", "path": "/archive/2024"}]),
    ],
    request: Request,
    response: Response,
) -> JobReply:
    """Ask for long work. Once this is answered it will be done, whatever is restarted meanwhile; `alta worker` does it.

    Jobs may be asked for again: the work is what is left to do at that time.
    """
    settings = resources.settings
    if asked.webhook is not None:
        require_allowed(asked.webhook, settings.webhook_origins)
    if isinstance(asked, IngestJob):
        for path in filter(None, (asked.path, asked.reports)):
            require_named_within(settings.ingest_roots, path)
    job = enqueue(
        resources.catalog,
        asked.kind,
        asked.model_dump(exclude={"kind", "webhook"}),
        exclusive=KINDS[asked.kind].exclusive,
        requested_by=request.state.principal.name,
        webhook=asked.webhook,
    )
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobReply.of(job)


@router.get("", responses=problem_responses(401, 403, 422, 503))
def jobs(
    resources: ResourcesDep,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    kind: Annotated[KindName | None, Query(description="Only jobs of this kind.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST, description="How many at most.")] = 50,
) -> JobsReply:
    """Jobs, the newest first."""
    return JobsReply(jobs=_replies(resources, list_jobs(resources.catalog, state=state, kind=kind, limit=limit)))


@router.get("/{job_id}", responses=problem_responses(401, 403, 404, 422, 503))
def job(resources: ResourcesDep, job_id: JobId) -> JobReply:
    """One job: how far it is, what came of it, and whether its webhook was told."""
    return _replies(resources, [read_job(resources.catalog, job_id)])[0]


@router.delete(
    "/{job_id}", status_code=202, dependencies=[Receiving], responses=problem_responses(401, 403, 404, 422, 503)
)
def cancel_job(resources: ResourcesDep, job_id: JobId) -> JobReply:
    """Call a job off; its record stays. One that runs ends after the batch under way, and what it has done stays done;
    one that has ended stays as it is."""
    return _replies(resources, [cancel(resources.catalog, job_id)])[0]


def _replies(resources: Resources, jobs: Sequence[JobRecord]) -> list[JobReply]:
    deliveries = deliveries_of(resources.catalog, [job.id for job in jobs if job.webhook])
    return [JobReply.of(job, deliveries.get(job.id)) for job in jobs]
