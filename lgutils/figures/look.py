"""One figure style for the course: colour-blind-safe, readable at 100 %, with alternative text."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from lgutils.errors import UserError

MARKERS = "o^sDv"
LINES = ("-", "--", "-.", (0, (1, 1.2)))
HATCHES = ("", "///", "...", "xxx")

NEUTRAL = "0.25"  # of what is no arm: families, differences, the layers that are left out
_ORANGE, _BLUE = "#de8f05", "#0173b2"
ARMS = {  # colour, marker, line; the hues are seaborn's colour-blind ones and Paul Tol's muted ones
    "learngene": (_ORANGE, "s", "-"),
    "scratch": (_BLUE, "o", "--"),
    "scratch, 5x steps": (_BLUE, "D", "-."),
    "patient scratch": (_BLUE, "D", "-."),
    "full fine-tune": ("#029e73", "^", "--"),
    "distillation": ("#cc78bc", "v", "-."),
    "first layers": ("#882255", "<", "--"),
    "last layers": ("#999933", ">", "-."),
    "random layers": ("#7a7a7a", "P", (0, (1, 1.2))),
    "stem only": ("#44aa99", "d", (0, (1, 1.2))),
    "shuffled": ("#332288", "X", (0, (1, 1.2))),
    "joint": ("#4d4d4d", "D", "--"),
    "fine-tuning": ("#d55e00", "v", "--"),
    "replay": ("#029e73", "^", "-."),
    "ewc": ("#cc78bc", "X", (0, (1, 1.2))),
    "growing": ("#882255", "P", "-"),
}
OTHERS = ("#117733", "#aa4499", "#56b4e9", "#8c613c", "#d55e00", "#332288", "#44aa99", "#7a7a7a")


def style() -> None:
    """Set fonts, sizes and colours for all figures that follow."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind")
    plt.rcParams.update(
        {"figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False,
         "font.family": "DejaVu Sans", "figure.constrained_layout.use": True,
         # opaque, so that dark text stays readable on a dark page
         "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white"}
    )  # fmt: skip


def show(figure: Figure, alt: str) -> None:
    """Show a figure in a notebook with alternative text for readers who cannot see it; closes it."""
    from IPython.display import display

    data = {"image/png": base64.b64encode(png(figure)).decode(), "text/plain": "<Figure>"}
    display(data, metadata={"image/png": {"alt": alt}}, raw=True)


def png(figure: Figure) -> bytes:
    """The figure as a PNG without a margin; closes it."""
    with io.BytesIO() as file:
        figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
        return file.getvalue()


def need(filled: Mapping | Sequence, what: str) -> None:
    if not filled:
        raise UserError(f"There is nothing to draw: no {what} was given.")


def panels(
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


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Arm -> colour, marker and line style: for the course's arms the same in every figure.

    What follows a bracket is no part of an arm's name ("scratch (n = 40)"). Arms that the course does not
    know get other colours than its own, in the order given.
    """
    every = list(dict.fromkeys(names))
    spare = zip(cycle(OTHERS), cycle(MARKERS), cycle(LINES))
    found = {name: ARMS.get(name.split(" (")[0]) or next(spare) for name in every}
    return {n: {"color": c, "marker": m, "ls": line} for n, (c, m, line) in found.items()}


def legend(
    figure: Figure, axes: Iterable[Axes], title: str | None = None, *, grow: bool = True
) -> None:
    """One legend under all panels, each name once; without `grow` the figure keeps its size."""
    entries = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    room = max(1, int(figure.get_figwidth() * 10 / (6 + max(map(len, entries)))))
    columns = min(len(entries), room, 4)
    lines = -(-len(entries) // columns) + (title is not None)
    if grow:  # not at the panels' expense
        figure.set_figheight(figure.get_figheight() + 0.22 * lines)
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", frameon=False,
        ncols=columns, handlelength=3, fontsize=10.5, title=title,
        title_fontsize=10.5, borderaxespad=0, borderpad=0.2,
    )  # fmt: skip


def ticks_at(axis: Axes, ticks: Sequence[float]) -> None:
    """Ticks at these places only, as plain numbers."""
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(ScalarFormatter())


@contextmanager
def closing(made: tuple[Figure, dict[str, Axes]]) -> Iterator[tuple[Figure, dict[str, Axes]]]:
    """Close the figure again if drawing it fails."""
    try:
        yield made
    except Exception:
        plt.close(made[0])
        raise
