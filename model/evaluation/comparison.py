"""Encoders side by side: every figure with its interval, and its difference to the first encoder's, in pairs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .metrics import ROUNDS, Interval, interval_of, resample
from .outcome import Measure, Outcome

__all__ = ["Comparison", "Row", "compare"]


@dataclass(frozen=True)
class Row:
    """One figure. intervals by column; differences (column minus baseline) by column, without the baseline's own."""

    name: str
    intervals: dict[str, Interval]
    differences: dict[str, Interval]
    chance: float | None
    over: int | None


@dataclass(frozen=True)
class Comparison:
    """columns: what is compared, the baseline first."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """Figures by name: each interval as [value, low, high]."""
        return {
            row.name: {
                **{column: interval.as_list() for column, interval in row.intervals.items()},
                **{f"{column} - {self.columns[0]}": d.as_list() for column, d in row.differences.items()},
                "chance": None if row.chance is None else round(row.chance, 4),
                "over": row.over,
            }
            for row in self.rows
        }


def compare(outcomes: Mapping[str, Outcome], rounds: int = ROUNDS, seed: int = 0) -> Comparison:
    """Outcomes on the same rows, by column; the first is the baseline.

    Every column sees the same resampled patients, so the interval of a difference is that of paired samples.
    """
    columns = tuple(outcomes)
    baseline = outcomes[columns[0]].measures
    rows = []
    for name, first in baseline.items():
        values, samples = {}, {}
        for column in columns:
            measure = outcomes[column].measures[name]
            assert np.array_equal(measure.patients, first.patients), "compared figures are over the same rows"
            values[column], samples[column] = _sampled(measure, rounds, seed)
        rows.append(
            Row(
                name,
                {column: interval_of(values[column], samples[column]) for column in columns},
                {
                    column: interval_of(values[column] - values[columns[0]], samples[column] - samples[columns[0]])
                    for column in columns[1:]
                },
                first.chance,
                next((m.over for m in (outcomes[column].measures[name] for column in columns) if m.over), None),
            )
        )
    return Comparison(columns, tuple(rows))


def _sampled(measure: Measure, rounds: int, seed: int) -> tuple[float, np.ndarray]:
    if not len(measure.patients):
        return float("nan"), np.full(rounds, np.nan)
    samples = resample(measure.patients, measure.compute, rounds, seed)
    return float(measure.compute(np.arange(len(measure.patients)))), samples
