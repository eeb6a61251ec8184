"""Studies that are sent and deleted, and reports that are sent as JSON."""

from datetime import UTC
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints, model_validator

from index.dicom import clean
from index.keeping.delete_study import Deletion
from index.reports.texts import MAX_TEXT, SECTIONS, ReportText, checked, parse_sections

from .messages import EXAMPLE_UID, Message, Uid

__all__ = ["DeletionReply", "ReportRequest", "StoredFile", "StudiesReply"]

Identifier = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]


class StoredFile(BaseModel):
    """What became of one file."""

    file: int = Field(description="Position in the request, from 1.")
    status: Literal["accepted", "refused"]
    reason: str | None = Field(description="Stable name of why it was refused.", examples=["wrong-modality"])
    study_instance_uid: str | None = Field(description="As its header says, where that could be read.")
    sop_instance_uid: str | None


class StudiesReply(BaseModel):
    files: list[StoredFile] = Field(description="One for each file, in their order.")
    studies: list[str] = Field(description="Studies that the accepted files are of.", examples=[[EXAMPLE_UID]])


class SentBack(BaseModel):
    """A result about the study that another system has, and this one cannot call back."""

    route: str = Field(description="By which it went; `ALTA_RETURN_ROUTES` says to whom.", examples=["pacs"])
    sent_at: AwareDatetime
    sop_instance_uid: str | None = Field(
        description="Of a DICOM structured report. A FHIR report or webhook is found by the study."
    )


class DeletionReply(BaseModel):
    """What was deleted, or with `dry_run` would be. All 0: the study was deleted before; of what was sent back the
    audit still tells then."""

    study_instance_uid: str = Field(examples=[EXAMPLE_UID])
    dry_run: bool
    images: int
    reports: int
    embeddings: int
    own_copies: int = Field(description="Files of the archive's own, which are removed from its disk.")
    in_place: int = Field(description="Files in folders that the archive only reads: they stay, and stay out.")
    priors: int = Field(description="Studies that are embedded again, because this one was their prior.")
    sent_back: list[SentBack] = Field(
        description="Results that other systems were sent, the oldest first: they have them still, and have to remove"
        " them themselves."
    )

    @classmethod
    def of(cls, study_instance_uid: str, deletion: Deletion, dry_run: bool) -> Self:
        sent_back = [SentBack(**vars(one)) for one in deletion.sent_back]
        counts = vars(deletion) | {"sent_back": sent_back}
        return cls(study_instance_uid=study_instance_uid, dry_run=dry_run, **counts)


class ReportRequest(Message):
    """One report, whole: as a text, or as sections."""

    study_instance_uid: Uid | None = Field(default=None, examples=[EXAMPLE_UID])
    accession_number: Identifier | None = Field(default=None, description="Where no StudyInstanceUID is known.")
    patient_id: Identifier | None = Field(
        default=None, description="For matching only; the archive keeps its pseudonym.", examples=["P1"]
    )
    text: Text | None = Field(default=None, description="The whole report; sections are found by their headings.")
    indication: Text | None = None
    comparison: Text | None = None
    findings: Text | None = Field(default=None, examples=["Small left pleural effusion."])
    impression: Text | None = Field(default=None, examples=["Effusion."])
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")] | None = Field(
        default=None, description="Primary tag of BCP 47; found from the words where it is absent.", examples=["en"]
    )
    status: Literal["preliminary", "final", "corrected", "withdrawn"] | None = Field(
        default=None, description="`withdrawn` needs no text, and deletes what is held."
    )
    issued: AwareDatetime | None = Field(default=None, description="When this version was issued, with its zone.")
    number: Identifier | None = Field(default=None, description="What its sender calls it, through all versions.")
    numbering: Identifier | None = Field(default=None, description="In which counting, such as the sender's name.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        sections = [name for name in SECTIONS if getattr(self, name) is not None]
        if self.text is not None and sections:
            raise ValueError(f"expected text or sections, found both (text and {', '.join(sections)})")
        if self.text is None and not sections and self.status != "withdrawn":
            raise ValueError("expected text or sections, found neither")
        if self.status == "withdrawn" and not (self.study_instance_uid or self.accession_number or self.number):
            raise ValueError("expected the study, accession number or number of what is withdrawn, found none")
        if self.issued is not None:
            try:
                self.issued = self.issued.astimezone(UTC)
            except OverflowError:
                raise ValueError("expected issued within the years 1 to 9999 of UTC") from None
        return self

    def as_report(self, source: str) -> ReportText:
        """With its refusal where it cannot be used."""
        given = {name: clean(getattr(self, name) or "") for name in SECTIONS}
        text = clean(self.text or "") or "\n".join(f"{name.upper()}: {body}" for name, body in given.items() if body)
        sections = {name: body for name, body in given.items() if body} or parse_sections(text)
        indication, comparison, findings, impression = (sections.get(name) for name in SECTIONS)
        names = ("accession_number", "patient_id", "number", "numbering")
        accession, patient, number, numbering = (clean(getattr(self, name) or "") or None for name in names)
        return checked(
            ReportText(
                source,
                text,
                self.study_instance_uid,
                accession,
                patient,
                indication,
                comparison,
                findings,
                impression,
                numbering=numbering if number else None,
                number=number,
                stage=None if self.status == "withdrawn" else self.status,
                issued_at=self.issued,
                withdrawn=self.status == "withdrawn",
                language=self.language,
            )
        )
