"""Zero-shot classification of an uploaded study."""

from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import Json

from index.access.keys import SEARCH

from ..access import note_for_audit, requires
from ..deps import AskedStudy, MomentDep
from ..openapi import problem_responses
from ..schemas import Name, ZeroShotReply, ZeroShotRequest
from ..zero_shot import LABEL_SCORE, PAIR_SCORE, require_usable, score_labels, score_pairs, texts_of

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["zero-shot"], dependencies=[requires(SEARCH)])


@router.post("/zero-shot", responses=problem_responses(400, 413, 415, 422))
def zero_shot(
    moment: MomentDep,
    study: AskedStudy,
    labels: Annotated[
        list[Name] | None, Form(max_length=100, description="Labels to compare, when there is no `request`.")
    ] = None,
    request: Annotated[
        Json[ZeroShotRequest] | None,
        Form(
            description="JSON with `labels` or `prompts`. Without either: the built-in ensembles of the CheXpert"
            " findings.",
            examples=['{"labels": ["Pneumothorax", "No Finding"]}'],
        ),
    ] = None,
) -> ZeroShotReply:
    """How well each label or finding fits the study: cosines, and a score whose meaning `score_kind` states."""
    asked = (request or ZeroShotRequest()).model_copy(update={"labels": labels} if labels else {})
    require_usable(asked)
    inference = moment.inference
    vector = study.embedded_by(inference)
    findings = [] if asked.labels else score_pairs(inference, vector, asked.prompts)
    scored = score_labels(inference, vector, asked.labels) if asked.labels else []
    note_for_audit(results=len(findings) + len(scored))
    return ZeroShotReply(
        query=study.query,
        model_fingerprint=inference.encoder.fingerprint,
        score_kind=LABEL_SCORE if asked.labels else PAIR_SCORE,
        findings=findings,
        labels=scored,
        warnings=[*study.warnings, *inference.length_warnings(texts_of(asked))],
    )
