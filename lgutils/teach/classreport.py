"""How a class did: totals, the tasks that went wrong most often and why, what is left to look at."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lgutils import __version__, figures, page
from lgutils.errors import UserError
from lgutils.teach.classroom import enter
from lgutils.teach.grade import UNANSWERED
from lgutils.teach.records import Record, Row, rows
from lgutils.teach.tables import points
from lgutils.train import Score

MESSAGES = 2  # of a task, the most frequent ones
LENGTH = 160  # characters of a message


def report(
    names: Iterable[str] = (),
    folder: Path | str = "teaching",
    *,
    with_names: bool = False,
    masters: Mapping[str, Path] | None = None,
) -> Path:
    """Write report.html and report.md into the teacher's folder.

    Args:
        names: assignments; none for all that were graded.
        with_names: add a table of the students; without it no student is named.
        masters: assignment -> instructor's notebook; None for the course's own.
    Returns:
        report.html.
    Raises:
        UserError: an unknown assignment, or nothing was graded.
    """
    room = enter(folder, masters)
    chosen = room.choose(names)
    graded = rows(room, chosen)
    if not with_names:
        graded = _nameless(graded, room.students())
    ran = [row for row in graded if not row.record.unrun]
    if not ran:
        raise UserError(
            f"Nothing was graded in {room.folder} for {', '.join(chosen)}. Run `lgutils teach grade` first."
        )
    figures.style()
    groups = {name: [row for row in ran if row.assignment == name] for name in chosen}
    groups = {name: group for name, group in groups.items() if group}
    sections = [_overview(groups, len(graded) - len(ran))]
    sections += [_assignment(name, group) for name, group in groups.items()]
    sections += [_notices(graded), *_left_out(room.left_out(), with_names)]
    if with_names:
        sections.append(_students(graded))
    origin = {"lgutils": __version__, "date": date.today(), "submissions": len(graded)}
    page.write(room.folder, "How the class did", sections, None, origin)
    return room.folder / "report.html"


def _nameless(graded: list[Row], students: set[str]) -> list[Row]:
    """The rows with STUDENT for every student id in flags and messages."""
    ids = "|".join(map(re.escape, sorted(students, key=len, reverse=True)))
    known = re.compile(rf"(?<![^\W_])(?:{ids})(?![^\W_])")

    def hidden(record: Record) -> Record:
        flags = tuple(known.sub("STUDENT", flag) for flag in record.flags)
        messages = {task: known.sub("STUDENT", told) for task, told in record.messages.items()}
        return replace(record, flags=flags, messages=messages)

    return [replace(row, record=hidden(row.record)) for row in graded]


def _overview(groups: Mapping[str, list[Row]], unrun: int) -> page.Section:
    table = pd.DataFrame(
        {
            "assignment": name,
            "submissions": len(group),
            "median": float(np.median([row.total for row in group])),
            "middle half": "{:g} to {:g}".format(*_quartiles(group)),
            "points to get": group[0].maximum,
            "to look at by hand": sum(bool(row.pending) for row in group),
            "worth nothing until looked at": sum(row.record.suspect for row in group),
        }
        for name, group in groups.items()
    )
    text = (
        "Points as the gradebook has them now: given by hand where somebody did, else by the tests. "
        "What is still to look at counts 0 so far."
    )
    if unrun:
        text += f" Left out: {unrun} that this computer could not run; `lgutils teach grade` tries again."
    return page.Section("All assignments", [text], (), [("Totals of the submissions", table)])


def _quartiles(group: list[Row]) -> np.ndarray:
    return np.percentile([row.total for row in group], [25, 75])


def _assignment(name: str, group: list[Row]) -> page.Section:
    """Totals and tasks of one assignment; what is suspect or did not run says nothing about tasks."""
    told = [row for row in group if not row.record.suspect and row.record.seconds != 0]
    pictures = [_totals(name, group)]
    left = len(group) - len(told)
    text = [f"n = {len(group)} submissions."]
    if left:
        text[0] += f" The tasks below leave out {left} that could not be run or are suspect."
    if not told:
        return page.Section(name, text, pictures)
    shares = _shares(told)
    worst = min(shares, key=lambda task: shares[task].accuracy) if shares else None
    if worst and shares[worst].accuracy < 1:
        text.append(
            f"The task that went wrong most often is **{worst}**: {shares[worst]} got it right."
        )
    if shares:
        pictures.append(_tasks(name, shares))
    return page.Section(name, text, pictures, [("Tasks, the hardest first", _table(told, shares))])


def _shares(group: list[Row]) -> dict[str, Score]:
    """Task -> share with all points, with a Wilson interval, the hardest first.

    A question graded by hand comes in once all answers to it were graded: the blank ones are first.
    """
    shares = {}
    for task, most in group[0].most.items():
        if not any(task in row.pending for row in group):
            right = sum(row.points[task] >= most for row in group)
            shares[task] = Score.counted(right, len(group))
    return dict(sorted(shares.items(), key=lambda item: item[1].accuracy))


def _table(group: list[Row], shares: Mapping[str, Score]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "task": task,
            "points": group[0].most[task],
            "right": str(shares[task]) if task in shares else _so_far(group, task),
            "not answered": sum(_message(row, task) == UNANSWERED for row in group),
            "most frequent messages": _messages(group, task),
        }
        for task in [*shares, *(task for task in group[0].most if task not in shares)]
    )


def _so_far(group: list[Row], task: str) -> str:
    return f"{sum(task not in row.pending for row in group)} of {len(group)} graded so far"


def _messages(group: list[Row], task: str) -> str:
    counted = Counter(_message(row, task) for row in group)
    told = [(text, n) for text, n in counted.most_common() if text not in ("", UNANSWERED)]
    return " | ".join(f"{n} {'time' if n == 1 else 'times'}: {text}" for text, n in told[:MESSAGES])


def _message(row: Row, task: str) -> str:
    return " ".join(row.record.messages.get(task, "").split())[:LENGTH]


def _totals(name: str, group: list[Row]) -> tuple[Figure, str, str]:
    """How many submissions got how many points, whole points a bar."""
    totals = np.array([row.total for row in group])
    most = max(group[0].maximum, totals.max())
    figure, axis = plt.subplots(figsize=(5.6, 2.8))
    counts = axis.hist(totals, bins=np.arange(-0.5, np.ceil(most) + 1), color="0.6", ec="white")[0]
    axis.axvline(np.median(totals), color="0.2", ls="--", label=f"median {np.median(totals):g}")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel=f"points of {group[0].maximum:g}", ylabel="submissions", title=name)
    axis.margins(y=0.15)
    axis.legend(frameon=False)
    alt = f"Histogram of the points in {name}: " + ", ".join(
        f"{n:g} with {points} points" for points, n in enumerate(counts) if n
    )
    return figure, f"{alt}.", f"Points in {name}, n = {len(group)} submissions."


def _tasks(name: str, shares: Mapping[str, Score]) -> tuple[Figure, str, str]:
    """Share of the submissions that got each task right, with Wilson intervals."""
    figure, axis = plt.subplots(figsize=(5.6, 1.2 + 0.36 * len(shares)))
    for y, score in enumerate(reversed(shares.values())):
        low, high = score.accuracy - score.low, score.high - score.accuracy
        axis.errorbar(100 * score.accuracy, y, xerr=[[100 * max(0, low)], [100 * max(0, high)]],
                      fmt="o", color="0.25", capsize=3)  # fmt: skip
    axis.set_yticks(range(len(shares)), list(reversed(shares)))
    axis.set(xlim=(-3, 103), xlabel="right (% of submissions), 95 % interval", title=name)
    alt = f"Share right for each task of {name}: " + ", ".join(
        f"{task} {score.accuracy:.0%}" for task, score in shares.items()
    )
    caption = "Submissions with all points of a task, in percent, with 95 % Wilson intervals."
    return figure, f"{alt}.", caption


def _notices(graded: list[Row]) -> page.Section:
    """Flags and how often: time-outs, missing cells, forbidden files."""
    counted = Counter((row.assignment, flag) for row in graded for flag in row.record.flags)
    if not counted:
        return page.Section("What was noticed", ["Nothing: no time-outs, no damaged submissions."])
    table = pd.DataFrame(
        {"assignment": name, "what": flag, "submissions": n}
        for (name, flag), n in counted.most_common()
    )
    text = "Time-outs, missing or changed cells, forbidden files: as the grading flagged them."
    return page.Section("What was noticed", [text], (), [("Flags, the most frequent first", table)])


def _left_out(left: list[tuple[str, str]], with_names: bool) -> list[page.Section]:
    """Files that are not graded and why; how many, where no student is to be named."""
    if not left:
        return []
    table = pd.DataFrame(left, columns=["file", "why"])
    if not with_names:
        table = table.groupby("why", as_index=False).size().rename(columns={"size": "files"})
    return [page.Section("Not graded", ["Files in submitted/."], (), [("Reasons", table)])]


def _students(graded: list[Row]) -> page.Section:
    table = pd.DataFrame(
        {
            "student": row.student,
            "assignment": row.assignment,
            "points": points(row),
            "to look at by hand": " ".join(row.pending),
            "flags": "; ".join(row.record.flags),
        }
        for row in graded
    )
    return page.Section("Students", (), (), [("Every submission", table)])
