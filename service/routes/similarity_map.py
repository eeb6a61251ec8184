"""Where on a radiograph the encoders see a phrase."""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Header, Response

from index.access.keys import SEARCH

from ..access import requires
from ..deps import AskedFilmDep, MomentDep, ResourcesDep
from ..openapi import form_example, problem_responses
from ..render import MAX_SIZE, render_overlay
from ..schemas import SimilarityMapReply
from ..similarity_map import describe_map

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["similarity-map"], dependencies=[requires(SEARCH)])


@router.post(
    "/similarity-map",
    response_model=SimilarityMapReply,
    responses={
        200: {"content": {"image/png": {}}, "description": "The map as numbers, or over the upright image as a PNG."},
        **problem_responses(400, 404, 413, 415, 422),
    },
    openapi_extra=form_example(files=["(pa.dcm)"], phrase="left pneumothorax", format="json"),
)
def similarity_map(
    resources: ResourcesDep,
    moment: MomentDep,
    asked: AskedFilmDep,
    phrase: Annotated[
        str, Form(min_length=1, max_length=2000, description="What to look for.", examples=["left pneumothorax"])
    ],
    format: Annotated[
        Literal["json", "png"] | None, Form(description="Without it: a PNG where `Accept` names `image/png` alone.")
    ] = None,
    size: Annotated[int, Form(ge=16, le=MAX_SIZE, description="Longer side of the PNG in px.")] = 512,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> SimilarityMapReply | Response:
    """Where on the frontal image the encoders see the words of a phrase; what it shows is said in `statement`."""
    inference = moment.inference
    found = inference.similarity_map(asked.film.pixels, phrase)
    if format == "json" or (format is None and not _wants_png(accept)):
        return describe_map(inference, asked, phrase, found)
    png = resources.decoder(render_overlay, asked.film.source(), size, found.values, asked.film.geometry)
    headers = {"X-Model-Fingerprint": inference.encoder.fingerprint, "Cache-Control": "private, no-store"}
    return Response(png, media_type="image/png", headers=headers)


def _wants_png(accept: str | None) -> bool:
    named = {part.partition(";")[0].strip().lower() for part in (accept or "").split(",")}
    return named == {"image/png"}
