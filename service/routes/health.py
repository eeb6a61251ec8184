"""Is the service alive, can it answer, and with which encoders."""

from fastapi import APIRouter, Request, Response

from index.access.keys import SEARCH
from model.prompts import PROMPT_SETS

from ..access import requires
from ..deps import MomentDep, ResourcesDep
from ..schemas import Health, ModelCard, Provenance

__all__ = ["router"]

UNKNOWN = Provenance(
    name="unknown",
    trained_on="unknown",
    license="unknown",
    notice="Research software, no medical device: hits and scores do not replace a reading. Not for clinical use.",
)

router = APIRouter(tags=["service"])


@router.get("/livez")
async def livez() -> Health:
    """The process answers. Says nothing about the database or the index."""
    return Health(status="ok", reasons=[])


@router.get("/readyz", responses={503: {"model": Health, "description": "Searches cannot be answered now."}})
async def readyz(request: Request, response: Response) -> Health:
    """Searches can be answered: one by an image and one by a text were, within the last seconds.

    `degraded`: from the generation before, because the live one cannot be used; `reasons` says why.
    """
    health = await request.app.state.readiness.check()
    response.status_code = 503 if health.status == "unavailable" else 200
    return health


@router.get("/v1/model", dependencies=[requires(SEARCH)])
def model(resources: ResourcesDep, moment: MomentDep) -> ModelCard:
    """The encoders that queries are embedded with, and the limits of this installation."""
    encoder, settings = moment.inference.encoder, resources.settings
    return ModelCard(
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
        context_length=encoder.context_length,
        findings=list(PROMPT_SETS),
        provenance=Provenance.model_validate(getattr(encoder, "provenance", UNKNOWN)),
        viewer_url=settings.viewer_url or None,
        max_files=settings.max_files,
        max_upload_mb=settings.max_upload_mb,
        max_top_k=settings.max_top_k,
    )
