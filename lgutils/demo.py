"""One task learned twice, with the learngene and from scratch, while you watch: `lgutils try`."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.live import Live
from rich.text import Text

from lgutils import data, figures, files, fleet, report, scale, ship
from lgutils.data import Episode, Task
from lgutils.errors import unknown
from lgutils.fleet import jobs
from lgutils.report import Interval
from lgutils.train.loop import Each

ARMS = {"learngene": ("L", "bold yellow"), "scratch": ("s", "bold blue")}  # letter and its style
WIDE, ROWS = 60, range(100, -1, -10)  # letters along the steps; percentages
CHANCE = 0.2  # of five classes
TOLD = 5  # times that an arm is told of where nobody watches
MARK = "lgutils try"  # in the PNG's metadata: a picture of ours may be replaced

Curves = Mapping[str, Sequence[tuple[int, float]]]  # arm -> (optimiser steps, accuracy)


@dataclass(frozen=True)
class Tried:
    """A task that was learned by each arm.

    Attributes:
        title: of the ancestor's family.
        episode: the task's images.
        classes: names of its classes.
        steps: of the optimiser, for each arm.
        curves: arm -> (optimiser steps, accuracy in [0, 1]) after every epoch.
    """

    title: str
    episode: Episode
    classes: tuple[str, ...]
    steps: int
    curves: Curves


def place(out: Path | str, force: bool = False) -> Path:
    """Where the picture may be written, see `files.target`; an earlier one may be replaced."""
    try:
        with Image.open(files.expand(out)) as found:
            force = force or found.info.get("Software") == MARK
    except (OSError, ValueError):
        pass  # missing, or no picture
    return files.target(out, force=force)


def wanted(family: str, seed: int) -> dict[str, fleet.Job]:
    """A job of each arm: the same task of novel classes and fresh layers, the arm's own tuned learning rate.

    Args:
        seed: draws the task and the fresh layers.
    Raises:
        UserError: another family than those of the course.
    """
    if family not in scale.FAMILIES:
        raise unknown("family", family, scale.FAMILIES)
    base, found = ship.base_jobs()[family], {}
    for arm in ARMS:
        fit = fleet.tuned_fit(family, arm)
        job = replace(base, method=arm, fit=fit, log_at=tuple(range(1, fit.epochs + 1)))
        (found[arm],) = fleet.grid(job, task=(seed,))
    return found


def run(asked: Mapping[str, fleet.Job]) -> Tried:
    """Learn a task with each arm, on one thread, and show the curves meanwhile.

    The same jobs give the same numbers on the same machine.

    Args:
        asked: see `wanted`.
    """
    images = data.load("glyphs", progress=True)
    ready = {arm: jobs.prepare(job) for arm, job in asked.items()}
    job, episode = asked["learngene"], ready["learngene"].episode
    names = tuple(images.classes[c] for c in episode.classes)
    found = Tried(scale.TITLES[job.family], episode, names, job.fit.epochs * job.steps_per_epoch,
                  {arm: [] for arm in ARMS})  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the stored rows were made
    try:
        with watched(found) as tick:
            for arm, one in ready.items():
                jobs.trained(one, each=_entering(found.curves[arm], job.steps_per_epoch, tick))
    finally:
        torch.set_num_threads(threads)
    return found


def _entering(curve: list, steps: int, tick: Callable[[], None]) -> Each:
    def each(epoch: int, accuracy: float) -> None:
        curve.append((epoch * steps, accuracy))
        tick()

    return each


@contextmanager
def watched(tried: Tried) -> Iterator[Callable[[], None]]:
    """Gives what to call after every epoch; the last picture stays.

    In a terminal the picture moves. In a file or a pipe there is a line now and then, and it at the end.
    """
    console = Console()
    if console.is_interactive:
        with Live(picture(tried), console=console, auto_refresh=False) as live:
            yield lambda: live.update(picture(tried), refresh=True)
        return
    told = set()

    def tick() -> None:
        arm, curve = [(arm, curve) for arm, curve in tried.curves.items() if curve][-1]
        step, accuracy = curve[-1]
        if (due := (arm, step * TOLD // tried.steps)) not in told:
            told.add(due)
            print(
                f"{arm:>9}, step {step:>2} of {tried.steps}: {_percent(accuracy)} right", flush=True
            )

    yield tick
    print(picture(tried).plain)


def picture(tried: Tried) -> Text:
    """The curves in letters; a star stands where both are."""
    cells = {(round(10 * CHANCE), x): (".", "dim") for x in range(1, WIDE + 1)}
    for arm, curve in tried.curves.items():
        for step, accuracy in curve:
            at = round(10 * accuracy), step * WIDE // tried.steps
            both = cells.get(at) in [ARMS[other] for other in ARMS if other != arm]
            cells[at] = ("*", "bold") if both else ARMS[arm]
    drawn = Text("right\n")
    for percent in ROWS:
        drawn.append(f"{percent:3} % |" if percent % 20 == 0 else "      |")
        for x in range(1, WIDE + 1):
            drawn.append(*cells.get((percent // 10, x), (" ", "")))
        drawn.append(" chance\n" if percent == 100 * CHANCE else "\n")
    drawn.append(f"      +{'-' * WIDE}\n      0{'optimiser steps':^{WIDE - 2}}{tried.steps:>2}\n")
    for arm, curve in tried.curves.items():
        now = _percent(curve[-1][1]) if curve else "..."
        drawn.append(f"       {ARMS[arm][0]} {arm}: {now}", ARMS[arm][1])
    return drawn


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def evidence(family: str) -> Interval:
    """How much higher the learngene's descendants ended in the stored tasks of this kind."""
    stored = pd.read_csv(ship.results_folder() / "inherit-quick.csv")
    shape = json.dumps(ship.descendants(family)["main"], sort_keys=True)
    where = {"family": family, "dataset": "glyphs", "descendant": shape}
    return report.paired(*(fleet.accuracies(stored, method=arm, **where) for arm in ARMS))


def intro(family: str) -> str:
    """What is about to happen, in words."""
    return f"""\
An ancestor, a {scale.TITLES[family]}, has learned many characters; its learngene is {ship.BUDGET} of its layers.
Two networks of one shape now learn five characters that it has never seen, from
{Task().k_shot} images of each: one starts with the learngene, one from scratch.
"""


def told(tried: Tried, known: Interval) -> str:
    """What happened, in words, and what one task is worth."""
    gene, scratch = (_percent(tried.curves[arm][-1][1]) for arm in ARMS)
    low, high = (f"{100 * end:.0f}" for end in (known.low, known.high))
    return f"""\

After {tried.steps} steps the descendant with the learngene names {gene} of {len(tried.episode.test[1])} other images
rightly, the one from scratch {scratch}.

One task is an anecdote. Over the {known.n} stored tasks of this kind the learngene is
ahead by {100 * known.mean:.0f} points on average (95 % interval {low} to {high}). Would other layers do
as well? Does scratch catch up with more steps? The course asks: lgutils start
FOLDER, or lgutils course. The paper's four claims: lgutils replicate."""


def draw(tried: Tried) -> Figure:
    """The task's images, a row a class, and the curves beside them."""
    figures.style()
    shown, looks = 4, figures.looks(ARMS)
    figure, (left, axis) = plt.subplots(
        1, 2, figsize=(8.4, 3.8), layout="constrained", width_ratios=(shown / len(tried.classes), 1.6)
    )  # fmt: skip
    images, labels = tried.episode.train
    rows = [torch.cat(list(images[labels == c][:shown]), 2) for c in range(len(tried.classes))]
    left.imshow(torch.cat(rows, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
    left.set_title("five new classes", fontsize=11)
    left.set_axis_off()
    for arm, curve in tried.curves.items():
        steps, values = zip(*curve, strict=True)
        label = f"{arm}: {_percent(values[-1])}"
        axis.plot(steps, [100 * v for v in values], label=label, ms=5, **looks[arm])
    axis.axhline(100 * CHANCE, color="grey", ls=":", label="chance")
    axis.set(xlabel="optimiser steps", ylabel="test images right (%)", ylim=(0, 100))
    axis.set_title(f"{tried.title}, one task", fontsize=11)
    figure.legend(frameon=False, loc="outside lower right", ncols=3)
    return figure


def save(tried: Tried, out: Path) -> None:
    """Write the picture as a PNG."""
    figure = draw(tried)
    with files.atomic(out) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": MARK})
    plt.close(figure)
