"""The pictures of README, site and docs, from stored results and notebooks: `lgutils ship pictures`."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from lgutils import (
    blocks,
    data,
    figures,
    files,
    inherit,
    learngene,
    replicate,
    report,
    sections,
    ship,
)
from lgutils.ancestry import Ancestor, shipped_path
from lgutils.data import Task
from lgutils.figures.look import ticks_at

THUMBNAIL = (320, 200)  # pixels
STEPS = (2, 10, 40, 200)
SIZE = 15  # of the hero's letters, still readable at the width of a phone
LABELS = {
    "learngene": "with a learngene",
    "scratch": "from scratch",
    "scratch, 5x steps": "from scratch, five times the steps",
}


def hero(results: Path) -> Figure:
    """Learning curves of descendants with a learngene and from scratch, under the images of one task.

    Args:
        results: folder of a replication.
    """
    found = sections.learning(replicate.load(results).of("glyphs"))
    sizes = dict.fromkeys(("axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize",
                           "legend.fontsize"), SIZE)  # fmt: skip
    with plt.rc_context(sizes):
        figure = plt.figure(figsize=(7.4, 5.6), layout="constrained")
        images, lines = figure.subfigures(2, 1, height_ratios=(1, 4.8))
        _strip(images.subplots())
        axes = lines.subplots(1, 2, sharey=True)
        for axis, (family, arms) in zip(axes, found.items(), strict=True):
            _curves(axis, family, arms)
        axes[0].set_ylabel("accuracy (%)")
        lines.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center",
                     frameon=False, handlelength=2.6)  # fmt: skip
    return figure


def _strip(axis: Axes) -> None:
    """The training images of the first task, its five characters side by side in groups of two rows."""
    task, split = Task(), data.split("glyphs")
    shots, _ = task.draw(data.load("glyphs"), split.novel).train
    groups = []
    for images in shots.view(task.n_way, task.k_shot, *shots.shape[1:]):
        rows = [torch.cat(list(row), 2) for row in images.chunk(2)]
        groups.append(F.pad(torch.cat(rows, 1), (0, 10), value=255))
    axis.imshow(torch.cat(groups, 2)[..., :-10].permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.set_title("five new characters, ten images of each")
    axis.set_axis_off()


def _curves(axis: Axes, family: str, arms: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Mean accuracy over tasks with its 95 % interval as a band."""
    for (name, (steps, values)), look in zip(arms.items(), figures.looks(arms).values()):
        found = [report.mean(column) for column in values.T]
        axis.plot(
            steps, 100 * values.mean(0), lw=2.6, ms=6, label=LABELS[name.split(" (")[0]], **look
        )
        axis.fill_between(steps, [100 * i.low for i in found], [100 * i.high for i in found],
                          color=look["color"], alpha=0.2, lw=0)  # fmt: skip
    axis.axhline(20, color="0.45", ls=":", lw=1.6)
    axis.text(200, 17, "guessing", color="0.35", ha="right", va="top", fontsize=SIZE)
    axis.set_title(family, loc="left")
    axis.set(xscale="log", ylim=(6, 102), xlabel="optimiser steps")
    ticks_at(axis, STEPS)


def lineage() -> Figure:
    """The CNN ancestor, its learngene, and three descendants."""
    ancestor = Ancestor.load(shipped_path("cnn"))
    gene = learngene.extract(ancestor, ship.chosen("cnn"))
    drawn = {"ancestry model": blocks.layers(ancestor.model)}
    marked, origins = {"ancestry model": [layer.name for layer in gene.layers]}, {}
    for depth, shape in ship.descendants("cnn").items():
        heir = inherit.inherit(gene, num_classes=5, **shape)
        drawn[f"descendant ({depth})"] = blocks.layers(heir.model)
        origins[f"descendant ({depth})"] = heir.origins
    return figures.network(drawn, marked, origins)


def thumbnail(notebook: Path) -> Image.Image | None:
    """A chapter's main figure in little: of the first cell tagged "thumbnail", else its first figure.

    Only what is stored counts, and of a tall figure its top; None where the chapter shows no figure.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    cells.sort(key=lambda cell: "thumbnail" not in cell["metadata"].get("tags", ()))
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
    shown = next((data["image/png"] for data in outputs if "image/png" in data), None)
    if shown is None:
        return None
    with Image.open(io.BytesIO(base64.b64decode(shown))) as whole:
        top = whole.convert("RGB").crop((0, 0, whole.width, min(whole.height, whole.width)))
        small = ImageOps.pad(top, THUMBNAIL, Image.Resampling.LANCZOS, color="white")
    return small.quantize(128)


def draw(root: Path) -> None:
    """Write docs/hero.png, docs/learngene.png and a thumbnail of every chapter."""
    figures.style()
    pictures = {"hero": hero(root / "results" / "glyphs-quick"), "learngene": lineage()}
    for name, figure in pictures.items():
        with io.BytesIO() as file, files.atomic(root / "docs" / f"{name}.png") as temporary:
            figure.savefig(file, format="png", dpi=150)
            _save(Image.open(file).convert("RGB").quantize(256), temporary)
        plt.close(figure)
    for notebook in sorted(root.glob("notebooks/[0-9]*.ipynb")):
        if picture := thumbnail(notebook):
            target = root / "docs" / "thumbs" / f"{notebook.stem.split('_')[0]}.png"
            with files.atomic(target) as temporary:
                _save(picture, temporary)


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, format="png", optimize=True)
