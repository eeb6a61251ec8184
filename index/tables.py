"""The tables of the catalog: what the archive knows, and the only truth about it.

    Patient 1-n Study 1-n Instance      one row for every file ever met, refused ones with their reason
                Study 1-n Report        one row for every report ever met
                Study 1-n Embedding     at most one a kind and model
    EmbeddingRemoval                    embeddings that are gone, so that every searcher drops them
    Generation                          which index files serve which embeddings
    Setting, ForgottenPatient, Backup   what the administrator decided or did

``index.catalog`` opens the database; ``migrations`` creates it.
"""

from datetime import UTC, date, datetime, time
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

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
    "Backup",
    "Base",
    "Embedding",
    "EmbeddingFailure",
    "EmbeddingRemoval",
    "ForgottenPatient",
    "Generation",
    "Instance",
    "Patient",
    "Report",
    "Secret",
    "Setting",
    "Study",
]

ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
AS_REPORT: Final = "report"  # a file that is a report, such as a structured one: its text is a row of ``Report``
MATCHED: Final = "matched"
UNMATCHED: Final = "unmatched"
WITHDRAWN: Final = "withdrawn"

IMAGE: Final = "image"
REPORT: Final = "report"
KINDS: Final = (IMAGE, REPORT)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class _UtcDateTime(sa.types.TypeDecorator[datetime]):
    """SQLite keeps no time zone: written as UTC, read back as UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def _now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    metadata = sa.MetaData(naming_convention=NAMING)


class Secret(Base):
    """A random value made once for this catalog, such as the key of the patient pseudonyms."""

    __tablename__ = "secret"

    name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    value: Mapped[bytes]


class Setting(Base):
    """What holds for the whole archive, whichever process reads it, such as how old a prior study may be."""

    __tablename__ = "setting"

    name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    value: Mapped[str] = mapped_column(sa.Text)


class Patient(Base):
    __tablename__ = "patient"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(64), unique=True)  # HMAC of the Patient ID and issuer, never the ID
    id_key: Mapped[str | None] = mapped_column(sa.String(64))  # HMAC of the ID alone, where ``key`` has an issuer
    sex: Mapped[str | None] = mapped_column(sa.String(1))

    studies: Mapped[list["Study"]] = relationship(back_populates="patient")


class Study(Base):
    __tablename__ = "study"
    # What searches filter by, in one index: the table itself need not be read.
    __table_args__ = (sa.Index(None, "study_date", "modality", "patient_sex", "patient_age"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(sa.String(64), unique=True)
    patient_id: Mapped[int] = mapped_column(sa.ForeignKey("patient.id"), index=True)
    accession_number: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    study_date: Mapped[date | None]
    study_time: Mapped[time | None]
    study_order: Mapped[float | None]  # position among the patient's studies where no date is known
    modality: Mapped[str] = mapped_column(sa.String(16))
    patient_sex: Mapped[str | None] = mapped_column(sa.String(1))
    patient_age: Mapped[float | None]  # years on the day of the study
    description: Mapped[str | None] = mapped_column(sa.Text)
    # Hash of the files in the four slots; None without a frontal image. Kept here so that "which embeddings are
    # missing or stale" is one indexed comparison, not a walk over every patient's history.
    image_source: Mapped[str | None] = mapped_column(sa.String(64))
    created_at: Mapped[datetime] = mapped_column(_UtcDateTime, default=_now)

    patient: Mapped[Patient] = relationship(back_populates="studies")
    instances: Mapped[list["Instance"]] = relationship(back_populates="study")
    reports: Mapped[list["Report"]] = relationship(back_populates="study")


class Instance(Base):
    """A file. ``status``: accepted, refused, or report for a file that is one. ``reason`` (a slug) and ``detail`` (a
    sentence) say why a refused one is refused."""

    __tablename__ = "instance"
    __table_args__ = (
        # Both, or SQLite walks every accepted file to find the few of a study.
        sa.Index(None, "study_id", "status"),
        # One accepted file a SOP instance, whatever two ingests at once may try.
        sa.Index(
            "uq_instance_accepted_sop_instance_uid",
            "sop_instance_uid",
            unique=True,
            sqlite_where=sa.text("status = 'accepted'"),
            postgresql_where=sa.text("status = 'accepted'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    path_key: Mapped[str] = mapped_column(sa.String(64), unique=True)  # hash of the path's bytes: any length
    path: Mapped[str] = mapped_column(sa.Text)
    size: Mapped[int | None] = mapped_column(sa.BigInteger)
    modified_ns: Mapped[int | None] = mapped_column(sa.BigInteger)
    sha256: Mapped[str | None] = mapped_column(sa.String(64))
    status: Mapped[str] = mapped_column(sa.String(16), index=True)
    reason: Mapped[str | None] = mapped_column(sa.String(64))
    detail: Mapped[str | None] = mapped_column(sa.Text)
    study_id: Mapped[int | None] = mapped_column(sa.ForeignKey("study.id"))
    sop_instance_uid: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    # Of the decoded picture: one object may come in files that differ, in their file meta information or syntax.
    pixels_sha256: Mapped[str | None] = mapped_column(sa.String(64))
    # HMAC of the Patient ID and issuer that the file names, of refused files too: what `forget` has to find.
    patient_key: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    modality: Mapped[str | None] = mapped_column(sa.String(16))
    view_position: Mapped[str | None] = mapped_column(sa.String(16))
    view: Mapped[str | None] = mapped_column(sa.String(16))  # frontal, lateral or unknown
    view_source: Mapped[str | None] = mapped_column(sa.String(16))  # header, manifest or classifier
    rows: Mapped[int | None]
    columns: Mapped[int | None]
    instance_number: Mapped[int | None] = mapped_column(sa.BigInteger)
    acquired: Mapped[str | None] = mapped_column(sa.String(32))  # sortable DICOM date and time
    derived: Mapped[bool | None]  # ImageType: made from other images; None where the header is silent
    created_at: Mapped[datetime] = mapped_column(_UtcDateTime, default=_now)
    updated_at: Mapped[datetime] = mapped_column(_UtcDateTime, default=_now, onupdate=_now)

    study: Mapped[Study | None] = relationship(back_populates="instances")


class Report(Base):
    """A report as given. ``matched`` to its study, ``unmatched`` until that study arrives, ``refused``, or
    ``withdrawn`` by its sender: then without text, and there so that an older version that comes late stays out.

    ``study_id``: its study, or that which it had before a newer version took its place or its sender withdrew it."""

    __tablename__ = "report"
    __table_args__ = (
        sa.Index(
            "uq_report_matched_study_id",
            "study_id",
            unique=True,
            sqlite_where=sa.text("status = 'matched'"),
            postgresql_where=sa.text("status = 'matched'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    identity: Mapped[str] = mapped_column(sa.String(64), unique=True)  # what makes two sources the same report
    source: Mapped[str] = mapped_column(sa.Text)  # file, and row or line where it has several
    status: Mapped[str] = mapped_column(sa.String(16), index=True)
    reason: Mapped[str | None] = mapped_column(sa.String(64))
    detail: Mapped[str | None] = mapped_column(sa.Text)
    study_id: Mapped[int | None] = mapped_column(sa.ForeignKey("study.id"), index=True)
    study_instance_uid: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    accession_number: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    patient_key: Mapped[str | None] = mapped_column(sa.String(64))  # HMAC of the Patient ID it names, without issuer
    indication: Mapped[str | None] = mapped_column(sa.Text)
    comparison: Mapped[str | None] = mapped_column(sa.Text)
    findings: Mapped[str | None] = mapped_column(sa.Text)
    impression: Mapped[str | None] = mapped_column(sa.Text)
    text: Mapped[str] = mapped_column(sa.Text)
    sha256: Mapped[str] = mapped_column(sa.String(64))
    # Hash of the numbering in which its sender counts reports: two numbers of one are two reports, not two versions.
    numbering: Mapped[str | None] = mapped_column(sa.String(64))
    stage: Mapped[str | None] = mapped_column(sa.String(16))  # preliminary, final or corrected, where the sender says
    issued_at: Mapped[datetime | None] = mapped_column(_UtcDateTime)  # of this version, where the sender says
    created_at: Mapped[datetime] = mapped_column(_UtcDateTime, default=_now)
    updated_at: Mapped[datetime] = mapped_column(_UtcDateTime, default=_now, onupdate=_now)

    study: Mapped[Study | None] = relationship(back_populates="reports")


class Embedding(Base):
    """A vector of one study. A new source means a new row: a row is never changed, so ids tell what is new."""

    __tablename__ = "embedding"
    __table_args__ = (
        sa.UniqueConstraint("study_id", "kind", "model_fingerprint"),
        sa.Index(None, "model_fingerprint", "kind", "id"),  # the newest rows of a model, asked for twice a second
        {"sqlite_autoincrement": True},  # ids are never used twice
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("study.id"))
    kind: Mapped[str] = mapped_column(sa.String(16))
    model_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    vector: Mapped[bytes]  # float32, little-endian, length 1
    source_hash: Mapped[str] = mapped_column(sa.String(64))  # Study.image_source or Report.sha256 it was made from
    created_at: Mapped[datetime] = mapped_column(_UtcDateTime, default=_now)


class EmbeddingRemoval(Base):
    """An embedding row that was deleted: a searcher whose index still holds it leaves it out."""

    __tablename__ = "embedding_removal"
    __table_args__ = ({"sqlite_autoincrement": True},)  # ids are never used twice

    id: Mapped[int] = mapped_column(primary_key=True)
    embedding_id: Mapped[int]
    study_id: Mapped[int]  # no foreign key: the study may be gone too
    kind: Mapped[str] = mapped_column(sa.String(16))
    model_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    created_at: Mapped[datetime] = mapped_column(_UtcDateTime, default=_now)


class EmbeddingFailure(Base):
    """A study that cannot be embedded as it is. Tried again when its source changes, or when asked."""

    __tablename__ = "embedding_failure"
    __table_args__ = (sa.UniqueConstraint("study_id", "kind", "model_fingerprint"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(sa.ForeignKey("study.id"))
    kind: Mapped[str] = mapped_column(sa.String(16))
    model_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    source_hash: Mapped[str] = mapped_column(sa.String(64))
    reason: Mapped[str] = mapped_column(sa.String(64))
    detail: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_UtcDateTime, default=_now)


class Generation(Base):
    """An index of the embeddings of one model up to a row; at most one is live.

    ``state``: building, live, retired (kept to go back to), failed, removed (no index any more).
    """

    __tablename__ = "generation"
    __table_args__ = (
        sa.Index(
            "uq_generation_live",
            "state",
            unique=True,
            sqlite_where=sa.text("state = 'live'"),
            postgresql_where=sa.text("state = 'live'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(sa.String(16))
    model_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    model_path: Mapped[str | None] = mapped_column(sa.Text)  # where the encoders lay that queries are embedded with
    engine: Mapped[str] = mapped_column(sa.String(32))  # names joined by + where the kinds differ
    settings: Mapped[str] = mapped_column(sa.Text, default="{}")  # JSON: by kind, the engine and its settings
    dimension: Mapped[int]
    image_rows: Mapped[int]
    image_max_id: Mapped[int]
    report_rows: Mapped[int]
    report_max_id: Mapped[int]
    removal_max_id: Mapped[int] = mapped_column(default=0)  # rows removed up to here are not in it
    recall: Mapped[float | None]  # recall@10 against exact search, the lower of the two kinds
    detail: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_UtcDateTime, default=_now)
    activated_at: Mapped[datetime | None] = mapped_column(_UtcDateTime)


class ForgottenPatient(Base):
    """A pseudonym of a patient who was removed for good, or of one of their studies: what comes under it is refused."""

    __tablename__ = "forgotten_patient"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    patient: Mapped[str] = mapped_column(sa.String(64))  # HMAC of who was named: what `remember` takes back together
    created_at: Mapped[datetime] = mapped_column(_UtcDateTime, default=_now)


class Backup(Base):
    """A backup that was made: forgetting a patient has to reach it too."""

    __tablename__ = "backup"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_UtcDateTime, default=_now)
