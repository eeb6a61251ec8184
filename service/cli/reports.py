"""``alta archive reports``: which reports have a study, which wait, and why others were refused."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from .archive import archive
from .console import console, print_file
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
    limit: Annotated[int, typer.Option(min=1, help="Reports shown.")] = 50,
) -> None:
    """Reports by status, and those without a study: waiting, refused or withdrawn, each with its reason."""
    from index import open_catalog
    from index.reports.listing import listed_reports, report_counts

    settings = archive_settings()
    catalog = open_catalog(settings.catalog_url)
    console.print(f"Reports without a study in {shown_database(settings)}:", markup=False, soft_wrap=True)
    for row in listed_reports(catalog, status, reason, limit):
        said = [f"{row.status} ({row.reason})" if row.reason else row.status, row.detail]
        print_file(row.source, ": ".join(filter(None, said)))
    counts = Table("status", "reason", "count", title="In all")
    for (state, why), count in report_counts(catalog).items():
        counts.add_row(state, why, str(count))
    console.print(counts)
    catalog.close()
