"""Filters give what a naive search among the studies that pass gives, however many pass and wherever they lie."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from index import Catalog, Filters, Gallery, build_generation
from index.embedding.removal import remove_embeddings
from index.tables import Embedding, Patient, Study
from tests.test_generations import MODEL

ROWS = 4000
WIDTH = 16
COMMON, RARE, NEAR, FAR = date(2020, 1, 1), date(2021, 1, 1), date(2022, 1, 1), date(2023, 1, 1)


def clusters(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, WIDTH) of length 1 around 40 centres, and which centre each is of."""
    chosen = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((40, WIDTH))
    of = chosen.integers(0, len(centres), rows)
    vectors = centres[of] + 0.3 * chosen.standard_normal((rows, WIDTH))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), of


@pytest.fixture(params=["flat", "ivf"])
def gallery(request: pytest.FixtureRequest, sqlite_catalog: Catalog, tmp_path: Path) -> Gallery:
    """Half the studies are F; 1 % are RARE; one centre's studies are NEAR; the last 300 rows are in the delta."""
    vectors, of = clusters(1, ROWS)
    catalog = sqlite_catalog

    def add(rows: range) -> None:
        with catalog.write() as session:
            session.execute(
                sa.insert(Study),
                [
                    {
                        "id": row + 1,
                        "study_instance_uid": f"1.2.3.{row}",
                        "patient_id": 1,
                        "modality": "DX" if row % 1000 == 7 else "CR",
                        "patient_sex": "FM"[row % 2],
                        "study_date": NEAR if of[row] == 3 else RARE if row % 100 == 3 else COMMON,
                    }
                    for row in rows
                ],
            )
            about = {"kind": "image", "model_fingerprint": MODEL, "source_hash": "0" * 64}
            session.execute(
                sa.insert(Embedding), [about | {"study_id": row + 1, "vector": vectors[row].tobytes()} for row in rows]
            )

    with catalog.write() as session:
        session.add(Patient(id=1, key="p"))
    add(range(ROWS - 300))
    build_generation(catalog, tmp_path, MODEL, engine=request.param)
    add(range(ROWS - 300, ROWS))
    with catalog.write() as session:
        remove_embeddings(session, Embedding.study_id % 50 == 1)
    opened = Gallery(catalog, tmp_path)
    opened.refresh(now=True)
    return opened


@pytest.mark.parametrize("few", [20_000, 30])
@pytest.mark.parametrize(
    ("filters", "where"),
    [
        (Filters(), sa.true()),
        (Filters(sexes=("F",)), Study.patient_sex == "F"),
        (Filters(date_from=RARE, date_to=RARE), Study.study_date == RARE),
        (Filters(modalities=("DX",)), Study.modality == "DX"),
        (Filters(date_from=NEAR), Study.study_date == NEAR),  # all far from most queries, and all near to some
        (Filters(date_from=FAR), sa.false()),
        (Filters(exclude_studies=tuple(f"1.2.3.{row}" for row in range(0, 4000, 2))), Study.id % 2 == 0),
    ],
    ids=["all", "half", "one in a hundred", "one in a thousand", "one centre", "none", "half by name"],
)
def test_hits_are_those_of_a_naive_search_among_what_passes(
    gallery: Gallery,
    sqlite_catalog: Catalog,
    filters: Filters,
    where: sa.ColumnElement[bool],
    few: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("index.search.candidates.FEW", few)  # both ways: through the nearest, among all
    query = sa.select(Study.id, Embedding.vector).join(Embedding).where(where).order_by(Study.id)
    with sqlite_catalog.session() as session:
        rows = session.execute(query).all()
    ids = [row.id for row in rows]
    vectors = np.array([np.frombuffer(row.vector, "<f4") for row in rows], dtype=np.float64).reshape(-1, WIDTH)
    found_of = expected_of = 0
    for asked in clusters(2, 12)[0]:
        scores = (vectors * asked.astype(np.float64)).sum(axis=1)
        for top_k in (1, 10, 50):
            expected = [ids[place] for place in np.lexsort((ids, -scores))[:top_k]]
            hits = gallery.search("image", asked, top_k, filters)
            found = [int(hit.study.study_instance_uid.rpartition(".")[2]) + 1 for hit in hits]
            assert len(found) == len(expected)
            if gallery.generation is not None and gallery.generation.engine == "flat":
                assert found == expected
            found_of += len({*found} & {*expected})
            expected_of += len(expected)
    assert found_of >= 0.99 * expected_of
