"""One figure style for the course: colour-blind-safe, readable at 100 %, with alternative text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter
from torch import Tensor

from lgutils import report
from lgutils.blocks import Layer
from lgutils.errors import UserError
from lgutils.report import Claim, Interval

MARKERS = "os^Dv"
LINES = ("-", "--", "-.", (0, (1, 1.2)))
HATCHES = ("", "///", "...", "xxx")
VERDICTS = {  # marker and place in the colour-blind palette
    "supported": ("o", 2),
    "not supported": ("s", 7),
    "contradicted": ("X", 3),
}


def style() -> None:
    """Set fonts, sizes and colours for all figures that follow."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind")
    plt.rcParams.update(
        {"figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False,
         "font.family": "DejaVu Sans", "figure.constrained_layout.use": True}
    )  # fmt: skip


def show(figure: Figure, alt: str) -> None:
    """Show a figure in a notebook with alternative text for readers who cannot see it."""
    from IPython.display import display

    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def mosaic(rows: Mapping[str, Tensor], *, per_row: int = 12, scale: float = 0.62) -> Figure:
    """Rows of images, each row with a name.

    Args:
        rows: name -> (N, 3, H, W) uint8.
    """
    figure, axes = plt.subplots(len(rows), 1, figsize=(per_row * scale, len(rows) * scale * 1.15))
    for axis, (name, images) in zip(np.atleast_1d(axes), rows.items(), strict=True):
        strip = torch.cat(list(images[:per_row]), 2).permute(1, 2, 0)
        axis.imshow(strip.numpy(), interpolation="nearest")
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.set_xticks([])
        axis.set_yticks([])
        sns.despine(ax=axis, left=True, bottom=True)
    return figure


def learning_curves(curves: Mapping[str, Sequence[tuple[int, float]]], title: str) -> Figure:
    """Held-out accuracy in % against epochs, one line a name."""
    figure, axis = plt.subplots(figsize=(6.5, 3.6))
    for marker, (name, points) in zip(cycle(MARKERS), curves.items(), strict=False):
        epochs, values = zip(*points, strict=True)
        axis.plot(epochs, [100 * v for v in values], marker=marker, ms=4, label=name)
    axis.set(xlabel="epoch", ylabel="held-out accuracy (%)", ylim=(0, 100), title=title)
    axis.legend(frameon=False)
    return figure


def heat(tables: Mapping[str, np.ndarray], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Heat maps side by side: ancestor layers (rows, input at the top) by small-model layers."""
    width = 1.6 + len(tables) * (1.2 + 0.75 * len(columns))
    figure, axes = plt.subplots(
        1, len(tables), figsize=(width, 1.5 + 0.36 * len(rows)), sharey=True
    )
    for axis, (name, table) in zip(np.atleast_1d(axes), tables.items(), strict=True):
        sns.heatmap(table, annot=True, fmt=".2f", cmap="cividis", ax=axis, cbar=False,
                    xticklabels=columns, yticklabels=rows, annot_kws={"size": 10})  # fmt: skip
        axis.set_title(name)
        axis.set_xlabel("pseudo-descendant layer")
        axis.tick_params(axis="x", rotation=45)
        axis.tick_params(axis="y", rotation=0)
    np.atleast_1d(axes)[0].set_ylabel("ancestor layer")
    return figure


def network(models: Mapping[str, Sequence[Layer]], marked: Mapping[str, Sequence[str]]) -> Figure:
    """Draw networks as rows of boxes, input at the left; inherited or chosen layers are hatched.

    Args:
        models: name -> its integral layers.
        marked: name -> names of the layers to mark.
    """
    palette = sns.color_palette("colorblind")
    most = max(len(layers) for layers in models.values())
    figure, axis = plt.subplots(figsize=(1.6 + 0.72 * most, 0.5 + 0.75 * len(models)))
    for y, (name, layers) in enumerate(models.items()):
        axis.text(-0.3, -y, name, ha="right", va="center")
        number = 0
        for x, layer in enumerate(layers):
            chosen = layer.name in marked.get(name, ())
            number += layer.role == "block"
            face = palette[1] if chosen else "white"
            axis.add_patch(
                plt.Rectangle((x, -y - 0.32), 0.86, 0.64, facecolor=face, edgecolor="black",
                              hatch="//" if chosen else None, linewidth=1)
            )  # fmt: skip
            text = str(number) if layer.role == "block" else layer.role[:4].replace("posi", "pos")
            axis.text(x + 0.43, -y, text, ha="center", va="center", fontsize=10,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2})  # fmt: skip
    axis.set(xlim=(-0.2, most), ylim=(-len(models) + 0.5, 0.6))
    axis.set_axis_off()
    return figure


def accuracies(
    values: Mapping[str, Interval],
    title: str,
    *,
    chance: float | None = None,
    marked: str = "learngene",
) -> Figure:
    """Mean accuracy in % with 95 % intervals, one line a method; the marked one stands out."""
    figure, axis = plt.subplots(figsize=(6.5, 1.2 + 0.36 * len(values)))
    for y, (name, i) in enumerate(reversed(values.items())):
        colour, shape = ("C1", "s") if name == marked else ("C0", "o")
        axis.errorbar(100 * i.mean, y, fmt=shape, capsize=3, color=colour,
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
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    figure, axis = plt.subplots(figsize=(7, 1.3 + 0.48 * len(names)))
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
        axis.errorbar(middle, y, xerr=[low, high], fmt=marker, capsize=3, ms=5, label=group)
    axis.set_yticks(range(len(names)), list(reversed(names)))
    axis.set_xlabel(xlabel)
    axis.legend(frameon=False)
    return figure


def _need(filled: Mapping | Sequence, what: str) -> None:
    if not filled:
        raise UserError(f"There is nothing to draw: no {what} was given.")


def _panels(
    names: Iterable[str], *, width: float = 3.7, height: float = 3.3, sharey: bool = True
) -> tuple[Figure, dict[str, Axes]]:
    """Axes side by side by name; one alone is wider."""
    names = list(names)
    width = 5.6 if len(names) == 1 else width * len(names)
    figure, axes = plt.subplots(
        1, len(names), figsize=(width, height), sharey=sharey, squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=11)
    return figure, dict(zip(names, axes[0], strict=True))


def _looks(groups: Mapping[str, Mapping]) -> dict[str, dict]:
    """Arm -> colour, marker and line style, the same in every panel and in any two panels."""
    names = list(dict.fromkeys(arm for arms in groups.values() for arm in arms))
    palette = sns.color_palette("colorblind")
    colours = [palette[k] for k in (0, 1, 2, 3, 4, 9, 5, 7)]  # the pale ones are hard to see
    looks = zip(names, cycle(colours), cycle(MARKERS), cycle(LINES))
    return {name: {"color": c, "marker": m, "ls": line} for name, c, m, line in looks}


def _legend(figure: Figure, axes: Iterable[Axes], title: str | None = None) -> None:
    """One legend under all panels, each name once."""
    entries = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    room = max(1, int(figure.get_figwidth() * 10 / (6 + max(map(len, entries)))))
    columns = min(len(entries), room, 4)
    lines = -(-len(entries) // columns) + (title is not None)
    figure.set_figheight(figure.get_figheight() + 0.22 * lines)  # not at the panels' expense
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", frameon=False,
        ncols=columns, handlelength=3, fontsize=10.5, title=title,
        title_fontsize=10.5, borderaxespad=0, borderpad=0.2,
    )  # fmt: skip


def _ticks(axis: Axes, ticks: Sequence[float]) -> None:
    """Ticks at these places only, as plain numbers."""
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(ScalarFormatter())


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
    _ticks(axis, ticks if steps[0] > 0 else [0, *ticks])


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
    axes[0].set_ylabel("accuracy (%)")
    figure.suptitle(title, fontsize=12)
    _legend(figure, axes, "mean over tasks; band: its 95 % interval")


@contextmanager
def _closing(made: tuple[Figure, dict[str, Axes]]) -> Iterator[tuple[Figure, dict[str, Axes]]]:
    """Close the figure again if drawing it fails."""
    try:
        yield made
    except Exception:
        plt.close(made[0])
        raise


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
    _need(groups, "group")
    looks = _looks(groups)
    with _closing(_panels(groups)) as (figure, axes):
        for group, arms in groups.items():
            for name, (steps, values) in arms.items():
                _band(axes[group], name, steps, values, looks[name])
            _step_axis(axes[group], [steps for steps, _ in arms.values()])
            if threshold is not None:
                axes[group].axhline(100 * threshold, color="0.25", ls=(0, (6, 2)), lw=1.2,
                                    label=f"threshold, {100 * threshold:g} %")  # fmt: skip
            if chance is not None:
                axes[group].axhline(100 * chance, color="0.45", ls=":", lw=1.6,
                                    label=f"chance, {100 * chance:g} %")  # fmt: skip
        _accuracy_axes(figure, list(axes.values()), title)
    return figure


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
    _need(groups, "group")
    looks = _looks(groups)
    with _closing(_panels(groups)) as (figure, axes):
        for group, arms in groups.items():
            for name, (counts, values) in arms.items():
                _band(axes[group], name, counts, values, looks[name])
            axes[group].set_xscale("log")
            axes[group].set_xlabel("training images of each class")
            _ticks(axes[group], np.unique(np.concatenate([counts for counts, _ in arms.values()])))
            if group in (target or {}):
                value, label = target[group]
                axes[group].axhline(100 * value, color="0.25", ls=(0, (6, 2)), lw=1.2, label=label)
        _accuracy_axes(figure, list(axes.values()), title)
    return figure


def survival(
    groups: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], title: str
) -> Figure:
    """Share of tasks that are not yet at the threshold, against optimiser steps.

    Args:
        groups: panel -> arm -> (steps (S,), share (S,) in [0, 1]).
    """
    _need(groups, "group")
    looks = _looks(groups)
    with _closing(_panels(groups)) as (figure, axes):
        for group, arms in groups.items():
            for name, (steps, share) in arms.items():
                every = 1 if len(steps) <= 12 else 0.13
                axes[group].step(steps, 100 * np.asarray(share, dtype=float), where="post",
                                 label=name, ms=5.5, markevery=every, **looks[name])  # fmt: skip
            _step_axis(axes[group], [steps for steps, _ in arms.values()])
        first = next(iter(axes.values()))
        first.set(ylim=(-3, 103), ylabel="tasks not yet at the threshold (%)")
        figure.suptitle(title, fontsize=12)
        _legend(figure, axes.values())
    return figure


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
    wide = min(len(tables), 2)  # more would be too small on a phone
    tall = -(-len(tables) // wide)
    size = (2 + wide * (0.5 + 0.52 * len(columns)), 0.9 + tall * (0.8 + 0.42 * len(rows)))
    figure, axes = plt.subplots(tall, wide, figsize=size, sharex=True, sharey=True,
                                squeeze=False, layout="constrained")  # fmt: skip
    low = min(np.nanmin(table) for table in tables.values())
    high = max(np.nanmax(table) for table in tables.values())
    for axis, (name, table) in zip(axes.flat, tables.items(), strict=False):
        image = axis.imshow(table, cmap="cividis", vmin=low, vmax=high, aspect="auto")
        axis.set_title(name, fontsize=11)
        _cells(axis, table, (low + high) / 2)
    for axis in axes.flat[len(tables) :]:
        axis.set_visible(False)
        axes[-2, -1].tick_params(labelbottom=True)
    axes[0, 0].set_xticks(range(len(columns)), [_setting(c) for c in columns])
    axes[0, 0].set_yticks(range(len(rows)), [_setting(r) for r in rows])
    figure.supxlabel(xlabel, fontsize=11)
    figure.supylabel(ylabel, fontsize=11)
    figure.suptitle(title, fontsize=12)
    figure.colorbar(image, ax=axes, label="mean accuracy (%)")
    return figure


def _percent(tables: Mapping[str, np.ndarray], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """The tables in %, each with some values and of this shape."""
    _need(tables, "table")
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


def ranking(chosen: Mapping[str, float], others: Mapping[str, np.ndarray], title: str) -> Figure:
    """Histograms of the mean accuracy of random layer sets, with the chosen set marked.

    Args:
        chosen: panel -> mean accuracy of the chosen set, in [0, 1].
        others: panel -> mean accuracies (N,) of the random sets, in [0, 1].
    """
    _need(chosen, "set")
    palette = sns.color_palette("colorblind")
    with _closing(_panels(chosen)) as (figure, axes):
        for name, value in chosen.items():
            sets, axis = np.asarray(others.get(name, ()), dtype=float), axes[name]
            if sets.ndim != 1 or not len(sets):
                raise UserError(f"{name!r} needs the accuracies (N,) of at least one random set.")
            bins = int(np.clip(1.5 * np.sqrt(len(sets)), 5, 25))
            axis.hist(100 * sets, bins=bins, color=palette[0], alpha=0.55, label="random sets")
            axis.plot(100 * sets, np.zeros(len(sets)), "|", color="0.2", ms=9, clip_on=False)
            axis.axvline(100 * value, 0, 0.94, color=palette[3], lw=2, ls="--", marker="v",
                         markevery=[1], ms=10, label="chosen set")  # fmt: skip
            above = int((value > sets).sum())
            axis.set_title(f"{name}: above {above} of {len(sets)} random sets", fontsize=11)
            axis.set_xlabel("mean accuracy (%)")
            axis.margins(y=0.15)
            axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        next(iter(axes.values())).set_ylabel("layer sets")
        figure.suptitle(title, fontsize=12)
        _legend(figure, axes.values())
    return figure


def components(parts: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Standard deviations by source of variance, as bars, one colour and hatch a family.

    Args:
        parts: family -> source -> standard deviation of accuracies in [0, 1].
    """
    _need(parts, "family")
    sources = list(dict.fromkeys(source for bars in parts.values() for source in bars))
    tall, palette = 0.8 / len(parts), sns.color_palette("colorblind")
    figure, axis = plt.subplots(
        figsize=(6.5, 1.2 + len(sources) * (0.2 + 0.3 * len(parts))), layout="constrained"
    )
    for k, (family, bars) in enumerate(parts.items()):
        y = [sources.index(s) + (k - (len(parts) - 1) / 2) * tall for s in bars]
        drawn = axis.barh(y, [100 * v for v in bars.values()], 0.92 * tall, label=family,
                          color=palette[k % len(palette)], hatch=HATCHES[k % len(HATCHES)],
                          edgecolor="white", lw=0)  # fmt: skip
        axis.bar_label(drawn, fmt="%.1f", padding=3, fontsize=10)
    axis.set_yticks(range(len(sources)), [fill(s, 26) for s in sources])
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.set_xlabel("standard deviation (percentage points)")
    figure.suptitle(title, fontsize=12)
    _legend(figure, [axis])
    return figure


def verdicts(claims: Sequence[Claim], title: str) -> Figure:
    """Effects in percentage points with 95 % intervals; marker and colour say the verdict.

    Claims stand in groups of family and dataset. The short grey line in a row is the value that the
    effect is held against. Claims in other units are left out and counted under the axis.
    """
    shown = [c for c in claims if c.unit == "points"]
    _need(shown, "claim in points")
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
