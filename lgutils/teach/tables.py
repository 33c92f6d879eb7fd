"""Graded submissions as tables: grades.csv, and the lines that the command prints."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lgutils import files
from lgutils.teach.classroom import Classroom
from lgutils.teach.records import Row, rows

FORMULA = ("=", "+", "-", "@", "\t")  # what a spreadsheet's formula starts with


def write_csv(room: Classroom) -> Path:
    """Write grades.csv: a line for each submission, a column for each task of any assignment."""
    every = rows(room, room.masters)
    table = pd.DataFrame(_line(row) for row in every)
    last = ["total", "max", "by-hand pending", "flags", "seconds"]
    tasks = list(dict.fromkeys(task for row in every for task in row.points))
    table = table.reindex(columns=["student", "assignment", *tasks, *last])
    return files.write_text(room.folder / "grades.csv", table.map(_inert).to_csv(index=False))


def _line(row: Row) -> dict:
    """A line of grades.csv; what was not run has no points."""
    points = {} if row.record.unrun else row.points
    return {
        "student": row.student, "assignment": row.assignment, **points,
        "total": "not run" if row.record.unrun else row.total, "max": row.maximum,
        "by-hand pending": " ".join(row.pending), "flags": "; ".join(row.record.flags),
        "seconds": round(row.record.seconds, 1),
    }  # fmt: skip


def _inert(cell):
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def table(found: Iterable[Row]) -> str:
    """The rows as lines of text: student, points, what is to look at by hand, flags."""
    lines = [("assignment", "student", "points", "by hand", "flags")]
    lines += [
        (row.assignment, row.student, points(row),
         _waiting(row), "; ".join(row.record.flags) or "-")
        for row in found
    ]  # fmt: skip
    widths = [max(len(line[k]) for line in lines) for k in range(4)]
    return "\n".join(
        "  ".join([*(text.ljust(w) for text, w in zip(line, widths)), line[4]]) for line in lines
    )


def points(row: Row) -> str:
    """The points of a submission in words, or that it was not run."""
    if row.record.unrun:
        return "not run"
    told = f"{row.total:g} of {row.maximum:g}"
    return f"{told} (tests: {row.record.earned:g})" if row.record.suspect else told


def _waiting(row: Row) -> str:
    return f"{len(row.pending)} tasks" if len(row.pending) > 2 else " ".join(row.pending) or "-"
