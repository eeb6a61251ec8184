"""Zero-shot classification of an uploaded study."""

from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import Json

from index.access.keys import SEARCH

from ..access import note_for_audit, requires
from ..deps import AskedStudy, MomentDep
from ..openapi import form_example, problem_responses
from ..schemas import Name, ZeroShotFindings, ZeroShotReply, ZeroShotRequest
from ..zero_shot import (
    LABEL_SCORE,
    describe_findings,
    level_warning,
    probabilities_of,
    require_usable,
    score_labels,
    texts_of,
)

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["zero-shot"], dependencies=[requires(SEARCH)])


@router.post(
    "/zero-shot",
    responses=problem_responses(400, 413, 415, 422),
    openapi_extra=form_example(files=["(pa.dcm)"], labels=["Pneumothorax", "No Finding"]),
)
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
    if asked.labels:
        told = ZeroShotFindings(
            score_kind=LABEL_SCORE, probabilities=probabilities_of(inference, [], labels=True), findings=[]
        )
    else:
        told = describe_findings(inference, vector, asked.prompts)
    labelled = score_labels(inference, vector, asked.labels)
    note_for_audit(results=len(told.findings) + len(labelled))
    return ZeroShotReply(
        **dict(told),
        query=study.query,
        model_fingerprint=inference.encoder.fingerprint,
        labels=labelled,
        warnings=[
            *study.warnings,
            *level_warning(told.calibration, study.query.slots),
            *inference.length_warnings(texts_of(asked)),
        ],
    )
