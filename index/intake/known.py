"""Which files of a batch have to be read at all: those that are new, have changed, or may be judged otherwise now."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from ..catalog import Catalog
from ..decoder_pool import LOST
from ..dicom import InstanceFacts
from ..tables import ACCEPTED, AS_REPORT, REFUSED, EmbeddingFailure, Instance, Study
from .examine import Examined, Source
from .record import path_key
from .summary import IngestSummary

__all__ = ["split_known"]

# Refusals to judge again in every run: some hang on other rows, which may have changed; a decoder may have ended
# for want of the machine's memory or time.
PASSING_REASONS: Final = ("duplicate", "conflicting", "conflicting-patient", "not-a-report", *LOST)


def split_known(
    catalog: Catalog, batch: Sequence[Source], summary: IngestSummary, retry_refused: bool
) -> tuple[list[Source], list[Examined]]:
    """Files to examine, and manifest rows whose file is known but whose facts may have changed. The rest is counted."""
    with catalog.session() as session:
        keys = [path_key(source.path) for source in batch]
        query = sa.select(Instance).where(Instance.path_key.in_(keys))
        query = query.options(joinedload(Instance.study).joinedload(Study.patient))
        rows = {row.path_key: row for row in session.scalars(query)}
        doubtful = _with_changed_files(session, rows.values())
    fresh: list[Source] = []
    known: list[Examined] = []
    back: set[str | None] = set()  # SOP instance UIDs of which this batch brings a version that was overtaken
    for source in batch:
        row = rows.get(path_key(source.path))
        if row is None or row in doubtful or not _same_file(source.path, row):
            fresh.append(source)
        elif row.status == ACCEPTED and source.replaces and row.sop_instance_uid in back:
            fresh.append(source)  # it came after that one, and has to take its place once more
        elif row.status == ACCEPTED and source.given is None:
            summary.unchanged += 1
        elif row.status == ACCEPTED and source.given is not None and _same_identity(catalog, source.given, row):
            known.append(_from_row(source, row))
        elif row.status == AS_REPORT and source.given is None and not retry_refused:
            summary.unchanged += 1
        elif row.status == REFUSED and not retry_refused and not _may_pass_now(source, row):
            summary.refused[row.reason or ""] += 1
        else:
            fresh.append(source)
            if row.reason == "superseded":
                back.add(row.sop_instance_uid)
    return fresh, known


def _with_changed_files(session: Session, rows: Iterable[Instance]) -> set[Instance]:
    """Files of patients of whom the embedding job met a file with other content: size and time may be as they were."""
    accepted = {row: row.study.patient_id for row in rows if row.study is not None}
    query = sa.select(Study.patient_id).join(EmbeddingFailure, EmbeddingFailure.study_id == Study.id)
    query = query.where(EmbeddingFailure.reason == "file-changed", Study.patient_id.in_(set(accepted.values())))
    patients = set(session.scalars(query))
    return {row for row, patient in accepted.items() if patient in patients}


def _may_pass_now(source: Source, row: Instance) -> bool:
    """Whether a refused file that has not changed itself is to be judged again."""
    if source.replaces and row.reason == "superseded":  # and now it is sent again
        return True
    return source.given is not None or source.refusal is not None or row.reason in PASSING_REASONS


def _same_file(path: Path, row: Instance) -> bool:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return False
    return row.size is not None and (status.st_size, status.st_mtime_ns) == (row.size, row.modified_ns)


def _same_identity(catalog: Catalog, given: InstanceFacts, row: Instance) -> bool:
    """Whether a manifest still names the study and the patient that are archived.

    If not, the file is read again: its header may hold the rest of the patient's identity, which no row keeps.
    """
    study = row.study
    if study is None or study.study_instance_uid != given.study_instance_uid:
        return False
    if not given.patient_id:
        return True
    return catalog.patient_key(given.patient_id) in (study.patient.key, study.patient.id_key)


def _from_row(source: Source, row: Instance) -> Examined:
    assert source.given is not None
    own = ("rows", "columns", "view_position", "acquired", "derived", "instance_number")
    missing = {name: getattr(row, name) for name in own if getattr(source.given, name) is None}
    if source.given.view_source is None and row.view:  # what the file's header or its picture told
        missing |= {"view": row.view, "view_source": row.view_source}
    facts = replace(source.given, **missing)
    return Examined(source, row.size, row.modified_ns, row.sha256, facts, row.pixels_sha256)
