"""Patients, their studies, files and reports."""

from datetime import date, datetime, time
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .base import Base, UtcDateTime, now

__all__ = [
    "ACCEPTED",
    "AS_REPORT",
    "MATCHED",
    "REFUSED",
    "UNMATCHED",
    "WITHDRAWN",
    "Instance",
    "Patient",
    "Report",
    "ReportFinding",
    "Study",
]

ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
AS_REPORT: Final = "report"  # a file that is a report, such as a structured one: its text is a row of ``Report``
MATCHED: Final = "matched"
UNMATCHED: Final = "unmatched"
WITHDRAWN: Final = "withdrawn"


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
    __table_args__ = (
        sa.Index("ix_study_filters", "study_date", "modality", "patient_sex", "patient_age", "institution"),
    )

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
    institution: Mapped[str | None] = mapped_column(sa.Text)  # InstitutionName (0008,0080)
    # Hash of the files in the four slots; None without a frontal image. Kept here so that "which embeddings are
    # missing or stale" is one indexed comparison, not a walk over every patient's history.
    image_source: Mapped[str | None] = mapped_column(sa.String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)

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
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, onupdate=now)

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
    language: Mapped[str | None] = mapped_column(sa.String(16))  # primary tag of BCP 47, such as en
    labelled: Mapped[int | None]  # version of the rules that its ``ReportFinding`` rows come from
    issued_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # of this version, where the sender says
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, onupdate=now)

    study: Mapped[Study | None] = relationship(back_populates="reports")


class ReportFinding(Base):
    """What a report says of one finding. ``assertion``: present, absent or uncertain; ``laterality``: left, right or
    bilateral where the report says so."""

    __tablename__ = "report_finding"
    __table_args__ = (sa.UniqueConstraint("report_id", "finding"), sa.Index(None, "finding", "assertion", "report_id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    report_id: Mapped[int] = mapped_column(sa.ForeignKey("report.id"))
    finding: Mapped[str] = mapped_column(sa.String(64))
    assertion: Mapped[str] = mapped_column(sa.String(16))
    laterality: Mapped[str | None] = mapped_column(sa.String(16))
