"""Zero-shot classification of a study: cosines with text directions, and what the numbers are.

Axis: D embedding width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.calibration import Calibration
from model.prompts import PROMPT_SETS, PromptPair

from .errors import RequestError
from .inference import Inference
from .schemas import LabelScore, Notice, PairScore, PromptSet, UsedCalibration, ZeroShotFindings, ZeroShotRequest

__all__ = [
    "LABEL_SCORE",
    "PAIR_SCORE",
    "describe_findings",
    "level_warning",
    "probabilities_of",
    "require_usable",
    "score_labels",
    "score_pairs",
    "texts_of",
]

PAIR_SCORE = (
    "softmax over the two cosines of the study with the positive and the negative prompt ensemble, without a"
    " temperature, as in the ALTA paper; 0.5 means undecided and values stay near it; uncalibrated: it ranks studies"
    " by one finding, it is no probability of disease"
)
LABEL_SCORE = (
    "softmax of the study's cosines over the labels sent, without a temperature; it sums to 1 over these labels"
    " whatever they are; uncalibrated: it orders the labels, it is no probability of disease"
)

CALIBRATED = (
    "fitted on the labelled sample that `calibration` names, and true of patients like it: at another prevalence, or on"
    " another site's films, they are off; `uncertain` abstains; no diagnosis"
)

MAX_PHRASES = 500  # seconds of encoding on a CPU, during which nobody else is served

BUILT_IN: Mapping[str, str] = {name.casefold(): name for name in PROMPT_SETS}


def require_usable(request: ZeroShotRequest) -> None:
    """Raise RequestError for a request that pydantic cannot tell from a good one."""
    if request.labels and request.prompts:
        raise RequestError("Expected labels or prompts, found both.", "bad-prompts")
    names = [name.casefold() for name in request.labels or [prompt.name for prompt in request.prompts]]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise RequestError(f"Expected every name once, found repeated: {', '.join(repeated)}.", "bad-prompts")
    phrases = len(texts_of(request))
    if phrases > MAX_PHRASES:
        raise RequestError(f"Expected at most {MAX_PHRASES} phrases in all, found {phrases}.", "bad-prompts")


def texts_of(request: ZeroShotRequest) -> tuple[str, ...]:
    """Texts of the caller's that will be encoded."""
    phrases = [phrase for prompt in request.prompts for phrase in (*prompt.positive, *prompt.negative)]
    return *request.labels, *phrases


def describe_findings(inference: Inference, study: np.ndarray, prompts: Sequence[PromptSet] = ()) -> ZeroShotFindings:
    """Scores of ``score_pairs`` with all that is to be said of them. study: (D,) of length 1."""
    scores = score_pairs(inference, study, prompts)
    return ZeroShotFindings(
        score_kind=PAIR_SCORE,
        calibration=used_calibration(inference, scores),
        probabilities=probabilities_of(inference, scores, labels=False),
        findings=scores,
    )


def score_pairs(inference: Inference, study: np.ndarray, prompts: Sequence[PromptSet]) -> list[PairScore]:
    """Each finding on its own. Without prompts: the built-in ensembles. study: (D,) of length 1."""
    given = {p.name: PromptPair(tuple(p.positive), tuple(p.negative)) for p in prompts}
    scores = []
    for name, pair in (given or PROMPT_SETS).items():
        if given:
            directions = inference.prompts(pair.positive), inference.prompts(pair.negative)
        else:
            directions = inference.finding(name)
        positive, negative = (float(study @ direction) for direction in directions)
        calibrated = _calibrated(inference.found.calibration, name, positive - negative, pair)
        scores.append(
            PairScore(
                name=name,
                prompts="given" if given else "built-in",
                positive_cosine=positive,
                negative_cosine=negative,
                score=float(_softmax([positive, negative])[0]),
                **calibrated,
            )
        )
    return scores


def _calibrated(calibration: Calibration | None, name: str, score: float, pair: PromptPair) -> dict[str, Any]:
    """The members of a ``PairScore`` that a calibration gives."""
    if calibration is None:
        return {}
    found = calibration.apply(name, score, pair)
    if found is not None:
        return {"probability": found.probability, "decision": found.decision}
    if name in calibration.findings:
        return {"not_calibrated": "It was calibrated with other phrasings."}
    return {"not_calibrated": calibration.left_out.get(name, "The sample has no labels of it.")}


def used_calibration(inference: Inference, scores: Sequence[PairScore]) -> UsedCalibration | None:
    """What the probabilities among ``scores`` rest on; None where there are none."""
    calibration = inference.found.calibration
    if calibration is None or all(score.probability is None for score in scores):
        return None
    return UsedCalibration(
        sample=calibration.sample,
        date=calibration.date,
        studies=calibration.studies,
        patients=calibration.patients,
        level="study" if calibration.level == "study" else "frontal",
        findings=list(calibration.findings),
    )


def probabilities_of(inference: Inference, scores: Sequence[PairScore], labels: bool) -> str:
    """What is said of probabilities, whether there are some or none."""
    if labels:
        return "None: labels are compared with each other, and a calibration is of findings one by one."
    if inference.found.unusable:
        return "None: the calibration beside the encoders is not theirs or cannot be read; the service's log says why."
    if inference.found.calibration is None:
        return "None: no calibration lies beside the encoders. `alta evaluate calibrate` fits one on a labelled sample."
    if all(score.probability is None for score in scores):
        return "None: none of these findings, with these phrasings, is calibrated."
    return CALIBRATED


def level_warning(used: UsedCalibration | None, slots: Sequence[str]) -> list[Notice]:
    """A calibration that was fitted on frontal images alone, applied to more, or the other way round."""
    level = "frontal" if list(slots) == ["current_frontal"] else "study"
    if used is None or used.level == level:
        return []
    words = {"frontal": "a frontal image alone", "study": "studies with all their images"}
    asked = {"frontal": "a frontal image alone", "study": "more images than that"}
    detail = (
        f"The calibration was fitted on {words[used.level]}; this query is {asked[level]}. Probabilities may be off."
    )
    return [Notice(code="calibration-level", detail=detail)]


def score_labels(inference: Inference, study: np.ndarray, labels: list[str]) -> list[LabelScore]:
    """The labels against each other; none of none. study: (D,) of length 1."""
    if not labels:
        return []
    cosines = []
    for label in labels:
        finding = BUILT_IN.get(label.casefold())
        direction = inference.finding(finding)[0] if finding else inference.prompts((label,))
        cosines.append(float(study @ direction))
    best = int(np.argmax(cosines))
    return [
        LabelScore(
            name=label,
            prompts="built-in" if label.casefold() in BUILT_IN else "given",
            cosine=cosine,
            score=float(score),
            best=position == best,
        )
        for position, (label, cosine, score) in enumerate(zip(labels, cosines, _softmax(cosines), strict=True))
    ]


def _softmax(values: list[float]) -> np.ndarray:
    powers = np.exp(np.asarray(values) - max(values))
    return powers / powers.sum()
