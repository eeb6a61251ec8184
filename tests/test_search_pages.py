"""Pages of hits: each goes on where the one before it ended, whatever happens in between; reports that say the same
are one hit."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from index import Catalog, Gallery, Page, Place, Ranking, ReportRecord, Search, Seen, Snapshot, build_generation
from index.embedding.removal import remove_embeddings
from index.search.evidence import report_sentences
from index.search.grouping import report_key
from index.tables import IMAGE, REPORT, Embedding
from tests.test_generations import MODEL
from tests.test_ranking import SCALES, add_embeddings, add_studies, has, opened, vectors

ROWS = 120
QUERY = vectors(3, 1)[0]
FUSED = Ranking("fused", 0.3, SCALES)
OF = {IMAGE: vectors(1), REPORT: vectors(2)}


def same_for_three(row: int) -> str:
    """Three studies have each report, in other words of the same sentences."""
    number = row // 3
    return (
        f"Finding {number}. No effusion.",
        f"No  effusion.\nFINDING {number}",
        f"1. Finding {number}; No effusion.",
    )[row % 3].replace(";", ".")


@pytest.fixture
def catalog_of_threes(sqlite_catalog: Catalog, tmp_path: Path) -> Catalog:
    add_studies(sqlite_catalog, range(ROWS), same_for_three)
    add_embeddings(sqlite_catalog, range(ROWS), OF)
    build_generation(sqlite_catalog, tmp_path, MODEL)
    return sqlite_catalog


@pytest.fixture
def threes_on_each(catalog: Catalog, tmp_path: Path) -> Catalog:
    """The same on each database in turn."""
    add_studies(catalog, range(ROWS), same_for_three)
    add_embeddings(catalog, range(ROWS), OF)
    build_generation(catalog, tmp_path, MODEL)
    return catalog


def ids(page: Page) -> list[int]:
    return [hit.study_id for hit in page.hits]


def all_pages(snapshot: Snapshot, search: Search, top_k: int) -> list[int]:
    found: list[int] = []
    after = None
    while True:
        page = snapshot.page(search, top_k, after)
        found += ids(page)
        if not page.more:
            return found
        after = place_of(page, len(found))


def place_of(page: Page, shown: int = 8) -> Place:
    return Place(page.hits[-1].score, page.hits[-1].study_id, shown)


def later(search: Search, seen: Seen) -> Search:
    return Search(search.vector, search.ranking, search.filters, search.group_reports, seen)


@pytest.mark.parametrize("ranking", [Ranking("image"), Ranking("report"), FUSED], ids=lambda ranking: ranking.by)
@pytest.mark.parametrize("grouped", [True, False])
def test_pages_together_are_the_whole_list(
    catalog_of_threes: Catalog, tmp_path: Path, ranking: Ranking, grouped: bool
) -> None:
    snapshot = opened(catalog_of_threes, tmp_path)
    search = Search(QUERY, ranking, group_reports=grouped)
    whole = snapshot.page(search, 500)
    assert not whole.more and len(set(ids(whole))) == len(whole.hits)
    for top_k in (1, 7, 50):
        assert all_pages(snapshot, search, top_k) == ids(whole)


def test_reports_that_say_the_same_are_one_hit_and_the_list_goes_on(catalog_of_threes: Catalog, tmp_path: Path) -> None:
    snapshot = opened(catalog_of_threes, tmp_path)
    ungrouped = ids(snapshot.page(Search(QUERY, FUSED, group_reports=False), 500))
    page = snapshot.page(Search(QUERY, FUSED), 10)
    first_of_each: dict[int, int] = {}
    for study_id in ungrouped:
        first_of_each.setdefault((study_id - 1) // 3, study_id)
    assert ids(page) == list(first_of_each.values())[:10]
    whole = snapshot.page(Search(QUERY, FUSED), 500)
    assert sum(1 + hit.similar for hit in whole.hits) == len(ungrouped)
    best = whole.hits[0]
    others = [row for row in ungrouped if (row - 1) // 3 == (best.study_id - 1) // 3 and row != best.study_id]
    assert (best.similar, list(best.named)) == (len(others), [f"1.2.3.{row - 1}" for row in others])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Lungs are clear. No effusion.", "no effusion;  LUNGS ARE CLEAR", False),  # a semicolon ends no sentence
        ("Lungs are clear. No effusion.", "1. No effusion.\n2. Lungs are\nclear.", True),
        ("Lungs are clear.", "Lungs are clear. Lungs are clear!", True),
        ("No acute disease.", "No acute disease. Scoliosis.", False),
        ("Small left effusion.", "Small right effusion.", False),
        ("No effusion.", "Effusion.", False),
        ("Pneumothorax.", "Pneumothorax?", False),
        ("Pneumothorax (+).", "Pneumothorax (-).", False),
        ("Nodule < 5 mm.", "Nodule > 5 mm.", False),
        ("Nodule of 1.5 cm.", "Nodule of 1, 5 cm.", False),
        ("RIGHT LUNG\n\nClear.\n\nLEFT LUNG\n\nEffusion.", "RIGHT LUNG\n\nEffusion.\n\nLEFT LUNG\n\nClear.", False),
        ("RIGHT LUNG\n\nClear.\n\nLEFT LUNG\n\nEffusion.", "Left lung: \n\neffusion.\n\nRight lung:\n\nclear.", True),
        ("- Clear.\n- No effusion.", "* No effusion.\n* Clear.", True),
        ("फेफड़े की", "फेफड़े का", False),  # vowel signs are no letters to Python
    ],
)
def test_what_counts_as_the_same_report(one: str, other: str, same: bool) -> None:
    assert (report_key(ReportRecord(one)) == report_key(ReportRecord(other))) is same


def test_reports_without_a_word_are_of_no_group() -> None:
    assert report_key(ReportRecord("-- . ...")) == b""


def test_sections_that_are_not_searched_do_not_make_reports_differ() -> None:
    one = ReportRecord("…", indication="Cough.", findings="Clear.", impression="Normal chest.")
    other = ReportRecord("…", indication="Pain.", comparison="2019", findings=None, impression="Normal chest. Clear.")
    assert report_key(one) == report_key(other)


def test_studies_without_a_report_are_hits_of_their_own(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    add_studies(sqlite_catalog, range(12), lambda row: None if row % 2 else "The same.")
    add_embeddings(sqlite_catalog, range(12), OF)
    build_generation(sqlite_catalog, tmp_path, MODEL)
    page = opened(sqlite_catalog, tmp_path).page(Search(QUERY, Ranking("image")), 50)
    reported = [row for row in range(0, 12, 2) if has(IMAGE, row)]
    assert sorted(hit.similar for hit in page.hits) == [0] * (len(page.hits) - 1) + [len(reported) - 1]


def test_a_list_of_one_report_ends_and_says_that_it_was_cut(
    sqlite_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.search.pages.DEEPEST", 30)
    add_studies(sqlite_catalog, range(ROWS), lambda row: "The same.")
    add_embeddings(sqlite_catalog, range(ROWS), OF)
    build_generation(sqlite_catalog, tmp_path, MODEL)
    page = opened(sqlite_catalog, tmp_path).page(Search(QUERY, Ranking("image")), 5)
    assert (len(page.hits), page.hits[0].similar, page.more, page.cut) == (1, 29, False, True)


def test_what_arrives_is_on_no_later_page_and_moves_none(threes_on_each: Catalog, tmp_path: Path) -> None:
    gallery = Gallery(threes_on_each, tmp_path)
    gallery.refresh(now=True)
    snapshot = gallery.snapshot
    assert snapshot is not None
    search = Search(QUERY, FUSED)
    expected = all_pages(snapshot, search, 8)
    first = snapshot.page(search, 8)
    add_studies(threes_on_each, range(ROWS, ROWS + 40), same_for_three)
    add_embeddings(threes_on_each, range(ROWS, ROWS + 40), {kind: np.tile(QUERY, (ROWS + 40, 1)) for kind in OF})
    gallery.refresh(now=True)
    newer = gallery.snapshot
    assert newer is not None and newer.page(search, 8).hits[0].study_id > ROWS  # what arrived would be first
    assert ids(first) + all_after(newer, later(search, snapshot.seen), place_of(first)) == expected
    build_generation(threes_on_each, tmp_path, MODEL)  # and is in the index now
    rebuilt = opened(threes_on_each, tmp_path)
    assert rebuilt.info.id != snapshot.info.id
    assert ids(first) + all_after(rebuilt, later(search, snapshot.seen), place_of(first)) == expected


def all_after(snapshot: Snapshot, search: Search, after: Place, top_k: int = 8) -> list[int]:
    found: list[int] = []
    while True:
        page = snapshot.page(search, top_k, after)
        found += ids(page)
        if not page.more:
            return found
        after = place_of(page, len(found))


@pytest.mark.parametrize("which", [7, 8, 20], ids=["the last hit", "the next hit", "a later one"])
def test_a_study_that_is_removed_is_missing_and_nothing_else(
    catalog_of_threes: Catalog, tmp_path: Path, which: int
) -> None:
    search = Search(QUERY, FUSED, group_reports=False)
    snapshot = opened(catalog_of_threes, tmp_path)
    expected = all_pages(snapshot, search, 8)
    first = snapshot.page(search, 8)
    with catalog_of_threes.write() as session:
        remove_embeddings(session, Embedding.study_id == expected[which])
    found = all_after(opened(catalog_of_threes, tmp_path), later(search, snapshot.seen), place_of(first))
    assert found == [study_id for study_id in expected[8:] if study_id != expected[which]]


@pytest.mark.parametrize("which", [2, 20], ids=["shown already", "not shown yet"])
def test_a_report_that_is_corrected_does_not_come_back_with_another_score(
    threes_on_each: Catalog, tmp_path: Path, which: int
) -> None:
    search = Search(QUERY, FUSED, group_reports=False)
    snapshot = opened(threes_on_each, tmp_path)
    expected = all_pages(snapshot, search, 8)
    first = snapshot.page(search, 8)
    corrected = next(study_id for study_id in expected[which:] if has(REPORT, study_id - 1))
    with threes_on_each.write() as session:
        remove_embeddings(session, Embedding.study_id == corrected, Embedding.kind == REPORT)
    without = [study_id for study_id in expected[8:] if study_id != corrected]
    removed = opened(threes_on_each, tmp_path)
    assert all_after(removed, later(search, snapshot.seen), place_of(first)) == without
    with threes_on_each.write() as session:
        about = {"model_fingerprint": MODEL, "source_hash": "1" * 64, "vector": (-QUERY).tobytes()}
        session.add(Embedding(study_id=corrected, kind=REPORT, **about))
    again = opened(threes_on_each, tmp_path)
    assert all_after(again, later(search, snapshot.seen), place_of(first)) == without


def test_a_report_that_was_read_is_not_held() -> None:
    record = ReportRecord("Small left effusion. No pneumothorax.", findings="Small left effusion.")
    gone = weakref.ref(record)
    assert report_key(record) and report_sentences(record, 5)
    del record
    gc.collect()
    assert gone() is None
