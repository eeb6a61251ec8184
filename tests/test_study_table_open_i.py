"""Open-i's three editions: XML as published, CSV, JSON Lines."""

import json
from pathlib import Path

import pytest

from model.prompts import PROMPT_SETS
from model.training.tables import Skipped, StudyRow, TableError, prepare, read_open_i, read_table
from model.training.tables.open_i_labels import open_i_labels
from tests.test_cli import Alta, alta  # noqa: F401
from tests.test_study_tables import picture, write_csv

REPORTS = [
    {"uid": 1, "MeSH": "normal", "Problems": "normal", "image": "Chest PA and lateral", "indication": "Cough",
     "comparison": "None.", "findings": "Clear lungs.", "impression": "Normal chest."},
    {"uid": 2, "MeSH": "Cardiomegaly/borderline;Scoliosis", "Problems": "Cardiomegaly;Scoliosis", "image": "",
     "indication": "", "comparison": "", "findings": "", "impression": "Large heart."},
    {"uid": 3, "MeSH": "No Indexing", "Problems": "No Indexing", "image": "", "indication": "", "comparison": "",
     "findings": "Lateral only.", "impression": ""},
    {"uid": 4, "MeSH": "normal", "Problems": "normal", "image": "", "indication": "Fall", "comparison": "",
     "findings": "", "impression": ""},
]  # fmt: skip
PROJECTIONS = [
    {"uid": 1, "filename": "1_IM-0001-4001.dcm.png", "projection": "Frontal"},
    {"uid": 1, "filename": "1_IM-0001-3001.dcm.png", "projection": "Lateral"},
    {"uid": 2, "filename": "2_IM-0652-1001.dcm.png", "projection": "Frontal"},
    {"uid": 2, "filename": "2_IM-0652-2001.dcm.png", "projection": "Oblique"},
    {"uid": 3, "filename": "3_IM-1384-1001.dcm.png", "projection": "Lateral"},
    {"uid": 4, "filename": "4_IM-2050-1001.dcm.png", "projection": "Frontal"},
]


@pytest.fixture
def csv_edition(tmp_path: Path) -> Path:
    root = tmp_path / "csv"
    write_csv(root / "indiana_reports.csv", REPORTS)
    write_csv(root / "indiana_projections.csv", PROJECTIONS)
    for number, row in enumerate(PROJECTIONS):
        picture(root / "images" / "images_normalized" / str(row["filename"]), number)
    return root


@pytest.fixture
def xml_edition(tmp_path: Path) -> Path:
    """As published: other picture names, no views."""
    root = tmp_path / "xml"
    (root / "ecgen-radiology").mkdir(parents=True)
    for report in REPORTS:
        uid = report["uid"]
        named = [str(row["filename"]).removesuffix(".dcm.png") for row in PROJECTIONS if row["uid"] == uid]
        ids = [f"CXR{uid}_1_{name.split('_')[1]}" if uid == 1 else f"CXR{name}" for name in named]
        sections = "".join(
            f'<AbstractText Label="{name.upper()}">{report[name]}</AbstractText>'
            for name in ("comparison", "indication", "findings", "impression")
        )
        majors = "".join(f"<major>{term}</major>" for term in str(report["MeSH"]).split(";"))
        images = "".join(f'<parentImage id="{name}"><caption>Chest PA</caption></parentImage>' for name in ids)
        (root / "ecgen-radiology" / f"{uid}.xml").write_text(
            f'<?xml version="1.0"?><eCitation><uId id="CXR{uid}"/><MedlineCitation><Article><Abstract>{sections}'
            f"</Abstract></Article></MedlineCitation><MeSH>{majors}<automatic>heart</automatic></MeSH>{images}</eCitation>"
        )
        for name in ids:
            picture(root / "NLMCXR_png" / f"{name}.png")
    return root


def read(source: Path, **named: Path) -> tuple[dict[str, StudyRow], list[Skipped]]:
    found = list(read_open_i(source, **named))
    studies = {row.study_id: row for row in found if isinstance(row, StudyRow)}
    return studies, [row for row in found if isinstance(row, Skipped)]


def names(row: StudyRow) -> list[str]:
    return [Path(path).name for path in row.slots()]


def test_the_csv_edition_with_its_projections(csv_edition: Path) -> None:
    rows, skipped = read(csv_edition)
    assert names(rows["1"]) == ["1_IM-0001-4001.dcm.png", "1_IM-0001-3001.dcm.png", "", ""]
    assert (rows["1"].patient_id, rows["1"].findings, rows["1"].impression) == ("1", "Clear lungs.", "Normal chest.")
    assert [rows[uid].labels for uid in "1234"] == ["No Finding", "Cardiomegaly", "", "No Finding"]
    assert names(rows["3"]) == [""] * 4 and rows["3"].findings == "Lateral only."
    assert [(entry.study_id, entry.reason, entry.detail) for entry in skipped] == [
        ("2", "view not known", "Oblique"),
        ("3", "no frontal picture, its report is kept", ""),
    ]
    assert all(Path(path).is_file() for row in rows.values() for path in row.slots() if path)


def test_the_xml_edition_takes_views_from_projections_of_the_csv_edition(csv_edition: Path, xml_edition: Path) -> None:
    rows, _ = read(xml_edition, projections=csv_edition / "indiana_projections.csv")
    expected, _ = read(csv_edition)
    assert names(rows["1"]) == ["CXR1_1_IM-0001-4001.png", "CXR1_1_IM-0001-3001.png", "", ""]
    for uid in "1234":
        assert (rows[uid].findings, rows[uid].impression, rows[uid].labels) == (
            expected[uid].findings,
            expected[uid].impression,
            expected[uid].labels,
        )
    assert all(Path(path).is_file() for row in rows.values() for path in row.slots() if path)


def test_views_are_not_guessed_without_projections(xml_edition: Path, tmp_path: Path) -> None:
    rows, skipped = read(xml_edition)
    assert all(names(row) == [""] * 4 for row in rows.values())
    assert sum(entry.reason == "view not known" for entry in skipped) == 6
    prepared = prepare(read_open_i(xml_edition), tmp_path / "out")
    assert prepared.text_only == prepared.studies["train"] == 3 and prepared.skipped["no report"] == 1


def test_a_report_that_is_no_text_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    path.write_text('\ufeff{"uid": 1, "findings": "Clear.", "impression": null}\n{"uid": 2, "findings": NaN}\n')
    with pytest.raises(TableError, match=r"line 2: expected a JSON object.*no texts"):
        read(path)


def test_a_damaged_report_is_skipped_and_a_folder_without_any_refused(xml_edition: Path, tmp_path: Path) -> None:
    (xml_edition / "ecgen-radiology" / "2.xml").write_text("<eCitation><uId")
    rows, skipped = read(xml_edition)
    assert list(rows) == ["1", "3", "4"] and skipped[-1].study_id == "4"
    [damaged] = [entry for entry in skipped if entry.reason == "report cannot be read"]
    assert damaged.study_id == "2" and damaged.path.endswith("2.xml")
    (tmp_path / "empty" / "images").mkdir(parents=True)
    with pytest.raises(TableError, match=r"indiana_reports\.csv or ecgen-radiology"):
        read(tmp_path / "empty")


def json_lines(path: Path) -> Path:
    lines = []
    for report in REPORTS:
        images = [
            {"filename": row["filename"], "projection": row["projection"]}
            for row in PROJECTIONS
            if row["uid"] == report["uid"]
        ]
        lines.append(json.dumps({**report, "images": images}))
    path.write_text("\n".join(lines))
    return path


def test_a_file_of_reports_gives_text_alone_or_with_pictures(csv_edition: Path, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "reports.jsonl")
    rows, skipped = read(path)
    assert not skipped and all(row.slots() == ("",) * 4 for row in rows.values())
    assert rows["2"].labels == "Cardiomegaly"
    with_pictures, _ = read(path, images=csv_edition / "images")
    assert {uid: names(row) for uid, row in with_pictures.items()} == {
        uid: names(row) for uid, row in read(csv_edition)[0].items()
    }
    text, _ = read(csv_edition / "indiana_reports.csv")
    assert all(row.slots() == ("",) * 4 for row in text.values()) and text["1"].findings == "Clear lungs."


@pytest.mark.parametrize("content", ["{", "[1]", '{"findings": "x"}', '{"uid": 1, "images": [{"projection": "x"}]}'])
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"uid": 1, "findings": "x"}\n\n' + content)
    with pytest.raises(TableError, match=r"r\.jsonl, line 3: expected a JSON object with uid"):
        read(path)


def test_what_is_missing_is_named_with_a_remedy(csv_edition: Path, tmp_path: Path) -> None:
    (csv_edition / "images").rename(tmp_path / "moved")
    with pytest.raises(TableError, match=r"name their folder with --images, or give the file of reports"):
        read(csv_edition)
    with pytest.raises(TableError, match="expected a folder of pictures"):
        read(csv_edition, images=csv_edition / "images")
    (csv_edition / "indiana_projections.csv").rename(tmp_path / "p.csv")
    with pytest.raises(TableError, match=r"expected indiana_projections\.csv beside it.*--projections"):
        read(csv_edition, images=tmp_path / "moved")
    rows, _ = read(csv_edition, images=tmp_path / "moved", projections=tmp_path / "p.csv")
    assert names(rows["2"])[0] == "2_IM-0652-1001.dcm.png"
    with pytest.raises(TableError, match="column filename, projection missing"):
        read(csv_edition, images=tmp_path / "moved", projections=write_csv(tmp_path / "q.csv", [{"uid": 1}]))
    with pytest.raises(TableError, match=r"column findings, impression missing.*indiana_reports\.csv"):
        read(write_csv(tmp_path / "q.csv", [{"uid": 1}]))
    with pytest.raises(TableError, match="line 2: uid is empty"):
        read(write_csv(tmp_path / "q.csv", [{"uid": "", "findings": "x", "impression": ""}]))


def test_repeated_reports_and_missing_pictures_are_counted(csv_edition: Path, tmp_path: Path) -> None:
    write_csv(csv_edition / "indiana_reports.csv", [*REPORTS, REPORTS[0]])
    write_csv(csv_edition / "indiana_projections.csv", [*PROJECTIONS, PROJECTIONS[0]])
    (csv_edition / "images/images_normalized/1_IM-0001-3001.dcm.png").unlink()
    prepared = prepare(read_open_i(csv_edition), tmp_path / "out", max_bad_share=0.5)
    assert prepared.skipped == {
        "repeated row": 2, "view not known": 1, "no frontal picture, its report is kept": 1, "no report": 1,
        "current_lateral missing": 1,
    }  # fmt: skip
    assert prepared.slots["current_frontal"] == 2 and prepared.slots["current_lateral"] == 0


@pytest.mark.parametrize(
    ("terms", "labels"),
    [
        ("normal", "No Finding"),
        ("normal;Scoliosis", ""),
        ("Cardiomegaly/borderline;Pulmonary Artery/enlarged", "Cardiomegaly"),
        ("Opacity/lung/base/left;Pulmonary Atelectasis", "Atelectasis;Lung Opacity"),
        ("Opacity/retrocardiac;Cardiomegaly", ""),  # an opacity, but of the lung?
        ("Costophrenic Angle/left/blunted;Pleural Effusion/left", "Pleural Effusion"),
        ("Costophrenic Angle/left/blunted;Cardiomegaly", ""),
        ("Fractures, Bone/ribs;Catheters, Indwelling", "Fracture;Support Devices"),
        ("Thickening/pleura/right", "Pleural Other"),
        ("Cardiomegaly;Technical Quality of Image Unsatisfactory ", ""),
        ("Scoliosis", ""),
        ("No Indexing", ""),
        ("", ""),
    ],
)
def test_labels_only_where_every_term_is_clear(terms: str, labels: str) -> None:
    assert open_i_labels(terms.split(";")) == labels
    assert set(labels.split(";")) - {""} <= PROMPT_SETS.keys()


def test_from_the_command_line(alta: Alta, csv_edition: Path) -> None:  # noqa: F811
    path = csv_edition / "images/images_normalized/2_IM-0652-1001.dcm.png"
    path.write_bytes(path.read_bytes()[:100])
    command = ("data", "prepare", "open-i", csv_edition, "--output", "table", "--check", "decode", "--workers", 1)
    code, _, err = alta(*command)
    assert code == 1 and "truncated" in err
    code, out, err = alta(*command, "--max-bad-share", 0.5)
    assert code == 0 and "with a report alone" in out, err
    assert {row.study_id for row in read_table(Path("table/studies.csv"))} == {"1", "3"}


def test_the_real_reports_train_as_text(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "reports" / "indiana_reports.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    prepared = prepare(read_open_i(path), tmp_path / "out")
    assert prepared.studies == {"train": 3444, "validate": 0, "test": 0} and prepared.text_only == 3444
    assert prepared.skipped == {"no report": 21} and prepared.labels["No Finding"] == 1222
    assert len(read_table(tmp_path / "out" / "studies.csv")) == 3444
