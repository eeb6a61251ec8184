"""Filters on what the report says, its language, and where the study was made."""

import pytest
import sqlalchemy as sa

from index import Catalog, Filters
from index.reports.sent import take_reports
from index.reports.texts import ReportText
from index.tables import Patient, Study

REPORTS = {
    "right": "Small right pleural effusion. The heart is enlarged.",
    "none": "No pleural effusion. Heart size is normal.",
    "maybe": "Possible pleural effusion. Heart size is normal.",
    "silent": "The heart is enlarged.",
    "german": "Kein Nachweis eines Pneumothorax. Beidseits freie Sinus. Herz nicht vergrößert.",
}


@pytest.fixture
def archive(catalog: Catalog) -> Catalog:
    """A study a report, and one without."""
    names = [*REPORTS, "unreported"]
    with catalog.write() as session:
        patient = Patient(key="p")
        for place, name in enumerate(names):
            institution = ("North", "South", None)[place % 3]
            study = Study(study_instance_uid=name, modality="CR", patient=patient, institution=institution)
            session.add(study)
    take_reports(catalog, [ReportText(name, text, name) for name, text in REPORTS.items()])
    return catalog


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        (Filters(findings=("Pleural Effusion",)), {"right"}),
        (Filters(findings=("Pleural Effusion", "Cardiomegaly")), {"right", "silent"}),
        (Filters(without_findings=("Pleural Effusion",)), {"none", "silent"}),
        (Filters(without_findings=("Pleural Effusion", "Cardiomegaly")), {"none"}),
        (Filters(findings=("Cardiomegaly",), without_findings=("Pleural Effusion",)), {"silent"}),
        (Filters(findings=("No Finding",)), {"none"}),
        (Filters(without_findings=("No Finding",)), {"right", "maybe", "silent"}),
        (Filters(languages=("de",)), {"german"}),
        (Filters(languages=("de", "en")), set(REPORTS)),
        (Filters(institutions=("South",)), {"none", "german"}),
        (Filters(institutions=("South", "North"), languages=("en",)), {"right", "none", "silent"}),
        (Filters(institutions=("south",)), set()),
    ],
)
def test_studies_pass_by_what_their_report_says(archive: Catalog, filters: Filters, passing: set[str]) -> None:
    with archive.session() as session:
        found = session.scalars(sa.select(Study.study_instance_uid).where(*filters.conditions())).all()
    assert (set(found), len(found)) == (passing, len(passing))


def test_a_report_that_gave_way_passes_no_filter(archive: Catalog) -> None:
    take_reports(archive, [ReportText("new", "The lungs are clear.", "right")])
    with archive.session() as session:
        query = sa.select(Study.study_instance_uid).where(*Filters(findings=("Pleural Effusion",)).conditions())
        assert session.scalars(query).all() == []
