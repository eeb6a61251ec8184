"""Pixels out of files; runs in the worker processes of an ``index.DecoderPool``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from index import InstanceFacts, Refusal, describe_dicom, refusal, with_seen_view
from model.dicom_display import mirrored
from model.errors import ImageError
from model.image import ImageTransform, Picture, picture_for, prepare_radiograph, read_dicom, read_radiograph
from model.similarity_map import FilmGeometry
from model.unlike import Appearance, judge_picture

__all__ = ["Archived", "Upload", "decode_archived", "decode_upload"]


@dataclass(frozen=True)
class Upload:
    """What one uploaded file is. ``pixels``: encoder input, float32 (crop, crop); None where ``refusal`` says why.

    ``facts``: of a picture at most the view that it shows. ``appearance``, ``geometry``: where there are pixels.
    """

    format: Literal["dicom", "picture"] | None = None
    facts: InstanceFacts | None = None
    pixels: np.ndarray | None = None
    refusal: Refusal | None = None
    appearance: Appearance = "chest"
    geometry: FilmGeometry | None = None


@dataclass(frozen=True)
class Archived:
    """An archived image. ``pixels``: encoder input, float32 (crop, crop)."""

    study_instance_uid: str | None  # None for a picture
    pixels: np.ndarray


def decode_upload(source: bytes | Path, transform: ImageTransform) -> Upload:
    """Recognise, judge and decode one file; a file that is no usable radiograph is an answer, no error.

    Raises OSError for a path that cannot be read.
    """
    data = source.read_bytes() if isinstance(source, Path) else source
    form: Literal["dicom", "picture"] | None = None
    facts = None
    try:
        if data[128:132] == b"DICM":
            form = "dicom"
            dataset = read_dicom(data)
            facts = describe_dicom(dataset)
            refused = refusal(dataset)
            if refused is not None:
                return Upload(form, facts, refusal=refused)
            picture, colour, turned = picture_for(dataset, transform), 0.0, mirrored(dataset)
            facts = with_seen_view(facts, picture.pixels)
        else:
            film = read_radiograph(data)
            picture, colour, turned = Picture(film.pixels), film.colour, (False, False)
            form, facts = "picture", with_seen_view(InstanceFacts(), picture.pixels)
        height, width = picture.size
        return Upload(
            form,
            facts,
            transform(picture.pixels, picture.extent),
            appearance=judge_picture(picture.pixels, colour),
            geometry=FilmGeometry(height, width, transform.seen(height, width), turned),
        )
    except ImageError as error:
        return Upload(form, facts, refusal=Refusal(error.slug, error.message))


def decode_archived(path: Path, transform: ImageTransform) -> Archived:
    """Raises ImageError, OSError."""
    prepared = prepare_radiograph(path, transform)
    uid = None if prepared.dataset is None else describe_dicom(prepared.dataset).study_instance_uid
    return Archived(uid, prepared.pixels)
