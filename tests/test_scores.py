"""What is usual in an archive: quantiles of scores, measured when a generation is built."""

from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from index import IMAGE_WEIGHTS, Catalog, Ranking, Scale, build_generation, live_generation
from index.generations.nearest import LEAST_STUDIES, nearest_of_others
from index.generations.rows import write_rows
from index.generations.scores import LEVELS, ArchiveScores, Quantiles
from index.tables import IMAGE, REPORT, Embedding, Generation, Study
from tests.test_generations import MODEL
from tests.test_ranking import ROWS, add_embeddings, add_studies, vectors


@pytest.fixture
def archive(sqlite_catalog: Catalog, tmp_path: Path) -> Catalog:
    add_studies(sqlite_catalog, range(ROWS))
    add_embeddings(sqlite_catalog, range(ROWS), {IMAGE: vectors(1), REPORT: vectors(2)})
    build_generation(sqlite_catalog, tmp_path, MODEL)
    return sqlite_catalog


def scores_of(catalog: Catalog) -> ArchiveScores:
    live = live_generation(catalog)
    assert live is not None
    return live.scores


def pairs_of_others(catalog: Catalog, asked: str, kind: str) -> np.ndarray:
    """Cosines of every pair of different patients."""
    with catalog.session() as session:
        query = sa.select(Study.patient_id, Embedding.kind, Embedding.vector).join(Embedding)
        rows = [(patient, of, np.frombuffer(vector, "<f4")) for patient, of, vector in session.execute(query)]
    first, second = ([(patient, vector) for patient, of, vector in rows if of == each] for each in (asked, kind))
    return np.array([a @ b for one, a in first for other, b in second if one != other])


@pytest.mark.parametrize(("asked", "kind"), [(IMAGE, IMAGE), (IMAGE, REPORT), ("text", IMAGE), ("text", REPORT)])
def test_percentiles_are_shares_of_pairs_of_different_patients(archive: Catalog, asked: str, kind: str) -> None:
    cosines = pairs_of_others(archive, REPORT if asked == "text" else asked, kind)
    scores = scores_of(archive)
    for score in np.quantile(cosines, [0.02, 0.1, 0.5, 0.9, 0.99, 0.999]):
        share = 100 * (cosines < score).mean()
        assert scores.percentile(asked, Ranking(kind), score) == pytest.approx(share, abs=0.3)  # type: ignore[arg-type]
    scale = scores.ranking(asked, 0.5).scales[kind]  # type: ignore[arg-type]
    assert (scale.mean, scale.deviation) == pytest.approx((cosines.mean(), cosines.std()), abs=0.01)


def test_fused_percentiles_are_of_the_default_weight_only(archive: Catalog) -> None:
    scores = scores_of(archive)
    ranking = scores.ranking("image", IMAGE_WEIGHTS["image"])
    shares = [scores.percentile("image", ranking, score) for score in (-9.0, -0.5, 0.0, 0.5, 9.0)]
    assert shares == sorted(shares) and shares[0] == 0 and 30 < shares[2] < 70  # type: ignore[operator]
    assert scores.percentile("image", scores.ranking("image", 0.77), 0.0) is None


def test_no_percentile_says_more_than_the_pairs_do(archive: Catalog) -> None:
    found = scores_of(archive).quantiles["image", "image"]
    pairs = len(pairs_of_others(archive, IMAGE, IMAGE))
    assert found.percentile(2.0) == LEVELS[len(found.values) - 1]
    assert pairs * (1 - found.percentile(2.0) / 100) >= 20 > pairs * (1 - LEVELS[len(found.values)] / 100)


def test_a_generation_from_before_is_built_again_and_a_new_one_is_not(archive: Catalog, tmp_path: Path) -> None:
    first = live_generation(archive)
    assert first is not None
    with archive.write() as session:
        session.execute(sa.update(Generation).values(scores="{}"))
    again = build_generation(archive, tmp_path, MODEL)
    assert again.id != first.id and again.scores == first.scores
    assert build_generation(archive, tmp_path, MODEL).id == again.id


def test_scores_between_levels_are_interpolated_and_equal_levels_are_one_step() -> None:
    quantiles = Quantiles([0.0, 0.1, 0.1, 0.1, 0.3], Scale())
    scores = (-1.0, 0.0, 0.05, 0.1, 0.2, 0.3, 0.9)
    assert [quantiles.percentile(score) for score in scores] == [0, 0, 1.5, 2.0, 4.5, 5.0, 5.0]


def test_a_small_archive_and_a_generation_from_before_have_no_scores(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    add_studies(sqlite_catalog, range(4))
    add_embeddings(sqlite_catalog, range(4), {IMAGE: vectors(1), REPORT: vectors(2)})
    build_generation(sqlite_catalog, tmp_path, MODEL)
    for scores in (scores_of(sqlite_catalog), ArchiveScores.of({})):
        assert scores.percentile("image", Ranking("image"), 0.5) is None
        assert scores.ranking("image", 0.3) == Ranking("fused", 0.3, {IMAGE: Scale(), REPORT: Scale()})


def test_where_one_kind_has_no_scale_neither_has(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    images = vectors(1)
    add_studies(sqlite_catalog, range(40))
    with sqlite_catalog.write() as session:
        about = {"kind": IMAGE, "model_fingerprint": MODEL, "source_hash": "0" * 64}
        session.add_all([Embedding(study_id=row + 1, vector=images[row].tobytes(), **about) for row in range(40)])
    build_generation(sqlite_catalog, tmp_path, MODEL)
    scores = scores_of(sqlite_catalog)
    assert ("image", IMAGE) in scores.quantiles  # reports that come later are compared by their cosines alone
    ranking = scores.ranking("image", IMAGE_WEIGHTS["image"])
    assert ranking.scales == {IMAGE: Scale(), REPORT: Scale()}
    highest = IMAGE_WEIGHTS["image"] * 1.0
    assert scores.percentile("image", ranking, highest) == scores.percentile("image", Ranking("image"), 1.0)


def nearest_by_hand(catalog: Catalog) -> np.ndarray:
    """Each study's best cosine to an image of another patient."""
    with catalog.session() as session:
        query = sa.select(Study.patient_id, Embedding.vector).join(Embedding).where(Embedding.kind == IMAGE)
        rows = [(patient, np.frombuffer(vector, "<f4")) for patient, vector in session.execute(query)]
    return np.array([max(own @ other for who, other in rows if who != patient) for patient, own in rows])


def test_the_nearest_of_another_patient_is_measured_exactly(archive: Catalog, tmp_path: Path, monkeypatch) -> None:
    expected = nearest_by_hand(archive)
    for block in (7, 64, 100_000):  # so that neighbours are gathered over blocks
        monkeypatch.setattr("index.generations.nearest.BLOCK", block)
        with archive.snapshot() as session:
            rows = write_rows(session, IMAGE, MODEL, tmp_path / str(block))
        assert rows is not None
        assert np.sort(nearest_of_others(archive, rows, 0)) == pytest.approx(np.sort(expected), abs=1e-6)


def test_what_is_farther_than_nearly_all_of_the_archive_is_unlike_it(archive: Catalog) -> None:
    expected = nearest_by_hand(archive)
    scores = scores_of(archive)
    low = float(np.quantile(expected, 0.01))
    assert scores.is_unlike(low - 0.01) and not scores.is_unlike(low + 0.01)
    assert not ArchiveScores.of({}).is_unlike(-1)


def test_an_archive_of_few_studies_calls_nothing_unlike_it(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    few = LEAST_STUDIES - 1
    add_studies(sqlite_catalog, range(few))
    add_embeddings(sqlite_catalog, range(few), {IMAGE: vectors(1), REPORT: vectors(2)})
    build_generation(sqlite_catalog, tmp_path, MODEL)
    assert not scores_of(sqlite_catalog).is_unlike(-1)
