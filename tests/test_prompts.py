"""The built-in prompts: the CheXpert observations, asserted and denied."""

import re

import pytest

from model.prompts import PROMPT_SETS

CHEXPERT = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip


def test_the_sets_are_the_fourteen_observations() -> None:
    assert tuple(PROMPT_SETS) == CHEXPERT


@pytest.mark.parametrize("name", CHEXPERT)
def test_every_observation_is_asserted_and_denied_in_other_words(name: str) -> None:
    pair = PROMPT_SETS[name]
    for phrases in (pair.positive, pair.negative):
        assert len(phrases) >= 2 and len(set(phrases)) == len(phrases)
        assert all(re.fullmatch(r"[A-Z][^{}]*\.", phrase) for phrase in phrases), phrases
    assert not {p.lower() for p in pair.positive} & {p.lower() for p in pair.negative}


def test_only_no_finding_is_asserted_by_a_denial() -> None:
    deny = re.compile(r"\b(no|clear|normal|intact)\b", re.IGNORECASE)
    for name, pair in PROMPT_SETS.items():
        asserted = pair.negative if name == "No Finding" else pair.positive
        denied = pair.positive if name == "No Finding" else pair.negative
        assert not any(deny.search(phrase) for phrase in asserted), name
        assert all(deny.search(phrase) or "sharp" in phrase for phrase in denied), name
