"""What is searched for, as it is kept from one page to the next."""

import base64
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import PlainSerializer, PlainValidator

from index import AskedWith, Filters, Ranking, Seen

__all__ = ["Question"]


def _written(vector: np.ndarray) -> str:
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


def _read(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


Vector = Annotated[np.ndarray, PlainValidator(_read), PlainSerializer(_written)]


@dataclass(frozen=True)
class Question:
    """A search, all its pages.

    vector: float32 (D,), length 1, by the encoders ``fingerprint``. asked_with: image also where a text was added.
    composed: a sum of several directions. seen: how far the archive was read when the first page was found.
    patient_keys: pseudonyms of the query's own patient. evidence: whether sentences are asked for. text_weight,
    without_weight: of the sum, None where it has no such part.
    """

    fingerprint: str
    vector: Vector
    asked_with: AskedWith
    composed: bool
    ranking: Ranking
    filters: Filters
    group_reports: bool
    top_k: int
    seen: Seen
    patient_keys: frozenset[str] = frozenset()
    own_patient_excluded: bool = False
    evidence: bool = True
    text_weight: float | None = None
    without_weight: float | None = None
