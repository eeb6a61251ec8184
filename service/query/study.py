"""A study to ask with, wherever it came from."""

from dataclasses import dataclass, replace

import numpy as np

from index import Filters
from model.encoder import StudyImages

from ..inference import Inference
from ..schemas import Notice, Query
from .film import Film

__all__ = ["QueryStudy"]


@dataclass(frozen=True)
class QueryStudy:
    """A query as the encoder reads it, and how it came about.

    embedding: float32 (D,), length 1, where the archive has it already; ``images`` may then be None.
    film: the current frontal image, where it was sent.
    own_studies: StudyInstanceUIDs of the query and of what served as its prior.
    patient_keys: the catalog's pseudonyms of the patients that headers or the archive name; empty where nobody does.
    """

    query: Query
    warnings: list[Notice]
    own_studies: frozenset[str]
    patient_keys: frozenset[str]
    images: StudyImages | None = None
    embedding: np.ndarray | None = None
    film: Film | None = None

    def embedded_by(self, inference: Inference) -> np.ndarray:
        """(D,) of length 1."""
        if self.embedding is not None:
            return self.embedding
        assert self.images is not None
        return inference.study(self.images)

    def without_itself(self, filters: Filters) -> Filters:
        """The query's own study and its prior are no news to who asks."""
        return replace(filters, exclude_studies=(*filters.exclude_studies, *sorted(self.own_studies)))

    def without_its_patient(self, filters: Filters) -> Filters:
        """Also without any other study of the patient; by their studies too, as these stay when a patient's identity is
        corrected between two pages."""
        return replace(
            filters,
            exclude_patients=(*filters.exclude_patients, *sorted(self.patient_keys)),
            exclude_patient_of=(*filters.exclude_patient_of, *sorted(self.own_studies)),
        )
