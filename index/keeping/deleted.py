"""Studies that were deleted: kept as pseudonyms, so that nothing of them comes back until they are restored."""

from collections.abc import Iterable, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..batches import batched
from ..catalog import Catalog
from ..dicom import Refusal
from ..reports.texts import ReportText
from ..tables import DeletedStudy

__all__ = ["DELETED", "deleted_among", "deleted_key", "deleted_refusal", "without_deleted"]

DELETED: Final = "deleted"

_STUDY: Final = "\x1fstudy that was deleted"  # in the place of an issuer, which holds no control character


def deleted_key(catalog: Catalog, study_instance_uid: str) -> str:
    """The pseudonym of a study, 64 hexadecimal digits; another one than a forgotten patient's study has."""
    return catalog.patient_key(study_instance_uid, _STUDY)


def deleted_among(catalog: Catalog, session: Session, study_instance_uids: Iterable[str | None]) -> set[str]:
    """Those of the studies that were deleted."""
    keys = {deleted_key(catalog, uid): uid for uid in study_instance_uids if uid}
    found: set[str] = set()
    for batch in batched(sorted(keys), 500):
        found.update(session.scalars(sa.select(DeletedStudy.key).where(DeletedStudy.key.in_(batch))))
    return {keys[key] for key in found}


def deleted_refusal() -> Refusal:
    return Refusal(DELETED, "The study was deleted. `alta archive restore` lets it in again.")


def without_deleted(catalog: Catalog, session: Session, reports: Sequence[ReportText]) -> list[ReportText]:
    """The reports; of those that name a deleted study nothing but where they were met, refused.

    One that names an accession number alone waits for its study as any other: another may come under that number.
    """
    deleted = deleted_among(catalog, session, (report.study_instance_uid for report in reports))
    if not deleted:
        return list(reports)
    return [
        ReportText(report.source, refusal=deleted_refusal()) if report.study_instance_uid in deleted else report
        for report in reports
    ]
