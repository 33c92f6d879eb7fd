"""Methods side by side: means, ranks, variance."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lgutils.errors import UserError
from lgutils.figures.arms import HATCHES, NEUTRAL, looks
from lgutils.figures.look import (
    NARROW,
    closing,
    entitle,
    legend,
    narrow,
    need,
    panels,
    responsive,
    wrapped,
    ylabel,
)
from lgutils.report import Interval


def rows_of(number: float, *, each: float, rest: float, width: float = 7) -> tuple[Figure, Axes]:
    """Axes for rows that are `each` inches high, on a figure that is `rest` higher."""
    size = (NARROW if narrow() else width, rest + each * number)
    return plt.subplots(figsize=size, layout="constrained")


def name_rows(axis: Axes, names: Sequence[str], letters: int = 40) -> None:
    """Names at the rows, the first at the top."""
    most = min(letters, 18) if narrow() else letters
    axis.set_yticks(range(len(names)), [wrapped(name, most) for name in names])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(names) - 0.5, -0.5)


def xlabel(axis: Axes, text: str) -> None:
    axis.set_xlabel(wrapped(text, 34 if narrow() else 64))


def xerr(effect: Interval) -> list[list[float]]:
    """An interval in percentage points as lengths to the left and right of its mean."""
    return [[100 * (effect.mean - effect.low)], [100 * (effect.high - effect.mean)]]


@responsive
def accuracies(
    values: Mapping[str, Interval], title: str, *, chance: float | None = None
) -> Figure:
    """Mean accuracy in % with 95 % intervals, one line a method."""
    look = looks(values)
    figure, axis = rows_of(len(values), each=0.36, rest=1.2, width=6.5)
    for y, (name, i) in enumerate(values.items()):
        axis.errorbar(100 * i.mean, y, capsize=3, xerr=xerr(i), **look[name])
    if chance is not None:
        axis.axvline(100 * chance, color="grey", ls=":", label=f"chance, {100 * chance:g} %")
        legend(figure, [axis])
    name_rows(axis, list(values))
    xlabel(axis, "accuracy after the last epoch (%), mean and 95 % interval")
    entitle(figure, title)
    return figure


@responsive
def pairs(groups: Mapping[str, Mapping[str, np.ndarray]], *, chance: float) -> Figure:
    """Two arms on the same tasks: their accuracies in %, and a line a task from one to the other.

    Args:
        groups: panel -> two arms -> accuracies (tasks,) in [0, 1].
        chance: accuracy of a guess, in [0, 1].
    """
    need(groups, "group")
    with closing(panels(groups)) as (figure, axes):
        for group, arms in groups.items():
            axis, values = axes[group], 100 * np.array(list(arms.values()))
            axis.plot([0, 1], values, color="0.75", lw=1)
            for x, (look, points) in enumerate(zip(looks(arms).values(), values, strict=True)):
                axis.plot(np.full(len(points), x), points, ms=7, **look | {"ls": "none"})
            axis.axhline(100 * chance, color="grey", ls=":", label=f"chance, {100 * chance:g} %")
            axis.set(xticks=[0, 1], xticklabels=list(arms), xlim=(-0.3, 1.3), ylim=(0, 100))
        ylabel(axes.values(), "accuracy after the last step (%)")
        legend(figure, axes.values())
    return figure


@responsive
def ranking(chosen: Mapping[str, float], others: Mapping[str, np.ndarray], title: str) -> Figure:
    """Histograms of the mean accuracy of random layer sets, with the chosen set marked.

    Args:
        chosen: panel -> mean accuracy of the chosen set, in [0, 1].
        others: panel -> mean accuracies (N,) of the random sets, in [0, 1].
    """
    need(chosen, "set")
    gene, drawn = looks(["learngene", "random layers"]).values()
    with closing(panels(chosen)) as (figure, axes):
        for name, value in chosen.items():
            sets, axis = np.asarray(others.get(name, ()), dtype=float), axes[name]
            if sets.ndim != 1 or not len(sets):
                raise UserError(f"{name!r} needs the accuracies (N,) of at least one random set.")
            bins = int(np.clip(1.5 * np.sqrt(len(sets)), 5, 25))
            axis.hist(100 * sets, bins=bins, color=drawn["color"], alpha=0.5, label="random sets")
            axis.plot(100 * sets, np.zeros(len(sets)), "|", color="0.2", ms=9, clip_on=False)
            axis.axvline(100 * value, 0, 0.94, color=gene["color"], lw=2.5, marker="s",
                         markevery=[1], ms=8, label="chosen set")  # fmt: skip
            above = int((value > sets).sum())
            axis.set_title(f"{name}: above {above} of {len(sets)} random sets", fontsize=11)
            axis.set_xlabel("mean accuracy (%)")
            axis.margins(y=0.15)
            axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        ylabel(axes.values(), "layer sets")
        entitle(figure, title)
        legend(figure, axes.values())
    return figure


@responsive
def components(parts: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Standard deviations by source of variance, as bars, one shade and hatch a family.

    Args:
        parts: family -> source -> standard deviation of accuracies in [0, 1].
    """
    need(parts, "family")
    sources = list(dict.fromkeys(source for bars in parts.values() for source in bars))
    tall = 0.8 / len(parts)
    figure, axis = rows_of(len(sources), each=0.2 + 0.3 * len(parts), rest=1.2, width=6.5)
    for k, (family, bars) in enumerate(parts.items()):
        y = [sources.index(s) + (k - (len(parts) - 1) / 2) * tall for s in bars]
        drawn = axis.barh(y, [100 * v for v in bars.values()], 0.92 * tall, label=family,
                          color=(NEUTRAL, "0.62")[k % 2], hatch=HATCHES[k % len(HATCHES)],
                          edgecolor="white", lw=0)  # fmt: skip
        axis.bar_label(drawn, fmt="%.1f", padding=3, fontsize=10)
    name_rows(axis, sources, 26)
    axis.margins(x=0.15)
    xlabel(axis, "standard deviation (percentage points)")
    entitle(figure, title)
    legend(figure, [axis])
    return figure
