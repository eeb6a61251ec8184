"""What is said of one study, in whatever form it goes back: findings, similar past studies, and what they are not."""

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from pydicom import Dataset

from index import IMAGE_WEIGHTS, Catalog, Filters, Gallery, Search, StudyRecord, stored_study
from index.reports.texts import derived_uid
from index.slots import CURRENT_SLOTS
from model.encoder import StudyEncoder
from model.errors import ArchiveError, EmptyIndex

from ..engines import engines_of
from ..inference import Inference
from ..inference.calibrations import load_calibration
from ..schemas import ZeroShotFindings
from ..settings import Settings
from ..zero_shot import describe_findings

__all__ = ["NOTICE", "Desk", "Material", "Similar"]

NOTICE: Final = (
    "For research only, not for diagnosis. Made by a computer, seen by nobody. A score ranks studies by one finding"
    " and is no probability of disease. Similar studies are those of other patients whose embeddings lie near; they may"
    " differ in what matters."
)


@dataclass(frozen=True)
class Similar:
    """A past study of another patient. percentile: share in % of random pairs that are less alike; None: unmeasured."""

    study_instance_uid: str
    rank: int
    score: float
    percentile: float | None


@dataclass(frozen=True)
class Material:
    """headers: of the current images, frontal first; prior_headers: of those of the prior that were embedded with them.
    number: of the document among those of its series.

    ``uid`` makes UIDs that are always the same for this state of the study, these encoders and this route, whatever
    generation is live: what is sent twice is one object.
    """

    study: StudyRecord
    route: str
    source_hash: str
    fingerprint: str
    headers: list[Dataset]
    prior_headers: list[Dataset]
    findings: ZeroShotFindings
    similar: list[Similar]
    made_at: datetime
    software: str
    number: int = 1

    def uid(self, *parts: str) -> str:
        """Of something in this document."""
        return derived_uid(
            "return", self.route, self.study.study_instance_uid, self.source_hash, self.fingerprint, *parts
        )

    @property
    def series_uid(self) -> str:
        """The same for every state of the study: one series holds all that this route ever says of it."""
        return derived_uid("return-series", self.route, self.study.study_instance_uid)

    @property
    def statement(self) -> str:
        """What the numbers are and are not."""
        return f"{NOTICE} Score: {self.findings.score_kind}. Probabilities: {self.findings.probabilities}"


class Desk:
    """Makes material; keeps the encoders and the live generation open. Thread-safe.

    encoder: asked for when something is first to be made. fingerprint: the encoders', without loading them.
    """

    def __init__(
        self, settings: Settings, catalog: Catalog, encoder: Callable[[], StudyEncoder], fingerprint: Callable[[], str]
    ) -> None:
        self._settings, self._catalog = settings, catalog
        self._encoder, self._fingerprint = encoder, fingerprint
        self._gallery: Gallery | None = None
        self._inference: Inference | None = None
        self._opening = threading.Lock()

    @cached_property
    def fingerprint(self) -> str:
        """Of the encoders. Read once: it is a hash of all their weights."""
        return self._fingerprint()

    def material(
        self, study_instance_uid: str, route: str, similar: int, made_at: datetime, number: int = 1
    ) -> Material:
        """Raises UnknownStudy; ArchiveError not-embedded, source-missing, model-mismatch, and what searching raises."""
        gallery, inference = self._opened()
        fingerprint = inference.encoder.fingerprint
        stored = stored_study(self._catalog, study_instance_uid, fingerprint)
        if stored.embedding is None:
            message = (
                f"Study {study_instance_uid} is not embedded as it is now. Run `alta embed`, or wait for a worker."
            )
            raise ArchiveError(message, "not-embedded")
        current = [_header(stored.files[slot]) for slot in CURRENT_SLOTS if slot in stored.files]
        prior = [_header(path) for slot, path in stored.files.items() if slot not in CURRENT_SLOTS]
        headers = [header for header in current if header is not None]
        if not headers:
            message = f"The images of study {study_instance_uid} are no DICOM files, or not where they were ingested."
            raise ArchiveError(message, "source-missing")
        own = tuple(uid for uid in (study_instance_uid, stored.prior_uid) if uid)
        filters = Filters(exclude_studies=own, exclude_patients=(stored.record.patient_key,), exclude_patient_of=own)
        return Material(
            study=stored.record,
            route=route,
            source_hash=stored.source or "",
            fingerprint=fingerprint,
            headers=headers,
            prior_headers=[header for header in prior if header is not None],
            findings=describe_findings(inference, stored.embedding),
            similar=_similar(gallery, stored.embedding, filters, fingerprint, similar) if similar else [],
            made_at=made_at,
            software=version("alta-retrieval"),
            number=number,
        )

    def close(self) -> None:
        """End the threads that encode."""
        if self._inference is not None:
            self._inference.close()

    def _opened(self) -> tuple[Gallery, Inference]:
        with self._opening:
            if self._inference is None:
                encoder = self._encoder()
                found = load_calibration(self._settings.model_path, encoder.fingerprint)
                self._inference = Inference(encoder, found=found)
            if self._gallery is None:
                self._gallery = Gallery(
                    self._catalog, self._settings.generations_dir, engines=engines_of(self._settings)
                )
            self._gallery.refresh()
            return self._gallery, self._inference


def _similar(gallery: Gallery, vector: np.ndarray, filters: Filters, fingerprint: str, count: int) -> list[Similar]:
    """As the service ranks where nobody asks for another ranking. vector: (D,) of length 1."""
    snapshot = gallery.snapshot
    if snapshot is None:
        raise EmptyIndex("No generation is live. Run `alta index build`.")
    ranking = snapshot.info.scores.ranking("image", IMAGE_WEIGHTS["image"])
    page = snapshot.page(Search(vector, ranking, filters), count, fingerprint=fingerprint)
    return [
        Similar(
            hit.study.study_instance_uid, rank, hit.score, snapshot.info.scores.percentile("image", ranking, hit.score)
        )
        for rank, hit in enumerate(page.hits, start=1)
    ]


def _header(path: Path) -> Dataset | None:
    """As far as the pixels; None of a picture, and of what is not there any more."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values that break their VR's rules came with the image
            found = pydicom.dcmread(path, stop_before_pixels=True)
            return found if found.get("SOPInstanceUID") and found.get("StudyInstanceUID") else None
    except Exception:  # pydicom raises many kinds
        return None
