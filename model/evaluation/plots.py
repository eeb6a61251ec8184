"""Pictures of outcomes: precision at k, ROC curves, score histograms, reliability, with bands that resample patients.

Importing needs matplotlib (the extra ``train``). Pictures are drawn without a display.
"""

import io
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .calibrate import equal_bins
from .metrics import auroc, resample
from .outcome import Outcome, PrecisionCurve, ScoredLabels

__all__ = ["draw_plots"]

ROUNDS = 200  # of a band
COLORS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8e5ea2", "#c98a1b", "#4d4d4d")
CHANCE: dict[str, Any] = {"color": "#808080", "linestyle": (0, (4, 3)), "linewidth": 1.2}
LEGEND: dict[str, Any] = {"fontsize": 8, "framealpha": 0.85, "edgecolor": "none"}  # readable over curves
GRID = np.linspace(0, 1, 101)
ACROSS = 3  # panels beside each other
NAMED = 28  # characters of a column's name, its end
MARKED = (1, 2, 5, 10, 20, 50, 100)  # depths with a tick


def draw_plots(outcomes: Mapping[str, Mapping[str, Outcome]]) -> dict[str, bytes]:
    """PNG files by name, for every part and its columns."""
    pictures = {}
    for part, columns in outcomes.items():
        first = next(iter(columns.values()))
        suffix = f"-{_slug(part)}" if len(outcomes) > 1 else ""
        if first.precision:
            figure, axes = _panels(len(first.precision), 4.2)
            for ax, name in zip(axes, first.precision, strict=True):
                _draw_precision(ax, name, {column: o.precision[name] for column, o in columns.items()})
            pictures[f"precision{suffix}.png"] = _png(figure)
        if first.scored:
            figure, axes = _panels(len(first.scored), 5.4 + 0.2 * len(columns))
            for ax, name in zip(axes, first.scored, strict=True):
                _draw_roc(ax, name, {column: o.scored[name] for column, o in columns.items()})
            pictures[f"roc{suffix}.png"] = _png(figure)
            for column, outcome in columns.items():
                figure, axes = _panels(len(outcome.scored), 3.2)
                for ax, (name, scored) in zip(axes, outcome.scored.items(), strict=True):
                    _draw_histogram(ax, name, scored)
                figure.suptitle(_short(column), fontsize=11)
                other = f"-{_slug(column)}" if len(columns) > 1 else ""
                if f"scores{suffix}{other}.png" in pictures:  # names may differ in what a file name leaves out
                    other += f"-{len(pictures)}"
                pictures[f"scores{suffix}{other}.png"] = _png(figure)
        if first.probabilities:
            figure, axes = _panels(len(first.probabilities), 4.7)
            for ax, name in zip(axes, first.probabilities, strict=True):
                _draw_reliability(ax, name, {column: o.probabilities[name] for column, o in columns.items()})
            pictures[f"reliability{suffix}.png"] = _png(figure)
    return pictures


def _draw_precision(ax: Axes, name: str, curves: Mapping[str, PrecisionCurve]) -> None:
    for color, (column, curve) in zip(_colors(len(curves)), curves.items(), strict=True):
        depths = np.arange(1, curve.values.shape[1] + 1)
        low, high = _band(curve.patients, partial(_mean, curve.values))
        ax.plot(depths, curve.values.mean(axis=0), color=color, label=_short(column))
        ax.fill_between(depths, low, high, color=color, alpha=0.18, linewidth=0)
    first = next(iter(curves.values()))
    ax.axhline(first.chance, label=f"chance {first.chance:.3f}", **CHANCE)
    deepest = first.values.shape[1]
    ax.set_xscale("log")
    ax.set_xticks([k for k in MARKED if k <= deepest], [str(k) for k in MARKED if k <= deepest])
    ax.minorticks_off()
    ax.set(xlim=(1, max(deepest, 2)), ylim=(0, 1.02), xlabel="k", ylabel="precision at k", title=name)
    ax.legend(loc="best", **LEGEND)


def _draw_roc(ax: Axes, name: str, scores: Mapping[str, ScoredLabels]) -> None:
    for color, (column, scored) in zip(_colors(len(scores)), scores.items(), strict=True):
        low, high = _band(scored.patients, partial(_roc_of, scored))
        value = auroc(scored.scores, scored.positive)
        ax.plot(GRID, _roc(scored.scores, scored.positive), color=color, label=f"{_short(column)}, AUROC {value:.3f}")
        ax.fill_between(GRID, low, high, color=color, alpha=0.18, linewidth=0)
    ax.plot((0, 1), (0, 1), label="chance", **CHANCE)
    positives = int(next(iter(scores.values())).positive.sum())
    total = len(next(iter(scores.values())).positive)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    ax.set_title(f"{name} ({positives} of {total})")
    # Below: a curve may run through any corner.
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), **LEGEND)


def _draw_histogram(ax: Axes, name: str, scored: ScoredLabels) -> None:
    edges = np.histogram_bin_edges(scored.scores, bins=30)
    for positive, label, color in ((False, "without", COLORS[0]), (True, "with", COLORS[1])):
        chosen = scored.scores[scored.positive == positive]
        # Densities: the two groups are of very different sizes.
        ax.hist(chosen, edges.tolist(), density=True, alpha=0.5, color=color, label=f"{label} ({len(chosen)})")
    ax.set(xlabel="score", ylabel="density", title=name)
    ax.locator_params(axis="x", nbins=5)
    ax.set_ylim(top=1.25 * ax.get_ylim()[1])  # room for the legend
    ax.legend(**LEGEND)


def _draw_reliability(ax: Axes, name: str, cases: Mapping[str, ScoredLabels]) -> None:
    for color, (column, scored) in zip(_colors(len(cases)), cases.items(), strict=True):
        bins = equal_bins(scored.scores)
        said = [float(scored.scores[part].mean()) for part in bins]
        low, high = _band(scored.patients, partial(_shares, scored, bins))
        ax.plot(
            said, [float(scored.positive[part].mean()) for part in bins], "o-", color=color, label=_short(column), ms=4
        )
        ax.fill_between(said, low, high, color=color, alpha=0.18, linewidth=0)
    ax.plot((0, 1), (0, 1), label="as it should be", **CHANCE)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", title=name)
    ax.set(xlabel="probability, mean of each tenth of the cases", ylabel="share that has the finding")
    ax.legend(loc="best", **LEGEND)


def _shares(scored: ScoredLabels, bins: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Share of positive cases in each bin, among the rows drawn; NaN where none of a bin is drawn."""
    times = np.bincount(rows, minlength=len(scored.scores))
    drawn = np.array([times[part].sum() for part in bins])
    found = np.array([times[part] @ scored.positive[part] for part in bins])
    return np.where(drawn > 0, found / np.maximum(drawn, 1), np.nan)


def _mean(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return values[rows].mean(axis=0)


def _roc_of(scored: ScoredLabels, rows: np.ndarray) -> np.ndarray:
    return _roc(scored.scores[rows], scored.positive[rows])


def _roc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Sensitivity at each of ``GRID``; NaN when one of the classes is empty. Ties are crossed in a straight line."""
    if positive.all() or not positive.any():
        return np.full(len(GRID), np.nan)
    steps, place = np.unique(-scores, return_inverse=True)  # from the highest score
    alarms = np.cumsum(np.bincount(place, ~positive, len(steps))) / (~positive).sum()
    found = np.cumsum(np.bincount(place, positive, len(steps))) / positive.sum()
    # Where the curve rises straight up, interpolation takes the upper end.
    return np.interp(GRID, np.concatenate([[0], alarms]), np.concatenate([[0], found]))


def _band(patients: np.ndarray, curve: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """95 % of the curves, point by point, when patients are drawn again; (K,) each."""
    drawn: list[np.ndarray] = []

    def keep(rows: np.ndarray) -> float:
        drawn.append(curve(rows))
        return 0.0

    resample(patients, keep, ROUNDS)
    defined = np.stack([values for values in drawn if not np.isnan(values).any()] or [curve(np.arange(len(patients)))])
    low, high = np.percentile(defined, (2.5, 97.5), axis=0)
    return low, high


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    across = min(count, ACROSS)
    down = -(-count // across)
    figure = Figure(figsize=(4.6 * across, height * down), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for ax in axes[count:]:
        ax.remove()
    for ax in axes[:count]:
        ax.grid(color="#e4e4e4", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes[:count]


def _colors(count: int) -> tuple[str, ...]:
    return tuple(COLORS[number % len(COLORS)] for number in range(count))


def _short(name: str) -> str:
    return name if len(name) <= NAMED else "..." + name[-NAMED:]


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    return stream.getvalue()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
