"""Pictures to explore with: what a budget buys, and what a descendant says about a task's images."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lgutils.blocks import Layer
from lgutils.figures.arms import HATCHES, colour
from lgutils.figures.look import (
    NARROW,
    WRONG,
    album,
    legend,
    narrow,
    need,
    paste,
    responsive,
    wrapped,
)
from lgutils.figures.models import boxes

SHOWN = (4, 6)  # training and test images of each class
SHOWN_NARROW = (2, 4)


@responsive
def budgets(
    layers: Sequence[Layer],
    chosen: Mapping[int, Sequence[str]],
    heights: tuple[str, np.ndarray, np.ndarray],
    shares: Mapping[str, Sequence[float]],
    rival: tuple[str, np.ndarray] | None = None,
) -> Figure:
    """What each budget of blocks buys: the layers, their scores, the parameters that come along.

    Args:
        layers: the ancestor's integral layers, B of them blocks.
        chosen: budget -> names of the layers that it takes, stem and position included.
        heights: what the blocks were chosen by (label, means (B,), spreads (B,)); NaN: not compared.
        shares: whose parameters -> share in [0, 1] for each budget; NaN where nothing can be built.
        rival: another score (label, values (B,)) to draw along x; None for the place in the network.
    """
    need(chosen, "budget")
    names = {f"{k} block{'s' * (k > 1)}": marked for k, marked in chosen.items()}
    rows, most = len(names), len(layers)
    tall = (0.3 + (0.75 if narrow() else 0.5) * rows, 2.3 * rows if narrow() else 3.0,
            0.7 + 0.3 * rows * len(shares))  # fmt: skip
    wide = NARROW if narrow() else max(6.6, 1.3 + 0.55 * most)
    figure = plt.figure(figsize=(wide, sum(tall) + 0.3), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=tall)
    boxes(top.subplots(), dict.fromkeys(names, layers), names, {})
    blocks = [layer.name for layer in layers if layer.role == "block"]
    grid = (rows, 1) if narrow() else (1, rows)
    panels = middle.subplots(*grid, sharex=True, sharey=True, squeeze=False).flatten()
    x = (
        ("block, input at the left", np.arange(1, len(blocks) + 1.0))
        if rival is None
        else (rival[0], np.asarray(rival[1], dtype=float))
    )
    for axis, (name, marked) in zip(panels, names.items(), strict=True):
        axis.set_title(name, fontsize=11)
        _scores(axis, x[1], heights, [block in marked for block in blocks])
        if rival is None:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    middle.supylabel(wrapped(heights[0], 34), fontsize=11)
    middle.supxlabel(x[0], fontsize=11)
    _shares(bottom.subplots(), list(names), shares)
    legend(figure, [*panels, *bottom.axes])
    return figure


def _scores(axis: Axes, x: np.ndarray, heights: tuple, taken: Sequence[bool]) -> None:
    """Blocks as points with their number inside, the chosen ones as filled squares."""
    gene = colour("learngene")
    _, means, spreads = heights
    drawn = {
        "chosen": (np.array(taken), {"marker": "s", "mfc": gene, "mec": "black"}),
        "left out": (~np.array(taken), {"marker": "o", "mfc": "white", "mec": "0.5"}),
    }
    for label, (rows, look) in drawn.items():
        axis.errorbar(x[rows], means[rows], yerr=np.nan_to_num(spreads[rows]), ls="none", ms=11.5,
                      color="0.55", lw=1, capsize=2, label=label, zorder=2, **look)  # fmt: skip
    for number, place in enumerate(zip(x, means, strict=True), 1):
        if np.isfinite(place).all():
            axis.text(*place, str(number), fontsize=9, ha="center", va="center_baseline", zorder=3)
    axis.margins(0.16, 0.12)


def _shares(axis: Axes, names: Sequence[str], shares: Mapping[str, Sequence[float]]) -> None:
    """One bar a budget and owner, in %; what cannot be built says so."""
    gene = colour("learngene")
    tall = 0.8 / len(shares)
    for k, (owner, values) in enumerate(shares.items()):
        y = np.arange(len(names)) + (k - (len(shares) - 1) / 2) * tall
        percent = 100 * np.asarray(values, dtype=float)
        bars = axis.barh(y, np.nan_to_num(percent), 0.9 * tall, label=owner, lw=0,
                         color=gene, hatch=HATCHES[k], edgecolor="white")  # fmt: skip
        texts = ["does not fit" if np.isnan(v) else f"{v:.0f} %" for v in percent]
        axis.bar_label(bars, texts, padding=3, fontsize=10)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(xlim=(0, 112), xlabel="parameters inherited (%)")
    axis.set_xticks(range(0, 101, 20))


@responsive
def task(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], predicted: Tensor, title: str
) -> Figure:
    """A task's first images of each class, and what a descendant says about the test images.

    Under each test image stand the class it is of and the one it was taken for. Wrong answers have a
    thick frame and a cross.

    Args:
        train, test: images (N, 3, H, W) uint8 and labels (N,) from 0; classes become letters.
        predicted: (N,) classes named for the test images.
    """
    ways, (left, right) = int(train[1].max()) + 1, SHOWN_NARROW if narrow() else SHOWN
    top, gap, start = (1.9, 0.3, 0.55) if narrow() else (1.15, 0.5, 0.55)
    second = start + left + gap
    figure, axis = album(second + right, top + 1.36 * ways, 7)
    for c in range(ways):
        y = top + 1.36 * c
        axis.text(0.25, y + 0.45, chr(65 + c), fontsize=13, weight="bold", ha="center", va="center")
        for k, row in enumerate(_of(train[1], c)[:left]):
            paste(axis, train[0][row], start + k, y)
        for k, row in enumerate(_of(test[1], c)[:right]):
            _answer(axis, test[0][row], second + k, y, c, int(predicted[row]))
    axis.text(start, top - 0.12, "learned from", fontsize=10.5)
    axis.text(second, top - 0.12, "tested on: truth → answer", fontsize=10.5)
    figure.suptitle(wrapped(title, 40 if narrow() else 72), y=0.985, fontsize=11.5)
    axis.set(xlim=(0, second + right), ylim=(top + 1.36 * ways, 0))
    return figure


def _of(labels: Tensor, c: int) -> list[int]:
    return (labels == c).nonzero()[:, 0].tolist()


def _answer(axis: Axes, image: Tensor, x: float, y: float, truth: int, guess: int) -> None:
    """A test image with its class and the one it was taken for, and a frame around it if they differ."""
    wrong = truth != guess
    text = f"{chr(65 + truth)} → {chr(65 + guess)} {'✗' if wrong else '✓'}"
    paste(axis, image, x, y, text, wrong=wrong)
    if wrong:
        frame = plt.Rectangle((x, y), 0.9, 0.9, fill=False, edgecolor=WRONG, linewidth=3)
        axis.add_patch(frame)


@responsive
def sketches(
    learned: tuple[Tensor, Tensor],
    guessed: tuple[Tensor, Tensor],
    answers: Mapping[str, Sequence[int]],
    names: Sequence[str],
    title: str,
) -> Figure:
    """Sketches that descendants learned from, and what each takes the others for, one row a character.

    Args:
        learned, guessed: images (N, 3, H, W) uint8 and labels (N,) from 0.
        answers: descendant -> classes that it names for the guessed ones; its first letter stands there.
        names: of the characters; in the answers they are A, B and so on.
    """
    left, right = (2, 3) if narrow() else SHOWN
    top, gap, start, each = (2.2, 0.3, 1.5, 1.65) if narrow() else (1.3, 0.5, 1.9, 1.5)
    second = start + left + gap
    size = second + right, top + each * len(names)
    figure, axis = album(*size, 7)
    for c, name in enumerate(names):
        y = top + each * c
        axis.text(0.1, y + 0.45, f"{chr(65 + c)}\n{name}", fontsize=10, va="center")
        for k, row in enumerate(_of(learned[1], c)[:left]):
            paste(axis, learned[0][row], start + k, y)
        for k, row in enumerate(_of(guessed[1], c)[:right]):
            paste(axis, guessed[0][row], second + k, y)
            for line, (arm, classes) in enumerate(answers.items()):
                _guess(axis, second + k + 0.45, y + 0.92, line, arm, int(classes[row]), c)
    keys = ", ".join(f"{arm[0].upper()}: {arm}" for arm in answers)
    axis.text(start, top - 0.12, "learned from", fontsize=10)
    axis.text(second, top - 0.12, f"guessed{chr(10) if narrow() else ' '}({keys})", fontsize=10)
    axis.text(size[0] / 2, 0.1, wrapped(title, 40 if narrow() else 72), fontsize=11.5,
              ha="center", va="top")  # fmt: skip
    axis.set(xlim=(0, size[0]), ylim=(size[1], 0))
    return figure


def _guess(axis: Axes, x: float, y: float, line: int, arm: str, guess: int, truth: int) -> None:
    """One descendant's answer, on its line under a sketch."""
    right = guess == truth
    text = f"{arm[0].upper()}: {chr(65 + guess)} {'✓' if right else '✗'}"
    axis.annotate(text, (x, y), (0, -2 - 12 * line), textcoords="offset points", ha="center", va="top",
                  fontsize=8.5 if narrow() else 9.5, color="0.2" if right else WRONG,
                  weight="normal" if right else "bold")  # fmt: skip
