"""Lifelong learning: accuracy matrices, the fate of the first task, and what the learngene is worth."""

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lgutils import report
from lgutils.errors import UserError
from lgutils.figures.arms import looks
from lgutils.figures.forests import forest
from lgutils.figures.look import (
    closing,
    entitle,
    legend,
    need,
    panels,
    responsive,
    scale,
    share_labels,
    tiles,
)
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


@responsive
def accuracy_matrices(matrices: Mapping[str, np.ndarray], title: str) -> Figure:
    """Heat maps in %, one panel a method on one scale: accuracy on each task after each task.

    Args:
        matrices: method -> (lives, T, T) in [0, 1], NaN where nothing was measured; lives are averaged.
    """
    found = _lives(matrices)
    number = max(m.shape[1] for m in found.values())
    wide = 2 if len(found) == 4 else 3
    size = (1 + 0.34 * number, 0.7 + 0.3 * number)
    figure, axes = tiles(len(found), wide, *size, sharex=True, sharey=True)
    for axis, (name, lives) in zip(axes, found.items(), strict=True):
        tasks = _numbers(lives.shape[1])
        sns.heatmap(lives.mean(0), annot=True, fmt=".0f", cmap="cividis", vmin=0, vmax=100, ax=axis,
                    cbar=False, xticklabels=tasks, yticklabels=tasks, annot_kws={"size": 9})  # fmt: skip
        axis.set_title(name, fontsize=11)
        axis.tick_params(length=0, labelbottom=True, rotation=0)
    share_labels(figure, axes, "accuracy on task", "after learning task")
    entitle(figure, title)
    scale(figure, axes, axes[0].collections[0])
    return figure


@responsive
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
        axis.axhline(100 * chance, color="grey", ls=":", label=f"chance, {100 * chance:.2g} %")
        axis.set(xlabel="tasks learned", ylabel="accuracy on the first task (%)", ylim=(0, 103))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(figure, [axis])
    return figure


def worth(gains: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """Accuracy of descendants, lifelong minus joint ancestor, in percentage points with 95 % intervals.

    Args:
        gains: kind of learngene -> method -> paired difference, see `lifelong.gains`.
    """
    return forest(
        gains,
        "accuracy of the descendants, lifelong - joint ancestor\n(percentage points, 95 % interval)",
        "lifelong ancestor better",
    )
