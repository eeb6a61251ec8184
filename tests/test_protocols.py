"""Protocols over lists: who knows all is perfect, who knows nothing is at chance, a wrong list says where."""

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from model.alta_encoder import load_encoder
from model.encoder import StudyEncoder
from model.evaluation.embedding import embed_texts
from model.evaluation.impressions import plain_impression
from model.evaluation.lists import EvaluationList, ListError, read_list
from model.evaluation.outcome import Outcome
from model.evaluation.prompt_files import PromptFileError, read_class_prompts, read_prompt_pairs
from model.evaluation.retrieval import (
    CLASSES_5,
    CLASSES_8,
    evaluate_pairs,
    image_to_image,
    image_to_text,
    text_to_image,
)
from model.evaluation.thresholds import cross_validated, stratified_folds
from model.evaluation.zero_shot import classify_5x200, classify_labelled, classify_rsna
from model.prompts import PromptPair
from model.training.tables.table import StudyRow, write_table
from tests.evaluation_lists import Constant, LimitedFake, Oracle, class_list, write_list, write_picture
from tests.tiny import write_tiny_checkpoint

Protocol = Callable[[StudyEncoder, EvaluationList], Outcome]


def values(outcome: Outcome) -> dict[str, float]:
    return {name: m.compute(np.arange(len(m.patients))) for name, m in outcome.measures.items()}


def listed(folder: Path, rows: list[dict[str, object]], **options: str) -> EvaluationList:
    return read_list(write_list(folder / "list.csv", rows), **options)  # type: ignore[arg-type]


def five(folder: Path) -> list[dict[str, object]]:
    return [row | {"impression": f"1. There is {row['class']}. Stable."} for row in class_list(folder, CLASSES_5, 12)]


def eight(folder: Path, with_texts: bool) -> list[dict[str, object]]:
    rows = class_list(folder, CLASSES_8, 7, role="candidate")
    for level, name in enumerate(CLASSES_8):
        if with_texts:
            rows.append({"class": name, "role": "query", "text": f"This is {name}"})
        else:
            write_picture(folder / f"q{level}.png", level)
            rows.append({"image_path": f"q{level}.png", "patient_id": f"q{level}", "class": name, "role": "query"})
    return rows


# Retrieval by class


@pytest.mark.parametrize(
    ("protocol", "rows", "classes", "chance"),
    [
        (image_to_text, five, CLASSES_5, 1 / 5),
        (image_to_image, lambda folder: eight(folder, False), CLASSES_8, 1 / 8),
        (text_to_image, lambda folder: eight(folder, True), CLASSES_8, 1 / 8),
    ],
)
def test_the_truth_is_found_first_and_nothing_is_chance(
    tmp_path: Path,
    protocol: Protocol,
    rows: Callable[[Path], list[dict[str, object]]],
    classes: tuple[str, ...],
    chance: float,
) -> None:
    given = listed(tmp_path, rows(tmp_path))
    known = protocol(Oracle(classes), given)
    assert values(known)["p5"] == 1.0
    nothing = protocol(Constant(), given)
    assert [values(nothing)[name] for name in ("p5", "p10")] == pytest.approx([chance] * 2)
    assert nothing.measures["p5"].chance == pytest.approx(chance)
    assert (
        "p50" in nothing.measures or "p100" not in nothing.measures
    )  # depths that the gallery cannot fill are left out
    assert any("published list" in note for note in nothing.notes)


def test_image_to_text_precision_is_that_of_counting(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = [row | {"impression": " ".join(map(str, draw.integers(0, 30, 8)))} for row in five(tmp_path)]
    given, encoder = listed(tmp_path, rows), LimitedFake()
    found = image_to_text(encoder, given)
    images = encoder.encode_studies([study_of(encoder, row.images["current_frontal"]) for row in given.rows])
    texts = encoder.encode_texts([str(row["impression"]) for row in rows])
    shares = []
    for image, row in zip(images, rows, strict=True):
        scores = [float(image @ text) for text in texts]
        first = sorted(range(len(rows)), key=lambda n, s=scores: -s[n])[:5]  # type: ignore[misc]
        shares.append(sum(rows[n]["class"] == row["class"] for n in first) / 5)
    assert values(found)["p5"] == pytest.approx(np.mean(shares))
    curve = found.precision["image to text"]
    assert curve.values[:, 4].mean() == pytest.approx(np.mean(shares))


def study_of(encoder: StudyEncoder, path: Path):  # type: ignore[no-untyped-def]
    from model.encoder import StudyImages
    from model.image import read_radiograph

    return StudyImages(encoder.transform(read_radiograph(path).pixels))


def test_each_protocol_reads_as_many_tokens_as_it_says(tmp_path: Path) -> None:
    encoder = Oracle(CLASSES_5)
    image_to_text(encoder, listed(tmp_path, five(tmp_path)))
    assert set(encoder.limits) == {256}
    encoder = Oracle(CLASSES_8)
    text_to_image(encoder, listed(tmp_path, eight(tmp_path, True)))
    assert set(encoder.limits) == {20}


def test_a_limit_reads_fewer_or_more_tokens_than_the_context(tmp_path: Path) -> None:
    encoder = load_encoder(write_tiny_checkpoint(tmp_path / "tiny"), "cpu", "float32")  # context 24, positions 40
    short, long, longer = "clear " * 8, "clear " * 8 + "effusion " * 25, "clear " * 8 + "effusion " * 60
    assert encoder.encode_texts([long], limit=10) == pytest.approx(encoder.encode_texts([short]), abs=1e-5)
    assert encoder.encode_texts([long], limit=24) == pytest.approx(encoder.encode_texts([long]), abs=1e-6)
    assert np.abs(encoder.encode_texts([long], limit=36) - encoder.encode_texts([long])).max() > 1e-3
    assert encoder.encode_texts([longer], limit=256).shape == (1, 8)  # no more than there are positions
    assert encoder.context_length == encoder.tokenizer.context_length == 24
    for limit, cut, read in ((256, 1, 40), (None, 2, 24), (20, 2, 20)):  # the note tells what is read indeed
        assert embed_texts(encoder, [short, long, longer], limit)[1] == (
            f"{cut} of 3 texts are longer than the {read} tokens that are read.",
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. Stable cardiomegaly.\n2. No effusion.", "stable cardiomegaly no effusion"),
        ("Normal. The lungs are clear.", "the lungs are clear"),
        ("Nodule of 1.5 cm", "nodule of 5 cm"),  # split at "1.", as the protocol has it
        ("Caf\u00e9-au-lait spots", "caf au lait spots"),
        ("Unchanged.", ""),
    ],
)
def test_impressions_are_cleaned_as_the_protocol_says(text: str, expected: str) -> None:
    assert plain_impression(text) == expected


def test_a_picture_that_is_query_and_candidate_is_refused(tmp_path: Path) -> None:
    rows = eight(tmp_path, False)
    rows.append(rows[0] | {"role": "query"})
    with pytest.raises(ListError, match="line 66: the image is that of line 2"):
        image_to_image(LimitedFake(), listed(tmp_path, rows))


# Zero-shot


def test_the_nearest_class_is_chosen(tmp_path: Path) -> None:
    given = listed(tmp_path, five(tmp_path))
    found = classify_5x200(Oracle(CLASSES_5), given, {name: [name] for name in CLASSES_5})
    assert set(values(found).values()) == {1.0} and len(found.measures) == 6
    nothing = classify_5x200(Constant(), given)
    assert values(nothing)["accuracy"] == pytest.approx(1 / 5) and nothing.measures["accuracy"].chance == 1 / 5
    assert any("210/15/192/18/54" in note for note in nothing.notes)
    with pytest.raises(PromptFileError, match="--prompts: none for Edema"):
        classify_5x200(Constant(), given, {name: [name] for name in CLASSES_5 if name != "Edema"})


def test_rsna_scores_are_the_softmax_of_two_cosines(tmp_path: Path) -> None:
    rows = class_list(tmp_path, ("1", "0"), 20)
    encoder = LimitedFake()
    found = classify_rsna(encoder, listed(tmp_path, rows))
    images = encoder.encode_studies([study_of(encoder, tmp_path / str(row["image_path"])) for row in rows])
    cosines = images @ encoder.encode_texts(["There is pneumonia", "There is no pneumonia"]).T
    expected = np.exp(cosines[:, 0]) / np.exp(cosines).sum(axis=1)
    assert found.scored["Pneumonia"].scores == pytest.approx(expected, abs=1e-6)
    nothing = values(classify_rsna(Constant(), listed(tmp_path, rows)))
    assert nothing["auroc"] == nothing["accuracy"] == 0.5
    with pytest.raises(ListError, match="expected both"):
        classify_rsna(encoder, listed(tmp_path, rows[:20]))


def test_thresholds_are_chosen_on_nine_folds_and_judged_on_the_tenth() -> None:
    draw = np.random.default_rng(0)
    positive = draw.random(203) < 0.3
    scores = np.clip(0.5 + 0.1 * positive + 0.1 * draw.standard_normal(203), 0, 1)
    fold_of = stratified_folds(positive)
    assert all(5 <= int(positive[fold_of == fold].sum()) <= 7 for fold in range(10))
    assert sorted(np.bincount(fold_of)) == [20] * 7 + [21] * 3
    assert stratified_folds(positive).tolist() == fold_of.tolist() != stratified_folds(positive, seed=1).tolist()

    def f1(called: np.ndarray, truth: np.ndarray) -> float:
        hits = sum(c and t for c, t in zip(called, truth, strict=True))
        return 2 * hits / (sum(called) + sum(truth)) if sum(called) + sum(truth) else 0.0

    def accuracy(called: np.ndarray, truth: np.ndarray) -> float:
        return sum(c == t for c, t in zip(called, truth, strict=True)) / len(truth)

    measures = cross_validated(np.arange(203), scores, positive)
    for name, figure in (("f1", f1), ("accuracy", accuracy)):
        parts = []
        for fold in range(10):
            rest, best, threshold = fold_of != fold, -1.0, 0.0
            for step in range(201):
                if (value := figure(scores[rest] >= step * 0.005, positive[rest])) > best:
                    best, threshold = value, step * 0.005
            parts.append(figure(scores[~rest] >= threshold, positive[~rest]))
        assert measures[name].compute(np.arange(203)) == pytest.approx(np.mean(parts)), name


PAIRS = {name: PromptPair((name,), ("nothing",)) for name in ("Edema", "Fracture", "Nodule")}


def test_labels_come_from_columns_or_from_one_cell(tmp_path: Path) -> None:
    rows = class_list(tmp_path, ("Edema", "Fracture", "none"), 4)
    cells = [row | {"findings": "No Finding" if row["class"] == "none" else row["class"]} for row in rows]
    columns = [row | {name: int(row["class"] == name) for name in PAIRS} for row in rows]
    columns[0]["Edema"], columns[1]["Edema"] = "", -1
    oracle = Oracle(("Edema", "Fracture"))
    found = classify_labelled(oracle, listed(tmp_path, cells), PAIRS)
    assert values(found) == {"auroc: mean": 1.0, "auroc: Edema": 1.0, "auroc: Fracture": 1.0}
    found = classify_labelled(oracle, listed(tmp_path, columns), PAIRS)
    assert values(found) == {"auroc: mean": 1.0, "auroc: Edema": 1.0, "auroc: Fracture": 1.0}
    assert found.measures["auroc: Edema"].over == 10  # an uncertain and an unknown one are left out
    assert any(note.startswith("Nodule: no AUROC, 0 of 12") for note in found.notes)
    assert set(values(classify_labelled(Constant(), listed(tmp_path, cells), PAIRS)).values()) == {0.5}


def test_a_prepared_training_table_is_a_list(tmp_path: Path) -> None:
    rows = class_list(tmp_path, ("Edema", "No Finding"), 6)
    studies = [
        StudyRow(str(n), str(row["patient_id"]), "test" if n % 6 else "train", str(tmp_path / str(row["image_path"])),
                 findings="Words of a report.", labels=str(row["class"]))
        for n, row in enumerate(rows)
    ]  # fmt: skip
    write_table(tmp_path / "studies.csv", studies)
    given = read_list(tmp_path / "studies.csv")
    found = classify_labelled(Oracle(("Edema",)), given, PAIRS)
    assert values(found)["auroc: Edema"] == 1.0 and found.measures["auroc: Edema"].over == 10
    assert evaluate_pairs(LimitedFake(), given).notes[0].startswith("10 reports, 1 of them distinct")


def test_a_finding_without_prompts_is_refused_unless_others_are_asked_for(tmp_path: Path) -> None:
    rows = class_list(tmp_path, ("Edema", "Fracture"), 4)
    cells = [row | {"labels": row["class"]} for row in rows]
    cells[2]["labels"] = "Edema; Scoliosis"
    with pytest.raises(ListError, match="line 4: labels has Scoliosis"):
        classify_labelled(LimitedFake(), listed(tmp_path, cells), PAIRS)
    found = classify_labelled(Oracle(("Edema",)), listed(tmp_path, cells), PAIRS, ["Edema"])
    assert values(found)["auroc: Edema"] == 1.0
    with pytest.raises(PromptFileError, match="--finding Scoliosis: there are no prompts"):
        classify_labelled(LimitedFake(), listed(tmp_path, cells), PAIRS, ["Scoliosis"])


# Pairs


def test_pairs_of_a_list_merge_reports_that_read_the_same(tmp_path: Path) -> None:
    rows = [row | {"findings": f"There is {row['class']}."} for row in class_list(tmp_path, CLASSES_5, 2)]
    found = evaluate_pairs(Oracle(CLASSES_5), listed(tmp_path, rows))
    assert {values(found)[name] for name in ("image_to_text_r1", "text_to_image_r1", "image_to_text_mean_rank")} == {
        1.0
    }
    assert "10 reports, 5 of them distinct" in found.notes[0]
    with pytest.raises(ListError, match="line 2: the report is empty"):
        evaluate_pairs(LimitedFake(), listed(tmp_path, [rows[0] | {"findings": ""}]))


def test_a_study_is_embedded_with_every_image_when_asked(tmp_path: Path) -> None:
    rows = class_list(tmp_path, CLASSES_5, 2)
    given = listed(
        tmp_path, [row | {"current_lateral": "4-0.png", "prior_frontal": "-1", "text": "Clear."} for row in rows]
    )
    seen: list[int] = []

    class Watching(LimitedFake):
        def encode_studies(self, studies):  # type: ignore[no-untyped-def]
            seen.extend(sum(slot is not None for slot in study.slots()) for study in studies)
            return super().encode_studies(studies)

    evaluate_pairs(Watching(), given)
    evaluate_pairs(Watching(), given, "study")
    assert seen == [1] * 10 + [2] * 10


# Lists and prompts that are wrong


def test_a_wrong_list_names_its_line(tmp_path: Path) -> None:
    rows = five(tmp_path)
    encoder = LimitedFake()
    for change, words in (
        ({"class": "Scoliosis"}, "line 3: class is 'Scoliosis', expected one of Atelectasis"),
        ({"patient_id": ""}, "line 3: patient_id is empty"),
        ({"image_path": "gone.png"}, r"line 3: .*gone.png is not there"),
        ({"image_path": ""}, "line 3: image_path is empty"),
        ({"image_path": "x/../0-0.png"}, "line 3: the image is that of line 2; it would count twice"),
        ({"impression": '"Two\nlines', "class": "Scoliosis"}, "line 3: class is"),
    ):
        with pytest.raises(ListError, match=words):
            image_to_text(encoder, listed(tmp_path, [rows[0], rows[1] | change, *rows[2:]]))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ListError, match=r"line 3: .*broken.png: Expected a DICOM"):
        image_to_text(encoder, listed(tmp_path, [rows[0], rows[1] | {"image_path": "broken.png"}]))
    without = [{name: row[name] for name in ("image_path", "patient_id")} for row in rows]
    with pytest.raises(ListError, match="expected a column class, impression or text; found"):
        image_to_text(encoder, listed(tmp_path, without))
    with pytest.raises(ListError, match="cannot be read"):
        read_list(tmp_path / "absent.csv")
    with pytest.raises(ListError, match="line 2: role is 'judge'"):
        image_to_image(encoder, listed(tmp_path, class_list(tmp_path, CLASSES_8, 1, role="judge")))


def test_a_split_is_chosen_and_paths_may_start_elsewhere(tmp_path: Path) -> None:
    rows = class_list(tmp_path / "pictures", CLASSES_5, 2)
    for number, row in enumerate(rows):
        row["split"] = ("train", "test")[number % 2]
    path = write_list(tmp_path / "list.csv", rows)
    assert len(read_list(path).rows) == 5 and len(read_list(path, split="all").rows) == 10
    read_list(path, tmp_path / "pictures").require_images()
    with pytest.raises(ListError, match="is not there"):
        read_list(path).require_images()
    with pytest.raises(ListError, match=r"no row of split 'val'; found \['test', 'train'\]"):
        read_list(path, split="val")


def test_a_list_that_is_no_csv_says_so(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(partial(csv.field_size_limit, csv.field_size_limit(1000)))
    with pytest.raises(ListError, match=r"after line 2: field larger than field limit .*is it a CSV file"):
        listed(tmp_path, [{"image_path": "a.png", "impression": "x" * 2000}])


def test_prompts_come_from_toml_or_json(tmp_path: Path) -> None:
    toml = tmp_path / "pairs.toml"
    toml.write_text('[Edema]\npositive = ["There is edema."]\nnegative = ["No edema."]\n')
    assert read_prompt_pairs(toml) == {"Edema": PromptPair(("There is edema.",), ("No edema.",))}
    assert read_class_prompts(toml) == {"Edema": ("There is edema.",)}
    plain = tmp_path / "classes.json"
    plain.write_text(json.dumps({"Edema": ["mild edema", "severe edema"]}), encoding="utf-8-sig")  # as Windows has it
    assert read_class_prompts(plain) == {"Edema": ("mild edema", "severe edema")}
    with pytest.raises(PromptFileError, match="Edema: expected positive and negative"):
        read_prompt_pairs(plain)
    plain.write_text(json.dumps({"Edema": []}))
    with pytest.raises(PromptFileError, match="Edema: expected a list of phrases"):
        read_class_prompts(plain)
    plain.write_text("{")
    with pytest.raises(PromptFileError, match="cannot be read"):
        read_class_prompts(plain)
