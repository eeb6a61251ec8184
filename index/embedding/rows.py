"""What the embedding job writes: one transaction a batch, rows or failures, and nothing twice."""

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from model.errors import InputError

from ..catalog import Catalog
from ..tables import Embedding, EmbeddingFailure
from .pending import Task, current_sources
from .removal import remove_embeddings

__all__ = ["Outcome", "write_outcomes"]

Outcome = np.ndarray | InputError  # float32 (D,), or why there is none


def write_outcomes(
    catalog: Catalog, kind: str, fingerprint: str, tasks: Sequence[Task], outcomes: Sequence[Outcome]
) -> list[bool]:
    """Keep what is new. Returns which outcomes were.

    What another process finished meanwhile stays, and what was made of content that has changed meanwhile, or of a
    study that was removed, is dropped; everything else of these studies is replaced.
    """
    of_model = {"kind": kind, "model_fingerprint": fingerprint}
    studies = [task.study_id for task in tasks]
    with catalog.write() as session:
        query = sa.select(Embedding.study_id, Embedding.source_hash).filter_by(**of_model)
        done = {tuple(row) for row in session.execute(query.where(Embedding.study_id.in_(studies)))}
        wanted = current_sources(session, kind, studies) - done
        kept = [(task.study_id, task.source_hash) in wanted for task in tasks]
        new = [pair for pair, keep in zip(zip(tasks, outcomes, strict=True), kept, strict=True) if keep]
        replaced = [task.study_id for task, _ in new]
        remove_embeddings(
            session,
            Embedding.kind == kind,
            Embedding.model_fingerprint == fingerprint,
            Embedding.study_id.in_(replaced),
        )
        session.execute(
            sa.delete(EmbeddingFailure).filter_by(**of_model).where(EmbeddingFailure.study_id.in_(replaced))
        )
        for task, outcome in new:
            about = {"study_id": task.study_id, "source_hash": task.source_hash, **of_model}
            if isinstance(outcome, InputError):
                detail = outcome.message.replace("\x00", "")
                session.add(EmbeddingFailure(**about, reason=outcome.slug, detail=detail))
            else:
                session.add(Embedding(**about, vector=outcome.astype("<f4").tobytes()))
    return kept
