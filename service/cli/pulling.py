"""How a pull by study date goes, whoever the studies are fetched from."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import typer

from .console import console, staged_progress
from .summary import show_summary

if TYPE_CHECKING:
    from index import Catalog, Progress
    from index.sources.by_date import ByDate

__all__ = ["DAY", "fetch_by_date"]

DAY: Final = ["%Y-%m-%d", "%Y%m%d"]


def fetch_by_date(
    catalog: "Catalog", source_of: "Callable[[Progress], ByDate]", *, peer: str, database: str, dry_run: bool
) -> None:
    """Fetch, or say what would be fetched; exit code 1 where something could not be had.

    source_of: makes the source, given what it tells its days to. peer, database: as they are shown.
    """
    from index.intake.ingest import ingest

    with staged_progress() as report:
        source = source_of(lambda done, total: report("days", done, total))
        plan = source.plan() if dry_run else None
        if plan is None:
            summary = ingest(catalog, source, progress=lambda done, total: report("files", done, total))
    if plan is not None:
        console.print(
            f"{peer} has {plan.studies} such studies with {plan.instances} instances; {plan.missing} would be fetched."
        )
        failed = plan.failed
    else:
        show_summary(summary, f"{peer} -> {database}")
        failed = sum(count for reason, count in summary.refused.items() if reason in source.failures)
    if failed:
        console.print(f"[yellow]{failed} searches or files could not be had.[/yellow] Run it again to fetch these.")
        raise typer.Exit(1)
