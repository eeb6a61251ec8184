"""Is the service alive, can it answer, and with which encoders."""

from fastapi import APIRouter, Response

from model.errors import AltaError
from model.prompts import PROMPT_SETS

from ..deps import Resources, ResourcesDep
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
def readyz(resources: ResourcesDep, response: Response) -> Health:
    """Searches can be answered: database, encoders and a live generation of these encoders are there."""
    health = _health(resources)
    response.status_code = 200 if health.status == "ok" else 503
    return health


@router.get("/v1/model")
def model(resources: ResourcesDep) -> ModelCard:
    """The loaded encoders and the limits of this installation."""
    encoder, settings = resources.inference.encoder, resources.settings
    return ModelCard(
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
        context_length=encoder.context_length,
        findings=list(PROMPT_SETS),
        provenance=Provenance.model_validate(getattr(encoder, "provenance", UNKNOWN)),
        max_files=settings.max_files,
        max_upload_mb=settings.max_upload_mb,
        max_top_k=settings.max_top_k,
    )


def _health(resources: Resources) -> Health:
    """The encoders are loaded before the first request, so a service that answers has them."""
    try:
        resources.gallery.refresh()
    except Exception as error:  # whatever a driver raises: readiness must answer
        reason = error.slug if isinstance(error, AltaError) else "database-unavailable"
        return Health(status="unavailable", reasons=[reason])
    generation = resources.gallery.generation
    if generation is None:
        return Health(status="unavailable", reasons=["empty-index"])
    if generation.model_fingerprint != resources.inference.encoder.fingerprint:
        return Health(status="unavailable", reasons=["model-mismatch"], generation=generation.id)
    return Health(status="ok", reasons=[], generation=generation.id)
