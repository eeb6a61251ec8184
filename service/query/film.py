"""The frontal image that is asked about, with how it lies on its file and where that can be read again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from index import Catalog, DecoderPool, study_slots
from model.errors import ImageError
from model.image import ImageTransform
from model.similarity_map import FilmGeometry

from ..errors import RequestError
from .decoding import decode_upload

__all__ = ["Film", "read_archived_film"]


@dataclass(frozen=True)
class Film:
    """pixels: encoder input, float32 (crop, crop). source: the file, to be shown."""

    pixels: np.ndarray
    geometry: FilmGeometry
    source: Callable[[], bytes | Path]


def read_archived_film(
    study_instance_uid: str, transform: ImageTransform, decoder: DecoderPool, catalog: Catalog
) -> Film:
    """The frontal image that the archive embeds the study by.

    Raises UnknownStudy, RequestError: no-frontal-image, no-such-image.
    """
    path = study_slots(catalog, study_instance_uid).get("current_frontal")
    if path is None:
        raise RequestError("The archived study has no frontal image to look at.", "no-frontal-image")
    try:
        found = decoder(decode_upload, path, transform)
    except (OSError, ImageError):  # the archive references files in place; they can move or change
        found = None
    if found is None or found.pixels is None or found.geometry is None:
        message = "The frontal image of the study is no longer readable where it was ingested."
        raise RequestError(message, "no-such-image")
    return Film(found.pixels, found.geometry, lambda: path)
