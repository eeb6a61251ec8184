"""The simulator tells the truth: pictures, masks, reports, DICOM files and restarts agree with each other."""

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_voi_lut

from model.simulation import (
    FINDINGS,
    MASK_SIZE,
    SimulatedStudy,
    finding_masks,
    read_masks,
    render,
    simulate_patient,
    simulate_studies,
    write_cohort,
    write_dicom,
)

Pair = tuple[SimulatedStudy, SimulatedStudy | None]

# An independent reading of the reports: what asserts a class, and what negates everything after or before it.
TERMS = {
    "cardiomegaly": r"cardiomegaly|enlargement of the (?:heart|cardiac)|cardiac enlargement",
    "pleural effusion": r"effusions?|pleural fluid",
    "pneumothorax": r"pneumothorax",
    "consolidation": r"consolidation|airspace opacity|confluent opacity",
    "edema": r"edema|vascular congestion",
    "atelectasis": r"atelecta\w+",
    "nodule": r"nodul\w+",
    "support devices": r"\b(?:tube|catheter|(?<!pleural )line|pacemaker|wires|drain|devices|tubes|(?<!septal )lines)\b",
}
NEGATION = r"^(?:no|there (?:is|are) no|negative for|without)\b"
GONE = r"resol(?:ved|ution)|no longer|cleared|remov(?:ed|al)"
NEW = r"\bnew\b|developed|development|appearance of an?\b|not present previously"
CHANGE = (
    r"increas|decreas|worsen|improv|progress|larger than|smaller than|less pronounced|unchanged|stable"
    r"|persistent (?!cough)|redemonstrated"
)


@pytest.fixture(scope="module")
def cohort() -> list[Pair]:
    return list(simulate_studies(11, 700))


def sentences(study: SimulatedStudy) -> list[str]:
    text = f"{study.report.findings} {study.report.impression}"
    parts = re.split(r"(?:(?<=\.)|(?<=:))\s+", text)
    return [part.strip().lower() for part in parts if part.strip() and not part.endswith(":")]


def test_the_same_seed_gives_the_same_patient_and_picture() -> None:
    one, again = simulate_patient(4, 9), simulate_patient(4, 9)
    assert one == again
    study = one.studies[0]
    picture = render(study, "frontal", 96)
    assert picture.shape == (96, 96) and picture.dtype == np.float32
    assert picture.min() >= 0.0 and picture.max() <= 1.0
    np.testing.assert_array_equal(picture, render(study, "frontal", 96))


def test_cohorts_share_no_identifiers() -> None:
    first, second = (
        {(s.patient_id, s.study_instance_uid, s.accession_number) for s, _ in simulate_studies(seed, 80)}
        for seed in (1, 2)
    )
    for column in range(3):
        ids = [row[column] for row in first], [row[column] for row in second]
        assert not set(ids[0]) & set(ids[1])
    assert all(pydicom.uid.UID(row[1]).is_valid for row in first)


def test_studies_come_patient_by_patient_with_their_priors(cohort: list[Pair]) -> None:
    assert len(cohort) == 700
    assert len({study.study_instance_uid for study, _ in cohort}) == 700
    for study, prior in cohort:
        if prior is not None:
            assert prior.patient_id == study.patient_id and prior.study_date < study.study_date
            assert prior.anatomy == study.anatomy


@pytest.mark.parametrize("name", FINDINGS)
def test_removing_a_finding_changes_the_picture_inside_its_mask(cohort: list[Pair], name: str) -> None:
    studies = [s for s, _ in cohort if s.finding_classes == {name} and not any(f.lateral_only for f in s.findings)][:4]
    assert studies
    for study in studies:
        with_it, without = (render(s, "frontal", 160) for s in (study, replace(study, findings=())))
        difference = np.abs(with_it - without)
        mask = finding_masks(study, "frontal", 160)[name]
        grown = mask | np.roll(mask, 2, 0) | np.roll(mask, -2, 0) | np.roll(mask, 2, 1) | np.roll(mask, -2, 1)
        assert difference[mask].mean() > 0.03
        assert difference[mask].mean() > 4 * difference[~grown].mean()


def test_a_lateral_only_finding_is_on_the_lateral_and_not_on_the_frontal(cohort: list[Pair]) -> None:
    hidden = [(s, f) for s, _ in cohort for f in s.findings if f.lateral_only]
    assert len(hidden) >= 8
    for study, _ in hidden:
        assert study.has_lateral
        assert re.search(r"only|apparent on the lateral", study.report.findings)
    for study, finding in hidden[:6]:
        rest = replace(study, findings=tuple(f for f in study.findings if f is not finding))
        np.testing.assert_array_equal(render(study, "frontal", 96), render(rest, "frontal", 96))
        assert finding_masks(study, "lateral", 96)[finding.name].any()
        assert np.abs(render(study, "lateral", 96) - render(rest, "lateral", 96)).max() > 0.05


def test_reports_assert_and_deny_only_what_is_true(cohort: list[Pair]) -> None:
    for study, _ in cohort:
        gone = {finding.name for finding in study.resolved}
        for sentence in sentences(study):
            for name, term in TERMS.items():
                if not re.search(term, sentence):
                    continue
                if re.search(NEGATION, sentence):
                    assert name not in study.finding_classes, (sentence, study.findings)
                elif re.search(GONE, sentence):
                    assert name in gone, (sentence, study.resolved)
                else:
                    assert name in study.finding_classes, (sentence, study.findings)


def test_every_finding_is_reported(cohort: list[Pair]) -> None:
    for study, _ in cohort:
        said = [s for s in sentences(study) if not re.search(NEGATION, s) and not re.search(GONE, s)]
        for finding in study.findings:
            about = [s for s in said if re.search(TERMS[finding.name], s)]
            assert about, (finding, study.report.findings)
            if finding.side in ("left", "right"):
                assert any(finding.side in s for s in about)
            if finding.side == "bilateral" and finding.name != "edema":
                assert any("bilateral" in s or "both" in s for s in about)


def test_change_words_need_a_prior_and_are_true_of_it(cohort: list[Pair]) -> None:
    for study, prior in cohort:
        text = f"{study.report.findings} {study.report.impression}".lower()
        assert (study.report.comparison == "None.") == (prior is None)
        if prior is None:
            assert not study.resolved and all(f.change is None for f in study.findings)
            assert not re.search(f"{NEW}|{CHANGE}|{GONE}|prior|previous|(?<!short-)interval", text), text
            continue
        before = {(f.name, f.side, f.device, f.place): f for f in prior.findings}
        for finding in study.findings:
            old = before.get((finding.name, finding.side, finding.device, finding.place))
            if finding.change == "new":
                assert old is None
            else:
                assert old is not None
                grown = finding.severity - old.severity
                assert {"increased": grown > 0.2, "decreased": grown < -0.2, "unchanged": grown == 0}[
                    str(finding.change)
                ]
        for word, changes in (
            ("increas|worsen|larger than|progressed", "increased"),
            ("decreas|improv|smaller than|less pron", "decreased"),
        ):
            if re.search(word, text):
                assert any(f.change == changes for f in study.findings), text


def test_ap_and_lateral_are_named_only_where_taken(cohort: list[Pair]) -> None:
    for study, _ in cohort:
        text = study.report.text
        assert not re.search(r"\bAP\b|portable", text) or study.frontal_view == "AP"
        assert not re.search(r"\bPA\b", text) or study.frontal_view == "PA"
        assert not re.search(r"lateral (?:view|proj|radio)|and lateral|two views", text) or study.has_lateral


def test_classes_are_balanced_and_texts_varied() -> None:
    studies = [study for study, _ in simulate_studies(21, 2000)]
    counts = Counter(len(study.finding_classes) for study in studies)
    assert 0.15 < counts[0] / 2000 < 0.25 and 0.43 < counts[1] / 2000 < 0.57
    alone = Counter(next(iter(s.finding_classes)) for s in studies if len(s.finding_classes) == 1)
    assert set(alone) == set(FINDINGS) and max(alone.values()) < 2 * min(alone.values())
    with_lateral = [study for study in studies if study.has_lateral]
    hidden = sum(any(f.lateral_only for f in study.findings) for study in with_lateral) / len(with_lateral)
    assert 0.04 < hidden < 0.10
    assert len({(s.report.findings, s.report.impression) for s in studies}) > 1900
    words = {word for s in studies for word in re.findall(r"[a-z][a-z-]+", s.report.text.lower())}
    assert 500 < len(words) < 1500


def test_dicom_files_hold_the_rendered_picture(tmp_path: Path, cohort: list[Pair]) -> None:
    kinds = set()
    for study, _ in cohort[:30]:
        for view, path in zip(study.views, write_dicom(study, tmp_path, 64), strict=True):
            dataset = pydicom.dcmread(path)
            pixels = dataset.pixel_array.astype(np.float64)
            if "WindowCenter" in dataset:
                pixels = np.clip(apply_voi_lut(dataset.pixel_array, dataset), 0, 4095)
            if dataset.PhotometricInterpretation == "MONOCHROME1":
                pixels = 4095 - pixels
            np.testing.assert_allclose(pixels / 4095, render(study, view, 64), atol=2e-3 / 4)
            assert dataset.ViewPosition == ("LL" if view == "lateral" else study.frontal_view)
            assert (dataset.StudyInstanceUID, dataset.PatientID) == (study.study_instance_uid, study.patient_id)
            assert path.name == f"{dataset.SOPInstanceUID}.dcm"
            kinds.add(
                (dataset.PhotometricInterpretation, dataset.file_meta.TransferSyntaxUID, "WindowCenter" in dataset)
            )
    assert len({kind[0] for kind in kinds}) == 2 and len({kind[1] for kind in kinds}) == 3
    assert not list(tmp_path.rglob("*.partial"))


def test_an_interrupted_cohort_is_finished_without_redoing_what_is_complete(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(done: int) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        write_cohort(6, 7, tmp_path, size=48, progress=kill)
    early = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.dcm")}
    heard: list[int] = []
    write_cohort(6, 7, tmp_path, size=48, progress=heard.append)
    assert heard == list(range(1, 8))
    assert all(path.stat().st_mtime_ns == time for path, time in early.items())

    studies = {study.study_instance_uid: study for study, _ in simulate_studies(6, 7)}
    with (tmp_path / "reports.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert (
        [row["study_instance_uid"] for row in rows] == [entry["study_instance_uid"] for entry in truth] == list(studies)
    )
    assert len(list(tmp_path.rglob("*.dcm"))) == sum(len(study.views) for study in studies.values())
    for row, entry in zip(rows, truth, strict=True):
        study = studies[row["study_instance_uid"]]
        assert row["findings"] == study.report.findings
        assert {finding["name"] for finding in entry["findings"]} == study.finding_classes
        stored = read_masks(tmp_path / "masks" / f"{study.study_instance_uid}.npz")
        for view in study.views:
            expected = finding_masks(study, view, MASK_SIZE)
            assert stored.get(view, {}).keys() == expected.keys()
            for name, mask in expected.items():
                np.testing.assert_array_equal(stored[view][name], mask)
