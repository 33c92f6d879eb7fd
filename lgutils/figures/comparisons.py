"""Methods side by side: means, paired differences, ranks, variance, verdicts."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lgutils.errors import UserError
from lgutils.figures.look import HATCHES, MARKERS, NEUTRAL, closing, legend, looks, need, panels
from lgutils.report import Claim, Interval

VERDICTS = {  # marker and place in the colour-blind palette
    "supported": ("o", 2),
    "not supported": ("s", 7),
    "contradicted": ("X", 3),
}


def accuracies(
    values: Mapping[str, Interval], title: str, *, chance: float | None = None
) -> Figure:
    """Mean accuracy in % with 95 % intervals, one line a method."""
    look = looks(values)
    figure, axis = plt.subplots(figsize=(6.5, 1.2 + 0.36 * len(values)))
    for y, (name, i) in enumerate(reversed(values.items())):
        axis.errorbar(100 * i.mean, y, capsize=3, **look[name],
                      xerr=[[100 * (i.mean - i.low)], [100 * (i.high - i.mean)]])  # fmt: skip
    if chance is not None:
        axis.axvline(100 * chance, color="grey", ls=":", label="chance")
        axis.legend(frameon=False, loc="lower right")
    axis.set_yticks(range(len(values)), list(reversed(values)))
    axis.set(xlabel="accuracy after the last epoch (%), mean and 95 % interval", title=title)
    return figure


def forest(groups: Mapping[str, Mapping[str, Interval]], xlabel: str) -> Figure:
    """Paired differences in percentage points with 95 % intervals; one marker for each group.

    Args:
        groups: group (for example "CNN") -> comparison -> difference of accuracies in [0, 1].
    """
    figure = differences(groups, xlabel)
    legend(figure, figure.axes, grow=False)
    return figure


def differences(groups: Mapping[str, Mapping[str, Interval]], xlabel: str) -> Figure:
    """What `forest` draws, without its legend."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    figure, axis = plt.subplots(figsize=(7, 1.3 + 0.48 * len(names)), layout="constrained")
    axis.axvline(0, color="grey", lw=1)
    for k, (marker, (group, entries)) in enumerate(
        zip(cycle(MARKERS), groups.items(), strict=False)
    ):
        rows = [name for name in names if name in entries]
        middle = np.array([100 * entries[name].mean for name in rows])
        low = middle - [100 * entries[name].low for name in rows]
        high = np.array([100 * entries[name].high for name in rows]) - middle
        y = [
            len(names) - 1 - names.index(name) + 0.22 * ((len(groups) - 1) / 2 - k) for name in rows
        ]
        axis.errorbar(middle, y, xerr=[low, high], fmt=marker, capsize=3, ms=5.5, label=group,
                      color=NEUTRAL, mfc="white" if k % 2 else NEUTRAL)  # fmt: skip
    axis.set_yticks(range(len(names)), list(reversed(names)))
    axis.set_ylim(-0.5, len(names) - 0.5)
    axis.set_xlabel("\n".join(fill(line, 64) for line in xlabel.splitlines()))
    return figure


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
        next(iter(axes.values())).set_ylabel("layer sets")
        figure.suptitle(title, fontsize=12)
        legend(figure, axes.values())
    return figure


def components(parts: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Standard deviations by source of variance, as bars, one shade and hatch a family.

    Args:
        parts: family -> source -> standard deviation of accuracies in [0, 1].
    """
    need(parts, "family")
    sources = list(dict.fromkeys(source for bars in parts.values() for source in bars))
    tall = 0.8 / len(parts)
    figure, axis = plt.subplots(
        figsize=(6.5, 1.2 + len(sources) * (0.2 + 0.3 * len(parts))), layout="constrained"
    )
    for k, (family, bars) in enumerate(parts.items()):
        y = [sources.index(s) + (k - (len(parts) - 1) / 2) * tall for s in bars]
        drawn = axis.barh(y, [100 * v for v in bars.values()], 0.92 * tall, label=family,
                          color=(NEUTRAL, "0.62")[k % 2], hatch=HATCHES[k % len(HATCHES)],
                          edgecolor="white", lw=0)  # fmt: skip
        axis.bar_label(drawn, fmt="%.1f", padding=3, fontsize=10)
    axis.set_yticks(range(len(sources)), [fill(s, 26) for s in sources])
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.set_xlabel("standard deviation (percentage points)")
    figure.suptitle(title, fontsize=12)
    legend(figure, [axis])
    return figure


def verdicts(claims: Sequence[Claim], title: str) -> Figure:
    """Effects in percentage points with 95 % intervals; marker and colour say the verdict.

    Claims stand in groups of family and dataset. The short grey line in a row is the value that the
    effect is held against. Claims in other units are left out and counted under the axis.
    """
    shown = [c for c in claims if c.unit == "points"]
    need(shown, "claim in points")
    groups: dict[str, list[Claim]] = {}
    for claim in shown:
        name = ", ".join(filter(None, (claim.family, claim.dataset)))
        groups.setdefault(name, []).append(claim)
    rows, names = [], []
    for name, members in groups.items():
        rows += [None] * bool(name) + members
        names += [name] * bool(name) + [fill(c.sentence, 42) for c in members]
    lines = sum(name.count("\n") + 1 for name in names)
    figure, axis = plt.subplots(
        figsize=(7.6, 1.6 + 0.1 * len(rows) + 0.19 * lines), layout="constrained"
    )
    for y, claim in enumerate(rows):
        if claim is not None:
            _effect(axis, y, claim)
    axis.set_yticks(range(len(rows)), [name.replace("$", r"\$") for name in names], fontsize=10)
    for label, claim in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if claim is None else "normal")
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    left = len(claims) - len(shown)
    rest = f"\nnot drawn, in other units: {left}" if left else ""
    axis.set_xlabel(f"effect (percentage points), 95 % interval{rest}")
    figure.suptitle(title.replace("$", r"\$"), fontsize=12)
    palette = sns.color_palette("colorblind")
    keys = [Line2D([], [], color=palette[c], marker=m, label=v) for v, (m, c) in VERDICTS.items()]
    figure.legend(handles=keys, loc="outside lower center", ncols=3, frameon=False, fontsize=10.5,
                  borderaxespad=0, borderpad=0.2)  # fmt: skip
    return figure


def _effect(axis: Axes, y: float, claim: Claim) -> None:
    """One row of a forest: interval, marker by verdict, and the value it is held against."""
    marker, place = VERDICTS[claim.verdict]
    effect = claim.effect
    axis.errorbar(100 * effect.mean, y, fmt=marker, ms=7, capsize=3,
                  color=sns.color_palette("colorblind")[place],
                  xerr=[[100 * (effect.mean - effect.low)], [100 * (effect.high - effect.mean)]],
                  )  # fmt: skip
    axis.plot([100 * claim.null] * 2, [y - 0.5, y + 0.5], color="0.4", lw=1, zorder=0)
