"""From what a request asks to a question, and from a question to a page of hits."""

import numpy as np

from index import Filters, Page, Place, Ranking, Search, SearchHit, Snapshot
from model.errors import TextError

from ..access import note_for_audit
from ..errors import RequestError
from ..observing import stage
from ..query import QueryStudy
from ..resources import Moment, Resources
from ..schemas import Hit, Notice, RankBy, SearchOptions, SearchReply, UsedRanking
from .composition import TEXT_WEIGHT, WITHOUT_WEIGHT, compose
from .cursor import open_cursor, seal_cursor
from .question import MadeOf, Question

__all__ = ["ask", "next_page"]

IMAGE_WEIGHT = 0.25
MAX_SHOWN = 1_000  # hits, over all pages


def ask(
    resources: Resources, moment: Moment, study: QueryStudy | None, options: SearchOptions, filters: Filters
) -> SearchReply:
    """The first page of a search by a study, a text, or both.

    Raises RequestError: bad-query, top-k-out-of-range; TextError text-empty; what the archive and the encoders raise.
    """
    top_k = resources.top_k(options.top_k)
    snapshot = moment.searched()
    vector, made_of, warnings = _embedded(moment, study, options)
    excludes_patient = False
    if study is not None:
        filters = study.without_itself(filters)
        if options.exclude_own_patient:
            filters = study.without_its_patient(filters)
            excludes_patient = bool(study.patient_keys)
    question = Question(
        fingerprint=moment.inference.encoder.fingerprint,
        vector=vector,
        made_of=made_of,
        ranking=_ranking(snapshot, options, made_of),
        filters=filters,
        group_reports=options.group_reports,
        top_k=top_k,
        seen=snapshot.seen,
        patient_keys=study.patient_keys if study else frozenset(),
        own_patient_excluded=excludes_patient,
        text_weight=_text_weight(options) if made_of == "composed" and study and options.text else None,
        without_weight=WITHOUT_WEIGHT if options.without else None,
    )
    reply = _answer(resources, snapshot, question, None, 0)
    reply.warnings = [*(study.warnings if study else ()), *warnings, *reply.warnings]
    reply.query = study.query if study else None
    return reply


def next_page(resources: Resources, moment: Moment, cursor: str) -> SearchReply:
    """The page after one. Raises RequestError: bad-cursor, cursor-outdated; what ``ask`` raises of the archive."""
    bookmark = open_cursor(cursor, resources.catalog)
    question = bookmark.question
    snapshot = moment.searched()
    if snapshot.info.model_fingerprint != question.fingerprint:
        raise RequestError("The index was built with other encoders meanwhile. Search again.", "cursor-outdated")
    if snapshot.seen.embedding_id < question.seen.embedding_id:  # another replica had read further
        resources.gallery.refresh(now=True)
        snapshot = resources.gallery.snapshot or snapshot
    return _answer(resources, snapshot, question, bookmark.place, bookmark.shown)


def _answer(
    resources: Resources, snapshot: Snapshot, question: Question, after: Place | None, shown: int
) -> SearchReply:
    """A page of hits as the reply has it: the one place where hits become an answer."""
    top_k = min(question.top_k, MAX_SHOWN - shown)
    search = Search(
        question.vector, question.ranking, question.filters, question.group_reports, question.seen if after else None
    )
    with stage("search"):
        page = snapshot.page(search, top_k, after, question.fingerprint)
    hits = [_hit(question, hit, rank) for rank, hit in enumerate(page.hits, shown + 1)]
    note_for_audit(results=len(hits))
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
        next_cursor=seal_cursor(question, Place(last.score, last.study_id), shown, resources.catalog) if last else None,
        warnings=_page_warnings(page, top_k),
    )


def _hit(question: Question, found: SearchHit, rank: int) -> Hit:
    hit = Hit.of(found, rank, question.ranking.by)
    hit.same_patient = found.study.patient_key in question.patient_keys
    return hit


def _page_warnings(page: Page, top_k: int) -> list[Notice]:
    if not page.cut:
        return []
    detail = f"Most of the nearest studies have reports that say the same; {len(page.hits)} of {top_k} hits were found."
    return [Notice(code="few-different-reports", detail=detail)]


def _embedded(
    moment: Moment, study: QueryStudy | None, options: SearchOptions
) -> tuple[np.ndarray, MadeOf, list[Notice]]:
    """The query's direction, what it is made of, and warnings of texts that are too long."""
    inference = moment.inference
    texts = [options.text] if options.text is not None else []
    without = options.without or []
    if study is None and not texts:
        message = "Expected `files`, `study_instance_uid` or `text` to search with, found none of them."
        raise RequestError(message, "bad-query")
    if any(not text.strip() for text in (*texts, *without)):
        raise TextError("Expected at least one word, found none.", "text-empty")
    warnings = inference.length_warnings((*texts, *without))
    wanted = [] if study is None else [(1.0, study.embedded_by(inference))]
    wanted += [(_text_weight(options) if study else 1.0, inference.text(text)) for text in texts]
    if len(wanted) == 1 and not without:
        return wanted[0][1], "text" if study is None else "image", warnings
    return compose(wanted, [inference.text(text) for text in without]), "composed", warnings


def _text_weight(options: SearchOptions) -> float:
    return TEXT_WEIGHT if options.text_weight is None else options.text_weight


def _ranking(snapshot: Snapshot, options: SearchOptions, made_of: MadeOf) -> Ranking:
    by: RankBy = options.rank_by
    if by != "fused":
        return Ranking(by)
    return Ranking(by, IMAGE_WEIGHT if options.image_weight is None else options.image_weight)
