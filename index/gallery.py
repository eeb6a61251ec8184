"""Search over the live generation.

A request works on one immutable snapshot; ``refresh`` swaps in a newer one and touches nothing a request holds.
"""

import math
import threading
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import monotonic
from typing import Final, Literal

import numpy as np
import sqlalchemy as sa

from model.errors import ArchiveError, EmptyIndex, InputError, ModelMismatch

from .catalog import Catalog
from .engines.old import FlatIndex
from .generation_files import open_index
from .generations import GenerationInfo, live_generation
from .studies import StudyRecord, load_records
from .tables import ACCEPTED, KINDS, Instance, Patient, Study

__all__ = ["Filters", "Gallery", "Hit"]

RETRY_SECONDS: Final = 10  # a file that cannot be used is not hashed for every request


@dataclass(frozen=True)
class Filters:
    """Which studies may be hits; an empty tuple or None does not restrict.

    views: any of PA, AP, LATERAL, ... , frontal, lateral, unknown. Dates and ages are inclusive, ages in completed
    years: someone of 70.9 is 70. A study without the value asked for is left out. Exclusions name studies by UID and
    patients by one of their studies or by key.
    """

    modalities: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    sexes: tuple[str, ...] = ()
    date_from: date | None = None
    date_to: date | None = None
    age_min: float | None = None
    age_max: float | None = None
    exclude_studies: tuple[str, ...] = ()
    exclude_patient_of: tuple[str, ...] = ()
    exclude_patients: tuple[str, ...] = ()

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The filters as SQL over ``Study``."""
        found: list[sa.ColumnElement[bool]] = []
        if self.modalities:
            found.append(Study.modality.in_([value.upper() for value in self.modalities]))
        if self.sexes:
            found.append(Study.patient_sex.in_([value.upper() for value in self.sexes]))
        if self.views:
            found.append(_has_view(self.views))
        if self.date_from is not None:
            found.append(Study.study_date >= self.date_from)
        if self.date_to is not None:
            found.append(Study.study_date <= self.date_to)
        if self.age_min is not None:
            found.append(Study.patient_age >= self.age_min)
        if self.age_max is not None:
            found.append(Study.patient_age < math.floor(self.age_max) + 1)
        if self.exclude_studies:
            found.append(Study.study_instance_uid.not_in(self.exclude_studies))
        if self.exclude_patient_of:
            same = sa.select(Study.patient_id).where(Study.study_instance_uid.in_(self.exclude_patient_of))
            found.append(Study.patient_id.not_in(same))
        if self.exclude_patients:
            keyed = sa.select(Patient.id).where(Patient.key.in_(self.exclude_patients))
            found.append(Study.patient_id.not_in(keyed))
        return found


@dataclass(frozen=True)
class Hit:
    """rank: from 1. score: cosine, -1..1."""

    rank: int
    score: float
    study: StudyRecord


@dataclass(frozen=True)
class _Snapshot:
    info: GenerationInfo
    indexes: dict[str, FlatIndex | None]


@dataclass(frozen=True)
class _Failure:
    generation_id: int
    until: float  # seconds of the monotonic clock
    error: ArchiveError


class Gallery:
    """The searchable archive. Thread-safe."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        self._catalog = catalog
        self._folder = folder
        self._snapshot: _Snapshot | None = None
        self._opening = threading.Lock()
        self._failure: _Failure | None = None

    @property
    def generation(self) -> GenerationInfo | None:
        """The generation that ``search`` uses; ``refresh`` first for the newest."""
        snapshot = self._snapshot
        return snapshot.info if snapshot else None

    def refresh(self) -> None:
        """Open the live generation if it is another than the open one: one small query when it is not.

        While one caller opens it, the others go on with what is open. Raises ArchiveError (index-file-missing,
        index-file-corrupt); what was open stays open, and the files are read again after ``RETRY_SECONDS``.
        """
        live = live_generation(self._catalog)
        if live is None or self._is_open(live):
            return
        if not self._opening.acquire(blocking=self._snapshot is None):
            return
        try:
            if not self._is_open(live):
                self._open_or_remember(live)
        finally:
            self._opening.release()

    def _open_or_remember(self, live: GenerationInfo) -> None:
        failure = self._failure
        if failure is not None and failure.generation_id == live.id and monotonic() < failure.until:
            raise ArchiveError(failure.error.message, failure.error.slug)
        try:
            self._snapshot = self._open(live)
        except ArchiveError as error:
            # Its files may have been removed because a newer one went live a moment ago.
            newer = live_generation(self._catalog)
            if newer is None or newer.id == live.id:
                self._failure = _Failure(live.id, monotonic() + RETRY_SECONDS, error)
                raise
            self._snapshot = self._open(newer)

    def search(
        self,
        kind: Literal["image", "report"],
        vector: np.ndarray,
        top_k: int,
        filters: Filters = Filters(),
        fingerprint: str | None = None,
    ) -> list[Hit]:
        """The ``top_k`` studies whose image or report embedding is nearest, best first, equal scores by age of row.

        vector: float (D,), any length above 0. fingerprint: the model that made it, checked when given.
        Raises EmptyIndex (nothing of that kind is searchable), ModelMismatch, InputError (bad-query).
        """
        return self.search_with_generation(kind, vector, top_k, filters, fingerprint)[1]

    def search_with_generation(
        self,
        kind: Literal["image", "report"],
        vector: np.ndarray,
        top_k: int,
        filters: Filters = Filters(),
        fingerprint: str | None = None,
    ) -> tuple[GenerationInfo, list[Hit]]:
        """``search``, with the generation that answered: ``generation`` may be a newer one by then."""
        snapshot = self._snapshot
        index = snapshot.indexes[kind] if snapshot else None
        if snapshot is None or index is None:
            raise EmptyIndex(f"No {kind} embeddings are searchable yet. Run `alta embed`, then `alta index build`.")
        query = _unit_query(vector, snapshot.info, fingerprint)
        if top_k < 1:
            raise InputError(f"top_k must be 1 or more, found {top_k}.", "bad-query")
        conditions = filters.conditions()
        with self._catalog.session() as session:
            among = None
            if conditions:
                among = np.fromiter(session.scalars(sa.select(Study.id).where(*conditions)), dtype=np.int64)
            ranked = index.search(query, top_k, among)
            records = load_records(session, [study_id for study_id, _ in ranked])
        found = [(score, records[study_id]) for study_id, score in ranked if study_id in records]
        return snapshot.info, [Hit(rank, score, study) for rank, (score, study) in enumerate(found, start=1)]

    def _is_open(self, live: GenerationInfo) -> bool:
        return self._snapshot is not None and self._snapshot.info.id == live.id

    def _open(self, live: GenerationInfo) -> _Snapshot:
        return _Snapshot(live, {kind: open_index(self._catalog, self._folder, live.id, kind) for kind in KINDS})


def _unit_query(vector: np.ndarray, info: GenerationInfo, fingerprint: str | None) -> np.ndarray:
    if fingerprint is not None and fingerprint != info.model_fingerprint:
        message = (
            f"The searchable embeddings are of model {info.model_fingerprint[:12]}, the query of {fingerprint[:12]}. "
            "Embed the archive with the running model and build the index again."
        )
        raise ModelMismatch(message)
    query = np.asarray(vector, dtype=np.float32)
    if query.shape != (info.dimension,):
        raise ModelMismatch(f"Expected a query of width {info.dimension}, found shape {query.shape}.")
    length = float(np.linalg.norm(query))
    if not np.isfinite(length) or length == 0:
        raise InputError("The query vector must be finite and not zero.", "bad-query")
    return query / length


def _has_view(views: tuple[str, ...]) -> sa.ColumnElement[bool]:
    groups = [view.lower() for view in views]
    positions = [view.upper() for view in views]
    return (
        sa.select(Instance.id)
        .where(
            Instance.study_id == Study.id,
            Instance.status == ACCEPTED,
            sa.or_(Instance.view.in_(groups), Instance.view_position.in_(positions)),
        )
        .exists()
    )
