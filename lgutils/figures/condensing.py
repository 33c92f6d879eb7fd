"""Pictures of condensing: its two levels, and lambda as it moves."""

import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgutils.errors import UserError
from lgutils.figures.look import NARROW, legend, narrow, need, responsive, tiles

CELL, GAP, LEFT, TOP = 46, 6, 34, 30  # of the moving picture, in its own units
SECONDS = 9  # of one showing; the last eighth stands still
Pairs = Sequence[Sequence[int]]


@responsive
def levels(steps: int) -> Figure:
    """The bilevel schedule: a rollout below, the pair weights above, and the slope that leads back.

    Args:
        steps: T, matching steps of a rollout.
    """
    plural = "s" * (steps != 1)
    matching = f"{steps} step{plural} of\nmatching,\nweighted by λ"
    if narrow():
        texts = [
            "θ",
            matching.replace("weighted by", "with"),
            "1 step of\nclassi-\nfying",
            "J: loss\non new\nimages",
        ]
    else:
        texts = [
            "θ\nnow",
            matching,
            "1 step of\nclassifying",
            "J: the loss\nafterwards,\non new images",
        ]
    wide, tall = (NARROW, 2.9) if narrow() else (8.4, 2.9)
    figure, axis = plt.subplots(figsize=(wide, tall), layout="none")
    axis.set(xlim=(0, wide), ylim=(-0.2, tall))
    axis.set_axis_off()
    widths = np.array([0.3, 1.0, 0.78, 0.75] if narrow() else [0.9, 1.8, 1.5, 1.8])
    gap = (wide - widths.sum()) / 3.01
    places = np.cumsum([0, *(widths[:-1] + gap)]) + widths / 2
    size, high = (8.5, 0.95) if narrow() else (10.5, 0.95)
    for text, x, width in zip(texts, places, widths, strict=True):
        _box(axis, text, x, 0.6, width, high, size)
    for k in range(3):
        start, end = places[k] + widths[k] / 2, places[k + 1] - widths[k + 1] / 2
        _arrow(axis, (start, 0.6), (end, 0.6))
    above = tall - 0.65
    weights = "λ: a weight\nfor each pair" if narrow() else "λ: a weight for each pair"
    _box(axis, weights, places[1], above, 1.2 if narrow() else 2.5, 0.5, size)
    _arrow(axis, (places[1], above - 0.25), (places[1], 0.6 + high / 2))
    right = places[1] + (0.6 if narrow() else 1.25)
    _arrow(axis, (places[3], 0.6 + high / 2), (right, above), bent=True, ls="--")
    axis.text(
        (right + places[3]) / 2, above + 0.12, "dJ/dλ moves λ" if narrow() else "the slope dJ/dλ moves λ",
        ha="center", va="bottom", fontsize=size,
    )  # fmt: skip
    for text, y in (("outer level", tall - 0.2), ("inner level: a rollout", -0.16)):
        axis.text(0, y, text, ha="left", va="bottom", fontsize=size, style="italic", color="0.35")
    return figure


def _box(
    axis: Axes, text: str, x: float, y: float, width: float, height: float, size: float
) -> None:
    corner = (x - width / 2, y - height / 2)
    axis.add_patch(plt.Rectangle(corner, width, height, fc="white", ec="black", clip_on=False))
    axis.text(x, y, text, ha="center", va="center", fontsize=size)


def _arrow(axis: Axes, start: tuple, end: tuple, *, bent: bool = False, ls: str = "-") -> None:
    style = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "color": "0.25", "lw": 1.6, "ls": ls}
    if bent:
        style["connectionstyle"] = "angle,angleA=90,angleB=0,rad=6"
    axis.annotate("", end, start, arrowprops=style)


@responsive
def plane(
    paths: Mapping[str, np.ndarray], teachers: Mapping[str, Sequence[float]], goal: Sequence[float]
) -> Figure:
    """The toy of a rollout: how a point in the plane walks towards teachers, and how near to the goal b it gets.

    Args:
        paths: name -> (steps + 1, 2) points; two at most.
        teachers: name -> point.
        goal: b; rings around it are lines of equal J.
    """
    figure, axis = plt.subplots(figsize=(NARROW, 2.6) if narrow() else (5.6, 3.4))
    for radius in np.arange(0.4, 2.5, 0.4):
        axis.add_patch(plt.Circle(goal, radius, fill=False, color="0.85"))
    for (name, points), look in zip(paths.items(), ("-o", "--s"), strict=False):
        axis.plot(*np.asarray(points).T, look, color="0.25", ms=5, mfc="white", label=name)
    for name, point in {**teachers, "b": goal}.items():
        axis.plot(*point, "*" if name == "b" else "^", color="black", ms=10)
        axis.annotate(name, point, (8, 4), textcoords="offset points")
    axis.set(xlabel="θ, first coordinate", ylabel="θ, second coordinate", aspect="equal",
             xlim=(-1.3, 1.5), ylim=(-0.3, 1.3))  # fmt: skip
    legend(figure, [axis])
    return figure


@responsive
def moments(trace: np.ndarray, pairs: Pairs, at: Sequence[int], title: str) -> Figure:
    """Lambda at some iterations, as heat maps on one scale whose middle is 1, where all pairs start.

    Args:
        trace: (iterations, pairs) lambda.
        pairs: (m, n) of each column.
        at: iterations to show, counted from 0.
    """
    need(at, "iteration")
    tables = [table(trace[i], pairs) for i in at]
    most = max(0.01, *(float(np.nanmax(abs(t - 1))) for t in tables))
    rows, columns = tables[0].shape
    figure, axes = tiles(len(at), len(at), 0.5 + 0.62 * columns, 1.0 + 0.36 * rows, few=2, sharey=True)  # fmt: skip
    for axis, i, found in zip(axes, at, tables, strict=True):
        sns.heatmap(
            found, ax=axis, cmap="PRGn", vmin=1 - most, vmax=1 + most, annot=True, fmt=".2f", cbar=False,
            annot_kws={"size": 9}, xticklabels=_numbers(columns), yticklabels=_numbers(rows),
        )  # fmt: skip
        axis.set_title(f"iteration {i + 1}", fontsize=11)
        axis.tick_params(axis="y", rotation=0)
        axis.tick_params(length=0)
    figure.supxlabel("block of the pseudo-descendant", fontsize=11)
    figure.supylabel("ancestor block", fontsize=11)
    figure.suptitle(title, fontsize=12)
    return figure


def table(values: np.ndarray, pairs: Pairs) -> np.ndarray:
    """(M, N) table of one value a pair; NaN where a pair was not compared."""
    size = np.max(np.asarray(pairs), axis=0) + 1
    found = np.full(size, np.nan)
    found[tuple(np.asarray(pairs).T)] = values
    return found


def _numbers(n: int) -> list[str]:
    return [str(i + 1) for i in range(n)]


@dataclass(frozen=True, repr=False)
class Moving:
    """An animated picture as HTML and SVG that starts when its box is ticked; it needs no script."""

    markup: str
    alt: str

    def __repr__(self) -> str:
        return self.alt

    def _repr_html_(self) -> str:
        return self.markup


def moving(trace: np.ndarray, pairs: Pairs, alt: str) -> Moving:
    """Lambda of every pair along the iterations: a bar that grows above or hangs below 1.

    Args:
        trace: (iterations, pairs) lambda, two iterations or more.
        pairs: (m, n) of each column.
        alt: what is to be seen, for readers who cannot see it.
    Raises:
        UserError: fewer than two iterations, or pairs of another number.
    """
    trace = np.asarray(trace, dtype=float)
    if len(trace) < 2 or trace.shape[1:] != (len(pairs),):
        raise UserError(
            f"A trace of shape {trace.shape} was given for {len(pairs)} pairs; two iterations or more, each with "
            "one value a pair, are expected."
        )
    content = repr((trace.tolist(), np.asarray(pairs).tolist(), alt))
    own = f"lgm-{hashlib.sha256(content.encode()).hexdigest()[:8]}"  # its names on a page
    blocks, slots = np.max(np.asarray(pairs), axis=0) + 1
    heights = (trace - 1) / max(0.01, abs(trace - 1).max())  # -1 to 1
    rules, shapes = [], []
    for k, (m, n) in enumerate(pairs):
        x, y = LEFT + m * (CELL + GAP), TOP + n * (CELL + GAP)
        shapes.append(_cell(f"{own}-{k}", x, y))
        rules.append(f"@keyframes {own}-{k}{{{_frames('scaleY', heights[:, k])}}}")
    wide = LEFT + blocks * (CELL + GAP)
    line = TOP + slots * (CELL + GAP) + 8
    rules.append(f"@keyframes {own}-t{{{_frames('scaleX', np.linspace(0, 1, len(trace)))}}}")
    texts = [_text(LEFT + (wide - LEFT) / 2, 11, "ancestor block")]
    texts += [_text(LEFT + m * (CELL + GAP) + CELL / 2, 25, m + 1) for m in range(blocks)]
    texts += [_text(24, TOP + n * (CELL + GAP) + CELL / 2 + 4, n + 1) for n in range(slots)]
    middle = TOP + slots * (CELL + GAP) / 2
    turned = f' transform="rotate(-90 9 {middle:g})"'
    texts.append(_text(9, middle + 4, "small model's block", turned))
    texts.append(_text(LEFT + (wide - LEFT) / 2, line + 20, f"meta-iteration 1 to {len(trace)}"))
    bar = (
        f'<rect x="{LEFT}" y="{line}" width="{wide - LEFT - GAP}" height="4" fill="currentColor" opacity=".2"/>'
        f'<rect class="lgm" style="animation-name:{own}-t;transform-origin:left" x="{LEFT}" y="{line}" '
        f'width="{wide - LEFT - GAP}" height="4" fill="currentColor"/>'
    )
    picture = (
        f'<svg viewBox="0 0 {wide} {line + 28}" role="img" aria-label="{html.escape(alt)}" '
        f'style="display:block;width:100%;font:12px sans-serif">{"".join(shapes)}{"".join(texts)}{bar}</svg>'
    )
    button = (
        f'<input type="checkbox" id="{own}"> <label for="{own}" style="cursor:pointer">'
        "<b>Play</b> (untick to pause)</label>"
    )
    rules.append(f"#{own}:checked~svg .lgm{{animation-play-state:running}}")
    style = f"<style>{STYLE}{''.join(rules)}</style>"
    return Moving(f'<div style="max-width:30rem">{style}{button}{picture}</div>', alt)


STYLE = (
    f".lgm{{transform-box:fill-box;transform-origin:50% 100%;animation:{SECONDS}s linear -{SECONDS * 0.999:g}s "
    "infinite paused}"
)


def _frames(what: str, values: np.ndarray) -> str:
    """Key frames of one value an iteration; the last one stays for an eighth of the time."""
    at = np.linspace(0, 87.5, len(values))
    return "".join(f"{p:.4g}%{{transform:{what}({v:.3f})}}" for p, v in zip(at, values)) + (
        f"100%{{transform:{what}({values[-1]:.3f})}}"
    )


def _cell(name: str, x: float, y: float) -> str:
    """A frame, its middle line, where lambda is 1, and the bar that the key frames of this name move."""
    middle = y + CELL / 2
    return (
        f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="none" stroke="currentColor" opacity=".35"/>'
        f'<path d="M{x} {middle:g}h{CELL}" stroke="currentColor" opacity=".5"/>'
        f'<rect class="lgm" style="animation-name:{name}" x="{x + 13}" y="{y + 2}" width="20" '
        f'height="{CELL / 2 - 2:g}" fill="currentColor"/>'
    )


def _text(x: float, y: float, text: object, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="currentColor"{more}>{text}</text>'
