"""``alta archive reports``: which reports have a study, which wait, and why others were refused."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from .archive import archive
from .console import console
from .settings import archive_settings, shown_database

__all__ = ["reports"]


class Status(StrEnum):
    unmatched = "unmatched"
    refused = "refused"
    withdrawn = "withdrawn"


@archive.command("reports")
def reports(
    status: Annotated[Status | None, typer.Option(help="List only these.")] = None,
    reason: Annotated[str | None, typer.Option(help="List only those of this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows shown.")] = 50,
) -> None:
    """Reports by status, and those without a study: waiting, refused or withdrawn, each with its reason."""
    from index import open_catalog
    from index.reports.listing import listed_reports, report_counts

    settings = archive_settings()
    catalog = open_catalog(settings.catalog_url)
    table = Table(title=escape(f"Reports without a study in {shown_database(settings)}"))
    for name in ("status", "reason", "report", "detail"):
        table.add_column(name, overflow="fold")  # a name that is cut names nothing
    for row in listed_reports(catalog, status, reason, limit):
        table.add_row(row.status, row.reason, escape(row.source), escape(row.detail))
    console.print(table)
    counts = Table("status", "reason", "count", title="In all")
    for (state, why), count in report_counts(catalog).items():
        counts.add_row(state, why, str(count))
    console.print(counts)
    catalog.close()
