"""What the images of a study are embedded from, kept as a hash: where it changes, the embedding is stale."""

import hashlib
import json
from collections.abc import Iterable

from sqlalchemy.orm import Session

from ..embedding.removal import forget_embeddings
from ..slots import SLOTS
from ..studies import History, histories, slot_instances
from ..tables import IMAGE, Study

__all__ = ["image_source", "refresh_sources"]


def refresh_sources(session: Session, patient_ids: Iterable[int]) -> int:
    """Recompute what every study of these patients is embedded from, priors included; returns how many changed."""
    changed = 0
    for history in histories(session, patient_ids).values():
        for study in history:
            source = image_source(history, study)
            if study.image_source != source:
                changed += 1
                study.image_source = source
                if source is None:
                    forget_embeddings(session, [study.id], IMAGE)
    return changed


def image_source(history: History, study: Study) -> str | None:
    """What ``Study.image_source`` has to be: a hash of the files in the four slots, None without a frontal image."""
    slots = slot_instances(history, study)
    if not slots:
        return None
    hashes = [slots[slot].sha256 if slot in slots else None for slot in SLOTS]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
