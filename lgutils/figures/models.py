"""Pictures of images and networks: what the models see, what they are, how they learned."""

from collections.abc import Collection, Mapping, Sequence
from itertools import count, cycle

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from lgutils.blocks import Layer
from lgutils.figures.arms import LINES, MARKERS, NEUTRAL, colour
from lgutils.figures.look import (
    NARROW,
    album,
    entitle,
    legend,
    narrow,
    need,
    paste,
    responsive,
    tiles,
)

Origins = Mapping[str, str | Sequence[str]]  # layer -> the ancestor's layer, or layers


@responsive
def mosaic(rows: Mapping[str, Tensor], *, per_row: int = 12, scale: float = 0.62) -> Figure:
    """Rows of images, each row with a name; on a phone each row is cut into lines of at most six.

    Args:
        rows: name -> (N, 3, H, W) uint8.
    """
    wide = -(-per_row // -(-per_row // 6)) if narrow() else per_row
    lines = -(-per_row // wide)
    size = (NARROW, len(rows) * (0.35 + lines * NARROW / wide)) if narrow() else (
        wide * scale, len(rows) * scale * 1.15
    )  # fmt: skip
    figure, axes = plt.subplots(len(rows), 1, figsize=size, squeeze=False, layout="constrained")
    for axis, (name, images) in zip(axes.flat, rows.items(), strict=True):
        axis.imshow(_tiled(images[:per_row], wide), interpolation="nearest")
        if narrow():
            axis.set_title(name, loc="left")
        else:
            axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.set(xticks=[], yticks=[])
        sns.despine(ax=axis, left=True, bottom=True)
    return figure


def _tiled(images: Tensor, wide: int) -> np.ndarray:
    """Images (N, 3, H, W) in lines of `wide`, as one picture; what is missing is white."""
    missing = -len(images) % wide
    images = torch.cat([images, images.new_full((missing, *images.shape[1:]), 255)])
    lines = [torch.cat(list(line), 2) for line in images.split(wide)]
    return torch.cat(lines, 1).permute(1, 2, 0).numpy()


@responsive
def mistakes(images: Tensor, truth: Sequence[str], guess: Sequence[str]) -> Figure:
    """Images with what they are and what a model took them for.

    Args:
        images: (N, 3, H, W) uint8.
        truth, guess: N names each.
    """
    need(truth, "image")
    wide = 3 if narrow() else 6
    figure, axis = album(wide, 1.32 * -(-len(images) // wide), 6.6)
    for k, (image, is_one, taken_for) in enumerate(zip(images, truth, guess, strict=True)):
        under = f"is {is_one}", f"taken for {taken_for}"
        paste(axis, image, k % wide + 0.05, 1.32 * (k // wide), *under, wrong=True)
    axis.set(xlim=(0, wide), ylim=(1.32 * -(-len(images) // wide), 0))
    return figure


@responsive
def learning_curves(curves: Mapping[str, Sequence[tuple[int, float]]], title: str) -> Figure:
    """Held-out accuracy in % against epochs, one line a name; names are no arms and have no colours."""
    figure, axis = plt.subplots(figsize=(NARROW if narrow() else 6.5, 3.3), layout="constrained")
    for marker, line, (name, points) in zip(
        cycle(MARKERS), cycle(LINES), curves.items(), strict=False
    ):
        epochs, values = zip(*points, strict=True)
        axis.plot(epochs, [100 * v for v in values], marker=marker, ls=line, ms=5, label=name,
                  color=NEUTRAL, mfc="white")  # fmt: skip
    axis.set(xlabel="epoch", ylabel="held-out accuracy (%)", ylim=(0, 102))
    entitle(figure, title)
    legend(figure, [axis])
    return figure


@responsive
def heat(
    tables: Mapping[str, np.ndarray],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    across: str = "pseudo-descendant layer",
) -> Figure:
    """Heat maps side by side: ancestor layers (rows, input at the top) by something `across`."""
    size = (1.4 + 0.75 * len(columns), 1.3 + 0.36 * len(rows))
    letters = min(9, 58 / len(columns)) if narrow() else 10
    figure, axes = tiles(len(tables), len(tables), *size, sharey=True)
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        sns.heatmap(table, annot=True, fmt=".2f", cmap="cividis", ax=axis, cbar=False,
                    xticklabels=columns, yticklabels=rows, annot_kws={"size": letters})  # fmt: skip
        axis.set_title(name)
        axis.set_xlabel(across)
        axis.tick_params(axis="x", rotation=45 if max(map(len, columns)) > 5 else 0)
        axis.tick_params(axis="y", rotation=0)
    axes[0].set_ylabel("ancestor layer")
    return figure


@responsive
def network(
    models: Mapping[str, Sequence[Layer]],
    marked: Mapping[str, Collection[str]],
    origins: Mapping[str, Origins] | None = None,
) -> Figure:
    """Draw networks as rows of boxes, input at the left; inherited or chosen layers are hatched.

    Args:
        models: name -> its integral layers; with `origins` the ancestor comes first.
        marked: name -> names of the layers to mark.
        origins: name -> layer -> the ancestor's layer whose weights it takes (see `Descendant.origins`):
            it is marked, an arrow leads to it, and it keeps the number it has in the ancestor. Where a
            list of layers stands instead, it imitates them, and a dashed arrow comes from each.
    """
    most, rows = max(map(len, models.values())), len(models)
    tall = (0.56 if narrow() else 0.75) * _span(rows, bool(origins))
    figure, axis = plt.subplots(figsize=(NARROW if narrow() else 1.6 + 0.72 * most, tall + 0.1))
    boxes(axis, models, marked, origins or {})
    return figure


def _pitch(linked: bool) -> float:
    """From one row of boxes to the next, in units of which a box has 0.64: room for arrows, and for names."""
    return (1.5 if linked else 1.0) + (0.4 if narrow() else 0)


def _span(rows: int, linked: bool) -> float:
    """Height of all rows in the same units; on a phone their names stand above or below them."""
    return 0.8 + _pitch(linked) * (rows - 1) + (0.4 * (1 + linked) if narrow() else 0)


def boxes(
    axis: Axes,
    models: Mapping[str, Sequence[Layer]],
    marked: Mapping[str, Collection[str]],
    origins: Mapping[str, Origins],
) -> None:
    """What `network` draws, on axes of its own."""
    ancestor = next(iter(models.values()))
    place, texts = {layer.name: x for x, layer in enumerate(ancestor)}, _labels(ancestor)
    for row, (name, layers) in enumerate(models.items()):
        y, sources = -_pitch(bool(origins)) * row, origins.get(name, {})
        taken = {layer: source for layer, source in sources.items() if isinstance(source, str)}
        own = _labels(layers, numbered=not taken)
        _name(axis, y, name, below=name in origins)
        for x, layer in enumerate(layers):
            text = texts[taken[layer.name]] if layer.name in taken else own[layer.name]
            _box(axis, x, y, text, {*marked.get(name, ()), *taken} & {layer.name})
            for source in np.atleast_1d(sources.get(layer.name, [])):
                beside = 0.16 * (row - len(models) / 2) if layer.name in taken else 0
                _arrow(axis, (place[source], 0), (x, y), beside, solid=layer.name in taken)
    top = 0.8 if narrow() else 0.4
    axis.set_xlim(-0.1, max(map(len, models.values())) - 0.04)
    axis.set_ylim(top - _span(len(models), bool(origins)), top)
    axis.set_axis_off()


def _name(axis: Axes, y: float, name: str, *, below: bool) -> None:
    """A row's name at its left, or on a phone above or below it."""
    if not narrow():
        axis.text(-0.3, y, name, ha="right", va="center")
    else:
        axis.text(0, y + (-0.58 if below else 0.56), name, va="center", fontsize=10,
                  path_effects=[withStroke(linewidth=3, foreground="white")])  # fmt: skip


def _labels(layers: Sequence[Layer], *, numbered: bool = True) -> dict[str, str]:
    """What stands in each layer's box: blocks are counted from the input, if at all."""
    found, numbers = {}, count(1)
    for layer in layers:
        if layer.role == "block":
            found[layer.name] = str(next(numbers)) if numbered else ""
        else:
            found[layer.name] = layer.role[:4].replace("posi", "pos")
    return found


def _box(axis: Axes, x: float, y: float, text: str, marked: Collection[str]) -> None:
    axis.add_patch(
        plt.Rectangle((x, y - 0.32), 0.86, 0.64, facecolor=colour("learngene") if marked else "white",
                      edgecolor="black", hatch="//" if marked else None, linewidth=1)
    )  # fmt: skip
    if text:
        slim = narrow() and len(text) > 2
        axis.text(x + 0.43, y, text, ha="center", va="center", fontsize=8 if slim else 10,
                  rotation=90 if slim else 0,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1 if slim else 1.2})  # fmt: skip


def _arrow(axis: Axes, start: tuple, end: tuple, beside: float, *, solid: bool) -> None:
    """From the lower edge of one box to the upper edge of another, behind the boxes between.

    Args:
        start, end: left middle of the boxes.
        beside: how far from the boxes' middle, so that arrows to several rows are told apart.
    """
    look = {"color": colour("learngene"), "lw": 1.8, "mutation_scale": 15} if solid else {
        "color": "0.5", "lw": 1, "ls": "--"
    }  # fmt: skip
    middle = 0.43 + beside
    axis.annotate(
        "", (end[0] + middle, end[1] + 0.33), (start[0] + middle, start[1] - 0.32), zorder=0,
        arrowprops={"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, **look},
    )  # fmt: skip
