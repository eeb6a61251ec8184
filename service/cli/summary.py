"""What every door says at its end: how many files and reports were taken in, how many not, and why."""

from collections import Counter
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from .console import console

if TYPE_CHECKING:
    from index import IngestSummary  # not when the program starts: --help is instant

__all__ = ["show_summary"]


def show_summary(summary: "IngestSummary", title: str, dry_run: bool = False) -> None:
    table = Table("files", "count", title=escape(title))
    table.add_row("accepted, new", str(summary.accepted))
    table.add_row("accepted, updated", str(summary.updated))
    table.add_row("unchanged since last time", str(summary.unchanged))
    _add_reasons(table, "refused", summary.refused)
    table.add_section()
    if dry_run:
        table.add_row("reports", str(summary.reports_unmatched))
    else:
        table.add_row("reports matched to a study", str(summary.reports_matched))
        table.add_row("reports waiting for their study", str(summary.reports_unmatched))
    if summary.reports_withdrawn:
        table.add_row("reports withdrawn by their sender", str(summary.reports_withdrawn))
    _add_reasons(table, "report refused", summary.reports_refused)
    console.print(table)
    after = (
        ""
        if dry_run
        else " Next: alta embed. Why files were refused: alta archive refused; reports: alta archive reports"
    )
    console.print(f"New studies: {summary.studies_new}.{after}")


def _add_reasons(table: Table, label: str, reasons: Counter[str]) -> None:
    for slug, count in reasons.most_common():
        table.add_row(f"{label}: {slug}", str(count))
