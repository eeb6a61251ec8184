"""Makes ``SCHEMA.sql`` and ``answers.json`` from simulated studies. Run in a checkout of the release to upgrade from:

git worktree add ../previous COMMIT, there: PYTHONPATH=. python make.py /archive OUTPUT
"""

import json
import sqlite3
import sys
from pathlib import Path

import numpy as np

from index import Gallery, build_generation, embed_pending, ingest_folder, migrate, open_catalog
from model.simulation import write_cohort
from tests.fakes import FakeEncoder


def main() -> None:
    archive, output = Path(sys.argv[1]), Path(sys.argv[2])
    write_cohort(11, 14, archive, 64)
    database = output / "alta.db"
    migrate(f"sqlite:///{database}")
    catalog = open_catalog(f"sqlite:///{database}")
    ingest_folder(catalog, archive / "dicom", archive / "reports.csv", workers=0)
    encoder = FakeEncoder()
    embed_pending(catalog, encoder)
    build_generation(catalog, output / "generations", encoder.fingerprint)
    gallery = Gallery(catalog, output / "generations")
    gallery.refresh(now=True)
    answers = []
    for number in range(4):
        vector = np.random.default_rng(number).standard_normal(encoder.dimension).astype("<f4")
        vector /= np.linalg.norm(vector)
        for kind in ("image", "report"):
            hits = gallery.search(kind, vector, 5)
            answers.append(
                {"kind": kind, "seed": number, "hits": [[h.study.study_instance_uid, round(h.score, 6)] for h in hits]}
            )
    (output / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")
    catalog.close()
    with sqlite3.connect(database) as connection:
        schema = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        (output / f"{schema}.sql").write_text("\n".join(connection.iterdump()) + "\n")


if __name__ == "__main__":  # decoders are processes
    main()
