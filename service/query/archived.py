"""A study of the archive to ask with: by its stored embedding, else by its files."""

from index import Catalog, DecoderPool, stored_study
from model.encoder import StudyImages
from model.errors import ImageError
from model.image import ImageTransform

from ..errors import RequestError
from ..schemas import Query
from .decoding import decode_archived
from .study import QueryStudy

__all__ = ["read_archived_study"]


def read_archived_study(
    study_instance_uid: str,
    fingerprint: str,
    transform: ImageTransform,
    decoder: DecoderPool,
    catalog: Catalog,
    *,
    find_prior: bool = True,
    with_images: bool = False,
) -> QueryStudy:
    """The archived study as the encoders ``fingerprint`` read it, with the prior that the archive finds for it.

    Its files are read where there is no embedding of exactly these images yet, or ``with_images``.
    Raises UnknownStudy, RequestError: no-frontal-image, no-such-image.
    """
    stored = stored_study(catalog, study_instance_uid, fingerprint)
    files = {slot: path for slot, path in stored.files.items() if find_prior or slot.startswith("current")}
    if not files:
        raise RequestError("The archived study has no frontal image to search with.", "no-frontal-image")
    embedding = stored.embedding if len(files) == len(stored.files) else None
    images = None
    if with_images or embedding is None:
        try:
            decoded = {slot: decoder(decode_archived, path, transform).pixels for slot, path in files.items()}
        except (OSError, ImageError):  # the archive references files in place; they can move or change
            message = "An image of the study is no longer readable where it was ingested."
            raise RequestError(message, "no-such-image") from None
        images = StudyImages(**decoded)
    prior = stored.prior_uid if find_prior else None
    query = Query(
        study_instance_uid=study_instance_uid,
        slots=sorted(files),
        prior_source="archive" if prior else None,
        files=[],
        from_archive=True,
    )
    own = frozenset(uid for uid in (study_instance_uid, prior) if uid)
    return QueryStudy(query, [], own, frozenset({stored.record.patient_key}), images, embedding)
