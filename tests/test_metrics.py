"""Figures and their intervals, against counting by hand."""

from itertools import pairwise

import numpy as np
import pytest

from model.evaluation.metrics import (
    Interval,
    auroc,
    bootstrap,
    bootstrap_auroc,
    bootstrap_mean,
    hit_ranks,
    precision_at_k,
    precisions,
    resample,
)

NAN = float("nan")


def ranked(scores: list[float]) -> list[int]:
    """Gallery items from the best; of equal ones the first comes first."""
    left, order = list(range(len(scores))), []
    while left:
        best = left[0]
        for item in left:
            if scores[item] > scores[best]:
                best = item
        order.append(best)
        left.remove(best)
    return order


def tied_similarities(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(9, 12) similarities of few distinct values, and relevance with at least one item a query."""
    draw = np.random.default_rng(seed)
    relevant = draw.random((9, 12)) < 0.3
    relevant[np.arange(9), draw.integers(12, size=9)] = True
    return draw.integers(0, 4, (9, 12)) / 4, relevant


# Retrieval


@pytest.mark.parametrize("seed", range(5))
def test_precision_and_rank_are_those_of_counting_with_ties(seed: int) -> None:
    similarity, relevant = tied_similarities(seed)
    orders = [ranked(row) for row in similarity.tolist()]
    for k in (1, 3, 12):
        expected = [sum(bool(relevant[q, item]) for item in order[:k]) / k for q, order in enumerate(orders)]
        assert precision_at_k(similarity, relevant, k) == pytest.approx(expected)
        assert precisions(similarity, relevant, 12)[:, k - 1] == pytest.approx(expected)
    firsts = [1 + [bool(relevant[q, item]) for item in order].index(True) for q, order in enumerate(orders)]
    assert hit_ranks(similarity, relevant).tolist() == firsts


def test_a_constant_encoder_retrieves_at_chance() -> None:
    classes = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 20))
    relevant = classes[:, None] == classes[None, :]
    for k in (1, 5, 10, 100):
        assert precision_at_k(np.ones((100, 100)), relevant, k).mean() == pytest.approx(1 / 5)
    assert hit_ranks(np.ones((100, 100)), np.eye(100, dtype=bool)).tolist() == list(range(1, 101))


def test_a_perfect_encoder_retrieves_all() -> None:
    classes = np.repeat(np.arange(4), 5)
    relevant = classes[:, None] == classes[None, :]
    assert precision_at_k(relevant.astype(float), relevant, 5).tolist() == [1.0] * 20
    assert hit_ranks(np.eye(20), np.eye(20, dtype=bool)).tolist() == [1] * 20


# AUROC


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_pairs_in_order_ties_half(seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores, positive = draw.integers(0, 6, 40) / 6, draw.random(40) < 0.4
    pairs = [(p, n) for p in scores[positive] for n in scores[~positive]]
    expected = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)
    assert auroc(scores, positive) == pytest.approx(expected)
    assert auroc(-scores, positive) == pytest.approx(1 - expected)
    assert auroc(np.exp(3 * scores), positive.astype(int)) == pytest.approx(expected)  # only the order counts


def test_auroc_is_a_half_for_equal_scores_and_undefined_for_one_class() -> None:
    assert auroc(np.ones(10), np.arange(10) < 3) == 0.5
    assert auroc(np.arange(10.0), np.arange(10) > 6) == 1.0
    assert np.isnan(auroc(np.arange(4.0), np.zeros(4))) and np.isnan(auroc(np.arange(4.0), np.ones(4)))


# Intervals


def test_patients_are_drawn_with_all_their_rows() -> None:
    patients = np.array(["b", "a", "b", "c", "a", "b"])
    rows_of = {name: sorted(np.flatnonzero(patients == name)) for name in "abc"}
    seen: list[np.ndarray] = []

    def figure(rows: np.ndarray) -> float:
        seen.append(rows)
        return 0.0

    bootstrap(patients, figure, rounds=50)
    samples = [sorted(rows) for rows in seen]
    assert samples.pop() == list(range(6))  # the value itself is over all rows
    for sample in samples:
        times = {name: sample.count(rows[0]) for name, rows in rows_of.items()}
        assert sum(times.values()) == 3
        assert sample == sorted(row for name, rows in rows_of.items() for row in rows * times[name])
    assert len({tuple(sample) for sample in samples}) > 5


def test_an_interval_is_the_central_part_of_the_samples() -> None:
    values = np.random.default_rng(0).standard_normal(40)
    seen: list[float] = []

    def figure(rows: np.ndarray) -> float:
        seen.append(float(values[rows].mean()))
        return seen[-1]

    interval = bootstrap(np.arange(40), figure, rounds=200)
    assert interval.value == pytest.approx(values.mean())
    inside = sum(interval.low <= sample <= interval.high for sample in seen[:-1])
    assert 188 <= inside <= 192


def test_intervals_are_reproducible_and_change_with_the_seed() -> None:
    values = np.random.default_rng(0).standard_normal(30)
    runs = [bootstrap(np.arange(30), lambda rows: float(values[rows].mean()), 100, seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_two_figures_over_the_same_rows_see_the_same_draws() -> None:
    patients, values = np.arange(30) // 2, np.random.default_rng(0).standard_normal(30)
    plain = resample(patients, lambda rows: float(values[rows].mean()), 50)
    shifted = resample(patients, lambda rows: float(values[rows].mean()) + 1, 50)
    assert shifted - plain == pytest.approx(np.ones(50)) and plain.std() > 0


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(80):
        values = np.random.default_rng(seed).standard_normal(40).repeat(2)  # two equal rows a patient
        interval = bootstrap(
            np.arange(40).repeat(2), lambda rows, values=values: float(values[rows].mean()), rounds=200
        )
        covered += interval.low <= 0 <= interval.high
    assert 70 <= covered <= 80  # rows drawn one by one would cover about 66 times


def test_more_patients_give_a_narrower_interval() -> None:
    draw = np.random.default_rng(0)
    widths = []
    for count in (20, 80, 320):
        interval = bootstrap_mean(np.arange(count), draw.random(count))
        assert interval.low <= interval.value <= interval.high
        widths.append(interval.high - interval.low)
    assert all(wide > 1.5 * narrow for wide, narrow in pairwise(widths))


def test_mean_and_auroc_have_intervals_of_their_own() -> None:
    patients, scores = np.arange(60), np.linspace(0, 1, 60)
    positive = np.random.default_rng(0).random(60) < scores
    interval = bootstrap_auroc(patients, scores, positive)
    assert interval.value == auroc(scores, positive) and interval.low < interval.value < interval.high
    assert bootstrap_mean(patients, scores).value == pytest.approx(0.5)


def test_samples_without_a_figure_are_left_out() -> None:
    # One positive patient of three: a third of the samples or so has no AUROC.
    interval = bootstrap_auroc(np.arange(3), np.array([0.1, 0.2, 0.9]), np.array([False, False, True]))
    assert interval == Interval(1.0, 1.0, 1.0)


def test_a_figure_of_nothing_is_undefined() -> None:
    nothing = bootstrap_mean(np.array([]), np.array([]))
    one_class = bootstrap_auroc(np.arange(5), np.arange(5.0), np.ones(5))
    for interval in (nothing, one_class):
        assert np.isnan([interval.value, interval.low, interval.high]).all()
        assert interval.as_list() == [None, None, None]


def test_an_interval_is_shown_with_three_places_and_listed_with_four() -> None:
    interval = Interval(0.123456, 0.1, 0.2)
    assert str(interval) == "0.123 (0.100 to 0.200)"
    assert interval.as_list() == [0.1235, 0.1, 0.2]


def test_drawing_a_single_patient_again_tells_nothing() -> None:
    found = bootstrap(np.array(["a", "a", "a"]), lambda rows: float(rows.mean()))
    assert found.as_list() == [1.0, None, None] and str(found) == "1.000 (no interval)"
