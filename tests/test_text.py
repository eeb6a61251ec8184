"""Which parts of a report are read, and as which tokens."""

import re
from pathlib import Path

import numpy as np
import pytest

from model.backbones import BertTokenizer
from model.errors import CheckpointError
from model.text import ReportTokenizer, report_body, sentences, train_vocabulary
from tests.tiny import SPECIAL, VOCABULARY

ASCII = [chr(code) for code in range(33, 127)]
REPORTS = [
    "The heart is normal in size. The lungs are clear.",
    "There is a small left pleural effusion. No pneumothorax.",
    "Interval increase in the right lower lobe consolidation (3.5 cm).",
    "No acute cardiopulmonary abnormality.",
]


def write_vocabulary(folder: Path, tokens: tuple[str, ...] = VOCABULARY) -> Path:
    path = folder / "vocab.txt"
    path.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> ReportTokenizer:
    return ReportTokenizer(write_vocabulary(tmp_path), context_length=12)


def words(tokenizer: ReportTokenizer, row: np.ndarray) -> list[str]:
    return [tokenizer.vocabulary[number] for number in row]


# Sections and sentences


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("Clear lungs.", "Normal."), "Clear lungs. Normal."),
        (("  Clear lungs.\n", ""), "Clear lungs."),
        ((None, "Normal."), "Normal."),
        (("Clear lungs.", "Normal.", "INDICATION: cough. FINDINGS: Clear lungs."), "Clear lungs. Normal."),
        (("", None, " A report without sections. "), "A report without sections."),
        ((" ", "\n", "All of it."), "All of it."),
        ((None, None), ""),
    ],
)
def test_findings_and_impression_are_read_else_the_whole_text(parts: tuple[str | None, ...], expected: str) -> None:
    assert report_body(*parts) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Clear lungs. Normal heart.", ["Clear lungs.", "Normal heart."]),
        ("A nodule of 3.5 cm is seen. Stable.", ["A nodule of 3.5 cm is seen.", "Stable."]),
        (
            "Effusion? Yes! (Small.) Then [left]. 50%. End",
            ["Effusion?", "Yes!", "(Small.) Then [left].", "50%.", "End"],
        ),
        ("One line\nthat goes on.\n\nA new paragraph", ["One line that goes on.", "A new paragraph"]),
        ("  ", []),
        ("", []),
    ],
)
def test_sentences_end_where_a_word_does(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_no_word_is_lost_between_sentences() -> None:
    text = " ".join(REPORTS)
    assert " ".join(sentences(text)) == text


# Tokens


def test_tokens_are_those_of_the_reference_bert_tokenizer(tmp_path: Path) -> None:
    vocabulary = train_vocabulary(REPORTS, 250, tmp_path)
    ours = ReportTokenizer(vocabulary, context_length=20)
    reference = BertTokenizer(vocab={token: number for number, token in enumerate(ours.vocabulary)}, do_lower_case=True)
    texts = [
        *REPORTS, "", " ".join(REPORTS), "Café NAÏVE", "[MASK] heart [SEP]", "汉字", "tab\tnew\nline\x00nul\u2028end",
        "can't 3.5mm (R>L)", "x" * 300,
    ]  # fmt: skip
    expected = reference(texts, padding=True, truncation=True, max_length=20, return_tensors="np")
    tokens = ours(texts)
    assert np.array_equal(tokens.input_ids, expected["input_ids"])
    assert np.array_equal(tokens.attention_mask, expected["attention_mask"])
    assert ours.count(texts) == [len(row) for row in reference(texts)["input_ids"]]


def test_a_batch_is_padded_to_its_longest_text(tokenizer: ReportTokenizer) -> None:
    tokens = tokenizer(["no effusion", "the heart is normal ."])
    assert words(tokenizer, tokens.input_ids[0]) == ["[CLS]", "no", "effusion", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert tokens.attention_mask.tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7]
    assert tokens.input_ids.dtype == tokens.attention_mask.dtype == np.int64


def test_a_long_text_is_cut_but_keeps_its_separator(tokenizer: ReportTokenizer) -> None:
    long = "the heart " * 20
    (row,) = tokenizer([long]).input_ids
    assert words(tokenizer, row) == ["[CLS]", *["the", "heart"] * 5, "[SEP]"]
    assert tokenizer.count([long, "no effusion"]) == [42, 4]  # before the cut


def test_a_text_of_exactly_the_context_length_is_whole(tokenizer: ReportTokenizer) -> None:
    (row,) = tokenizer(["the heart " * 5]).input_ids
    assert words(tokenizer, row)[-2:] == ["heart", "[SEP]"] and len(row) == 12


def test_special_tokens_are_found_wherever_they_stand(tmp_path: Path) -> None:
    shuffled = ReportTokenizer(write_vocabulary(tmp_path, VOCABULARY[::-1]), 12)
    assert words(shuffled, np.array(shuffled.special_ids)) == list(SPECIAL)
    assert shuffled.vocabulary[shuffled.mask_id] == "[MASK]"
    assert words(shuffled, shuffled(["clear", "no effusion"]).input_ids[0]) == ["[CLS]", "clear", "[SEP]", "[PAD]"]


@pytest.mark.parametrize("token", SPECIAL)
def test_a_vocabulary_without_a_special_token_is_refused(tmp_path: Path, token: str) -> None:
    path = write_vocabulary(tmp_path, tuple(t for t in VOCABULARY if t != token))
    with pytest.raises(CheckpointError, match=re.escape(f"{token} missing")):
        ReportTokenizer(path, 12)


def test_an_unreadable_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        ReportTokenizer(tmp_path / "absent.txt", 12)
    (tmp_path / "latin1.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(CheckpointError, match="cannot be read"):
        ReportTokenizer(tmp_path / "latin1.txt", 12)


def test_a_token_that_looks_like_a_line_end_is_one_token(tmp_path: Path) -> None:
    tokenizer = ReportTokenizer(write_vocabulary(tmp_path, (*SPECIAL, "\x85", "\u2028", "heart")), 12)
    assert tokenizer.vocabulary[-1] == "heart" and len(tokenizer.vocabulary) == 8


# Learning a vocabulary


@pytest.mark.parametrize("size", [150, 200, 400])
def test_a_learned_vocabulary_is_whole_unique_and_within_its_size(tmp_path: Path, size: int) -> None:
    tokens = ReportTokenizer(train_vocabulary(REPORTS * 3, size, tmp_path), 12).vocabulary
    assert tuple(tokens[:5]) == SPECIAL  # padding is 0, as BERT's embedding expects
    assert len(set(tokens)) == len(tokens) <= size
    assert not any(any(c.isupper() for c in token) for token in tokens[5:])
    assert size < 400 or "heart" in tokens


def test_no_printable_ascii_is_unknown(tmp_path: Path) -> None:
    tokenizer = ReportTokenizer(train_vocabulary(REPORTS, 200, tmp_path), 400)
    texts = [*ASCII, "".join(ASCII), *(f"a{c}b" for c in ASCII)]
    assert not (tokenizer(texts).input_ids == tokenizer.special_ids[1]).any()


def test_learning_twice_gives_the_same_vocabulary(tmp_path: Path) -> None:
    texts = [f"{report} {number} é" for report in REPORTS for number in range(40)]
    first, *more = (train_vocabulary(iter(texts), 260, tmp_path).read_bytes() for _ in range(5))
    assert all(again == first for again in more)
