"""What a webhook is told of a study whose results are there: only what its route names, because a StudyInstanceUID or
an accession number leads to a patient."""

import json
from datetime import datetime

from index import Catalog, find_study

from ..return_settings import ReturnRoute

__all__ = ["webhook_message"]


def webhook_message(
    catalog: Catalog, route: ReturnRoute, uid: str, source_hash: str, made_at: datetime
) -> tuple[str, str]:
    """The message and its id, which is the same in every attempt for one state of the study. Raises UnknownStudy."""
    study = find_study(catalog, uid)
    data: dict[str, str | None] = {"route": route.name}
    if "study_instance_uid" in route.tells:
        data["study_instance_uid"] = uid
    if "accession_number" in route.tells:
        data["accession_number"] = study.accession_number
    if route.link:
        data["link"] = route.link.replace("{study_instance_uid}", uid)
    message = {"type": "study.embedded", "timestamp": made_at.isoformat(), "data": data}
    # Under the catalog's secret: it tells nobody of which study it is.
    message_id = catalog.patient_key(f"{uid} {source_hash}", f"return {route.name}")[:32]
    return json.dumps(message), message_id
