"""Accuracy along something: steps, shots, hyper-parameters."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from lgutils import report
from lgutils.errors import UserError
from lgutils.figures.arms import NEUTRAL, colour, looks
from lgutils.figures.look import (
    closing,
    entitle,
    legend,
    need,
    panels,
    responsive,
    scale,
    share_labels,
    ticks_at,
    tiles,
    ylabel,
)


def _step_axis(axis: Axes, steps: Iterable[np.ndarray]) -> None:
    """Optimiser steps on a log scale when they span more than a factor 10; step 0 keeps a place."""
    axis.set_xlabel("optimiser steps")
    steps = np.unique(np.concatenate([np.asarray(s, dtype=float) for s in steps]))
    positive = steps[steps > 0]
    if len(positive) < 2 or positive[-1] <= 10 * positive[0]:
        return
    if steps[0] > 0:
        axis.set_xscale("log")
    else:
        axis.set_xscale("symlog", linthresh=positive[0], linscale=0.4)
    decades = 10.0 ** np.arange(np.floor(np.log10(positive[0])), np.log10(positive[-1]) + 1)
    factors = (1,) if len(decades) > 4 else (1, 3) if len(decades) > 3 else (1, 2, 5)
    ticks = [d * f for d in decades for f in factors if positive[0] <= d * f <= positive[-1]]
    ticks_at(axis, ticks if steps[0] > 0 else [0, *ticks])


def _band(axis: Axes, name: str, x: Sequence[float], values: np.ndarray, look: dict) -> None:
    """Mean over tasks in % with its 95 % t interval; values: (tasks, len(x)) in [0, 1]."""
    x, values = np.asarray(x), np.asarray(values, dtype=float)
    if values.ndim != 2 or values.shape[1] != len(x):
        raise UserError(
            f"The accuracies of {name!r} have shape {values.shape}; (tasks, {len(x)}) is expected."
        )
    found = [report.mean(column) for column in values.T]
    every = 1 if len(x) <= 12 else 0.13  # of the diagonal: even gaps on a log axis too
    axis.plot(x, [100 * i.mean for i in found], label=name, ms=5.5, markevery=every, **look)
    axis.fill_between(x, [100 * i.low for i in found], [100 * i.high for i in found],
                      color=look["color"], alpha=0.2, lw=0)  # fmt: skip


def _accuracy_axes(figure: Figure, axes: Sequence[Axes], title: str) -> None:
    """A shared accuracy axis no wider than 0 to 100 %, a title and one legend."""
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(max(low, -2), min(high, 102))
    ylabel(axes, "accuracy (%)")
    entitle(figure, title)
    legend(figure, axes, "mean over tasks; band: its 95 % interval")


@contextmanager
def _banded(groups: Mapping[str, Mapping], title: str) -> Iterator[tuple[Figure, dict[str, Axes]]]:
    """Panels with every arm's mean and band; what is added to them stands in the legend too."""
    need(groups, "group")
    look = looks(arm for arms in groups.values() for arm in arms)
    with closing(panels(groups)) as (figure, axes):
        for group, arms in groups.items():
            for name, (x, values) in arms.items():
                _band(axes[group], name, x, values, look[name])
        yield figure, axes
        _accuracy_axes(figure, list(axes.values()), title)


@responsive
def curves(
    groups: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    title: str,
    *,
    threshold: float | None = None,
    chance: float | None = None,
) -> Figure:
    """Accuracy against optimiser steps, mean with 95 % t interval over tasks, one panel a group.

    Args:
        groups: group ("CNN") -> arm -> (steps (S,), accuracies (tasks, S) in [0, 1]).
        threshold: accuracy in [0, 1] to mark with a line.
        chance: accuracy of guessing, in [0, 1].
    Raises:
        UserError: fewer than two tasks, or shapes that do not fit.
    """
    with _banded(groups, title) as (figure, axes):
        for group, arms in groups.items():
            _step_axis(axes[group], [steps for steps, _ in arms.values()])
            if threshold is not None:
                axes[group].axhline(100 * threshold, color="0.25", ls=(0, (6, 2)), lw=1.2,
                                    label=f"threshold, {100 * threshold:g} %")  # fmt: skip
            if chance is not None:
                axes[group].axhline(100 * chance, color="0.45", ls=":", lw=1.6,
                                    label=f"chance, {100 * chance:g} %")  # fmt: skip
    return figure


@responsive
def shots(
    groups: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    title: str,
    *,
    target: Mapping[str, tuple[float, str]] | None = None,
) -> Figure:
    """Accuracy against training images of each class, mean with 95 % t interval over tasks.

    Args:
        groups: panel -> arm -> (shots (K,), accuracies (tasks, K) in [0, 1]).
        target: panel -> (accuracy in [0, 1], what it is), drawn as a horizontal line.
    Raises:
        UserError: fewer than two tasks, or shapes that do not fit.
    """
    with _banded(groups, title) as (figure, axes):
        for group, arms in groups.items():
            axes[group].set_xscale("log")
            axes[group].set_xlabel("training images of each class")
            ticks_at(
                axes[group], np.unique(np.concatenate([counts for counts, _ in arms.values()]))
            )
            if group in (target or {}):
                value, label = target[group]
                axes[group].axhline(100 * value, color="0.25", ls=(0, (6, 2)), lw=1.2, label=label)
    return figure


@responsive
def survival(
    groups: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], title: str
) -> Figure:
    """Share of tasks that are not yet at the threshold, against optimiser steps.

    Args:
        groups: panel -> arm -> (steps (S,), share (S,) in [0, 1]).
    """
    need(groups, "group")
    look = looks(arm for arms in groups.values() for arm in arms)
    with closing(panels(groups)) as (figure, axes):
        for group, arms in groups.items():
            for name, (steps, share) in arms.items():
                every = 1 if len(steps) <= 12 else 0.13
                axes[group].step(steps, 100 * np.asarray(share, dtype=float), where="post",
                                 label=name, ms=5.5, markevery=every, **look[name])  # fmt: skip
            _step_axis(axes[group], [steps for steps, _ in arms.values()])
        next(iter(axes.values())).set_ylim(-3, 103)
        ylabel(axes.values(), "tasks not yet there (%)")
        entitle(figure, title)
        legend(figure, axes.values())
    return figure


@responsive
def traces(
    curves: Mapping[str, np.ndarray],
    xlabel: str,
    ylabel: str,
    title: str,
    *,
    chosen: Collection[str] = (),
) -> Figure:
    """Small multiples of values along iterations, one panel a name: mean over seeds, band from least to most.

    The means of the other panels stand behind each in grey, on the same axes.

    Args:
        curves: panel -> values (seeds, iterations).
        xlabel, ylabel: with units; at every panel's foot and at the figure's left.
        chosen: panels to draw in the learngene's colour.
    """
    need(curves, "curve")
    found = {name: np.asarray(values, dtype=float) for name, values in curves.items()}
    for name, values in found.items():
        if values.ndim != 2:
            raise UserError(
                f"The values of {name!r} have shape {values.shape}; (seeds, iterations) is due."
            )
    figure, axes = tiles(len(found), 3, 2.2, 1.7, few=2, sharex=True, sharey=True)
    for axis, (name, values) in zip(axes, found.items(), strict=True):
        for other in found.values():
            axis.plot(other.mean(0), color="0.85", lw=1, zorder=1)
        drawn = colour("learngene") if name in chosen else NEUTRAL
        axis.plot(values.mean(0), color=drawn, lw=2)
        axis.fill_between(
            range(values.shape[1]), values.min(0), values.max(0), color=drawn, alpha=0.25, lw=0
        )
        axis.set_title(f"{name}, chosen" if name in chosen else name, fontsize=11)
    share_labels(figure, axes, xlabel, ylabel)
    entitle(figure, title)
    return figure


@responsive
def grid(
    tables: Mapping[str, np.ndarray],
    rows: Sequence,
    columns: Sequence,
    *,
    xlabel: str,
    ylabel: str,
    title: str,
) -> Figure:
    """Sensitivity heat maps in %, one panel an arm on one colour scale; the best cell is framed.

    Args:
        tables: arm -> mean accuracies (rows, columns) in [0, 1]; nan where nothing was run.
        rows, columns: the settings, numbers or text.
        xlabel, ylabel: what the columns and the rows are, with units.
    """
    tables = _percent(tables, (len(rows), len(columns)))
    size = (1.5 + 0.52 * len(columns), 1.5 + 0.45 * len(rows))
    figure, axes = tiles(len(tables), 2, *size, sharex=True, sharey=True)
    low = min(np.nanmin(table) for table in tables.values())
    high = max(np.nanmax(table) for table in tables.values())
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        image = axis.imshow(table, cmap="cividis", vmin=low, vmax=high, aspect="auto")
        axis.set_title(name, fontsize=11)
        _cells(axis, table, (low + high) / 2)
    axes[0].set_xticks(range(len(columns)), [_setting(c) for c in columns])
    axes[0].set_yticks(range(len(rows)), [_setting(r) for r in rows])
    share_labels(figure, axes, xlabel, ylabel)
    entitle(figure, title)
    scale(figure, axes, image)
    return figure


def _percent(tables: Mapping[str, np.ndarray], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """The tables in %, each with some values and of this shape."""
    need(tables, "table")
    tables = {name: 100 * np.asarray(table, dtype=float) for name, table in tables.items()}
    for name, table in tables.items():
        if table.shape != shape or np.isnan(table).all():
            raise UserError(
                f"The table of {name!r} has shape {table.shape} and "
                f"{int(np.isfinite(table).sum())} values; shape {shape} is expected."
            )
    return tables


def _setting(value) -> str:
    """A number as short as can be (1e-4), anything else as text on short lines."""
    if isinstance(value, int | float | np.number):
        return min(f"{value:g}", np.format_float_scientific(value, trim="-", exp_digits=1), key=len)
    return fill(str(value), 10)


def _cells(axis: Axes, table: np.ndarray, middle: float) -> None:
    """Write each cell's value and frame the best one."""
    for (y, x), value in np.ndenumerate(table):
        text, dark = ("–", False) if np.isnan(value) else (f"{value:.0f}", value < middle)
        axis.text(x, y, text, ha="center", va="center", fontsize=10,
                  color="white" if dark else "black")  # fmt: skip
    y, x = np.unravel_index(np.nanargmax(table), table.shape)
    frame = plt.Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, lw=2, edgecolor="black")
    frame.set_path_effects([withStroke(linewidth=5, foreground="white")])
    axis.add_patch(frame)
    axis.tick_params(length=0)
    sns.despine(ax=axis, left=True, bottom=True)
