"""What a load saw, judged from what the database holds in the end."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from index import Catalog, live_generation
from index.tables import Embedding, Instance, Job, Report, Study
from model.alta_encoder import AltaEncoder
from tests.mixed_load import Load, Search

__all__ = ["Moments", "judge_failures", "judge_jobs", "judge_searches", "judge_writes"]

SETTLING = 5.0  # seconds: a commit is searchable well within it, and a restarted database answered from
TOLERANCE = 2e-4  # of a cosine: batches of other sizes round otherwise


@dataclass(frozen=True)
class Moments:
    """What was done to the running system, in seconds of the epoch."""

    killed: float
    switched: float
    stopped: float
    restarted: float


def judge_writes(catalog: Catalog, load: Load) -> None:
    """What was acknowledged is there, embedded with the encoders that serve, unless it was removed."""
    live = live_generation(catalog)
    assert live is not None
    with catalog.session() as session:
        studies = dict(session.execute(sa.select(Study.study_instance_uid, Study.id)).all())
        reported = set(session.scalars(sa.select(Report.study_id).where(Report.status == "matched")))
        rows = session.execute(sa.select(Embedding.study_id, Embedding.kind, Embedding.model_fingerprint)).all()
        accepted = session.scalars(sa.select(Instance.sop_instance_uid).where(Instance.status == "accepted")).all()
    kept = set(load.sent) - set(load.removed)
    assert kept <= set(studies)
    assert {studies[uid] for uid in load.reported - set(load.removed)} <= reported
    embedded = {(study, kind) for study, kind, fingerprint in rows if fingerprint == live.model_fingerprint}
    assert {(studies[uid], kind) for uid in kept & load.reported for kind in ("image", "report")} <= embedded
    gone = {uid for uid, ended in load.removed.items() if ended < float("inf")}
    assert not gone & set(studies)
    assert max(Counter(accepted).values()) == 1


def judge_jobs(catalog: Catalog, load: Load) -> None:
    with catalog.session() as session:
        jobs = {job.id: job for job in session.scalars(sa.select(Job))}
    assert load.jobs <= set(jobs)
    assert Counter(jobs[number].state for number in load.jobs) == {"succeeded": len(load.jobs)}
    assert max(job.attempts for job in jobs.values()) > 1  # the one whose worker was killed


def judge_failures(load: Load, moments: Moments) -> None:
    """Nothing fails but while the database is down, and then with a problem that says so."""
    for failure in load.failures:
        during = moments.stopped - 1 <= failure.at <= moments.restarted + SETTLING
        assert during, failure
        assert failure.status == 503, failure
        assert failure.content_type == "application/problem+json", failure
        problem = json.loads(failure.body)
        assert problem["type"] in ("/problems/archive-error", "/problems/audit-unavailable"), failure
        assert "database-unavailable" in problem["detail"], failure
    assert any(failure.status == 503 for failure in load.failures)  # the restart was seen


def judge_searches(catalog: Catalog, load: Load, encoders: Mapping[str, AltaEncoder]) -> int:
    """Every hit has the cosine of its embedding, and no study that was searchable and nearer was left out.

    Returns how many places of hits were compared. An embedding made while or after a search was asked is not judged.
    """
    query = sa.select(
        Study.study_instance_uid, Embedding.kind, Embedding.model_fingerprint, Embedding.vector, Embedding.created_at
    )
    with catalog.session() as session:
        rows = session.execute(query.join(Study, Study.id == Embedding.study_id)).all()
    galleries: dict[tuple[str, str], dict[str, tuple[np.ndarray, float]]] = {}
    for uid, kind, fingerprint, vector, created in rows:
        gallery = galleries.setdefault((fingerprint, kind), {})
        gallery[uid] = np.frombuffer(vector, "<f4"), created.timestamp()
    assert {search.fingerprint for search in load.searches} == set(encoders)  # both were searched
    compared = 0
    for search in load.searches:
        gallery = galleries[search.fingerprint, search.candidates]
        compared += _judge_search(search, gallery, galleries[search.fingerprint, "image"], encoders, load)
    return compared


def _judge_search(
    search: Search,
    gallery: dict[str, tuple[np.ndarray, float]],
    images: dict[str, tuple[np.ndarray, float]],
    encoders: Mapping[str, AltaEncoder],
    load: Load,
) -> int:
    asked_with_study = re.fullmatch(r"[0-9.]+", search.query)
    if asked_with_study:
        vector = images[search.query][0]
    else:
        vector = encoders[search.fingerprint].encode_texts([search.query])[0]
    scores = [score for _, score in search.hits]
    assert scores == sorted(scores, reverse=True), search
    found = dict(search.hits)
    assert search.query not in found, search
    for uid, score in found.items():
        if uid in load.removed:
            assert search.started < load.removed[uid] + SETTLING, (uid, search)
            continue
        assert uid in gallery, (uid, search)
        assert abs(float(gallery[uid][0] @ vector) - score) < TOLERANCE, (uid, search)
    for uid, (candidate, created) in gallery.items():
        was_there = created + SETTLING < search.started and uid not in load.removed
        if was_there and uid not in found and uid != search.query:
            assert float(candidate @ vector) < scores[-1] + TOLERANCE, (uid, search)
    return len(found)
