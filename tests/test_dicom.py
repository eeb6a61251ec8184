"""What a DICOM header says, and which objects are refused and why."""

from datetime import date, time

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from index import InstanceFacts, describe_dicom, refusal
from index.dicom import parse_age, parse_date, parse_sex, parse_view
from index.slots import arrange_slots
from tests.conftest import chest_dataset


def code(meaning: str) -> Sequence:
    item = Dataset()
    item.CodeMeaning = meaning
    return Sequence([item])


def slug(**tags: object) -> str | None:
    found = refusal(chest_dataset(**tags))
    return found and found.slug


def test_a_chest_radiograph_is_described() -> None:
    facts = describe_dicom(chest_dataset(study="1.2.3.9", StudyTime="101530.25", AcquisitionDate="20240301"))
    assert facts.study_instance_uid == "1.2.3.9"
    assert (facts.patient_id, facts.accession_number) == ("P1", "A9")
    assert (facts.study_date, facts.study_time) == (date(2024, 3, 1), time(10, 15, 30, 250000))
    assert (facts.modality, facts.view_position, facts.view) == ("CR", "PA", "frontal")
    assert (facts.sex, facts.age, facts.rows, facts.columns) == ("F", 61.0, 40, 48)
    assert facts.acquired == "20240301000000.000000"


def test_an_empty_header_is_described_without_an_error() -> None:
    facts = describe_dicom(Dataset())
    assert facts.study_instance_uid is None
    assert facts.view == "unknown"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, None),
        ({"Modality": "DX"}, None),
        ({"Modality": "CT"}, "wrong-modality"),
        ({"Modality": None}, "wrong-modality"),
        ({"BodyPartExamined": "HIP"}, "not-a-chest-radiograph"),
        ({"BodyPartExamined": "TSPINE"}, "not-a-chest-radiograph"),
        ({"BodyPartExamined": "PORT CHEST"}, None),
        ({"BodyPartExamined": "thorax"}, None),
        ({"BodyPartExamined": None}, None),
        ({"BodyPartExamined": "", "ViewPosition": None}, None),
        ({"BodyPartExamined": None, "StudyDescription": "XR KNEE 2 VIEWS"}, "not-a-chest-radiograph"),
        ({"BodyPartExamined": None, "SeriesDescription": "W_Shoulder_ap"}, "not-a-chest-radiograph"),
        ({"BodyPartExamined": None, "StudyDescription": "XR CHEST AND ABDOMEN"}, None),
        ({"BodyPartExamined": "UNKNOWN", "ProtocolName": "Thorax PA"}, None),
        ({"BodyPartExamined": None, "AnatomicRegionSequence": code("Pelvis")}, "not-a-chest-radiograph"),
        ({"BodyPartExamined": None, "AnatomicRegionSequence": code("Chest")}, None),
        ({"PatientSpeciesDescription": "Canis lupus familiaris"}, "not-human"),
        ({"PatientSpeciesCodeSequence": code("Homo sapiens")}, None),
        ({"PatientBreedDescription": "Siamese"}, "not-human"),
        ({"ResponsiblePersonRole": "OWNER"}, "not-human"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "for-processing"),
        ({"PresentationIntentType": "FOR PRESENTATION"}, None),
        ({"PixelData": None}, "no-pixel-data"),
        ({"NumberOfFrames": 2}, "multi-frame"),
        ({"PhotometricInterpretation": "RGB"}, "unsupported-photometric"),
    ],
)
def test_acceptance(tags: dict[str, object], expected: str | None) -> None:
    assert slug(**tags) == expected


def test_a_transfer_syntax_without_a_decoder_is_refused() -> None:
    dataset = chest_dataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
    found = refusal(dataset)
    assert found is not None
    assert found.slug == "unsupported-transfer-syntax"
    assert "MPEG2" in found.message


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ViewPosition": "AP"}, ("AP", "frontal")),
        ({"ViewPosition": "LL"}, ("LL", "lateral")),
        ({"ViewPosition": "LATERAL"}, ("LATERAL", "lateral")),
        ({"ViewPosition": "RLO"}, ("RLO", "unknown")),
        ({"ViewPosition": None, "ViewCodeSequence": code("postero-anterior")}, ("PA", "frontal")),
        ({"ViewPosition": None, "ViewCodeSequence": code("left lateral")}, ("LATERAL", "lateral")),
        ({"ViewPosition": None, "PatientOrientation": ["L", "F"]}, (None, "frontal")),
        ({"ViewPosition": None, "PatientOrientation": ["A", "F"]}, (None, "lateral")),
        ({"ViewPosition": None, "SeriesDescription": "Chest_Lat"}, ("LATERAL", "lateral")),
        ({"ViewPosition": None, "SeriesDescription": "Chest PA and lateral"}, (None, "unknown")),
        ({"ViewPosition": None}, (None, "unknown")),
        ({"ViewPosition": "PA OBLIQUE", "PatientOrientation": ["L", "F"]}, ("PA OBLIQUE", "unknown")),
        ({"ViewPosition": None, "ViewCodeSequence": code("left lateral decubitus")}, ("LLD", "frontal")),
    ],
)
def test_the_view_comes_from_the_best_place_that_has_it(tags: dict[str, object], expected: tuple[str, str]) -> None:
    facts = describe_dicom(chest_dataset(**tags))
    assert (facts.view_position, facts.view) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("L", ("LATERAL", "lateral")),
        ("AP Supine", ("AP", "frontal")),
        ("frontal (PA/AP unknown)", (None, "frontal")),
        ("", (None, "unknown")),
        ("Left lateral decubitus", ("LLD", "frontal")),
        ("AP R decub", ("RLD", "frontal")),
        ("decubitus", ("DECUBITUS", "frontal")),
        ("PA OBLIQUE", (None, "unknown")),
        ("LAO", (None, "unknown")),
    ],
)
def test_free_words_for_a_view(words: str, expected: tuple[str, str]) -> None:
    assert parse_view(words) == expected


@pytest.mark.parametrize(
    ("value", "years"), [("045Y", 45.0), ("006M", 0.5), ("54.0", 54.0), ("", None), ("old", None), ("999Y", None)]
)
def test_ages_are_years(value: str, years: float | None) -> None:
    assert parse_age(value) == years


def test_the_age_follows_from_the_birth_date_when_it_is_not_given() -> None:
    facts = describe_dicom(chest_dataset(PatientAge=None, PatientBirthDate="19640301"))
    assert facts.age == pytest.approx(60.0, abs=0.1)


def test_dates_and_sexes_are_read_or_absent() -> None:
    assert parse_date("20240229") == parse_date("2024-02-29") == parse_date("2024.02.29") == date(2024, 2, 29)
    assert parse_date("20240230") is None
    assert [parse_sex(value) for value in ("M", "female", "", "?", None)] == ["M", "F", None, None, None]


def test_hostile_values_do_not_raise() -> None:
    dataset = chest_dataset(
        StudyDescription="nul\x00inside", AccessionNumber="9" * 300, PatientAge="abc", InstanceNumber="99999999999"
    )
    facts = describe_dicom(dataset)
    assert facts.description == "nulinside"
    assert len(facts.accession_number or "") == 64
    assert facts.age is None
    assert facts.instance_number is None


def views(*given: tuple[str, str | None, int]) -> dict[str, int]:
    images = [
        describe_dicom(chest_dataset(ViewPosition=position, seed=number, AcquisitionDate=day, InstanceNumber=number))
        for position, day, number in given
    ]
    return {slot: image.instance_number or 0 for slot, image in arrange_slots(images).items()}


def test_pa_comes_before_ap_and_early_before_late() -> None:
    assert views(("AP", "20240101", 1), ("PA", "20240102", 2), ("PA", "20240101", 3), ("LL", None, 4)) == {
        "current_frontal": 3,
        "current_lateral": 4,
    }


def test_a_decubitus_film_comes_after_every_upright_frontal() -> None:
    assert views(("LLD", "20240101", 1), ("FRONTAL", "20240102", 2)) == {"current_frontal": 2}
    assert views(("LLD", None, 1), ("LL", None, 2)) == {"current_frontal": 1, "current_lateral": 2}


def test_original_pixels_come_before_derived_ones() -> None:
    def facts(number: int, position: str, kind: str) -> InstanceFacts:
        image_type = [kind, "PRIMARY"]
        tags = {"ViewPosition": position, "ImageType": image_type, "InstanceNumber": number}
        return describe_dicom(chest_dataset(seed=number, **tags))

    for position, slot in (("PA", "current_frontal"), ("LL", "current_lateral")):
        derived, original = facts(1, position, "DERIVED"), facts(2, position, "ORIGINAL")
        assert (derived.derived, original.derived) == (True, False)
        assert arrange_slots([derived, original]) == {slot: original}


def test_an_unknown_view_is_the_frontal_only_when_nothing_else_is_known() -> None:
    assert views(("RLO", None, 1)) == {"current_frontal": 1}
    assert views(("RLO", None, 1), ("LL", None, 2)) == {"current_lateral": 2}
