"""One figure style for the course: colour-blind-safe, readable at 100 %, with alternative text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from lgutils.errors import UserError

MARKERS = "os^Dv"


LINES = ("-", "--", "-.", (0, (1, 1.2)))


HATCHES = ("", "///", "...", "xxx")


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
    """Show a figure in a notebook with alternative text for readers who cannot see it."""
    from IPython.display import display

    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


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


def looks_of(groups: Mapping[str, Mapping]) -> dict[str, dict]:
    """Arm -> colour, marker and line style, the same in every panel and in any two panels."""
    names = list(dict.fromkeys(arm for arms in groups.values() for arm in arms))
    palette = sns.color_palette("colorblind")
    colours = [palette[k] for k in (0, 1, 2, 3, 4, 9, 5, 7)]  # the pale ones are hard to see
    looks = zip(names, cycle(colours), cycle(MARKERS), cycle(LINES))
    return {name: {"color": c, "marker": m, "ls": line} for name, c, m, line in looks}


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
