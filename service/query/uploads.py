"""Uploaded files to one study: read, recognise, accept or refuse, and give each image its encoder slot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NoReturn

import numpy as np
from fastapi import UploadFile

from index import Catalog, DecoderPool, InstanceFacts, arrange_slots, patient_keys, prior_slots
from index.slots import is_earlier
from model.encoder import StudyImages
from model.errors import ImageError
from model.image import ImageTransform
from model.similarity_map import FilmGeometry

from ..errors import RequestError
from ..observing import count_refused_file, stage
from ..schemas import Notice, Query, QueryFile
from .appearance import require_chest, warning_of
from .decoding import decode_archived, decode_upload
from .film import Film
from .study import QueryStudy

__all__ = ["Upload", "read_study"]

FRONTAL, LATERAL = "frontal", "lateral"

# What a client may call a view: our two groups and the terms of ViewPosition (PS3.3 C.8.1.1) for chest images.
VIEW_WORDS: Mapping[str, str | None] = {
    **dict.fromkeys(("frontal", "pa", "ap", "lld", "rld"), FRONTAL),
    **dict.fromkeys(("lateral", "lat", "ll", "rl"), LATERAL),
    **dict.fromkeys(("", "auto"), None),
}
POSITIONS = ("pa", "ap", "lld", "rld", "ll", "rl")


@dataclass(frozen=True)
class Upload:
    """The files of one form field, and what the client calls their views: none, or one word each."""

    field: Literal["files", "prior_files"]
    files: Sequence[UploadFile]
    views: Sequence[str]


@dataclass
class _Image:
    """One file: what the reply says of it, what its header says, and its pixels unless it was refused."""

    file: QueryFile
    facts: InstanceFacts
    pixels: np.ndarray | None = None  # encoder input, (crop, crop)
    geometry: FilmGeometry | None = None
    warning: Notice | None = None
    sent: UploadFile | None = None

    def film(self) -> Film:
        """Of an image that was not refused."""
        assert self.pixels is not None and self.geometry is not None and self.sent is not None
        return Film(self.pixels, self.geometry, partial(_read_again, self.sent))


def read_study(
    current: Upload,
    prior: Upload,
    transform: ImageTransform,
    decoder: DecoderPool,
    catalog: Catalog,
    *,
    find_prior: bool = True,
    check: bool = True,
) -> QueryStudy:
    """The study a client sent. Without prior files, its patient's prior study is looked for in the archive.

    check: refuse what is surely no chest radiograph, and warn of what may be none or is the wrong way round.
    Raises RequestError: the slug of a refused file, several-studies, no-frontal-image, bad-view, bad-prior.
    """
    images, prior_images = (_read_all(upload, transform, decoder, check) for upload in (current, prior))
    files = [image.file for image in (*images, *prior_images)]
    for study in (images, prior_images):
        _require_one_study(study, files)

    slots = _arrange(images)
    if "current_frontal" not in slots:
        _raise_unusable(images, files)
    facts = _facts_of_study(slots)
    warnings: list[Notice] = []
    filled: dict[str, np.ndarray | None] = {}
    own_studies: set[str | None] = set()
    source: Literal["uploaded", "archive"] | None = None
    if prior_images:
        chosen = {name.replace("current", "prior"): image for name, image in _arrange(prior_images).items()}
        if "prior_frontal" in chosen:
            _require_prior(facts, chosen["prior_frontal"].facts, files)
            slots, source = slots | chosen, "uploaded"
        else:
            warnings.append(_prior_ignored("it has no usable frontal image"))
    elif find_prior:
        try:
            paths = prior_slots(catalog, facts)
            archived = {name: decoder(decode_archived, path, transform) for name, path in paths.items()}
        except (OSError, ImageError):  # the archive references files in place; they can move or change
            archived = {}
            warnings.append(_prior_ignored("its files are no longer readable where they were ingested"))
        filled |= {name: image.pixels for name, image in archived.items()}
        own_studies |= {image.study_instance_uid for image in archived.values()}
        source = "archive" if archived else None

    _mark(slots, (*images, *prior_images))
    warnings += [image.warning for image in slots.values() if image.warning]
    filled |= {name: image.pixels for name, image in slots.items()}
    used = [image.facts for image in slots.values()]
    own_studies |= {seen.study_instance_uid for seen in used}
    own = frozenset(uid for uid in own_studies if uid)
    keys = {catalog.patient_key(seen.patient_id, seen.issuer or "") for seen in used if seen.patient_id}
    keys |= patient_keys(catalog, own)  # the archive may know the study by another Patient ID
    query = Query(study_instance_uid=facts.study_instance_uid, slots=sorted(filled), prior_source=source, files=files)
    film = slots["current_frontal"].film()
    return QueryStudy(query, warnings, own, frozenset(keys), StudyImages(**filled), film=film)


def _read_all(upload: Upload, transform: ImageTransform, decoder: DecoderPool, check: bool) -> list[_Image]:
    words = [word.strip().lower() for word in upload.views] or [""] * len(upload.files)
    if len(words) != len(upload.files):
        message = f"Expected one view for each of {len(upload.files)} `{upload.field}`, found {len(words)}."
        raise RequestError(message, "bad-view")
    if not set(words) <= set(VIEW_WORDS):
        known = ", ".join(word for word in VIEW_WORDS if word)
        raise RequestError(f"Expected views among {known}; found another word.", "bad-view")
    return [
        _read(QueryFile(field=upload.field, position=place, status="unused"), file, word, transform, decoder, check)
        for place, (file, word) in enumerate(zip(upload.files, words, strict=True))
    ]


def _read(
    file: QueryFile, sent: UploadFile, word: str, transform: ImageTransform, decoder: DecoderPool, check: bool
) -> _Image:
    image = _Image(file, InstanceFacts(), sent=sent)
    try:
        with stage("decode"):
            found = decoder(decode_upload, sent.file.read(), transform)
        file.format, image.facts, image.geometry = found.format, found.facts or image.facts, found.geometry
        if found.format == "picture":
            image.facts = _picture_facts(image.facts, file.position)
        if found.refusal:
            raise ImageError(found.refusal.message, found.refusal.slug)
        if check:
            require_chest(found.appearance)
            image.warning = warning_of(found.appearance, file)
        image.pixels = found.pixels
    except ImageError as error:
        file.status, file.reason, file.detail = "refused", error.slug, error.message
        count_refused_file(error.slug)
    view = VIEW_WORDS[word]
    if view is not None:
        position = word.upper() if word in POSITIONS else None
        image.facts = replace(image.facts, view=view, view_position=position, view_source="client")
    if image.pixels is not None or file.format == "dicom":
        file.view, file.view_position = image.facts.view, image.facts.view_position
        file.view_source, file.modality = image.facts.view_source, image.facts.modality
    return image


def _read_again(sent: UploadFile) -> bytes:
    sent.file.seek(0)
    return sent.file.read()


def _picture_facts(facts: InstanceFacts, position: int) -> InstanceFacts:
    """A picture that does not clearly show its view counts as frontal, as most that are sent alone are.

    The position keeps the choice among several of a kind in the order sent.
    """
    if facts.view_source is None:
        facts = replace(facts, view=FRONTAL, view_source="assumed")
    return replace(facts, instance_number=position)


def _arrange(images: Sequence[_Image]) -> dict[str, _Image]:
    """The archive's own rule, so that a study asks the way it would be embedded."""
    usable = [image for image in images if image.pixels is not None]
    chosen = arrange_slots([image.facts for image in usable])
    return {name: next(i for i in usable if i.facts is facts) for name, facts in chosen.items()}


def _facts_of_study(slots: Mapping[str, _Image]) -> InstanceFacts:
    """The header that identifies the study: the frontal image's, unless that is a picture without one."""
    by_slot = [slots[name].facts for name in sorted(slots)]  # frontal before lateral
    return next((facts for facts in by_slot if facts.study_instance_uid), by_slot[0])


def _mark(slots: Mapping[str, _Image], images: Sequence[_Image]) -> None:
    for image in images:
        image.file.slot = next((name for name, chosen in slots.items() if chosen is image), None)
        if image.file.slot:
            image.file.status = "used"
        elif image.file.status == "unused":
            image.file.detail = "Another image fills the slot of this view, or the view is unknown."


def _prior_ignored(why: str) -> Notice:
    return Notice(code="prior-ignored", detail=f"The prior study was left out: {why}.")


def _require_one_study(images: Sequence[_Image], files: list[QueryFile]) -> None:
    uids = {image.facts.study_instance_uid for image in images if image.pixels is not None} - {None}
    if len(uids) > 1:
        message = f"Expected images of one study, found {len(uids)} StudyInstanceUIDs."
        raise RequestError(message, "several-studies", files=_plain(files))


def _require_prior(current: InstanceFacts, prior: InstanceFacts, files: list[QueryFile]) -> None:
    message = None
    if current.study_instance_uid is not None and current.study_instance_uid == prior.study_instance_uid:
        message = "The prior study and the current study have the same StudyInstanceUID."
    elif current.patient_id and prior.patient_id and current.patient_id != prior.patient_id:
        message = "The prior study and the current study have different Patient IDs."
    elif is_earlier(current, prior):
        message = "The prior study is later than the current study."
    if message:
        raise RequestError(message, "bad-prior", files=_plain(files))


def _raise_unusable(images: Sequence[_Image], files: list[QueryFile]) -> NoReturn:
    refused = next((image.file for image in images if image.file.status == "refused"), None)
    if refused is None or any(image.pixels is not None for image in images):
        message = "Expected a frontal image among the usable files, found only lateral ones."
        raise RequestError(message, "no-frontal-image", files=_plain(files))
    raise RequestError(refused.detail or "", refused.reason or ImageError.slug, files=_plain(files))


def _plain(files: list[QueryFile]) -> list[dict[str, Any]]:
    return [file.model_dump() for file in files]
