"""What a DICOM header says about an image, and whether the archive takes it.

``describe_dicom`` reads, ``refusal`` decides. Header values are hostile until proven otherwise: too long, of the
wrong type, holding NULs. Nothing here raises on them.
"""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, time
from typing import Any, Final

from pydicom import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, AllTransferSyntaxes, DeflatedExplicitVRLittleEndian

from .slots import DECUBITUS, FRONTAL, LATERAL, UNKNOWN

__all__ = [
    "MODALITIES",
    "InstanceFacts",
    "Refusal",
    "clean",
    "describe_dicom",
    "image_syntaxes",
    "is_oblique",
    "parse_age",
    "parse_date",
    "parse_sex",
    "parse_view",
    "refusal",
]

MODALITIES: Final = ("CR", "DX")  # PS3.3 C.7.3.1.1.1: Computed Radiography, Digital Radiography

CHEST_WORDS: Final = re.compile(r"CHEST|THORAX|TORAX|LUNG|PULM|POUMON|\bCXR\b|\bCHST\b")
OTHER_PART_WORDS: Final = re.compile(
    r"\b(ABDOMEN|ABDOMINAL|ANKLE|ARM|BREAST|CALCANEUS|CLAVICLE|COCCYX|DENTAL|ELBOW|EXTREMITY|FEMUR|FIBULA|FINGER|FOOT|"
    r"FOREARM|HAND|HEEL|HIP|HUMERUS|JAW|KNEE|KUB|LEG|MANDIBLE|NECK|ORBIT|PATELLA|PELVIS|RADIUS|SACRUM|SCAPULA|"
    r"SHOULDER|SINUS|SINUSES|SKULL|SPINE|TEETH|THUMB|TIBIA|TOE|TOES|ULNA|WRIST)\b"
)
NO_BODY_PART: Final = ("", "UNKNOWN", "OTHER", "NONE", "NA", "N/A", "UNDEFINED", "ANY", "DEFAULT")

# ViewPosition terms: PS3.3 C.8.1.1 (CR). A decubitus film is exposed frontally; an oblique one is neither.
FRONTAL_POSITIONS: Final = ("PA", "AP", *DECUBITUS)
LATERAL_POSITIONS: Final = ("LL", "RL", "LATERAL", "LAT")
_PA_WORDS: Final = re.compile(r"\bPA\b|POSTERO\W?ANTERIOR")
_AP_WORDS: Final = re.compile(r"\bAP\b|ANTERO\W?POSTERIOR")
_LATERAL_WORDS: Final = re.compile(r"\bLAT\b|\bLATERAL\b|\bLL\b|\bRL\b|^L$")
_FRONTAL_WORDS: Final = re.compile(r"\bFRONTAL\b")
_DECUBITUS_WORDS: Final = re.compile(r"DECUB|\b[LR]LD\b")
_OBLIQUE_WORDS: Final = re.compile(r"\bOBL|\b(?:[LR]LO|[LR][AP]O)\b")

HUMAN_SPECIES: Final = re.compile(r"HUMAN|HOMO SAPIENS")


@dataclass(frozen=True)
class InstanceFacts:
    """What the archive keeps of one image's header. ``None`` where the header is silent.

    view: frontal, lateral or unknown. view_position: PA, AP, LL, ... . view_source: who says so, header, manifest,
    classifier (what the picture shows), or of a query file client or assumed; header or manifest beside an unknown
    view where they name an oblique one, which is neither. acquired: sortable date and time.
    derived: whether ImageType says that the pixels were made from other images (PS3.3 C.7.6.1.1.2).
    sex: M, F or O. age: years on the day of the study. study_order: position among the patient's undated studies.
    """

    study_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    patient_id: str | None = None
    issuer: str | None = None
    accession_number: str | None = None
    study_date: date | None = None
    study_time: time | None = None
    study_order: float | None = None
    modality: str | None = None
    view_position: str | None = None
    view: str = UNKNOWN
    view_source: str | None = None
    sex: str | None = None
    age: float | None = None
    rows: int | None = None
    columns: int | None = None
    instance_number: int | None = None
    acquired: str | None = None
    derived: bool | None = None
    description: str | None = None
    institution: str | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a file is not taken: a stable ``slug`` and a sentence."""

    slug: str
    message: str


def describe_dicom(dataset: Dataset) -> InstanceFacts:
    """Identifiers, dates, view and patient of a header, as given; decides nothing and raises nothing."""
    study_date = parse_date(_text(dataset, "StudyDate"))
    position, view, stated = _view_of(dataset)
    return InstanceFacts(
        study_instance_uid=_text(dataset, "StudyInstanceUID"),
        sop_instance_uid=_text(dataset, "SOPInstanceUID"),
        patient_id=_text(dataset, "PatientID"),
        issuer=_text(dataset, "IssuerOfPatientID"),
        accession_number=(_text(dataset, "AccessionNumber") or "")[:64] or None,
        study_date=study_date,
        study_time=_parse_time(_text(dataset, "StudyTime")),
        modality=(_text(dataset, "Modality") or "")[:16].upper() or None,
        view_position=position,
        view=view,
        view_source="header" if stated else None,
        sex=parse_sex(_text(dataset, "PatientSex")),
        age=_age_of(dataset, study_date),
        rows=_whole(dataset, "Rows"),
        columns=_whole(dataset, "Columns"),
        instance_number=_whole(dataset, "InstanceNumber"),
        acquired=_acquired(dataset),
        derived=_derived(dataset),
        description=_text(dataset, "StudyDescription"),
        institution=(_text(dataset, "InstitutionName") or "")[:64] or None,
    )


def refusal(dataset: Dataset) -> Refusal | None:
    """Why this DICOM object is no chest radiograph the archive can use, or None; from the header alone.

    Slugs: wrong-modality, not-human, not-a-chest-radiograph, for-processing, no-pixel-data, multi-frame,
    unsupported-photometric, no-transfer-syntax, unsupported-transfer-syntax. What only decoding shows (truncated,
    undecodable, blank-image) comes from ``model.image.decode_dicom``.
    """
    modality = (_text(dataset, "Modality") or "").upper()
    if modality not in MODALITIES:
        found = modality or "none"
        return Refusal("wrong-modality", f"Expected modality {' or '.join(MODALITIES)}, found {found}.")
    return _refuse_patient(dataset) or _refuse_body_part(dataset) or _refuse_pixels(dataset)


def _refuse_patient(dataset: Dataset) -> Refusal | None:
    # PS3.3 C.7.1.1: species, breed and an owner are required of veterinary patients.
    species = _text(dataset, "PatientSpeciesDescription") or _code_meanings(dataset, "PatientSpeciesCodeSequence")
    if species and not HUMAN_SPECIES.search(species.upper()):
        return Refusal("not-human", f"Expected a human patient, found species {species[:64]}.")
    breed = _text(dataset, "PatientBreedDescription")
    if breed and not species:
        return Refusal("not-human", f"Expected a human patient, found breed {breed[:64]}.")
    if (_text(dataset, "ResponsiblePersonRole") or "").upper() == "OWNER":
        return Refusal("not-human", "Expected a human patient, found one that has an owner.")
    return None


def _refuse_body_part(dataset: Dataset) -> Refusal | None:
    body_part = (_text(dataset, "BodyPartExamined") or "").upper()
    if body_part in NO_BODY_PART:
        body_part = _code_meanings(dataset, "AnatomicRegionSequence").upper()
    if body_part:
        if CHEST_WORDS.search(body_part):
            return None
        return Refusal("not-a-chest-radiograph", f"Expected body part CHEST or THORAX, found {body_part[:64]}.")
    words = _joined(dataset, ("StudyDescription", "SeriesDescription", "ProtocolName"))
    other = OTHER_PART_WORDS.search(words)
    if other and not CHEST_WORDS.search(words):
        message = f"No body part is given and the description says {other.group().lower()}, not chest."
        return Refusal("not-a-chest-radiograph", message)
    return None


def _refuse_pixels(dataset: Dataset) -> Refusal | None:
    # PS3.3 C.8.11.1.1.1: raw detector values that still need processing; nobody reads them, no encoder has seen them.
    if (_text(dataset, "PresentationIntentType") or "").upper() == "FOR PROCESSING":
        return Refusal("for-processing", "Expected an image FOR PRESENTATION, found one FOR PROCESSING.")
    if "PixelData" not in dataset:
        return Refusal("no-pixel-data", "The DICOM object has no pixel data; the file may end early.")
    frames = _whole(dataset, "NumberOfFrames") or 1
    if frames > 1:
        return Refusal("multi-frame", f"Expected a single frame, found {frames}.")
    photometric = _text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        message = f"Expected MONOCHROME1 or MONOCHROME2, found {photometric or 'none'}."
        return Refusal("unsupported-photometric", message)
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        return Refusal("no-transfer-syntax", "The DICOM file meta information names no transfer syntax.")
    if not _is_image_syntax(UID(str(syntax))):
        return Refusal("unsupported-transfer-syntax", f"Transfer syntax {UID(str(syntax)).name} is not supported.")
    return None


def image_syntaxes() -> list[UID]:
    """The transfer syntaxes that can be decoded, plain ones first; not the deflated one, which no image needs."""
    found = [syntax for syntax in AllTransferSyntaxes if _is_image_syntax(syntax)]
    return [syntax for syntax in found if syntax != DeflatedExplicitVRLittleEndian]


def _is_image_syntax(syntax: UID) -> bool:
    if not syntax.is_transfer_syntax:
        return False
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:  # pydicom's answer for a syntax that it has no decoder for
        return False


def _view_of(dataset: Dataset) -> tuple[str | None, str, bool]:
    """(view position, view, whether the header tells the view), from the most to the least reliable place."""
    position = (_text(dataset, "ViewPosition") or "").upper()
    for words in (position, _code_meanings(dataset, "ViewCodeSequence")):
        given, view = parse_view(words)
        if view != UNKNOWN:
            return given, view, True
        if is_oblique(words):
            # Its rows run left-right too: the orientation would say frontal.
            return position[:16] or None, UNKNOWN, True
    view = _orientation_view(_text(dataset, "PatientOrientation") or "")
    if view == UNKNOWN and not position:
        # Not the study description: it names all views of the study at once.
        words = _joined(dataset, ("SeriesDescription", "ProtocolName"))
        given, view = parse_view(words)
        return given, view, view != UNKNOWN or is_oblique(words)
    return position[:16] or None, view, view != UNKNOWN


def parse_view(words: str) -> tuple[str | None, str]:
    """(view position or None, frontal | lateral | unknown) of free words such as ``PA``, ``Lateral``, ``AP supine``.

    Words that name a frontal and a lateral view at once say nothing about one image. An oblique view is neither; a
    "left lateral decubitus" is frontal, of a patient who lies on the left side.
    """
    words = words.strip().upper()
    if words in FRONTAL_POSITIONS:
        return words, FRONTAL
    if words in LATERAL_POSITIONS:
        return words.replace("LATERAL", "LAT").replace("LAT", "LATERAL"), LATERAL
    if _OBLIQUE_WORDS.search(words):
        return None, UNKNOWN
    if _DECUBITUS_WORDS.search(words):
        return _decubitus_position(words), FRONTAL
    posterior, anterior = bool(_PA_WORDS.search(words)), bool(_AP_WORDS.search(words))
    frontal = posterior or anterior or bool(_FRONTAL_WORDS.search(words))
    lateral = bool(_LATERAL_WORDS.search(words))
    if lateral and not frontal:
        return "LATERAL", LATERAL
    if frontal and not lateral:
        return (("PA" if posterior else "AP") if posterior != anterior else None), FRONTAL
    return None, UNKNOWN


def is_oblique(words: str) -> bool:
    """Whether free words name an oblique view and none that ``parse_view`` knows."""
    return parse_view(words)[1] == UNKNOWN and bool(_OBLIQUE_WORDS.search(words.upper()))


def _decubitus_position(words: str) -> str:
    left = re.search(r"\bLLD\b|\bLEFT\b|\bLT\b|\bL\b", words)
    right = re.search(r"\bRLD\b|\bRIGHT\b|\bRT\b|\bR\b", words)
    return "DECUBITUS" if bool(left) == bool(right) else "LLD" if left else "RLD"


def _orientation_view(orientation: str) -> str:
    """PS3.3 C.7.6.1.1.1: where rows and columns point; rows that run left-right are a frontal view."""
    rows, _, columns = orientation.upper().partition("\\")
    if not rows or not columns.strip().startswith(("F", "H")):
        return UNKNOWN
    return {"L": FRONTAL, "R": FRONTAL, "A": LATERAL, "P": LATERAL}.get(rows[0], UNKNOWN)


def parse_sex(value: str | None) -> str | None:
    """M, F, O (PS3.3 C.7.1.1) or None."""
    initial = (value or "").strip()[:1].upper()
    return initial if initial in ("M", "F", "O") else None


def parse_date(value: str | None) -> date | None:
    """A date from ``20240131``, ``2024-01-31`` or the old ``2024.01.31``; None for anything else."""
    digits = re.fullmatch(r"(\d{4})[-./]?(\d{2})[-./]?(\d{2})(T.*)?", (value or "").strip())
    try:
        return date(*(int(part) for part in digits.groups()[:3])) if digits else None
    except ValueError:
        return None


def parse_age(value: str | None) -> float | None:
    """Years from a DICOM age string (``045Y``, ``006M``, ``010W``, ``003D``) or a plain number of years."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*([YMWD]?)", (value or "").strip().upper())
    if not match:
        return None
    years = float(match.group(1)) / {"": 1, "Y": 1, "M": 12, "W": 52.18, "D": 365.25}[match.group(2)]
    return round(years, 3) if years <= 150 else None


def _age_of(dataset: Dataset, study_date: date | None) -> float | None:
    age = parse_age(_text(dataset, "PatientAge"))
    born = parse_date(_text(dataset, "PatientBirthDate"))
    if age is not None or born is None or study_date is None:
        return age
    years = (study_date - born).days / 365.25
    return round(years, 1) if 0 <= years <= 150 else None


def _parse_time(value: str | None) -> time | None:
    match = re.fullmatch(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?", (value or "").strip())
    if not match:
        return None
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    try:
        return time(hour, minute, min(second, 59), int((match.group(4) or "0").ljust(6, "0")))  # 60: a leap second
    except ValueError:
        return None


def _acquired(dataset: Dataset) -> str | None:
    for day, moment in (("AcquisitionDate", "AcquisitionTime"), ("ContentDate", "ContentTime")):
        given = parse_date(_text(dataset, day))
        if given:
            return f"{given:%Y%m%d}{_parse_time(_text(dataset, moment)) or time():%H%M%S.%f}"
    return None


def _derived(dataset: Dataset) -> bool | None:
    kind = (_text(dataset, "ImageType") or "").upper().partition("\\")[0].strip()
    return {"ORIGINAL": False, "DERIVED": True}.get(kind)


def clean(value: str) -> str:
    """Text that any database takes: no NULs, no lone surrogates, no surrounding blanks."""
    return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8").strip()


def _text(dataset: Dataset, keyword: str) -> str | None:
    value = _value(dataset, keyword)
    if value is None:
        return None
    parts: Iterable[Any] = (
        value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
    )
    return clean("\\".join(str(part) for part in parts)) or None


def _whole(dataset: Dataset, keyword: str) -> int | None:
    try:
        number = int(float(_text(dataset, keyword) or ""))
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < 2**31 else None


def _value(dataset: Dataset, keyword: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a value is converted, and its VR's rules checked, when it is read
            return dataset.get(keyword)
    except Exception:  # and a broken one may raise anything
        return None


def _code_meanings(dataset: Dataset, keyword: str) -> str:
    items = _value(dataset, keyword)
    if not hasattr(items, "__iter__"):
        return ""
    return " ".join(_text(item, "CodeMeaning") or "" for item in items if isinstance(item, Dataset)).strip()


def _joined(dataset: Dataset, keywords: Iterable[str]) -> str:
    return re.sub(r"[_^]", " ", " ".join(_text(dataset, keyword) or "" for keyword in keywords)).upper()
