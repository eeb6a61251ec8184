"""``alta jobs``: what was asked for, how far it is, and calling it off."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from .commands import Commands
from .console import console
from .settings import archive_settings

if TYPE_CHECKING:
    from index.jobs.records import JobRecord

__all__ = ["jobs"]

jobs = Commands("Durable jobs, which `alta worker` does.")

JobId = Annotated[str, typer.Argument(help="As `alta jobs list` shows it.")]


@jobs.command("list")
def list_command(limit: Annotated[int, typer.Option(min=1, help="Jobs shown, the newest first.")] = 20) -> None:
    """Jobs, the newest first."""
    from index import open_catalog
    from index.jobs.queue import list_jobs

    with closing(open_catalog(archive_settings().catalog_url)) as catalog:
        found = list_jobs(catalog, limit=limit)
    table = Table()
    table.add_column("id", no_wrap=True, min_width=32)  # whole: it is what the other commands take
    for name in ("kind", "state", "done", "asked for", "by", "error"):
        table.add_column(name, overflow="fold")
    for job in found:
        table.add_row(
            job.id,
            job.kind,
            job.state,
            _progress(job),
            f"{job.created_at:%Y-%m-%d %H:%M}",
            escape(job.requested_by),
            job.error or "",
        )
    console.print(table)


@jobs.command("show")
def show(job_id: JobId) -> None:
    """All that is known of one job."""
    from index import open_catalog
    from index.jobs.deliveries import deliveries_of
    from index.jobs.queue import read_job

    with closing(open_catalog(archive_settings().catalog_url)) as catalog:
        job = read_job(catalog, job_id)
        delivery = deliveries_of(catalog, [job_id]).get(job_id)
    for name, value in vars(job).items():
        console.print(f"{name}: {value}", markup=False, soft_wrap=True)
    if delivery is not None:
        state = f"{delivery.state} after {delivery.attempts} attempts, {delivery.last_error or 'no error'}"
        console.print(f"webhook message: {state}", markup=False, soft_wrap=True)


@jobs.command("cancel")
def cancel_command(job_id: JobId) -> None:
    """Call a job off. One that runs ends after the batch under way; what it has done stays done."""
    from index import open_catalog
    from index.jobs.queue import cancel

    with closing(open_catalog(archive_settings().catalog_url)) as catalog:
        job = cancel(catalog, job_id)
    console.print(f"Job {job.id} is {'about to be cancelled' if job.state == 'running' else job.state}.")


def _progress(job: "JobRecord") -> str:
    return f"{job.done} of {job.total}" if job.total is not None else ""
