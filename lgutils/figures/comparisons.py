"""Methods side by side: means, paired differences, ranks, variance, verdicts."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lgutils.errors import UserError
from lgutils.figures.arms import HATCHES, MARKERS, NEUTRAL, looks
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
from lgutils.report import Claim, Interval
from lgutils.scale import TITLES

VERDICTS = {  # marker and place in the colour-blind palette
    "supported": ("o", 2),
    "not supported": ("s", 7),
    "contradicted": ("X", 3),
}


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
def forest(
    groups: Mapping[str, Mapping[str, Interval]], label: str, better: str = "learngene better"
) -> Figure:
    """Paired differences in percentage points with 95 % intervals; one marker for each group.

    Args:
        groups: group (for example "CNN") -> comparison -> difference of accuracies in [0, 1]; the
            comparisons are sorted by their mean over the groups, the largest at the top.
        label: what the differences are.
        better: what lies right of zero; stands there with an arrow.
    """
    need(groups, "group")
    means: dict[str, list[float]] = {}
    for entries in groups.values():
        for name, effect in entries.items():
            means.setdefault(name, []).append(effect.mean)
    names = sorted(means, key=lambda name: -np.mean(means[name]))
    figure, axis = rows_of(len(names), each=0.3 + 0.12 * len(groups), rest=1.6)
    axis.axvline(0, color="grey", lw=1)
    for k, (marker, (group, entries)) in enumerate(
        zip(cycle(MARKERS), groups.items(), strict=False)
    ):
        beside = 0.24 * (k - (len(groups) - 1) / 2)
        for name, effect in entries.items():
            axis.errorbar(100 * effect.mean, names.index(name) + beside, xerr=xerr(effect), ms=6,
                          fmt=marker, capsize=3, color=NEUTRAL, mfc="white" if k % 2 else NEUTRAL,
                          label=group)  # fmt: skip
    name_rows(axis, names)
    arrow(axis, better)
    xlabel(axis, label)
    legend(figure, [axis])
    return figure


def arrow(axis: Axes, text: str) -> None:
    """Say under the right end of the x axis what lies there."""
    axis.annotate(f"{text} →", (1, 0), (0, -22), xycoords="axes fraction", textcoords="offset points",
                  ha="right", va="top", fontsize=10.5, weight="bold", color=NEUTRAL)  # fmt: skip
    axis.xaxis.labelpad = 20


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


@responsive
def verdicts(claims: Sequence[Claim], title: str) -> Figure:
    """Effects in percentage points with 95 % intervals; marker and colour say the verdict.

    Claims stand in groups of family and dataset, the largest effect first. Right is good in every row:
    an effect that is good when small is turned, and its row says so. The short grey line in a row is the
    value that the effect is held against. Claims in other units are left out and counted under the axis.
    """
    shown = [c for c in claims if c.unit == "points"]
    need(shown, "claim in points")
    rows = list(_grouped(shown))
    texts = [wrapped(_said(row), 46 if narrow() else 42).replace("$", r"\$") for row in rows]
    tall = np.array([_height(*pair) for pair in zip(rows, texts, strict=True)])
    figure, axis = rows_of(1, each=tall.sum(), rest=1.9, width=7.6)
    middle = tall.cumsum() - tall / 2  # in inches, as are all heights here
    for y, high, row in zip(middle, tall, rows, strict=True):
        if isinstance(row, Claim):
            _effect(axis, y + (0.5 * high - 0.17 if narrow() else 0), row)
    _tell(axis, middle, tall, texts, [isinstance(row, str) for row in rows])
    axis.set_ylim(tall.sum(), 0)
    arrow(axis, "better")
    left = len(claims) - len(shown)
    rest = f"\nnot drawn, in other units: {left}" if left else ""
    xlabel(axis, f"effect (percentage points), 95 % interval{rest}")
    entitle(figure, title.replace("$", r"\$"))
    for verdict, (marker, place) in VERDICTS.items():
        axis.plot([], [], marker, color=_colour(place), label=verdict)
    legend(figure, [axis])
    return figure


def _grouped(claims: Sequence[Claim]) -> Iterator[str | Claim]:
    """The name of each family and dataset, and its claims, those that are best first."""
    groups: dict[str, list[Claim]] = {}
    for claim in claims:
        family = TITLES.get(claim.family, claim.family)
        name = ", ".join(filter(None, (family, claim.dataset)))
        groups.setdefault(name, []).append(claim)
    for name, members in groups.items():
        yield from [name] * bool(name)
        yield from sorted(members, key=lambda c: -_turned(c)[0].mean)


def _height(row: str | Claim, text: str) -> float:
    """Of a row in inches; on a phone the interval stands below the text."""
    below = 0.36 if narrow() and isinstance(row, Claim) else 0.1
    return below + 0.18 * (text.count("\n") + 1)


def _turned(claim: Claim) -> tuple[Interval, float]:
    """Effect and the value it is held against, both with the sign by which more is better."""
    e = claim.effect
    if claim.larger:
        return e, claim.null
    return Interval(-e.mean, -e.high, -e.low, e.n), -claim.null


def _said(row: str | Claim) -> str:
    if isinstance(row, str):
        return row
    return row.sentence if row.larger else f"{row.sentence} (turned: less is better)"


def _tell(axis: Axes, middle, tall, texts: Sequence[str], bold: Sequence[bool]) -> None:
    """What the rows are: at the left, or on a phone in the row above its interval."""
    axis.set_yticks([] if narrow() else middle, [] if narrow() else texts, fontsize=10)
    axis.tick_params(axis="y", length=0)
    for label, strong in zip(axis.get_yticklabels(), bold, strict=not narrow()):
        label.set_fontweight("bold" if strong else "normal")
    if narrow():
        sns.despine(ax=axis, left=True)
        for y, high, text, strong in zip(middle, tall, texts, bold, strict=True):
            axis.text(0, y - high / 2 + 0.05, text, transform=axis.get_yaxis_transform(), va="top",
                      fontsize=9.5, weight="bold" if strong else "normal")  # fmt: skip


def _colour(place: int) -> tuple[float, float, float]:
    return sns.color_palette("colorblind")[place]


def _effect(axis: Axes, y: float, claim: Claim) -> None:
    """One row of a forest: interval, marker by verdict, and the value it is held against."""
    marker, place = VERDICTS[claim.verdict]
    effect, null = _turned(claim)
    axis.errorbar(100 * effect.mean, y, fmt=marker, ms=7, capsize=3, color=_colour(place),
                  xerr=xerr(effect))  # fmt: skip
    axis.plot([100 * null] * 2, [y - 0.13, y + 0.13], color="0.4", lw=1, zorder=0)
