"""Zero-shot classification of a study: cosines with text directions, and what the numbers are.

Axis: D embedding width.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from model.prompts import PROMPT_SETS

from .errors import RequestError
from .inference import Inference
from .schemas import LabelScore, PairScore, PromptSet, ZeroShotRequest

__all__ = ["LABEL_SCORE", "PAIR_SCORE", "require_usable", "score_labels", "score_pairs", "texts_of"]

PAIR_SCORE = (
    "softmax over the two cosines of the study with the positive and the negative prompt ensemble, without a"
    " temperature, as in the ALTA paper; 0.5 means undecided and values stay near it; uncalibrated: it ranks studies"
    " by one finding, it is no probability of disease"
)
LABEL_SCORE = (
    "softmax of the study's cosines over the labels sent, without a temperature; it sums to 1 over these labels"
    " whatever they are; uncalibrated: it orders the labels, it is no probability of disease"
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


def score_pairs(inference: Inference, study: np.ndarray, prompts: Iterable[PromptSet]) -> list[PairScore]:
    """Each finding on its own. Without prompts: the built-in ensembles. study: (D,) of length 1."""
    given = {p.name: (inference.prompts(p.positive), inference.prompts(p.negative)) for p in prompts}
    scores = []
    for name, directions in (given or {name: inference.finding(name) for name in PROMPT_SETS}).items():
        positive, negative = (float(study @ direction) for direction in directions)
        scores.append(
            PairScore(
                name=name,
                prompts="given" if given else "built-in",
                positive_cosine=positive,
                negative_cosine=negative,
                score=float(_softmax([positive, negative])[0]),
            )
        )
    return scores


def score_labels(inference: Inference, study: np.ndarray, labels: list[str]) -> list[LabelScore]:
    """The labels against each other. study: (D,) of length 1."""
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
