"""The findings of reports in the archive: written with the text, gone with it, read again by newer rules."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from PIL import Image

from index import Catalog, ingest_manifest
from index.keeping.forgotten import NamedPatient
from index.keeping.patient_rows import erase, find_patient_rows
from index.reports import labels
from index.reports.labels import label_pending
from index.reports.language import detect_language, primary_language
from index.reports.readers import read_fhir, read_hl7, report_of_dataset
from index.reports.sent import take_reports
from index.reports.texts import ReportText, report_of_row
from index.tables import Patient, Report, ReportFinding, Study
from model.findings import LABELLER_VERSION
from tests.command_line import typed
from tests.report_samples import Sample, code, content, fhir, hl7, structured_report
from tests.tiny import write_tiny_checkpoint

GERMAN = "Kein Nachweis eines Pneumothorax. Beidseits freie Sinus. Herz nicht vergrößert. Kein Erguss."


def add_study(catalog: Catalog, uid: str = "1.2.3.1") -> None:
    with catalog.write() as session:
        patient = Patient(key=catalog.patient_key("P1"))
        session.add(Study(study_instance_uid=uid, modality="CR", patient=patient))


def report(text: str, uid: str = "1.2.3.1", **about: str | bool) -> ReportText:
    return ReportText("table", text, uid, **about)  # type: ignore[arg-type]


def stored(catalog: Catalog) -> dict[str, tuple[str, str | None]]:
    """(assertion, side) of every finding but No Finding."""
    with catalog.session() as session:
        rows = session.execute(sa.select(ReportFinding.finding, ReportFinding.assertion, ReportFinding.laterality))
        return {finding: (assertion, side) for finding, assertion, side in rows if finding != "No Finding"}


def languages(catalog: Catalog) -> list[str | None]:
    with catalog.session() as session:
        return list(session.scalars(sa.select(Report.language).order_by(Report.id)))


def test_findings_are_there_when_the_report_is(catalog: Catalog) -> None:
    add_study(catalog)
    take_reports(catalog, [report("The heart is enlarged. Small right pleural effusion. No pneumothorax.")])
    assert stored(catalog) == {
        "Cardiomegaly": ("present", None),
        "Pleural Effusion": ("present", "right"),
        "Pneumothorax": ("absent", None),
    }
    assert languages(catalog) == ["en"]


def test_only_findings_and_impression_are_read(catalog: Catalog) -> None:
    add_study(catalog)
    sections = {"indication": "Pneumonia.", "findings": "Small effusion.", "impression": "Small left effusion."}
    text = "\n".join(f"{name.upper()}: {words}" for name, words in sections.items())
    take_reports(catalog, [report(text, **sections)])
    assert stored(catalog) == {"Pleural Effusion": ("present", "left")}


def test_a_new_text_takes_the_findings_of_the_old_with_it(catalog: Catalog) -> None:
    add_study(catalog)
    take_reports(catalog, [report("There is a small pneumothorax.")])
    take_reports(catalog, [report("The heart is enlarged.")])
    assert stored(catalog) == {"Cardiomegaly": ("present", None)}


def test_a_withdrawn_report_leaves_no_finding(catalog: Catalog) -> None:
    add_study(catalog)
    sample = Sample(status="final", findings="There is a small pneumothorax.", impression="Small pneumothorax.")
    take_reports(catalog, list(read_fhir(fhir(sample), "a")))
    assert "Pneumothorax" in stored(catalog)
    take_reports(catalog, list(read_fhir(fhir(Sample(status="withdrawn")), "b")))
    assert stored(catalog) == {}
    assert languages(catalog) == [None]


def test_a_forgotten_patient_leaves_no_finding(catalog: Catalog) -> None:
    add_study(catalog)
    take_reports(catalog, [report("There is a small pneumothorax.", patient_id="P1")])
    with catalog.write() as session:
        erase(session, find_patient_rows(session, NamedPatient("P1"), catalog.patient_key), [], "deed")
    assert stored(catalog) == {}
    assert languages(catalog) == []


def test_a_report_in_another_language_gets_no_findings(catalog: Catalog) -> None:
    add_study(catalog)
    take_reports(catalog, [report(GERMAN)])
    assert (stored(catalog), languages(catalog)) == ({}, ["de"])


def test_the_language_that_a_source_states_is_believed(catalog: Catalog) -> None:
    add_study(catalog)
    take_reports(catalog, [report("There is a small pneumothorax.", language="fr")])
    assert (stored(catalog), languages(catalog)) == ({}, ["fr"])
    take_reports(catalog, [report("There is a small pneumothorax.", language="en")])
    assert (stored(catalog), languages(catalog)) == ({"Pneumothorax": ("present", None)}, ["en"])


def test_reports_of_before_are_labelled_once_and_by_newer_rules_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_reports(catalog, [report(f"There is a pneumothorax, {n} cm.", f"1.2.3.{n}") for n in range(5)])
    with catalog.write() as session:
        session.execute(sa.delete(ReportFinding))
        session.execute(sa.update(Report).values(labelled=None, language=None))
    monkeypatch.setattr(labels, "BATCH", 2)
    told: list[tuple[int, int]] = []
    assert label_pending(catalog, lambda done, total: told.append((done, total))) == 5
    assert told == [(2, 5), (4, 5), (5, 5)]
    with catalog.session() as session:
        findings = session.scalars(sa.select(ReportFinding.finding).where(ReportFinding.finding == "Pneumothorax"))
        assert len(findings.all()) == 5
    assert label_pending(catalog) == 0
    monkeypatch.setattr(labels, "LABELLER_VERSION", LABELLER_VERSION + 1)
    assert label_pending(catalog) == 5


def test_labelling_goes_on_after_it_was_killed(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    take_reports(catalog, [report(f"There is a pneumothorax, {n} cm.", f"1.2.3.{n}") for n in range(5)])
    with catalog.write() as session:
        session.execute(sa.update(Report).values(labelled=None))
    monkeypatch.setattr(labels, "BATCH", 2)

    def killed(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_pending(catalog, killed)
    assert label_pending(catalog) == 3


@pytest.mark.parametrize("command", [("archive", "label"), ("embed", "--workers", "0")])
def test_a_command_labels_what_has_no_labels(
    command: tuple[str, ...],
    sqlite_catalog: Catalog,
    sqlite_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    take_reports(sqlite_catalog, [report("There is a small pneumothorax.")])
    with sqlite_catalog.write() as session:
        session.execute(sa.delete(ReportFinding))
        session.execute(sa.update(Report).values(labelled=None))
    monkeypatch.setenv("ALTA_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("ALTA_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ALTA_MODEL_PATH", str(tmp_path / "encoders"))
    write_tiny_checkpoint(tmp_path / "encoders")
    code, shown, _ = typed(monkeypatch, capsys, *command)
    assert code == 0, shown
    assert stored(sqlite_catalog) == {"Pneumothorax": ("present", None)}


def test_a_refused_report_is_not_read(catalog: Catalog) -> None:
    take_reports(catalog, [report_of_row({"text": "There is a pneumothorax."}, "table#1")])
    assert (stored(catalog), label_pending(catalog)) == ({}, 0)


@pytest.mark.parametrize(
    ("tag", "language"),
    [("en-US", "en"), ("EN", "en"), ("eng", "en"), ("ger", "de"), ("pt_BR", "pt"), ("English", None), ("", None)],
)
def test_a_language_is_its_primary_tag(tag: str, language: str | None) -> None:
    assert primary_language(tag) == language


def test_every_door_tells_the_language() -> None:
    sample = Sample(findings="Klar.", impression="Normal.")
    (by_fhir,) = read_fhir(fhir(sample, language="de-DE"), "a")
    (by_hl7,) = read_hl7(hl7(sample).replace(b"UNICODE UTF-8", b"UNICODE UTF-8|ger^German^ISO639"), "b")
    dataset = structured_report(sample)
    spoken = content("CODE", ("121049", "Language of Content Item and Descendants"), "HAS CONCEPT MOD")
    spoken.ConceptCodeSequence = code("de", "German", "RFC5646")
    dataset.ContentSequence.append(spoken)
    by_table = report_of_row({"text": "Klar.", "accession_number": "A1", "language": "de"}, "c")
    assert [each.language for each in (by_fhir, by_hl7, report_of_dataset(dataset, "d"), by_table)] == ["de"] * 4


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The lungs are clear. Heart size is normal.", "en"),
        ("No acute disease.", "en"),
        ("Small right pleural effusion.", "en"),
        ("Cardiomegaly.", "en"),
        (GERMAN, "de"),
        ("Pas d'épanchement pleural. Silhouette cardiaque normale.", "fr"),
        ("Derrame pleural izquierdo pequeño.", "es"),
        ("Kein Pneumothorax.", None),
        ("Geen pneumothorax.", None),
        ("Nessun pneumotorace.", None),
        ("Normal.", None),
        ("", None),
    ],
)
def test_a_language_is_told_by_the_words_or_left_open(text: str, language: str | None) -> None:
    assert detect_language(text) == language


def test_a_language_is_the_same_in_every_thread_and_time() -> None:
    texts = [GERMAN, "The lungs are clear.", "Derrame pleural izquierdo pequeño.", "Kein Pneumothorax."] * 50
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(detect_language, texts)) == [detect_language(text) for text in texts]


def test_a_manifest_names_institutions_and_languages(catalog: Catalog, tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.png")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(
        "image_path,study_id,patient_id,text,institution,language\na.png,1,P1,The lungs are clear.,St. Elsewhere,en\n"
    )
    ingest_manifest(catalog, manifest)
    with catalog.session() as session:
        assert session.scalars(sa.select(Study.institution)).all() == ["St. Elsewhere"]
    assert languages(catalog) == ["en"]
    manifest.write_text(manifest.read_text().replace("St. Elsewhere", "General"))
    ingest_manifest(catalog, manifest)
    with catalog.session() as session:
        assert session.scalars(sa.select(Study.institution)).all() == ["General"]
