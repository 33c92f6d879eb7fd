"""What is known of graded submissions: the gradebook's points, and the record kept beside them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from lgutils import reading
from lgutils.errors import UserError
from lgutils.teach.classroom import Classroom

LARGEST = 2**28  # bytes of an executed notebook: an empty line of an output is stored as a dozen


@dataclass(frozen=True)
class Record:
    """What one run said about a submission; kept in the metadata of its autograded notebook.

    key: hash of the submission, the master, the limits and the version of lgutils; "" where it is to be
        run again in any case.
    messages: task -> why it failed: its test's words, the error in the answer's own cell, or that none was given.
    suspect: worth nothing until the teacher has looked.
    earned: what the tests gave, also where it is suspect.
    seconds: wall clock; 0 where there was nothing that could be run.
    unrun: this computer could not run it, so it has no points yet; the next run tries again.
    """

    key: str = ""
    flags: tuple[str, ...] = ()
    messages: Mapping[str, str] = field(default_factory=dict)
    suspect: bool = False
    earned: float = 0.0
    seconds: float = math.nan
    unrun: bool = False


@dataclass(frozen=True)
class Row:
    """One submission as the gradebook has it; points given by hand stand before automatic ones.

    points, most: task -> points got and points to get, in the order of the assignment.
    pending: tasks that somebody must look at.
    """

    student: str
    assignment: str
    points: Mapping[str, float]
    most: Mapping[str, float]
    pending: tuple[str, ...]
    record: Record

    @property
    def total(self) -> float:
        return sum(self.points.values())

    @property
    def maximum(self) -> float:
        return sum(self.most.values())


def record_of(path: Path) -> Record:
    """The record kept in an autograded notebook.

    An empty one, so that the submission is run again, where there is none (nbgrader itself graded it) or
    none that can be read.
    """
    try:
        data = reading.content(path, LARGEST)
        return reading.parsed(data, _Notebook, path).metadata.lgutils
    except UserError:
        return Record()


class _Metadata(msgspec.Struct):
    lgutils: Record = msgspec.field(default_factory=Record)


class _Notebook(msgspec.Struct):
    """A notebook, as far as the record in it is concerned."""

    metadata: _Metadata


def rows(room: Classroom, names: Iterable[str]) -> list[Row]:
    """Every graded submission of these assignments, by assignment and student."""
    from lgutils.teach.masters import tasks

    made = []
    with room.gradebook() as book:
        for name in names:
            if submissions := book.assignment_submissions(name):
                order = list(tasks(room.masters[name]))
                found = [_row(room, name, order, submission) for submission in submissions]
                made += sorted(found, key=lambda row: row.student)
    return made


def _row(room: Classroom, name: str, order: list[str], submission) -> Row:
    grades = {grade.name: grade for grade in submission.notebooks[0].grades}
    order = [task for task in order if task in grades]
    record = record_of(room.autograded(name, submission.student.id))
    pending = [task for task in order if grades[task].needs_manual_grade and not record.unrun]
    return Row(
        student=submission.student.id,
        assignment=name,
        points={task: grades[task].score for task in order},
        most={task: grades[task].max_score for task in order},
        pending=tuple(pending),
        record=record,
    )
