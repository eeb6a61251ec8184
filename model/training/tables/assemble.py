"""From pictures to studies of four slots: which view stands for the study, and which study is the prior."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...report_sections import parse_sections
from .table import Skipped, StudyRow

__all__ = ["FRONTALS", "LATERALS", "NO_FRONTAL", "Note", "Study", "report_note", "rows", "study_row"]

# In the order of preference: a PA exposure shows heart size truly; FRONTAL is one of unknown direction.
FRONTALS = ("PA", "AP", "FRONTAL")
LATERALS = ("LATERAL", "LL", "RL")
NO_FRONTAL = "no frontal picture"


@dataclass(frozen=True)
class Note:
    """What is said of a picture; ``text`` where no section is known."""

    findings: str = ""
    impression: str = ""
    text: str = ""
    labels: str = ""

    @property
    def report(self) -> tuple[str, str, str]:
        return self.findings, self.impression, self.text


@dataclass
class Study:
    study_id: str
    patient_id: str
    when: Any = None  # comparable among a patient's studies; None where it is not known
    split: str = ""
    views: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # view: paths of pictures
    notes: dict[str, Note] = field(default_factory=dict)  # by the picture's path

    @property
    def frontal(self) -> str:
        """Path of the preferred picture, the lowest where there are several; empty without one."""
        return self._first(FRONTALS)

    @property
    def lateral(self) -> str:
        return self._first(LATERALS)

    @property
    def note(self) -> Note:
        """Report and labels of the frontal that stands for the study; where it has none, of the lateral, then of any
        other picture. Pictures of one study may differ in their notes, and a joined report would describe two."""
        notes = [self.notes[path] for path in (self.frontal, self.lateral, *self.notes) if path in self.notes]
        said = next((note for note in notes if any(note.report)), Note())
        return Note(*said.report, next((note.labels for note in notes if note.labels), ""))

    def _first(self, views: tuple[str, ...]) -> str:
        return next((min(self.views[view]) for view in views if self.views.get(view)), "")


def rows(
    studies: Iterable[Study], row: Callable[[Study, Study | None], StudyRow] | None = None
) -> Iterator[StudyRow | Skipped]:
    """A row for every study with a frontal, in order of patient and time, and a Skipped for every other.

    row: makes it from a study and its prior, the patient's latest earlier study with a frontal. Of studies at the same
    time, or at a time that is not known, none is earlier.
    """
    by_patient: dict[str, list[Study]] = defaultdict(list)
    for study in studies:
        by_patient[study.patient_id].append(study)
    for patient in sorted(by_patient):
        timed = [study for study in by_patient[patient] if study.when is not None]
        history = sorted(timed, key=lambda study: (study.when, study.study_id))
        history += [study for study in by_patient[patient] if study.when is None]
        for study in history:
            if not study.frontal:
                yield Skipped(study.study_id, NO_FRONTAL, patient_id=patient)
                continue
            earlier = [
                other
                for other in history
                if study.when is not None and other.when is not None and other.when < study.when and other.frontal
            ]
            yield (row or study_row)(study, earlier[-1] if earlier else None)


def study_row(study: Study, prior: Study | None, note: Note | None = None) -> StudyRow:
    """note: in place of the study's own."""
    note = study.note if note is None else note
    return StudyRow(
        study_id=study.study_id,
        patient_id=study.patient_id,
        split=study.split,
        current_frontal=study.frontal,
        current_lateral=study.lateral,
        prior_frontal=prior.frontal if prior else "",
        prior_lateral=prior.lateral if prior else "",
        findings=note.findings,
        impression=note.impression,
        text=note.text,
        labels=note.labels,
    )


def report_note(text: str = "", findings: str = "", impression: str = "", labels: str = "") -> Note:
    """Sections as given, else as the text's headings mark them, else the whole text; each on one line."""
    if not (findings or impression):
        sections = parse_sections(text)
        findings, impression = sections.get("findings", ""), sections.get("impression", "")
    whole = "" if findings or impression else text
    return Note(_line(findings), _line(impression), _line(whole), labels)


def _line(text: str) -> str:
    return " ".join(text.split())
