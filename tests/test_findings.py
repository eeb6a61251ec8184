"""What a report says of the findings that it names."""

import pytest

from model.findings import (
    ABSENT,
    FINDINGS,
    NO_FINDING,
    PRESENT,
    UNCERTAIN,
    ReportFinding,
    find_mentions,
    report_findings,
)
from model.simulation import simulate_studies


def said(text: str) -> dict[str, str]:
    """The whole of a text's findings, without No Finding."""
    return {row.finding: row.assertion for row in report_findings([text]) if row.finding != NO_FINDING}


def sides(text: str) -> dict[tuple[str, str], str | None]:
    return {(row.finding, row.assertion): row.laterality for row in report_findings([text])}


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("No pneumothorax, effusion or consolidation.", {"Pneumothorax", "Pleural Effusion", "Consolidation"}),
        (
            "No focal consolidation, large pleural effusion, or pneumothorax is seen.",
            {"Consolidation", "Pleural Effusion", "Pneumothorax"},
        ),
        ("Negative for pneumothorax.", {"Pneumothorax"}),
        ("There is no evidence of\npneumonia.", {"Pneumonia"}),
        ("The lungs are free of focal airspace disease.", {"Lung Opacity"}),
        ("Pneumothorax is not identified.", {"Pneumothorax"}),
        ("Effusion and pneumothorax are not seen.", {"Pleural Effusion", "Pneumothorax"}),
        ("The previously seen right pleural effusion has resolved.", {"Pleural Effusion"}),
        ("The pneumothorax is no longer seen.", {"Pneumothorax"}),
        ("Interval resolution of the pulmonary edema.", {"Edema"}),
        ("The endotracheal tube has been removed.", {"Support Devices"}),
        ("The nasogastric tube has been withdrawn.", {"Support Devices"}),
        ("The cardiomediastinal silhouette is stable and normal.", {"Cardiomegaly", "Enlarged Cardiomediastinum"}),
        ("Interval removal of the chest tube.", {"Support Devices"}),
        ("Pneumothorax: None.", {"Pneumothorax"}),
        ("Lines and tubes: No lines or tubes.", {"Support Devices"}),
        ("Heart size is normal.", {"Cardiomegaly"}),
        ("The heart is not enlarged.", {"Cardiomegaly"}),
        ("Normal heart size and mediastinal contours.", {"Cardiomegaly", "Enlarged Cardiomediastinum"}),
        ("The cardiomediastinal silhouette is within normal limits.", {"Cardiomegaly", "Enlarged Cardiomediastinum"}),
        ("The costophrenic angles are sharp.", {"Pleural Effusion"}),
        ("No acute osseous abnormality.", {"Fracture"}),
        ("No suspicious nodule.", {"Lung Lesion"}),
        ("No focal airspace opacity to suggest pneumonia.", {"Lung Opacity", "Consolidation", "Pneumonia"}),
        ("Not pneumonia.", {"Pneumonia"}),
        ("Nothing to suggest pneumonia.", {"Pneumonia"}),
        ("The findings argue against pneumonia.", {"Pneumonia"}),
        ("Pneumothorax - none.", {"Pneumothorax"}),
        ("Pneumothorax (none).", {"Pneumothorax"}),
        ("Pneumothorax cannot be seen.", {"Pneumothorax"}),
    ],
)
def test_what_is_denied_is_absent(text: str, denied: set[str]) -> None:
    assert said(text) == dict.fromkeys(denied, ABSENT)


@pytest.mark.parametrize(
    ("text", "asserted"),
    [
        ("Small right pleural effusion is unchanged.", {"Pleural Effusion"}),
        ("No increase in the small effusion.", {"Pleural Effusion"}),
        ("No change in the left pneumothorax.", {"Pneumothorax"}),
        ("Stable cardiomegaly without interval change.", {"Cardiomegaly"}),
        ("A consolidation was not present previously.", {"Consolidation"}),
        ("Near-complete resolution of the pleural effusion.", {"Pleural Effusion"}),
        ("A nodule not visible on the frontal view but apparent on the lateral.", {"Lung Lesion"}),
        ("No acute disease other than a small effusion.", {"Pleural Effusion"}),
        ("The cardiac silhouette is markedly enlarged.", {"Cardiomegaly"}),
        ("Heart: Mildly enlarged.", {"Cardiomegaly"}),
        ("The mediastinum is widened.", {"Enlarged Cardiomediastinum"}),
        ("Biapical pleural thickening.", {"Pleural Other"}),
        ("A PICC ends in the superior vena cava.", {"Support Devices"}),
        ("Healing fracture of the left sixth rib.", {"Fracture"}),
    ],
)
def test_what_is_asserted_is_present(text: str, asserted: set[str]) -> None:
    assert said(text) == dict.fromkeys(asserted, PRESENT)


@pytest.mark.parametrize(
    ("text", "suspected"),
    [
        ("Pneumonia cannot be excluded.", {"Pneumonia"}),
        ("Cannot exclude a small effusion.", {"Pleural Effusion"}),
        ("This may represent atelectasis.", {"Atelectasis"}),
        ("This may be secondary to edema.", {"Edema"}),
        ("Atelectasis versus pneumonia.", {"Atelectasis", "Pneumonia"}),
        ("Infection and/or atelectasis.", {"Pneumonia", "Atelectasis"}),
        ("Possible small pneumothorax.", {"Pneumothorax"}),
        ("The heart is borderline enlarged.", {"Cardiomegaly"}),
        ("Blunting of the left costophrenic angle.", {"Pleural Effusion"}),
        ("Pneumonia is in the differential.", {"Pneumonia"}),
        ("Cannot rule out underlying pneumonia.", {"Pneumonia"}),
        ("Pneumonia is unlikely.", {"Pneumonia"}),
        ("Pneumothorax?", {"Pneumothorax"}),
    ],
)
def test_what_is_suspected_is_uncertain(text: str, suspected: set[str]) -> None:
    assert said(text) == dict.fromkeys(suspected, UNCERTAIN)


@pytest.mark.parametrize(
    "text",
    [
        "History of pneumonia.",
        "Status post fracture.",
        "Evidence of previous granulomatous infection.",
        "Please correlate for infection.",
        "Pericardial effusion.",
        "Soft tissue edema.",
        "The lungs are otherwise clear.",
        "Stable mediastinal contours.",
        "Support apparatus: The ribs are shown.",
        "Heart: Prominent aortic arch.",
    ],
)
def test_what_is_not_said_of_this_chest_is_nothing(text: str) -> None:
    assert said(text) == {}


@pytest.mark.parametrize(
    ("text", "asserted"),
    [
        ("Absence of lung markings consistent with pneumothorax.", {"Pneumothorax"}),
        ("No lung markings beyond the pleural line, consistent with pneumothorax.", {"Pneumothorax"}),
        ("No mediastinal shift despite the large left pneumothorax.", {"Pneumothorax"}),
        ("Large pneumothorax with no mediastinal shift.", {"Pneumothorax"}),
        ("Follow-up in 6 weeks to document resolution of the pneumonia.", {"Pneumonia"}),
        ("Recommend radiographs until complete clearing of the consolidation.", {"Consolidation"}),
        ("Improvement without complete resolution of edema.", {"Edema"}),
        ("Failure of resolution of the pneumothorax.", {"Pneumothorax"}),
        ("Without prior films it is unclear whether the nodule is new.", {"Lung Lesion"}),
    ],
)
def test_a_word_of_negation_for_something_else_denies_no_finding(text: str, asserted: set[str]) -> None:
    assert said(text) == dict.fromkeys(asserted, PRESENT)


def test_what_is_doubted_is_uncertain_and_what_differs_is_denied() -> None:
    assert said("Doubt pneumonia.") == {"Pneumonia": UNCERTAIN}
    assert said("Pneumonia is not likely.") == {"Pneumonia": UNCERTAIN}
    found = said("The opacity is atelectasis, not pneumonia.")
    assert found == {"Lung Opacity": PRESENT, "Atelectasis": PRESENT, "Pneumonia": ABSENT}
    assert said("Interval decrease in edema and resolution of effusion.")["Pleural Effusion"] == ABSENT


def test_one_sentence_asserts_and_denies() -> None:
    assert said("No effusion, small left pneumothorax.") == {"Pleural Effusion": ABSENT, "Pneumothorax": PRESENT}
    assert said("Streaky opacities which may represent atelectasis.") == {
        "Lung Opacity": PRESENT,
        "Atelectasis": UNCERTAIN,
    }
    assert said("Hazy opacities concerning for edema versus infection.") == {
        "Lung Opacity": PRESENT,
        "Edema": UNCERTAIN,
        "Pneumonia": UNCERTAIN,
    }
    assert said("The edema has resolved, consolidation persists.") == {"Edema": ABSENT, "Consolidation": PRESENT}
    assert said("No pneumothorax, consolidation has increased.") == {"Pneumothorax": ABSENT, "Consolidation": PRESENT}
    assert said("The heart is enlarged but there is no edema.") == {"Cardiomegaly": PRESENT, "Edema": ABSENT}


def test_a_line_break_before_a_capital_ends_a_scope() -> None:
    assert said("Pleura: No effusion\nLungs: Small nodule in the left apex") == {
        "Pleural Effusion": ABSENT,
        "Lung Lesion": PRESENT,
    }


def test_clear_lungs_deny_every_opacity() -> None:
    denied = said("The lungs are clear.")
    assert set(denied) == {"Lung Opacity", "Consolidation", "Edema", "Pneumonia", "Atelectasis", "Lung Lesion"}
    assert set(denied.values()) == {ABSENT}


def test_the_side_is_that_of_the_phrase() -> None:
    assert sides("Small left pleural effusion and right basilar atelectasis.") == {
        (NO_FINDING, ABSENT): None,
        ("Pleural Effusion", PRESENT): "left",
        ("Atelectasis", PRESENT): "right",
    }
    assert sides("Left and right pleural effusions.")["Pleural Effusion", PRESENT] == "bilateral"
    assert sides("Pneumothorax, right.")["Pneumothorax", PRESENT] == "right"
    assert sides("Left subclavian line without pneumothorax.")["Pneumothorax", ABSENT] is None
    assert sides("Small effusion on the right.")["Pleural Effusion", PRESENT] == "right"
    assert sides("Pleural effusion.")["Pleural Effusion", PRESENT] is None
    assert sides("In the left base, there is consolidation.")["Consolidation", PRESENT] == "left"


def test_a_report_holds_one_statement_a_finding_the_strongest() -> None:
    def effusion(*texts: str) -> list[ReportFinding]:
        return [row for row in report_findings(texts) if row.finding == "Pleural Effusion"]

    right = [ReportFinding("Pleural Effusion", PRESENT, "right")]
    assert effusion("Possible effusion. No large effusion.", "Small right effusion.") == right
    assert effusion("Right effusion. No effusion on the left.") == right
    assert effusion("No effusion. Possible left effusion.") == [ReportFinding("Pleural Effusion", UNCERTAIN, "left")]
    assert effusion("Right effusion.", "Left effusion.") == [ReportFinding("Pleural Effusion", PRESENT, "bilateral")]


def test_a_text_without_sentences_takes_no_longer_than_it_is() -> None:
    assert report_findings(["no effusion and " * 60_000]) == []


def test_no_finding_is_a_report_without_anything_abnormal() -> None:
    def normal(text: str) -> str | None:
        return {row.finding: row.assertion for row in report_findings([text])}.get(NO_FINDING)

    assert normal("The lungs are clear. Heart size is normal.") == PRESENT
    assert normal("Normal chest radiograph.") == PRESENT
    assert normal("No effusion. A pacemaker is in place.") == PRESENT
    assert normal("No acute disease. Severe emphysema.") == ABSENT
    assert normal("The lungs are clear. Pericardial effusion.") == ABSENT
    assert normal("Small effusion.") == ABSENT
    assert normal("Possible pneumonia.") == ABSENT
    assert normal("Dictated by telephone.") is None


def test_a_mention_points_at_its_sentence() -> None:
    text = "The heart is normal in size.\n\n1. Small right effusion. 2. No pneumothorax."
    places = {mention.finding: text[mention.start : mention.end] for mention in find_mentions(text)}
    assert places == {
        "Cardiomegaly": "The heart is normal in size.",
        "Pleural Effusion": "1. Small right effusion.",
        "Pneumothorax": "2. No pneumothorax.",
    }


def test_simulated_reports_are_read_as_they_were_meant() -> None:
    names = {"pleural effusion": "Pleural Effusion", "pneumothorax": "Pneumothorax", "edema": "Edema"}
    for study, _ in simulate_studies(5, 60):
        rows = report_findings((study.report.findings, study.report.impression))
        present = {row.finding for row in rows if row.assertion == PRESENT}
        for name, finding in names.items():
            assert (finding in present) == (name in study.finding_classes), study.report.text


@pytest.mark.parametrize(
    "text", ["", "   ", "...", "?" * 300, "no " * 5000, "1. 2. 3.", "\n\n\n", "\x00no\x00effusion"]
)
def test_odd_texts_are_read_without_harm(text: str) -> None:
    assert {row.finding for row in report_findings([text])} <= set(FINDINGS)
