"""A phrase's similarity map as the reply has it."""

from dataclasses import asdict

import numpy as np

from model.encoder import StudyImages
from model.similarity_map import SimilarityMap

from .inference import Inference
from .query import AskedFilm
from .schemas import MapBox, SimilarityMapReply, WordMap

__all__ = ["STATEMENT", "describe_map"]

STATEMENT = (
    "Shows where in this image the encoders see most of what they associate with the phrase, compared with the rest of"
    " the same image. Every image has a highest place, whether or not the finding is there: no proof of a finding, and"
    " none of its absence."
)


def describe_map(inference: Inference, asked: AskedFilm, phrase: str, found: SimilarityMap) -> SimilarityMapReply:
    geometry = asked.film.geometry
    box = geometry.stored
    image = inference.study(StudyImages(asked.film.pixels))
    return SimilarityMapReply(
        query=asked.query,
        model_fingerprint=inference.encoder.fingerprint,
        phrase=phrase,
        statement=STATEMENT,
        score=float(image @ inference.text(phrase)),
        rows=geometry.height,
        columns=geometry.width,
        box=MapBox(**{side: round(at, 3) for side, at in asdict(box).items()}),
        values=_rounded(geometry.as_stored(found.values)),
        lowest=float(found.values.min()),
        highest=float(found.values.max()),
        words=[
            WordMap(word=each.word, highest=float(each.values.max()), values=_rounded(geometry.as_stored(each.values)))
            for each in found.words
        ],
        warnings=asked.warnings,
    )


def _rounded(values: np.ndarray) -> list[list[float]]:
    return [[round(float(value), 4) for value in row] for row in values]
