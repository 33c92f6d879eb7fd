"""One figure style for the course: readable at 100 % on wide and narrow screens, with alternative text."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from textwrap import wrap

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from torch import Tensor

from lgutils.errors import UserError

NARROW = 3.6  # inches: a phone's column of 360 pixels
WRONG = "#b03060"  # of what a model gets wrong: no arm's colour


def style() -> None:
    """Set fonts, sizes and colours for all figures that follow."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind")
    plt.rcParams.update(
        {"figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False,
         "font.family": "DejaVu Sans", "figure.constrained_layout.use": True,
         # opaque, so that dark text stays readable on a dark page
         "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white"}
    )  # fmt: skip


def responsive(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let what `draw` gives have another form: `figure.narrow()` draws it again, for a phone."""

    @wraps(draw)
    def wide(*args, **kwargs) -> Figure:
        figure = draw(*args, **kwargs)
        figure.narrow = partial(_narrowed, draw, *args, **kwargs)
        return figure

    return wide


def _narrowed(draw: Callable[..., Figure], *args, **kwargs) -> Figure:
    small = {
        "axes.labelsize": 10,
        "axes.titlesize": 11,
        "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5,
    }
    with plt.rc_context({"figure.figsize": (NARROW, NARROW), **small}):
        return draw(*args, **kwargs)


def narrow() -> bool:
    """Whether a figure is being drawn for a phone."""
    return plt.rcParams["figure.figsize"][0] <= NARROW


def need(filled: Mapping | Sequence, what: str) -> None:
    if not filled:
        raise UserError(f"There is nothing to draw: no {what} was given.")


def tiles(
    number: int, wide: int, width: float, height: float, *, few: int = 1, **shared
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels, at most `wide` in a row.

    Args:
        width, height: of one panel in inches; on a phone the figure has the screen's width.
        few: in a row on a phone.
        shared: for `plt.subplots`, such as sharey=True.
    """
    wide = min(few if narrow() else wide, number)
    tall = -(-number // wide)
    size = (NARROW if narrow() else wide * width, tall * height)
    figure, axes = plt.subplots(
        tall, wide, figsize=size, squeeze=False, layout="constrained", **shared
    )
    for axis in axes.flat[number:]:
        axis.remove()
    for column in range(wide):  # also where the last row is not full
        axes.flat[number - 1 - column].tick_params(labelbottom=True)
    return figure, list(axes.flat[:number])


def panels(names: Iterable[str]) -> tuple[Figure, dict[str, Axes]]:
    """Axes by name with one y axis: side by side, or below each other on a phone; one alone is wider."""
    names = list(names)
    width = 5.6 if len(names) == 1 else 3.7
    figure, axes = tiles(len(names), len(names), width, 2.6 if narrow() else 3.3, sharey=True)
    for axis, name in zip(axes, names, strict=True):
        axis.set_title(name, fontsize=11)
    return figure, dict(zip(names, axes, strict=True))


def share_labels(figure: Figure, axes: Sequence[Axes], x: str, y: str) -> None:
    """One label for all x axes, and one for all y axes."""
    figure.supylabel(wrapped(y, int(10 * figure.get_figheight())), fontsize=11)
    if narrow():  # under the panels, not under the bar of colours
        axes[-1].set_xlabel(x, fontsize=11)
    else:
        figure.supxlabel(x, fontsize=11)


def album(wide: float, tall: float, inches: float) -> tuple[Figure, Axes]:
    """Axes for images of side 0.9 on a sheet that is `wide` x `tall` of them, see `paste`.

    Args:
        inches: width of the sheet; on a phone it has the screen's.
    """
    inches = NARROW if narrow() else inches
    figure = plt.figure(figsize=(inches, inches / wide * tall), layout="none")
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(tall, 0))
    axis.set_axis_off()
    return figure, axis


def paste(axis: Axes, image: Tensor, x: float, y: float, *lines: str, wrong: bool = False) -> None:
    """An image (3, H, W) with its upper left corner at (x, y), and lines of text under it.

    What is wrong has its last line in another colour.
    """
    axis.imshow(
        image.permute(1, 2, 0).numpy(), extent=(x, x + 0.9, y + 0.9, y), interpolation="nearest"
    )
    for k, line in enumerate(lines):
        last = wrong and k == len(lines) - 1
        axis.annotate(line, (x + 0.45, y + 0.92), (0, -2 - 12 * k), textcoords="offset points",
                      ha="center", va="top", fontsize=8.5 if narrow() else 9.5,
                      color=WRONG if last else "0.2", weight="bold" if last else "normal")  # fmt: skip


def scale(figure: Figure, axes: Sequence[Axes], image: ScalarMappable) -> None:
    """One bar of colours for accuracies in %: at the right, or on a phone at the foot."""
    foot = 0.5 / figure.get_figheight()
    at = {"orientation": "horizontal", "shrink": 0.8, "fraction": foot} if narrow() else {}
    figure.colorbar(image, ax=axes, **at).set_label("mean accuracy (%)", fontsize=10)


def ylabel(axes: Iterable[Axes], text: str) -> None:
    """Label the y axis that panels share: at the first, or at each where they stand below each other."""
    axes = list(axes)
    for axis in axes if narrow() else axes[:1]:
        axis.set_ylabel(text)


def entitle(figure: Figure, text: str) -> None:
    """A title no wider than the figure."""
    figure.suptitle(wrapped(text, 40 if narrow() else 72), fontsize=12)


def wrapped(text: str, most: int) -> str:
    """The text in as few lines of at most `most` letters as can be, all of about one length.

    A number stays with its %, a minus with what it is between, and percentage points stay together.
    """
    lines = []
    for line in re.sub(
        r"(?<=\d) (?=%)| (?=- )|(?<= -) |(?<=percentage) ", "\xa0", text
    ).splitlines():
        few = len(wrap(line, most))
        lines += next(cut for width in range(1, most + 1) if len(cut := wrap(line, width)) <= few)
    return "\n".join(lines).replace("\xa0", " ")


def legend(
    figure: Figure, axes: Iterable[Axes], title: str | None = None, *, grow: bool = True
) -> None:
    """One legend under all panels, each name once; without `grow` the figure keeps its size."""
    entries = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    room = max(1, int(figure.get_figwidth() * 10.5 / (6 + max(map(len, entries)))))
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
