"""Zero-shot classification of an uploaded study."""

from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import Json

from index.access.keys import SEARCH

from ..access import note_for_audit, requires
from ..deps import AskedStudy, MomentDep
from ..openapi import form_example, problem_responses
from ..schemas import Name, ZeroShotReply, ZeroShotRequest
from ..zero_shot import (
    LABEL_SCORE,
    PAIR_SCORE,
    level_warning,
    probabilities_of,
    require_usable,
    score_labels,
    score_pairs,
    texts_of,
    used_calibration,
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
    findings = [] if asked.labels else score_pairs(inference, vector, asked.prompts)
    labelled = score_labels(inference, vector, asked.labels) if asked.labels else []
    note_for_audit(results=len(findings) + len(labelled))
    calibration = used_calibration(inference, findings)
    return ZeroShotReply(
        query=study.query,
        model_fingerprint=inference.encoder.fingerprint,
        score_kind=LABEL_SCORE if asked.labels else PAIR_SCORE,
        calibration=calibration,
        probabilities=probabilities_of(inference, findings, labels=bool(asked.labels)),
        findings=findings,
        labels=labelled,
        warnings=[
            *study.warnings,
            *level_warning(calibration, study.query.slots),
            *inference.length_warnings(texts_of(asked)),
        ],
    )
