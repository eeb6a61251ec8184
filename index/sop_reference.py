"""What a DICOM file says it is. Runs in the worker processes of a ``DecoderPool``: headers are hostile too."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom

from model.dicom_pixels import refuse_deflated
from model.errors import ImageError

__all__ = ["SopReference", "read_reference"]

UID: Final = re.compile(r"[0-9.]{1,64}")
IDENTIFIERS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")


@dataclass(frozen=True)
class SopReference:
    """PS3.3 table 10-11, and the study."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str


def read_reference(path: Path) -> SopReference:
    """Read a header as far as the pixels.

    Raises ImageError: not-dicom, truncated, missing-identifier, unsupported-transfer-syntax (deflated).
    """
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            raise ImageError("Expected a DICOM file (PS3.10); found no DICM prefix at byte 128.", "not-dicom")
    refuse_deflated(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a value that breaks its VR's rules is judged when it is taken in
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(IDENTIFIERS))
            values = [str(dataset.get(keyword) or "") for keyword in IDENTIFIERS]
    except Exception as error:  # pydicom raises many kinds
        raise ImageError(f"The header cannot be read: {type(error).__name__}.", "truncated") from None
    for keyword, value in zip(IDENTIFIERS, values, strict=True):
        if not UID.fullmatch(value):
            raise ImageError(f"Expected a UID as {keyword}.", "missing-identifier")
    return SopReference(*values)
