"""From what a request asks to a question, and from a question to a page of hits."""

from typing import Final

import numpy as np

from index import IMAGE_WEIGHTS, AskedWith, Filters, Page, Place, Ranking, Search, SearchHit, Snapshot
from index.tables import KINDS
from model.errors import TextError

from ..access import note_for_audit
from ..errors import RequestError
from ..inference import Inference
from ..observing import stage
from ..query import QueryStudy
from ..resources import Moment, Resources
from ..schemas import Hit, Notice, SearchOptions, SearchReply, UsedRanking
from ..zero_shot import describe_findings, level_warning
from .composition import NOTHING_FOUND, TEXT_WEIGHT, WITHOUT_WEIGHT, WITHOUT_WEIGHT_OF_TEXT, compose, compose_texts
from .cursor import open_cursor, seal_cursor
from .question import Question
from .reading import add_evidence, add_labels
from .unlike_archive import archive_warnings

__all__ = ["ask", "next_page"]

MAX_SHOWN: Final = 1_000  # hits, over all pages


def ask(
    resources: Resources, moment: Moment, study: QueryStudy | None, options: SearchOptions, filters: Filters
) -> SearchReply:
    """The first page of a search by a study, a text, or both.

    Raises RequestError: bad-query, top-k-out-of-range; TextError text-empty; what the archive and the encoders raise.
    """
    top_k = resources.top_k(options.top_k)
    snapshot = moment.searched()
    images = None if study is None else study.embedded_by(moment.inference)
    vector, warnings = _composed(moment.inference, images, options)
    excludes_patient = False
    if study is not None:
        filters = study.without_itself(filters)
        if options.exclude_own_patient:
            filters = study.without_its_patient(filters)
            excludes_patient = bool(study.patient_keys)
    asked: AskedWith = "text" if study is None else "image"
    without_weight = WITHOUT_WEIGHT_OF_TEXT if study is None else WITHOUT_WEIGHT
    question = Question(
        fingerprint=moment.inference.encoder.fingerprint,
        vector=vector,
        asked_with=asked,
        composed=bool(options.without) or (study is not None and options.text is not None),
        ranking=_ranking(snapshot, options, asked),
        filters=filters,
        group_reports=options.group_reports,
        top_k=top_k,
        seen=snapshot.seen,
        patient_keys=study.patient_keys if study else frozenset(),
        own_patient_excluded=excludes_patient,
        evidence=options.evidence,
        text_weight=_text_weight(options) if study is not None and options.text is not None else None,
        without_weight=without_weight if options.without else None,
    )
    reply = _answer(resources, moment.inference, snapshot, question)
    if study is not None:
        unlike = [] if question.composed else archive_warnings(snapshot, study, vector)
        warnings = [*study.warnings, *unlike, *warnings]
    reply.warnings = [*warnings, *reply.warnings]
    reply.query = study.query if study else None
    if images is not None and options.zero_shot:
        assert study is not None
        reply.zero_shot = describe_findings(moment.inference, images)
        reply.warnings += level_warning(reply.zero_shot.calibration, study.query.slots)
    return reply


def next_page(resources: Resources, moment: Moment, cursor: str) -> SearchReply:
    """The page after one. Raises RequestError: bad-cursor, cursor-outdated; what ``ask`` raises of the archive."""
    bookmark = open_cursor(cursor, resources.catalog)
    question = bookmark.question
    seen = moment.searched().seen
    if seen.embedding_id < question.seen.embedding_id or seen.removal_id < question.seen.removal_id:
        # Another replica had read further.
        resources.gallery.refresh(now=True)
        moment = resources.moment()
    snapshot = moment.searched()
    if snapshot.info.model_fingerprint != question.fingerprint:
        raise RequestError("The index was built with other encoders meanwhile. Search again.", "cursor-outdated")
    return _answer(resources, moment.inference, snapshot, question, bookmark.place)


def _answer(
    resources: Resources,
    inference: Inference,
    snapshot: Snapshot,
    question: Question,
    after: Place | None = None,
) -> SearchReply:
    """A page of hits as the reply has it: the one place where hits become an answer."""
    shown = after.shown if after else 0
    top_k = min(question.top_k, MAX_SHOWN - shown)
    search = Search(
        question.vector, question.ranking, question.filters, question.group_reports, question.seen if after else None
    )
    with stage("search"):
        page = snapshot.page(search, top_k, after, question.fingerprint)
    hits = [_hit(snapshot, question, hit, rank) for rank, hit in enumerate(page.hits, shown + 1)]
    note_for_audit(results=len(hits))
    missing = add_evidence(inference, question.vector, page.hits, hits) if question.evidence else []
    shown += len(hits)
    last = page.hits[-1] if page.more and shown < MAX_SHOWN else None
    ranking = question.ranking
    return SearchReply(
        model_fingerprint=question.fingerprint,
        generation=snapshot.info.id,
        ranking=UsedRanking(
            by=ranking.by,
            image_weight=ranking.image_weight if ranking.by == "fused" else None,
            text_weight=question.text_weight,
            without_weight=question.without_weight,
        ),
        own_patient_excluded=question.own_patient_excluded,
        hits=hits,
        findings_summary=add_labels(page.hits, hits),
        next_cursor=seal_cursor(question, Place(last.score, last.study_id, shown), resources.catalog) if last else None,
        warnings=[*_warnings(snapshot, question, page, top_k, shown), *missing],
    )


def _hit(snapshot: Snapshot, question: Question, found: SearchHit, rank: int) -> Hit:
    hit = Hit.of(found, rank, question.ranking.by)
    hit.same_patient = found.study.patient_key in question.patient_keys
    if not question.composed:  # no pair of studies of the archive is like a sum of several
        hit.percentile = snapshot.info.scores.percentile(question.asked_with, question.ranking, found.score)
    return hit


def _warnings(snapshot: Snapshot, question: Question, page: Page, top_k: int, shown: int) -> list[Notice]:
    found = []
    if page.cut:
        detail = f"Most of the nearest studies have reports that say the same: {len(page.hits)} of {top_k} hits found."
        found.append(Notice(code="few-different-reports", detail=detail))
    if page.more and shown == MAX_SHOWN:
        detail = f"A list ends after {MAX_SHOWN} hits. Narrow the search to see others."
        found.append(Notice(code="list-ended", detail=detail))
    measured = snapshot.info.scores.quantiles
    searched = [(question.asked_with, kind) for kind in KINDS if snapshot.rows(kind)]
    if question.ranking.by == "fused" and not measured.keys() >= set(searched):
        detail = (
            "Image and report are weighed by their bare cosines: the generation is too small, or from before scores"
            " were measured or there were images and reports. `alta index build` makes a new one."
        )
        found.append(Notice(code="scores-not-measured", detail=detail))
    return found


def _composed(
    inference: Inference, images: np.ndarray | None, options: SearchOptions
) -> tuple[np.ndarray, list[Notice]]:
    """The query's direction, and warnings of texts that are too long. images: (D,) of length 1, of the study."""
    text, without = options.text, options.without or []
    texts = [*([] if text is None else [text]), *without]
    if any(not each.strip() for each in texts):
        raise TextError("Expected at least one word, found none.", "text-empty")
    warnings = inference.length_warnings(texts)
    if images is None:
        if text is None:
            message = "Expected `files`, `study_instance_uid` or `text` to search with, found none of them."
            raise RequestError(message, "bad-query")
        return compose_texts(inference.text(text), [inference.text(phrase) for phrase in without]), warnings
    if not texts:
        return images, warnings
    added = None if text is None else inference.text(text)
    taken = [inference.text(phrase) for phrase in without]
    return compose(images, added, taken, inference.text(NOTHING_FOUND), _text_weight(options)), warnings


def _text_weight(options: SearchOptions) -> float:
    return TEXT_WEIGHT if options.text_weight is None else options.text_weight


def _ranking(snapshot: Snapshot, options: SearchOptions, asked: AskedWith) -> Ranking:
    if options.rank_by != "fused":
        return Ranking(options.rank_by)
    weight = IMAGE_WEIGHTS[asked] if options.image_weight is None else options.image_weight
    return snapshot.info.scores.ranking(asked, weight)
