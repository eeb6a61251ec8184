"""The tables of the catalog: what the archive knows, and the only truth about it.

    Patient 1-n Study 1-n Instance      one row for every file ever met, refused ones with their reason
                Study 1-n Report        one row for every report ever met
                Study 1-n Embedding     at most one a kind and model
    EmbeddingRemoval                    embeddings that are gone, so that every searcher drops them
    Generation                          which index files serve which embeddings
    Setting, Backup                     what the administrator decided or did
    ForgottenPatient, DeletedStudy      who and what is not to come back
    Job 1-n WebhookDelivery             work that was asked for, and who is told of its end
    Study 1-n StudyArrival, StudyReturn by which doors it came, and what is sent back for it
    ApiKey, Usage, AuditEntry           who may use the service, and who did

``index.catalog`` opens the database; ``migrations`` creates it.
"""

from .access import ApiKey, AuditEntry, Usage
from .archive import (
    ACCEPTED,
    AS_REPORT,
    MATCHED,
    REFUSED,
    UNMATCHED,
    WITHDRAWN,
    Instance,
    Patient,
    Report,
    ReportFinding,
    Study,
)
from .base import Base
from .embeddings import IMAGE, KINDS, REPORT, Embedding, EmbeddingFailure, EmbeddingRemoval, Generation
from .jobs import Job, WebhookDelivery
from .keeping import Backup, DeletedStudy, ForgottenPatient, Secret, Setting
from .returns import StudyArrival, StudyReturn

__all__ = [
    "ACCEPTED",
    "AS_REPORT",
    "IMAGE",
    "KINDS",
    "MATCHED",
    "REFUSED",
    "REPORT",
    "UNMATCHED",
    "WITHDRAWN",
    "ApiKey",
    "AuditEntry",
    "Backup",
    "Base",
    "DeletedStudy",
    "Embedding",
    "EmbeddingFailure",
    "EmbeddingRemoval",
    "ForgottenPatient",
    "Generation",
    "Instance",
    "Job",
    "Patient",
    "Report",
    "ReportFinding",
    "Secret",
    "Setting",
    "Study",
    "StudyArrival",
    "StudyReturn",
    "Usage",
    "WebhookDelivery",
]
