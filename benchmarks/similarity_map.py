"""Whether a similarity map points at the finding that its phrase names, on simulated patients: there places are known.

    python -m benchmarks.similarity_map [--model model/demo] [--studies 1000]

Phrases name a finding and its side ("left pneumothorax"); asked are findings that the frontal shows and of which the
study has no other of the name. Pointing game: a hit where the map's highest pixel lies in the finding's region or at
most TOLERANCE of the side from it in either direction. IoU: of that region and of the pixels whose value is in the
upper part of the map's range. How words and patches become a map, and which part of the range, is chosen on validation
patients (cohort 2); judged are others (cohorts 1000, 2000, 3000), none of whom trained the demo encoders (cohort 1).

To be beaten without a look at the picture: a random point in the lungs, the map that another patient with the finding
has for the same phrase, and the finding's usual place (the mean region of validation patients). Last line: JSON.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table

from model.alta_encoder import AltaEncoder, load_encoder
from model.evaluation.metrics import Interval, bootstrap
from model.pixels import Box
from model.similarity_map import PhraseWord, associate, spread
from model.simulation import FINDINGS, Finding, finding_masks, lung_mask, render, simulate_studies

VALIDATION, JUDGED = 2, (1000, 2000, 3000)
SIZE = 160  # px, of the rendered film and of all comparisons
TOLERANCE = 0.05  # of the side
PARTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the map's range, where the region may begin

Rule = Callable[[AltaEncoder, np.ndarray, np.ndarray, list[PhraseWord]], np.ndarray]

console = Console(width=160)


@dataclass(frozen=True)
class Case:
    """One finding of one study: its region and lungs (SIZE, SIZE) bool, and the map (rows, columns) of each rule."""

    patient: str
    finding: str
    phrase: str
    region: np.ndarray
    lungs: np.ndarray
    maps: dict[str, np.ndarray]


@dataclass(frozen=True)
class Scores:
    """hit and overlap (R,) by name of what was scored, over the same cases."""

    patients: np.ndarray
    findings: np.ndarray
    hit: dict[str, np.ndarray]
    overlap: dict[str, np.ndarray]

    def interval(self, values: np.ndarray, finding: str | None = None) -> Interval:
        """Mean over cases of one finding, or over findings, each counting alike."""
        if finding is not None:
            rows = self.findings == finding
            return bootstrap(self.patients[rows], lambda drawn: float(values[rows][drawn].mean()))

        return bootstrap(self.patients, lambda drawn: self.mean(values, drawn))

    def mean(self, values: np.ndarray, rows: np.ndarray | None = None) -> float:
        """Over findings, each counting alike."""
        rows = np.arange(len(values)) if rows is None else rows
        numbers = self.numbers[rows]
        counts = np.bincount(numbers)
        return float((np.bincount(numbers, values[rows])[counts > 0] / counts[counts > 0]).mean())

    @cached_property
    def numbers(self) -> np.ndarray:
        return np.unique(self.findings, return_inverse=True)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("model/demo"))
    parser.add_argument("--studies", type=int, default=1000, help="Of each cohort.")
    options = parser.parse_args()
    encoder = load_encoder(options.model, device="cpu")
    box = encoder.transform.seen(SIZE, SIZE)
    validation = list(cases(encoder, VALIDATION, options.studies))
    usual = {name: np.mean([c.region for c in validation if c.finding == name], axis=0) for name in FINDINGS}
    judged = [case for seed in JUDGED for case in cases(encoder, seed, options.studies)]
    scored, part = {}, {}
    chosen: dict[str, dict[str, float]] = {}
    for rule in RULES:
        by_part = {p: score(validation, rule, p, usual, box) for p in PARTS}
        part[rule] = max(PARTS, key=lambda p: by_part[p].mean(by_part[p].overlap["map"]))
        best = by_part[part[rule]]
        chosen[rule] = {
            "pointing": round(best.mean(best.hit["map"]), 3),
            "iou": round(best.mean(best.overlap["map"]), 3),
            "part": part[rule],
        }
        scored[rule] = score(judged, rule, part[rule], usual, box)
    show_rules(scored, chosen)
    figures = show_findings(scored[SHIPPED])
    print(json.dumps({"encoders": encoder.fingerprint[:12], "rule": SHIPPED, "validation": chosen} | figures))


def cases(encoder: AltaEncoder, seed: int, studies: int) -> Iterator[Case]:
    read: dict[str, tuple[np.ndarray, list[PhraseWord]]] = {}
    for study, _ in simulate_studies(seed, studies):
        seen = [finding for finding in study.findings if not finding.lateral_only]
        alone = [finding for finding in seen if sum(other.name == finding.name for other in seen) == 1]
        masks = finding_masks(study, "frontal", SIZE) if alone else {}
        if not masks:
            continue
        patches = encoder.project_patches(encoder.transform(render(study, "frontal", SIZE)))
        lungs = lung_mask(study, SIZE)
        for finding in alone:
            if finding.name not in masks:
                continue
            phrase = phrase_of(finding)
            if phrase not in read:
                read[phrase] = encoder.project_pieces(phrase), encoder.tokenizer.words(phrase)
            maps = {name: rule(encoder, patches, *read[phrase]) for name, rule in RULES.items()}
            yield Case(study.patient_id, finding.name, phrase, masks[finding.name], lungs, maps)


def phrase_of(finding: Finding) -> str:
    return finding.device or " ".join(word for word in (finding.side, finding.name) if word)


def centred(encoder: AltaEncoder, patches: np.ndarray, pieces: np.ndarray, words: list[PhraseWord]) -> np.ndarray:
    """What the product ships."""
    return associate(patches, pieces, words).values


def cosine(encoder: AltaEncoder, patches: np.ndarray, pieces: np.ndarray, words: list[PhraseWord]) -> np.ndarray:
    lengths = np.linalg.norm(patches, axis=-1)[..., None] * np.linalg.norm(pieces, axis=-1)
    return _over_words(patches @ pieces.T / np.maximum(lengths, 1e-8), words)


def product(encoder: AltaEncoder, patches: np.ndarray, pieces: np.ndarray, words: list[PhraseWord]) -> np.ndarray:
    return _over_words(patches @ pieces.T, words)


def attention(encoder: AltaEncoder, patches: np.ndarray, pieces: np.ndarray, words: list[PhraseWord]) -> np.ndarray:
    """As the local loss attends: softmax over words, then, sharpened, over patches."""
    flat = patches.reshape(-1, patches.shape[-1])
    scale = float(encoder.model.logit_scale_local1.exp())
    over_patches = _softmax(_softmax(flat @ pieces.T, 1) * scale, 0)
    return _over_words(over_patches.reshape(*patches.shape[:2], -1), words)


RULES: dict[str, Rule] = {"centred": centred, "cosine": cosine, "product": product, "attention": attention}
SHIPPED = "centred"


def _over_words(values: np.ndarray, words: list[PhraseWord]) -> np.ndarray:
    return np.mean([values[:, :, list(word.pieces)].mean(-1) for word in words], axis=0)


def _softmax(values: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def score(cases: list[Case], rule: str, part: float, usual: dict[str, np.ndarray], box: Box) -> Scores:
    hit: dict[str, list[float]] = {name: [] for name in ("map", "another's map", "usual place", "lungs")}
    overlap: dict[str, list[float]] = {name: [] for name in hit}
    films = [spread(case.maps[rule], box, SIZE, SIZE) for case in cases]
    for case, film, other in zip(cases, films, _others(cases, films), strict=True):
        near = _widened(case.region)
        for name, values in (("map", film), ("another's map", other), ("usual place", usual[case.finding])):
            hit[name].append(float(near.flat[np.nanargmax(values)]))
            low, high = np.nanmin(values), np.nanmax(values)
            overlap[name].append(_iou(values >= low + part * (high - low), case.region))
        hit["lungs"].append(float(near[case.lungs].mean()))
        overlap["lungs"].append(_iou(case.lungs, case.region))
    return Scores(
        np.array([case.patient for case in cases]),
        np.array([case.finding for case in cases]),
        {name: np.array(values) for name, values in hit.items()},
        {name: np.array(values) for name, values in overlap.items()},
    )


def _others(cases: list[Case], films: list[np.ndarray]) -> Iterator[np.ndarray]:
    """For each case the map of the next other patient for the same phrase."""
    by_phrase: dict[str, list[int]] = {}
    for row, case in enumerate(cases):
        by_phrase.setdefault(case.phrase, []).append(row)
    for row, case in enumerate(cases):
        same = by_phrase[case.phrase]
        start = same.index(row)
        following = same[start + 1 :] + same[:start]
        yield films[next((other for other in following if cases[other].patient != case.patient), row)]


def _widened(region: np.ndarray) -> np.ndarray:
    reach = round(TOLERANCE * SIZE)
    return np.asarray(Image.fromarray(region.astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * reach + 1))) > 0


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def show_rules(scored: dict[str, Scores], chosen: dict[str, dict[str, float]]) -> None:
    table = Table("rule", "pointing, validation", "IoU, validation", "from", "pointing, judged", "IoU, judged")
    for rule, scores in scored.items():
        figures = [str(scores.interval(values["map"])) for values in (scores.hit, scores.overlap)]
        given = chosen[rule]
        table.add_row(rule, str(given["pointing"]), str(given["iou"]), str(given["part"]), *figures)
    console.print(table)


def show_findings(scores: Scores) -> dict[str, object]:
    names = list(scores.hit)
    table = Table("finding", "cases", *(f"pointing, {n}" for n in names), *(f"IoU, {n}" for n in names))
    result: dict[str, object] = {}
    for finding in (*sorted(set(scores.findings)), None):
        count = len(scores.findings) if finding is None else int((scores.findings == finding).sum())
        found = {
            kind: {name: scores.interval(values[name], finding) for name in names}
            for kind, values in (("pointing", scores.hit), ("iou", scores.overlap))
        }
        rows = [
            str(interval) if name == "map" else f"{interval.value:.3f}"
            for each in found.values()
            for name, interval in each.items()
        ]
        table.add_row(finding or "mean", str(count), *rows)
        result[finding or "mean"] = {
            kind: {name: interval.as_list() for name, interval in each.items()} for kind, each in found.items()
        }
    console.print(table)
    return result


if __name__ == "__main__":
    main()
