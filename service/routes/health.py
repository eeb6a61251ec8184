"""Is the service alive, can it answer, and with which encoders."""

from fastapi import APIRouter, Response

from model.errors import AltaError
from model.prompts import PROMPT_SETS

from ..deps import MomentDep, ResourcesDep
from ..resources import Resources
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
    """Searches can be answered: database and a generation with its encoders are there.

    `degraded`: they are answered from the generation before, because the live one cannot be used; `reasons` says why.
    """
    health = _health(resources)
    response.status_code = 503 if health.status == "unavailable" else 200
    return health


@router.get("/v1/model")
def model(resources: ResourcesDep, moment: MomentDep) -> ModelCard:
    """The encoders that queries are embedded with, and the limits of this installation."""
    encoder, settings = moment.inference.encoder, resources.settings
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
        moment = resources.moment()
        if moment.snapshot is not None:
            moment.snapshot.require_whole()
    except Exception as error:  # whatever a driver raises: readiness must answer
        reason = error.slug if isinstance(error, AltaError) else "database-unavailable"
        return Health(status="unavailable", reasons=[reason])
    reasons = [] if moment.problem is None else [moment.problem.slug]
    if moment.snapshot is None:
        return Health(status="unavailable", reasons=reasons or ["empty-index"])
    generation = moment.snapshot.info.id
    if "database-unavailable" in reasons:  # hits are read from it
        return Health(status="unavailable", reasons=reasons, generation=generation)
    return Health(status="degraded" if reasons else "ok", reasons=reasons, generation=generation)
