"""What is searched for, as it is kept from one page to the next."""

import base64
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import PlainSerializer, PlainValidator

from index import Filters, Ranking, Seen

__all__ = ["MadeOf", "Question"]

MadeOf = Literal["image", "text", "composed"]


def _written(vector: np.ndarray) -> str:
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


def _read(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


Vector = Annotated[np.ndarray, PlainSerializer(_written), PlainValidator(_read)]


@dataclass(frozen=True)
class Question:
    """A search, all its pages.

    vector: float32 (D,), length 1, by the encoders ``fingerprint``. made_of: what it stands for; composed: a sum of
    several. text_weight, without_weight: of that sum, None where it has no such part. patient_keys: pseudonyms of the
    query's own patient. seen: how far the archive was read when the first page was found.
    """

    fingerprint: str
    vector: Vector
    made_of: MadeOf
    ranking: Ranking
    filters: Filters
    group_reports: bool
    top_k: int
    seen: Seen
    patient_keys: frozenset[str] = frozenset()
    own_patient_excluded: bool = False
    text_weight: float | None = None
    without_weight: float | None = None
