"""A radiograph that is sent, as a picture that a browser can show."""

from typing import Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile

from index.access.keys import SEARCH

from ..access import requires
from ..deps import ResourcesDep
from ..openapi import form_example, problem_responses
from ..render import MAX_SIZE, render_png

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["studies"], dependencies=[requires(SEARCH)])


@router.post(
    "/rendering",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "8-bit grey PNG, at most `size` px on its longer side."},
        **problem_responses(400, 413, 415, 422),
    },
    openapi_extra=form_example(file="(pa.dcm)", size=1024),
)
def rendering(
    resources: ResourcesDep,
    file: Annotated[UploadFile, File(description="A DICOM, JPEG or PNG image.")],
    size: Annotated[int, Form(ge=16, le=MAX_SIZE, description="Longer side in px; never enlarged.")] = 1024,
) -> Response:
    """As `/v1/studies/{study_instance_uid}/image` shows archived ones: windowed by its header, upright, dense tissue
    bright. Any radiograph is rendered, also one that no search would take."""
    png = resources.decoder(render_png, file.file.read(), size)
    return Response(png, media_type="image/png", headers={"Cache-Control": "private, no-store"})
