"""What is said of one study, in whatever form it goes back: findings, similar past studies, and what they are not."""

import hashlib
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
from pydantic import BaseModel, ConfigDict, ValidationError
from pydicom import Dataset

from index import IMAGE_WEIGHTS, Catalog, Filters, Gallery, Search, Snapshot, StudyRecord, stored_study
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

__all__ = ["NOTICE", "Desk", "Material", "Result", "Similar"]

SOFTWARE: Final = version("alta-retrieval")
RETURN_SECRET: Final = "return-uids"

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


class Result(BaseModel):
    """All of a document that does not follow from the images and the row: kept before it is sent first, so that it is
    the same when it is sent again. Nothing of the patient is in it.

    fingerprint: of the encoders. generation: that was searched; None where none was. asked: how many similar studies
    were to be named. predecessors: SOP Instance UIDs of the reports that were sent before, the oldest first.
    """

    model_config = ConfigDict(frozen=True)

    software: str
    fingerprint: str
    generation: int | None
    asked: int
    findings: ZeroShotFindings
    similar: list[Similar]
    predecessors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Material:
    """headers: of the current images, frontal first; prior_headers: of those of the prior that were embedded with them.
    secret: of the catalog: no two installations make the same UIDs. number: of the document among those of its series.
    trial: it is to be looked at, and must not be taken for one that was sent.
    """

    study: StudyRecord
    route: str
    source_hash: str
    headers: list[Dataset]
    prior_headers: list[Dataset]
    result: Result
    made_at: datetime
    secret: bytes = field(repr=False)
    number: int = 1
    trial: bool = False

    def uid(self, *parts: str) -> str:
        """Of something in this document: another one for whatever else it says."""
        content = f"{self.source_hash} {self.made_at.isoformat()} {self.number} {self.result.model_dump_json()}"
        return self.lasting_uid("document", hashlib.sha256(content.encode()).hexdigest(), *parts)

    def lasting_uid(self, *parts: str) -> str:
        """Of something that all documents of the study and route have in common."""
        purpose = "return-trial" if self.trial else "return"
        return derived_uid(purpose, self.secret.hex(), self.route, self.study.study_instance_uid, *parts)

    @property
    def series_uid(self) -> str:
        """The same for every state of the study: one series holds all that this route ever says of it."""
        return self.lasting_uid("series")

    @property
    def statement(self) -> str:
        """What the numbers are and are not."""
        findings = self.result.findings
        return f"{NOTICE} Score: {findings.score_kind}. Probabilities: {findings.probabilities}"


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
        self,
        study_instance_uid: str,
        route: str,
        similar: int,
        made_at: datetime,
        *,
        number: int = 1,
        predecessors: tuple[str, ...] = (),
        made: str | None = None,
        trial: bool = False,
    ) -> Material:
        """made: the result of an attempt before this, which holds unless product, encoders or ``similar`` changed.

        Raises UnknownStudy; ArchiveError not-embedded, source-missing, model-mismatch, and what searching raises.
        """
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
        result = _kept(made, fingerprint, similar)
        if result is None:
            own = tuple(uid for uid in (study_instance_uid, stored.prior_uid) if uid)
            others = Filters(exclude_studies=own, exclude_patients=(stored.record.patient_key,), exclude_patient_of=own)
            snapshot = gallery.snapshot if similar else None
            result = Result(
                software=SOFTWARE,
                fingerprint=fingerprint,
                generation=None if snapshot is None else snapshot.info.id,
                asked=similar,
                findings=describe_findings(inference, stored.embedding),
                similar=_similar(snapshot, stored.embedding, others, fingerprint, similar) if similar else [],
                predecessors=predecessors,
            )
        return Material(
            study=stored.record,
            route=route,
            source_hash=stored.source or "",
            headers=headers,
            prior_headers=[header for header in prior if header is not None],
            result=result,
            made_at=made_at,
            secret=self._catalog.secret(RETURN_SECRET),
            number=number,
            trial=trial,
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


def _kept(made: str | None, fingerprint: str, similar: int) -> Result | None:
    """What was made before, if it would be made by the same now."""
    try:
        result = Result.model_validate_json(made) if made else None
    except ValidationError:  # of another release
        return None
    same = result is not None and (SOFTWARE, fingerprint, similar) == (
        result.software,
        result.fingerprint,
        result.asked,
    )
    return result if same else None


def _similar(
    snapshot: Snapshot | None, vector: np.ndarray, filters: Filters, fingerprint: str, count: int
) -> list[Similar]:
    """As the service ranks where nobody asks for another ranking. vector: (D,) of length 1."""
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
