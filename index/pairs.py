"""The archive's own image-report pairs: what paired retrieval is measured on."""

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from model.text import report_body

from .catalog import Catalog
from .tables import IMAGE, MATCHED, REPORT, Embedding, Report, Study

__all__ = ["Pairs", "read_pairs"]


@dataclass(frozen=True)
class Pairs:
    """Studies that have both embeddings of one model, in the order of their rows.

    images, reports (N, D) float32 of length 1; texts: what of each report was encoded; patients (N,): row ids.
    """

    study_instance_uids: list[str]
    images: np.ndarray
    reports: np.ndarray
    texts: list[str]
    patients: np.ndarray


def read_pairs(catalog: Catalog, fingerprint: str) -> Pairs:
    image, report = sa.orm.aliased(Embedding), sa.orm.aliased(Embedding)
    query = (
        sa.select(Study.study_instance_uid, Study.patient_id, image.vector, report.vector, Report)
        .join(image, sa.and_(image.study_id == Study.id, image.kind == IMAGE, image.model_fingerprint == fingerprint))
        .join(
            report, sa.and_(report.study_id == Study.id, report.kind == REPORT, report.model_fingerprint == fingerprint)
        )
        .join(Report, sa.and_(Report.study_id == Study.id, Report.status == MATCHED))
        .order_by(Study.id)
    )
    with catalog.session() as session:
        rows = session.execute(query).all()
        return Pairs(
            [row[0] for row in rows],
            _matrix([row[2] for row in rows]),
            _matrix([row[3] for row in rows]),
            [report_body(row[4].findings, row[4].impression, row[4].text) for row in rows],
            np.array([row[1] for row in rows]),
        )


def _matrix(vectors: list[bytes]) -> np.ndarray:
    if not vectors:
        return np.zeros((0, 0), np.float32)
    return np.stack([np.frombuffer(vector, "<f4") for vector in vectors])
