"""What the reports of hits say together."""

import pytest
import sqlalchemy as sa

from index import Catalog
from index.reports.sent import take_reports
from index.reports.texts import ReportText
from index.search.summary import read_labels, summarise_findings
from index.tables import Patient, Study
from model.findings import ReportFinding, report_findings


def summary(*texts: str) -> dict[str, str]:
    return {count.finding: count.sentence for count in summarise_findings([report_findings([text]) for text in texts])}


def test_the_sentence_names_the_side_that_all_name() -> None:
    texts = ["Small right pleural effusion."] * 7 + ["No pleural effusion.", "The heart is enlarged.", "Edema."]
    assert summary(*texts)["Pleural Effusion"] == "7 of 10 mention right pleural effusion; 1 denies it."


def test_sides_are_split_where_they_differ() -> None:
    texts = ["Right effusion.", "Left effusion.", "Bilateral effusions.", "Right effusion.", "Effusion."]
    assert summary(*texts)["Pleural Effusion"] == "5 of 5 mention pleural effusion (2 right, 1 left, 1 bilateral)."


@pytest.mark.parametrize(
    ("texts", "finding", "sentence"),
    [
        (["Edema.", "No edema.", "Possible edema."], "Edema", "1 of 3 mentions edema; 1 suspects it; 1 denies it."),
        (["No edema.", "No edema."], "Edema", "None of 2 mentions edema; 2 deny it."),
        (["No support devices.", "A pacemaker."], "Support Devices", "1 of 2 mentions support devices; 1 denies them."),
        (["The lungs are clear.", "Edema."], "No Finding", "1 of 2 reports no abnormality."),
    ],
)
def test_a_sentence_says_how_many_assert_suspect_and_deny(texts: list[str], finding: str, sentence: str) -> None:
    assert summary(*texts)[finding] == sentence


def test_every_report_counts_once_a_finding() -> None:
    reports = [report_findings([text]) for text in ("Right effusion. Left effusion.", "No effusion.", "Edema.")]
    (effusion,) = [count for count in summarise_findings(reports) if count.finding == "Pleural Effusion"]
    assert (effusion.present, effusion.uncertain, effusion.absent, effusion.not_mentioned) == (1, 0, 1, 1)
    assert effusion.sides == {"bilateral": 1}


def test_who_denies_one_side_has_not_denied_the_finding() -> None:
    assert summary("Left effusion.", "No effusion on the right.", "No effusion.")["Pleural Effusion"] == (
        "1 of 3 mentions left pleural effusion; 1 denies it."
    )


def test_the_most_mentioned_come_first_and_what_nobody_names_is_left_out() -> None:
    named = list(summary("Edema. Right effusion.", "Right effusion.", "Possible pneumonia."))
    assert named == ["Pleural Effusion", "Edema", "Pneumonia", "No Finding"]


def test_nothing_is_said_of_no_reports_nor_of_findings_of_other_rules() -> None:
    assert summarise_findings([]) == []
    assert summarise_findings([[ReportFinding("Scoliosis", "present")]]) == []


def test_labels_are_those_of_the_matched_report(catalog: Catalog) -> None:
    with catalog.write() as session:
        patient = Patient(key="p")
        session.add_all(Study(study_instance_uid=f"1.2.{n}", modality="CR", patient=patient) for n in range(3))
    take_reports(catalog, [ReportText("a", "Small right effusion.", "1.2.0"), ReportText("b", "Kein Erguss.", "1.2.1")])
    with catalog.session() as session:
        ids = {uid: row for row, uid in session.execute(sa.select(Study.id, Study.study_instance_uid))}
        labels = read_labels(session.connection(), list(ids.values()))
    assert labels == {
        ids["1.2.0"]: (ReportFinding("No Finding", "absent"), ReportFinding("Pleural Effusion", "present", "right"))
    }


def test_labels_come_in_the_order_in_which_they_were_read(catalog: Catalog) -> None:
    texts = ["Pacemaker. Edema. Possible pneumonia. Left effusion. No pneumothorax. Cardiomegaly. Rib fracture."] * 8
    with catalog.write() as session:
        patient = Patient(key="p")
        session.add_all(Study(study_instance_uid=f"1.2.{n}", modality="CR", patient=patient) for n in range(len(texts)))
    take_reports(catalog, [ReportText(f"{n}", text, f"1.2.{n}") for n, text in enumerate(texts)])
    with catalog.session() as session:
        ids = list(session.scalars(sa.select(Study.id)))
        labels = read_labels(session.connection(), ids)
    assert labels == {study_id: tuple(report_findings([text])) for study_id, text in zip(ids, texts, strict=True)}


def test_no_studies_have_no_labels(catalog: Catalog) -> None:
    with catalog.session() as session:
        assert read_labels(session.connection(), []) == {}
