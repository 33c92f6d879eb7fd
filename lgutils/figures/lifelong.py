"""Lifelong learning: accuracy matrices, the fate of the first task, and what the learngene is worth."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lgutils import report
from lgutils.errors import UserError
from lgutils.figures.comparisons import differences
from lgutils.figures.look import closing, legend, looks, need, panels
from lgutils.report import Interval


def _lives(matrices: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Checked (lives, T, T) matrices in %."""
    need(matrices, "accuracy matrix")
    found = {name: 100 * np.asarray(m, dtype=float) for name, m in matrices.items()}
    for name, m in found.items():
        if m.ndim != 3 or m.shape[1] != m.shape[2] or not m.size:
            raise UserError(f"The matrices of {name!r} have shape {m.shape}; (lives, T, T) is due.")
    return found


def _numbers(tasks: int) -> list[str]:
    return [str(number) for number in range(1, tasks + 1)]


def accuracy_matrices(matrices: Mapping[str, np.ndarray], title: str) -> Figure:
    """Heat maps in %, one panel a method on one scale: accuracy on each task after each task.

    Args:
        matrices: method -> (lives, T, T) in [0, 1], NaN where nothing was measured; lives are averaged.
    """
    found = _lives(matrices)
    wide = 2 if len(found) == 4 else min(len(found), 3)
    tall, size = -(-len(found) // wide), max(m.shape[1] for m in found.values())
    figure, axes = plt.subplots(
        tall, wide, figsize=(1.4 + wide * (0.6 + 0.34 * size), 1 + tall * (0.7 + 0.32 * size)),
        sharex=True, sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, (name, lives) in zip(axes.flat, found.items(), strict=False):
        tasks = _numbers(lives.shape[1])
        sns.heatmap(lives.mean(0), annot=True, fmt=".0f", cmap="cividis", vmin=0, vmax=100, ax=axis,
                    cbar=False, xticklabels=tasks, yticklabels=tasks, annot_kws={"size": 9})  # fmt: skip
        axis.set_title(name, fontsize=11)
        axis.tick_params(length=0, labelbottom=True, rotation=0)
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    figure.supxlabel("accuracy on task", fontsize=11)
    figure.supylabel("after learning task", fontsize=11)
    figure.suptitle(title, fontsize=12)
    figure.colorbar(axes[0, 0].collections[0], ax=axes, label="mean accuracy (%)")
    return figure


def first_task(matrices: Mapping[str, np.ndarray], title: str, *, chance: float) -> Figure:
    """Accuracy on the first task in %, while more tasks are learned, with 95 % intervals over lives.

    Methods that were not measured after the first task (joint) stand as one point at the end.

    Args:
        matrices: method -> (lives, T, T) in [0, 1], two lives or more.
        chance: accuracy of guessing, in [0, 1].
    """
    found = _lives(matrices)
    look = looks(found)
    with closing(panels([title])) as (figure, axes):
        axis = axes[title]
        for k, (name, lives) in enumerate(found.items()):
            beside = 0.07 * (k - (len(found) - 1) / 2)  # so that intervals do not hide each other
            after = np.flatnonzero(np.isfinite(lives[:, :, 0]).all(0))
            points = [report.mean(lives[:, i, 0]) for i in after]
            middle = np.array([p.mean for p in points])
            spread = [middle - [p.low for p in points], [p.high for p in points] - middle]
            axis.errorbar(
                after + 1 + beside, middle, yerr=spread, capsize=3, ms=6, label=name, **look[name]
            )
        axis.axhline(100 * chance, color="grey", ls=":", label="chance")
        axis.set(xlabel="tasks learned", ylabel="accuracy on the first task (%)", ylim=(0, 103))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(figure, [axis])
    return figure


def worth(gains: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """Accuracy of descendants, lifelong minus joint ancestor, in percentage points with 95 % intervals.

    Args:
        gains: kind of learngene -> method -> paired difference, see `lifelong.gains`.
    """
    need(gains, "difference")
    figure = differences(
        gains,
        "accuracy of the descendants, lifelong - joint ancestor\n(percentage points, 95 % interval)",
    )
    legend(figure, figure.axes)
    return figure
