"""What the weights of searches rest on: fused rankings, and images with a phrase or without one, on simulated patients.

    python -m benchmarks.ranking [--fit 2] [--judge 3000] [--studies 1000]

Weights are read off the cohort ``--fit``, which training validated on, and judged on ``--judge``, which nothing has
met. A hit is as good as its findings are those asked for: the Jaccard index of the two sets, over the first ten
hits; the query's own patient is no candidate. Phrases are sentences of other patients' reports. Last line: JSON, with
what a composed query gains over the better of image and phrase alone.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from index import IMAGE_WEIGHTS, AskedWith, Ranking, Scale
from model.alta_encoder import load_encoder
from model.encoder import StudyEncoder
from model.evaluation.cohort import prepare_views, study_images
from model.evaluation.embedding import in_batches, silent
from model.evaluation.metrics import Interval, bootstrap_mean
from model.simulation import FINDINGS, simulate_studies
from model.text import report_body, sentences
from service.search.composition import NOTHING_FOUND, TEXT_WEIGHT, WITHOUT_WEIGHT, compose, compose_texts
from service.settings import DEMO_ENCODERS

PHRASES_SEED: Final = 4  # patients whose reports the phrases are from
PHRASES: Final = 8  # of each finding
DEPTH: Final = 10
IMAGE_SHARES: Final = tuple(n / 10 for n in range(11))
WEIGHTS: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)

console = Console(width=120)


@dataclass(frozen=True)
class Embedded:
    """S studies, D width, F findings: images and reports (S, D); shows bool (S, F); patients (S,)."""

    images: np.ndarray
    reports: np.ndarray
    shows: np.ndarray
    patients: np.ndarray

    def __post_init__(self) -> None:
        assert len(self.images) == len(self.reports) == len(self.shows) == len(self.patients)

    @property
    def others(self) -> np.ndarray:
        """bool (S, S): of different patients."""
        different: np.ndarray = self.patients[:, None] != self.patients[None, :]
        return different

    def ranking(self, asked: AskedWith, image_weight: float) -> Ranking:
        """On the scales of random pairs, as a generation measures them."""
        queries = self.images if asked == "image" else self.reports
        scales = {}
        for kind, vectors in (("image", self.images), ("report", self.reports)):
            cosines = (queries @ vectors.T)[self.others]
            scales[kind] = Scale(float(cosines.mean()), float(cosines.std()))
        return Ranking("fused", image_weight, scales)

    def best(self, ranking: Ranking, queries: np.ndarray, own: Sequence[int] | None = None) -> np.ndarray:
        """(Q, DEPTH): the first hits of queries (Q, D). own: the study each was made from."""
        scores = ranking.part("image", queries @ self.images.T) + ranking.part("report", queries @ self.reports.T)
        if own is not None:
            scores = np.where(self.others[list(own)], scores, -np.inf)
        best: np.ndarray = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
        return best

    def likeness(self, best: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """(Q,): mean Jaccard index of the hits' findings and those wanted, bool (Q, F); 1 where neither has any."""
        found, asked = self.shows[best], wanted[:, None, :]
        both, either = (found & asked).sum(axis=2), (found | asked).sum(axis=2)
        index: np.ndarray = np.where(either > 0, both / np.maximum(either, 1), 1.0).mean(axis=1)
        return index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", type=int, default=2)
    parser.add_argument("--judge", type=int, default=3000)
    parser.add_argument("--studies", type=int, default=1000)
    options = parser.parse_args()
    encoder = load_encoder(DEMO_ENCODERS, "auto", "float32")
    phrases, nothing = embedded_phrases(encoder), encoder.encode_texts([NOTHING_FOUND])[0]
    summary: dict[str, float] = {}
    for role, seed in (("fit", options.fit), ("judge", options.judge)):
        cohort = embed(encoder, seed, options.studies)
        console.rule(f"{role}: cohort {seed}, {options.studies} studies")
        fused(cohort)
        summary |= {
            f"{role}_{name}": round(value, 3) for name, value in composed(cohort, phrases, nothing, seed).items()
        }
        without(cohort, phrases, nothing, seed)
        texts_without(cohort, phrases)
        percentiles_of_phrases(cohort, phrases)
    print(json.dumps(summary))


def embed(encoder: StudyEncoder, seed: int, studies: int) -> Embedded:
    cohort = list(simulate_studies(seed, studies))
    views = prepare_views(cohort, [encoder.transform], 1, lambda done, total: None)[encoder.transform]
    slots = [study_images(study, prior, views, "study") for study, prior in cohort]
    bodies = [report_body(study.report.findings, study.report.impression) for study, _ in cohort]
    return Embedded(
        in_batches(encoder.encode_studies, slots, "studies", silent).astype(np.float64),
        in_batches(encoder.encode_texts, bodies, "reports", silent).astype(np.float64),
        np.array([[name in study.finding_classes for name in FINDINGS] for study, _ in cohort]),
        np.array([study.patient_id for study, _ in cohort]),
    )


def embedded_phrases(encoder: StudyEncoder) -> np.ndarray:
    """(F, PHRASES, D): first sentences of impressions of studies with one finding."""
    found: dict[str, list[str]] = {name: [] for name in FINDINGS}
    for study, _ in simulate_studies(PHRASES_SEED, 600):
        first = sentences(re.sub(r"^1\. ", "", study.report.impression))[0]
        if len(study.finding_classes) == 1 and not first.lower().startswith(("no ", "nothing")):
            found[next(iter(study.finding_classes))].append(first)
    return np.stack([encoder.encode_texts(texts[:PHRASES]) for texts in found.values()]).astype(np.float64)


def fused(cohort: Embedded) -> None:
    table = Table("weight of the image", *(f"{share:g}" for share in IMAGE_SHARES), title="Fused ranking")
    asked: tuple[tuple[AskedWith, np.ndarray], ...] = (("image", cohort.images), ("text", cohort.reports))
    own = range(len(cohort.shows))
    for name, queries in asked:
        figures = []
        for share in IMAGE_SHARES:
            values = cohort.likeness(cohort.best(cohort.ranking(name, share), queries, own), cohort.shows)
            interval = bootstrap_mean(cohort.patients, values)
            figures.append(
                f"[bold]{shown(interval)}[/bold]" if share == IMAGE_WEIGHTS[name] else f"{interval.value:.3f}"
            )
        table.add_row(f"{name} query", *figures)
    console.print(table)


def composed(cohort: Embedded, phrases: np.ndarray, nothing: np.ndarray, seed: int) -> dict[str, float]:
    """Each study with a finding that it does not show: what shows its findings and that one?"""
    drawn = np.random.default_rng(seed)
    asked = [drawn.choice(np.flatnonzero(~row)) for row in cohort.shows]
    texts = phrases[asked, drawn.integers(0, PHRASES, len(asked))]  # (S, D)
    wanted = cohort.shows.copy()
    wanted[np.arange(len(asked)), asked] = True
    own = range(len(asked))
    table = Table(
        "query", "shows the finding", "findings of query and phrase", "findings of query", title="With a phrase"
    )
    gains = {}
    for ranked, weight in (("fused", IMAGE_WEIGHTS["image"]), ("image", 1.0)):
        queries = {"image alone": cohort.images, "phrase alone": texts}
        queries |= {f"plain sum, weight {each:g}": unit(cohort.images + each * texts) for each in (0.5, 1.0, 1.5)}
        queries |= {
            f"weight {each:g}": np.stack(
                [compose(image, text, [], nothing, each) for image, text in zip(cohort.images, texts, strict=True)]
            )
            for each in WEIGHTS[2:]
        }
        likeness = {}
        for name, vectors in queries.items():
            text_only = name == "phrase alone"
            share = weight if weight == 1.0 else IMAGE_WEIGHTS["text" if text_only else "image"]
            best = cohort.best(cohort.ranking("text" if text_only else "image", share), vectors, own)
            likeness[name] = cohort.likeness(best, wanted)
            figures = cohort.shows[best, np.array(asked)[:, None]].mean(axis=1), likeness[name]
            intervals = [
                bootstrap_mean(cohort.patients, each) for each in (*figures, cohort.likeness(best, cohort.shows))
            ]
            table.add_row(f"{ranked}: {name}", *(shown(each) for each in intervals))
        chosen = likeness[f"weight {TEXT_WEIGHT:g}"].mean()
        gains[f"gain_{ranked}"] = float(chosen / max(likeness[name].mean() for name in ("image alone", "phrase alone")))
    console.print(table)
    return gains


def without(cohort: Embedded, phrases: np.ndarray, nothing: np.ndarray, seed: int) -> None:
    """Each study with several findings, without one of them."""
    drawn = np.random.default_rng(seed)
    cases = [
        (row, found) for row, shows in enumerate(cohort.shows) if shows.sum() > 1 for found in np.flatnonzero(shows)
    ]
    rows, unwanted = (np.array(column) for column in zip(*cases, strict=True))
    texts = phrases[unwanted, drawn.integers(0, PHRASES, len(rows))]
    wanted = cohort.shows[rows].copy()
    wanted[np.arange(len(rows)), unwanted] = False
    table = Table("query", "still shows it", "the other findings", title="Without a phrase")
    for ranked, share in (("fused", IMAGE_WEIGHTS["image"]), ("image", 1.0)):
        for weight in WEIGHTS[:6]:
            queries = [
                compose(image, None, [text], nothing, without_weight=weight)
                for image, text in zip(cohort.images[rows], texts, strict=True)
            ]
            best = cohort.best(cohort.ranking("image", share), np.stack(queries), rows.tolist())
            figures = cohort.shows[best, unwanted[:, None]].mean(axis=1), cohort.likeness(best, wanted)
            mark = " (chosen)" if weight == WITHOUT_WEIGHT else ""
            table.add_row(
                f"{ranked}: weight {weight:g}{mark}",
                *(shown(bootstrap_mean(cohort.patients[rows], f)) for f in figures),
            )
    console.print(table)


def texts_without(cohort: Embedded, phrases: np.ndarray) -> None:
    """One finding without another, by text alone."""
    table = Table("query", "shows it", "shows the other", "shows it and not the other", title="Text without a phrase")
    pairs = [(a, b, n) for a in range(len(phrases)) for b in range(len(phrases)) if a != b for n in range(PHRASES)]
    wanted, unwanted, number = (np.array(column) for column in zip(*pairs, strict=True))
    one, other = phrases[wanted, number], phrases[unwanted, (number + 3) % PHRASES]
    for ranked, share in (("fused", IMAGE_WEIGHTS["text"]), ("image", 1.0)):
        for weight in WEIGHTS[:5]:
            queries = np.stack([compose_texts(a, [b], weight) for a, b in zip(one, other, strict=True)])
            best = cohort.best(cohort.ranking("text", share), queries)
            has, has_other = cohort.shows[best, wanted[:, None]], cohort.shows[best, unwanted[:, None]]
            figures = (has.mean(), has_other.mean(), (has & ~has_other).mean())
            table.add_row(f"{ranked}: weight {weight:g}", *(f"{figure:.3f}" for figure in figures))
    console.print(table)


def percentiles_of_phrases(cohort: Embedded, phrases: np.ndarray) -> None:
    """Reports stand for text queries in an archive's quantiles: how far do phrases score like them?"""
    for kind, vectors in (("image", cohort.images), ("report", cohort.reports)):
        usual = (cohort.reports @ vectors.T)[cohort.others]
        scores = phrases.reshape(-1, phrases.shape[-1]) @ vectors.T
        shares = [f"{100 * (scores > np.quantile(usual, level)).mean():.1f} %" for level in (0.5, 0.9, 0.99)]
        console.print(f"Of phrases with {kind}s, over the 50th, 90th, 99th percentile of reports: {', '.join(shares)}.")


def unit(vectors: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


def shown(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


if __name__ == "__main__":
    main()
