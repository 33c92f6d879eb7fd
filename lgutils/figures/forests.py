"""Forests: effects with their intervals, the best at the top and the good at the right."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgutils.figures.arms import MARKERS, NEUTRAL
from lgutils.figures.comparisons import name_rows, rows_of, xerr, xlabel
from lgutils.figures.look import entitle, legend, narrow, need, responsive, wrapped
from lgutils.report import Claim, Interval
from lgutils.scale import TITLES

VERDICTS = {  # marker and place in the colour-blind palette
    "supported": ("o", 2),
    "not supported": ("s", 7),
    "contradicted": ("X", 3),
}


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
