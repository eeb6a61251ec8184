"""What became of reports that were sent."""

from typing import Literal, Self

from pydantic import BaseModel, Field

from index.reports.sent import ReportOutcome

__all__ = ["ReportReply", "ReportsReply"]


class ReportReply(BaseModel):
    """What became of one report that was sent."""

    entry: int = Field(description="Position in the Bundle, from 1; 1 for a report by itself.")
    status: Literal["matched", "unmatched", "withdrawn", "outdated", "refused"] = Field(
        description="`unmatched`: waits for its study. `outdated`: the archive holds a newer version; nothing changed."
    )
    reason: str | None = Field(description="Stable name, where there is something to say.", examples=["empty-report"])
    detail: str | None
    study_instance_uid: str | None = Field(description="The study it is matched to.")

    @classmethod
    def of(cls, outcome: ReportOutcome) -> Self:
        number = outcome.source.rpartition("#")[2]
        return cls(
            entry=int(number) if number.isdecimal() else 1,
            status=outcome.status,  # type: ignore[arg-type]
            reason=outcome.reason,
            detail=outcome.detail,
            study_instance_uid=outcome.study_instance_uid,
        )


class ReportsReply(BaseModel):
    reports: list[ReportReply] = Field(description="One for each DiagnosticReport, in their order.")
