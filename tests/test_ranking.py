"""Ranking by report, by image and by both gives what a naive scan of every study gives, ties included."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, Filters, Gallery, Ranking, Scale, Search, Snapshot, build_generation, migrate, open_catalog
from index.embedding.removal import remove_embeddings
from index.search.candidates import Candidates
from index.tables import IMAGE, KINDS, REPORT, Embedding, Patient, Report, Study
from model.errors import EmptyIndex
from tests.test_generations import MODEL

ROWS = 300
WIDTH = 12
SCALES = {IMAGE: Scale(0.3, 0.2), REPORT: Scale(-0.1, 0.4)}


def vectors(seed: int, rows: int = ROWS) -> np.ndarray:
    """(rows, WIDTH) float32 of length 1 around six centres; every fifth is the same as the one before."""
    drawn = np.random.default_rng(seed)
    found = np.random.default_rng(0).standard_normal((6, WIDTH))[drawn.integers(0, 6, rows)]
    found = found + 0.5 * drawn.standard_normal((rows, WIDTH))
    found[5::5] = found[4:-1:5]
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def has(kind: str, row: int) -> bool:
    """Some studies have no image embedding, some no report's; each has one of them."""
    return row % 7 != 3 if kind == IMAGE else row % 5 != 1 or row % 7 == 3


def add_studies(
    catalog: Catalog, rows: range, text: Callable[[int], str | None] = lambda row: f"Report {row}."
) -> None:
    """Studies with ids from 1, four a patient, every other one F, and their reports."""
    with catalog.write() as session:
        patients = {row // 4 + 1 for row in rows} - set(session.scalars(sa.select(Patient.id)))
        session.add_all([Patient(id=number, key=f"p{number}") for number in sorted(patients)])
        session.flush()
        for row in rows:
            uid = f"1.2.3.{row}"
            study = {"id": row + 1, "study_instance_uid": uid, "patient_id": row // 4 + 1, "modality": "DX"}
            session.add(Study(**study, patient_sex="FM"[row % 2]))
        session.flush()
        for row in rows:
            words = text(row)
            if words is not None:
                about = {"identity": f"{row}", "source": "", "status": "matched", "text": words, "sha256": f"{row}"}
                session.add(Report(study_id=row + 1, **about))


def add_embeddings(catalog: Catalog, rows: range, of: dict[str, np.ndarray]) -> None:
    made = [
        {"study_id": row + 1, "kind": kind, "model_fingerprint": MODEL, "vector": of[kind][row].tobytes()}
        for kind in KINDS
        for row in rows
        if has(kind, row)
    ]
    with catalog.write() as session:
        session.execute(sa.insert(Embedding), [row | {"source_hash": "0" * 64} for row in made])


def opened(catalog: Catalog, folder: Path) -> Snapshot:
    gallery = Gallery(catalog, folder)
    gallery.refresh(now=True)
    assert gallery.snapshot is not None
    return gallery.snapshot


@dataclass(frozen=True)
class Archive:
    catalog: Catalog
    snapshot: Snapshot

    def naive(self, ranking: Ranking, query: np.ndarray, where: sa.ColumnElement[bool]) -> list[tuple[int, float]]:
        """(study row, score) of every candidate, best first."""
        with self.catalog.session() as session:
            stored = sa.select(Embedding.study_id, Embedding.kind, Embedding.vector).join(Study).where(where)
            cosines: dict[int, dict[str, float]] = {}
            for study_id, kind, vector in session.execute(stored):
                cosine = float((np.frombuffer(vector, "<f4").astype(np.float64) * query.astype(np.float64)).sum())
                cosines.setdefault(study_id, {})[kind] = cosine
        scores = {study_id: naive_score(ranking, found) for study_id, found in cosines.items()}
        known = [(study_id, score) for study_id, score in scores.items() if score is not None]
        return sorted(known, key=lambda item: (-item[1], item[0]))


def naive_score(ranking: Ranking, cosines: dict[str, float]) -> float | None:
    if ranking.by != "fused":
        return cosines.get(ranking.by)
    weights = {IMAGE: ranking.image_weight, REPORT: 1 - ranking.image_weight}
    total = 0.0
    for kind in KINDS:
        if kind in cosines:
            total += weights[kind] * (cosines[kind] - SCALES[kind].mean) / SCALES[kind].deviation
    return total


@pytest.fixture(params=["flat", "ivf"], scope="module")
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """A generation, rows beside it, and removed ones in both; tests only read."""
    folder = tmp_path_factory.mktemp("ranking")
    url = f"sqlite:///{folder / 'alta.db'}"
    migrate(url)
    catalog = open_catalog(url)
    of = {IMAGE: vectors(1), REPORT: vectors(2)}
    add_studies(catalog, range(ROWS))
    add_embeddings(catalog, range(ROWS - 40), of)
    build_generation(catalog, folder, MODEL, engine=request.param)
    add_embeddings(catalog, range(ROWS - 40, ROWS), of)
    with catalog.write() as session:
        remove_embeddings(session, sa.and_(Embedding.study_id % 9 == 1, Embedding.kind == REPORT))
        remove_embeddings(session, Embedding.study_id % 50 == 1)
    yield Archive(catalog, opened(catalog, folder))
    catalog.close()


RANKINGS = [Ranking("report"), Ranking("image"), *[Ranking("fused", w, SCALES) for w in (0.0, 0.25, 0.5, 1.0)]]


@pytest.mark.parametrize("ranking", RANKINGS, ids=lambda ranking: f"{ranking.by} {ranking.image_weight:g}")
@pytest.mark.parametrize(
    ("filters", "where"),
    [
        (Filters(), sa.true()),
        (Filters(sexes=("F",)), Study.patient_sex == "F"),
        (Filters(exclude_patients=("p3", "p4")), Study.patient_id.not_in([3, 4])),
        (Filters(exclude_studies=tuple(f"1.2.3.{row}" for row in range(5, ROWS))), Study.id <= 5),
        (Filters(modalities=("CR",)), sa.false()),
    ],
    ids=["all", "half", "two patients less", "five", "none"],
)
def test_hits_are_those_of_a_naive_scan(
    archive: Archive, ranking: Ranking, filters: Filters, where: sa.ColumnElement[bool]
) -> None:
    for query in vectors(3, 6):
        expected = archive.naive(ranking, query, where)
        for top_k in (1, 7, 40):
            page = archive.snapshot.page(Search(query, ranking, filters, group_reports=False), top_k)
            assert [hit.study_id for hit in page.hits] == [study_id for study_id, _ in expected[:top_k]]
            scores = [score for _, score in expected[:top_k]]
            assert [hit.score for hit in page.hits] == pytest.approx(scores, abs=1e-6)
            assert page.more == (len(expected) > top_k)


def test_where_all_studies_score_alike_no_more_than_a_bound_is_read(
    sqlite_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.search.ranking.FIRST_DEPTH", 8)
    monkeypatch.setattr("index.search.ranking.DEEPEST", 20)
    same = np.tile(vectors(1, 1), (60, 1))
    add_studies(sqlite_catalog, range(60))
    add_embeddings(sqlite_catalog, range(60), {IMAGE: same, REPORT: same})
    build_generation(sqlite_catalog, tmp_path, MODEL)
    depths = []
    nearest = Candidates.nearest

    def seen(self: Candidates, kind: str, query: np.ndarray, count: int) -> object:
        depths.append(count)
        return nearest(self, kind, query, count)

    monkeypatch.setattr(Candidates, "nearest", seen)
    page = opened(sqlite_catalog, tmp_path).page(Search(same[0], Ranking("fused", 0.3, SCALES), group_reports=False), 3)
    assert len(page.hits) == 3 and max(depths) == 20


def test_each_hit_has_the_cosines_of_both_its_parts(archive: Archive) -> None:
    query = vectors(3, 1)[0]
    page = archive.snapshot.page(Search(query, Ranking("fused", 0.3, SCALES), group_reports=False), 100)
    by_kind = {kind: dict(archive.naive(Ranking(kind), query, sa.true())) for kind in ("image", "report")}
    assert any(hit.image is None for hit in page.hits) and any(hit.report is None for hit in page.hits)
    for hit in page.hits:
        for kind, cosine in (("image", hit.image), ("report", hit.report)):
            assert cosine == pytest.approx(by_kind[kind].get(hit.study_id), abs=1e-6)


def test_a_part_that_a_study_lacks_counts_as_that_of_a_random_pair() -> None:
    ranking = Ranking("fused", 0.25, SCALES)
    assert ranking.part(IMAGE, np.array([np.nan, 0.3, 0.5])).tolist() == pytest.approx([0, 0, 0.25])
    assert ranking.part(REPORT, np.array([np.nan, -0.1, 0.3])).tolist() == pytest.approx([0, 0, 0.75])


def test_an_archive_without_reports_is_ranked_by_images_all_the_same(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    of = vectors(1, 20)
    add_studies(sqlite_catalog, range(20), lambda row: None)
    with sqlite_catalog.write() as session:
        about = {"kind": IMAGE, "model_fingerprint": MODEL, "source_hash": "0" * 64}
        session.add_all([Embedding(study_id=row + 1, vector=of[row].tobytes(), **about) for row in range(20)])
    build_generation(sqlite_catalog, tmp_path, MODEL)
    snapshot = opened(sqlite_catalog, tmp_path)
    fused, image = (
        [hit.study_id for hit in snapshot.page(Search(of[3], Ranking(by, 0.25, SCALES)), 5).hits]
        for by in ("fused", "image")
    )
    assert fused == image and fused[0] == 4
    with pytest.raises(EmptyIndex, match="No report embeddings"):
        snapshot.page(Search(of[3], Ranking("report")), 5)
