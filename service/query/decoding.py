"""Pixels out of files; runs in the worker processes of an ``index.DecoderPool``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from index import InstanceFacts, Refusal, describe_dicom, refusal, with_seen_view
from model.errors import ImageError
from model.image import ImageTransform, Picture, picture_for, prepare_radiograph, read_dicom, read_radiograph

__all__ = ["Archived", "Upload", "decode_archived", "decode_upload"]


@dataclass(frozen=True)
class Upload:
    """What one uploaded file is. ``pixels``: encoder input, float32 (crop, crop); None where ``refusal`` says why.

    ``facts``: of a picture at most the view that it shows.
    """

    format: Literal["dicom", "picture"] | None = None
    facts: InstanceFacts | None = None
    pixels: np.ndarray | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Archived:
    """An archived image. ``pixels``: encoder input, float32 (crop, crop)."""

    study_instance_uid: str | None  # None for a picture
    pixels: np.ndarray


def decode_upload(data: bytes, transform: ImageTransform) -> Upload:
    """Recognise, judge and decode one file; a file that is no usable radiograph is an answer, no error."""
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
            picture = picture_for(dataset, transform)
            facts = with_seen_view(facts, picture.pixels)
        else:
            picture = Picture(read_radiograph(data).pixels)
            form, facts = "picture", with_seen_view(InstanceFacts(), picture.pixels)
        return Upload(form, facts, transform(picture.pixels, picture.extent))
    except ImageError as error:
        return Upload(form, facts, refusal=Refusal(error.slug, error.message))


def decode_archived(path: Path, transform: ImageTransform) -> Archived:
    """Raises ImageError, OSError."""
    prepared = prepare_radiograph(path, transform)
    uid = None if prepared.dataset is None else describe_dicom(prepared.dataset).study_instance_uid
    return Archived(uid, prepared.pixels)
