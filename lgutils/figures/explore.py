"""Pictures to explore with: what a budget buys, and what a descendant says about a task's images."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lgutils.blocks import Layer
from lgutils.figures.look import HATCHES, legend, looks, need
from lgutils.figures.models import boxes

SHOWN = (4, 6)  # training and test images of each class; more would be too small on a phone


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
    tall = (0.3 + 0.5 * rows, 3.0, 0.7 + 0.3 * rows * len(shares))
    figure = plt.figure(
        figsize=(max(6.6, 1.3 + 0.55 * most), sum(tall) + 0.3), layout="constrained"
    )
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=tall)
    boxes(top.subplots(), dict.fromkeys(names, layers), names)
    blocks = [layer.name for layer in layers if layer.role == "block"]
    panels = middle.subplots(1, rows, sharex=True, sharey=True, squeeze=False)[0]
    x = (
        ("block, input at the left", np.arange(1, len(blocks) + 1.0))
        if rival is None
        else (rival[0], np.asarray(rival[1], dtype=float))
    )
    for axis, (name, marked) in zip(panels, names.items(), strict=True):
        axis.set_title(name, fontsize=11)
        _scores(axis, x[1], heights, [block in marked for block in blocks])
    panels[0].set_ylabel(heights[0], fontsize=11)
    middle.supxlabel(x[0], fontsize=11)
    _shares(bottom.subplots(), list(names), shares)
    legend(figure, [*panels, *bottom.axes])
    return figure


def _scores(axis: Axes, x: np.ndarray, heights: tuple, taken: Sequence[bool]) -> None:
    """Blocks as points with their number inside, the chosen ones as filled squares."""
    gene = looks(["learngene"])["learngene"]["color"]
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
    gene = looks(["learngene"])["learngene"]["color"]
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


def task(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], predicted: Tensor, title: str
) -> Figure:
    """A task's first images of each class, and what a descendant says about the test images.

    Wrong answers have a thick frame, a cross and the letter of the class that was named.

    Args:
        train, test: images (N, 3, H, W) uint8 and labels (N,) from 0; classes become letters.
        predicted: (N,) classes named for the test images.
    """
    ways, (left, right) = int(train[1].max()) + 1, SHOWN
    figure, axes = plt.subplots(
        ways, left + right + 1, figsize=(7, 0.85 + 0.78 * ways), squeeze=False, layout="constrained",
        gridspec_kw={"width_ratios": [1] * left + [0.3] + [1] * right},
    )  # fmt: skip
    for axis in axes.flat:
        axis.set_axis_off()
    for c in range(ways):
        axes[c, 0].text(-0.15, 0.5, chr(65 + c), transform=axes[c, 0].transAxes, fontsize=13,
                        weight="bold", ha="right", va="center")  # fmt: skip
        for axis, row in zip(axes[c, :left], _of(train[1], c), strict=False):
            _image(axis, train[0][row])
        for axis, row in zip(axes[c, left + 1 :], _of(test[1], c), strict=False):
            _image(axis, test[0][row], int(predicted[row]), right=bool(predicted[row] == c))
    axes[0, 0].set_title("learned from", fontsize=11, loc="left")
    axes[0, left + 1].set_title("tested on", fontsize=11, loc="left")
    figure.suptitle(title, fontsize=12)
    return figure


def _of(labels: Tensor, c: int) -> list[int]:
    return (labels == c).nonzero()[:, 0].tolist()


def _image(axis: Axes, image: Tensor, answer: int | None = None, *, right: bool = True) -> None:
    """One image; with an answer its letter below, and a frame and a cross if it is wrong."""
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    if answer is None:
        return
    wrong = sns.color_palette("colorblind")[3]
    mark, colour = ("✓", "0.35") if right else ("✗", wrong)
    axis.text(0.5, -0.04, f"{mark} {chr(65 + answer)}", transform=axis.transAxes, fontsize=10,
              ha="center", va="top", color=colour, weight="normal" if right else "bold")  # fmt: skip
    if not right:
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(visible=True, color=wrong, linewidth=3)
