"""Pictures of images and networks: what the models see, what they are, how they learned."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lgutils.blocks import Layer
from lgutils.figures.look import LINES, MARKERS, NEUTRAL, looks


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
    for marker, line, (name, points) in zip(
        cycle(MARKERS), cycle(LINES), curves.items(), strict=False
    ):
        epochs, values = zip(*points, strict=True)
        axis.plot(epochs, [100 * v for v in values], marker=marker, ls=line, ms=4, label=name,
                  color=NEUTRAL)  # fmt: skip
    axis.set(xlabel="epoch", ylabel="held-out accuracy (%)", ylim=(0, 100), title=title)
    axis.legend(frameon=False)
    return figure


def heat(
    tables: Mapping[str, np.ndarray],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    across: str = "pseudo-descendant layer",
) -> Figure:
    """Heat maps side by side: ancestor layers (rows, input at the top) by something `across`."""
    width = 1.6 + len(tables) * (1.2 + 0.75 * len(columns))
    figure, axes = plt.subplots(
        1, len(tables), figsize=(width, 1.5 + 0.36 * len(rows)), sharey=True
    )
    for axis, (name, table) in zip(np.atleast_1d(axes), tables.items(), strict=True):
        sns.heatmap(table, annot=True, fmt=".2f", cmap="cividis", ax=axis, cbar=False,
                    xticklabels=columns, yticklabels=rows, annot_kws={"size": 10})  # fmt: skip
        axis.set_title(name)
        axis.set_xlabel(across)
        axis.tick_params(axis="x", rotation=45 if max(map(len, columns)) > 2 else 0)
        axis.tick_params(axis="y", rotation=0)
    np.atleast_1d(axes)[0].set_ylabel("ancestor layer")
    return figure


def network(models: Mapping[str, Sequence[Layer]], marked: Mapping[str, Sequence[str]]) -> Figure:
    """Draw networks as rows of boxes, input at the left; inherited or chosen layers are hatched.

    Args:
        models: name -> its integral layers.
        marked: name -> names of the layers to mark.
    """
    most = max(len(layers) for layers in models.values())
    figure, axis = plt.subplots(figsize=(1.6 + 0.72 * most, 0.5 + 0.75 * len(models)))
    boxes(axis, models, marked)
    return figure


def boxes(
    axis: Axes, models: Mapping[str, Sequence[Layer]], marked: Mapping[str, Sequence[str]]
) -> None:
    """What `network` draws, on axes of its own: one row a model, the first at the top."""
    gene = looks(["learngene"])["learngene"]["color"]
    for y, (name, layers) in enumerate(models.items()):
        axis.text(-0.3, -y, name, ha="right", va="center")
        number = 0
        for x, layer in enumerate(layers):
            chosen = layer.name in marked.get(name, ())
            number += layer.role == "block"
            face = gene if chosen else "white"
            axis.add_patch(
                plt.Rectangle((x, -y - 0.32), 0.86, 0.64, facecolor=face, edgecolor="black",
                              hatch="//" if chosen else None, linewidth=1)
            )  # fmt: skip
            text = str(number) if layer.role == "block" else layer.role[:4].replace("posi", "pos")
            axis.text(x + 0.43, -y, text, ha="center", va="center", fontsize=10,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2})  # fmt: skip
    most = max(len(layers) for layers in models.values())
    axis.set(xlim=(-0.2, most), ylim=(-len(models) + 0.5, 0.6))
    axis.set_axis_off()
