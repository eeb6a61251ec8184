"""Retrieval by class: image to text 5x200, image to image 8x200, text to image 8x200; and paired retrieval.

Each protocol reads a list (``lists``), asks one encoder, and gives an ``Outcome``. Cosines rank.
"""

from collections import Counter

import numpy as np

from ..encoder import StudyEncoder
from .embedding import Progress, embed_images, embed_texts, silent
from .impressions import IMPRESSION_TOKENS, plain_impression
from .lists import FRONTAL, EvaluationList
from .outcome import Outcome, measure_precision
from .paired import distinct_texts, measure_paired

__all__ = ["CLASSES_5", "CLASSES_8", "evaluate_pairs", "image_to_image", "image_to_text", "text_to_image"]

CLASSES_5 = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")  # CheXpert 5x200
CLASSES_8 = (  # ConVIRT's CheXpert 8x200
    "No Finding", "Cardiomegaly", "Edema", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Fracture",
)  # fmt: skip
ALIASES_8 = {"normal": "No Finding", "effusion": "Pleural Effusion"}
QUERY_TOKENS = 20
ROLES = ("query", "candidate")


def image_to_text(encoder: StudyEncoder, rows: EvaluationList, progress: Progress = silent) -> Outcome:
    """Impressions for frontal images; a hit has the query's class, its own impression included. P@5/10/100."""
    rows.require(FRONTAL, "patient_id", "class", "impression|text")
    rows.require_patients()
    rows.require_images()
    classes = np.array(rows.classes(CLASSES_5))
    texts = [plain_impression(row.values.get("impression") or row.values.get("text", "")) for row in rows.rows]
    reports, cut = embed_texts(encoder, texts, IMPRESSION_TOKENS, progress)
    images = embed_images(encoder, rows, progress=progress)
    measures, curve = measure_precision(
        rows.patients, images @ reports.T, classes[:, None] == classes[None, :], (5, 10, 100)
    )
    empty = sum(not text for text in texts)
    notes = (
        *_sizes("impressions", classes, dict.fromkeys(CLASSES_5, 200)),
        *((f"{empty} impressions have no sentence of two words; they are encoded as empty texts.",) if empty else ()),
    )
    return Outcome(measures, notes, {"image to text": curve}, of_encoder=cut)


def image_to_image(encoder: StudyEncoder, rows: EvaluationList, progress: Progress = silent) -> Outcome:
    """Candidate images for query images, by class. P@5/10/50."""
    rows.require(FRONTAL, "patient_id", "class", "role")
    rows.require_patients()
    rows.require_images()
    queries, candidates = _roles(rows)
    asking = np.array(queries.classes(CLASSES_8, ALIASES_8))
    asked_for = np.array(candidates.classes(CLASSES_8, ALIASES_8))
    images = embed_images(encoder, queries, progress=progress) @ embed_images(encoder, candidates, progress=progress).T
    measures, curve = measure_precision(queries.patients, images, asking[:, None] == asked_for[None, :], (5, 10, 50))
    both = len({row.patient for row in queries.rows} & {row.patient for row in candidates.rows})
    notes = (
        *_sizes("queries", asking, dict.fromkeys(CLASSES_8, 10)),
        *_sizes("candidates", asked_for, dict.fromkeys(CLASSES_8, 200)),
        *((f"{both} patients have a query and a candidate; their own images may be found.",) if both else ()),
    )
    return Outcome(measures, notes, {"image to image": curve})


def text_to_image(encoder: StudyEncoder, rows: EvaluationList, progress: Progress = silent) -> Outcome:
    """Candidate images for a query's text, as it stands, of 20 tokens. P@5/10/50."""
    rows.require(FRONTAL, "patient_id", "class", "role", "text")
    queries, candidates = _roles(rows)
    candidates.require_patients()
    candidates.require_images()
    for row in queries.rows:
        if not row.values.get("text"):
            raise rows.error(row, "the text of the query is empty.")
    asking = np.array(queries.classes(CLASSES_8, ALIASES_8))
    asked_for = np.array(candidates.classes(CLASSES_8, ALIASES_8))
    texts, cut = embed_texts(encoder, [row.values["text"] for row in queries.rows], QUERY_TOKENS, progress)
    similarity = texts @ embed_images(encoder, candidates, progress=progress).T
    # A text has no patient and is drawn by itself; the gallery is not resampled.
    measures, curve = measure_precision(
        queries.patients, similarity, asking[:, None] == asked_for[None, :], (5, 10, 50)
    )
    notes = (
        *_sizes("queries", asking, dict.fromkeys(CLASSES_8, 5)),
        *_sizes("candidates", asked_for, dict.fromkeys(CLASSES_8, 200)),
    )
    return Outcome(measures, notes, {"text to image": curve}, of_encoder=cut)


def evaluate_pairs(
    encoder: StudyEncoder, rows: EvaluationList, level: str = "single_image", progress: Progress = silent
) -> Outcome:
    """Own report and own study among all of the list. Reports as in the archive: findings and impression."""
    rows.require(FRONTAL, "patient_id", "impression|findings|text")
    rows.require_patients()
    rows.require_images()
    texts = [row.body for row in rows.rows]
    for row, text in zip(rows.rows, texts, strict=True):
        if not text:
            raise rows.error(row, "the report is empty: expected findings, impression or text.")
    reports, cut = embed_texts(encoder, texts, None, progress)
    images = embed_images(encoder, rows, level, progress)
    distinct = len(set(distinct_texts(texts).tolist()))
    merged = (f"{len(texts)} reports, {distinct} of them distinct; those that read the same are one.",)
    return Outcome(measure_paired(images, reports, texts, rows.patients), merged, of_encoder=cut)


def _roles(rows: EvaluationList) -> tuple[EvaluationList, EvaluationList]:
    for row in rows.rows:
        if row.values["role"] not in ROLES:
            raise rows.error(row, f"role is {row.values['role']!r}, expected query or candidate.")
    queries, candidates = (rows.select(lambda row, role=role: row.values["role"] == role) for role in ROLES)  # type: ignore[misc]
    if not queries.rows or not candidates.rows:
        raise rows.error(rows.rows[0], "expected rows of role query and of role candidate; one of them is missing.")
    return queries, candidates


def _sizes(what: str, classes: np.ndarray, published: dict[str, int]) -> tuple[str, ...]:
    """A note when the list is of another size than the published one."""
    found = Counter(classes.tolist())
    if found == published:
        return ()
    counts = ", ".join(f"{name} {found[name]}" for name in published)
    return (f"{what}: {counts}. The published list has {next(iter(published.values()))} of each: figures differ.",)
