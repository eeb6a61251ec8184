"""The one image of a study that a question about places is asked of."""

from dataclasses import dataclass

from index import Catalog, DecoderPool
from model.image import ImageTransform

from ..errors import RequestError
from ..schemas import Notice, Query
from .film import Film, read_archived_film
from .uploads import Upload, read_study

__all__ = ["AskedFilm", "read_asked_film"]

NOTHING = Upload("prior_files", (), ())


@dataclass(frozen=True)
class AskedFilm:
    film: Film
    query: Query
    warnings: list[Notice]


def read_asked_film(
    upload: Upload,
    study_instance_uid: str | None,
    transform: ImageTransform,
    decoder: DecoderPool,
    catalog: Catalog,
    *,
    check: bool,
) -> AskedFilm:
    """The frontal image of the files that were sent, or of an archived study.

    Raises what ``read_study`` and ``read_archived_film`` raise, and RequestError: no-file, bad-query.
    """
    if study_instance_uid is None:
        if not upload.files:
            message = "Expected `files`, or the `study_instance_uid` of an archived study; found none."
            raise RequestError(message, "no-file")
        study = read_study(upload, NOTHING, transform, decoder, catalog, find_prior=False, check=check)
        assert study.film is not None
        return AskedFilm(study.film, study.query, study.warnings)
    if upload.files:
        raise RequestError("Expected `files` or `study_instance_uid`, found both.", "bad-query")
    film = read_archived_film(study_instance_uid, transform, decoder, catalog)
    query = Query(study_instance_uid=study_instance_uid, from_archive=True, slots=["current_frontal"], files=[])
    return AskedFilm(film, query, [])
