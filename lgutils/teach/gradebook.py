"""Grading what was handed in, and nbgrader's gradebook: points, flags, `grades.csv`."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import pandas as pd

from lgutils import __version__, files
from lgutils.errors import UserError, unknown
from lgutils.teach.classroom import Classroom, enter
from lgutils.teach.release import released

UNANSWERED = "No answer was given."  # the message of a task that was left as handed out
FORMULA = ("=", "+", "-", "@", "\t")  # what a spreadsheet's formula starts with


@dataclass(frozen=True)
class Record:
    """What one run said about a submission; kept in the metadata of its autograded notebook.

    key: hash of the submission, the master, the limits and the version of lgutils; "" where it is to be
        run again in any case.
    messages: task -> last line of the assert that failed.
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


def grade(
    names: Iterable[str] = (),
    folder: Path | str = "teaching",
    *,
    students: Iterable[str] = (),
    workers: int | None = None,
    limits=None,
    fresh: bool = False,
    progress: bool = True,
    masters: Mapping[str, Path] | None = None,
) -> list[Row]:
    """Run what was handed in, enter the points, write autograded/ and grades.csv.

    A submission that was graded before is run again only if it, the master or the limits changed.
    Points given by hand stay; nbgrader asks for another look at them where a submission changed.

    Args:
        names: assignments; none for all that were released and handed in.
        students: only these; none for all.
        workers: submissions run at a time; None for one a core.
        limits: `lgutils.teach.grade.Limits`; None for the usual ones.
        fresh: run all again.
    Returns:
        A row for each submission of these assignments and students.
    Raises:
        UserError: nothing was handed in, an unknown assignment or student, an assignment that was
            not released or has changed since.
    """
    from lgutils.teach.grade import Limits

    room, limits, students = enter(folder, masters), limits or Limits(), set(students)
    named = list(names)
    found = {name: room.submissions(name) for name in room.choose(named)}
    if not named:
        found = {name: handed for name, handed in found.items() if handed}
    _wanted(room, found, students)
    for name, handed in found.items():
        chosen = {s: path for s, path in handed.items() if not students or s in students}
        _grade(room, name, chosen, workers=workers, limits=limits, fresh=fresh, progress=progress)
    write_csv(room)
    return [row for row in rows(room, found) if not students or row.student in students]


def _wanted(room: Classroom, found: Mapping[str, Mapping], students: set[str]) -> None:
    """Refuse before anything is run."""
    if not any(found.values()):
        raise UserError(
            f"Nothing was handed in: {room.folder / 'submitted'} holds no STUDENT/NAME/NAME.ipynb "
            f"for {', '.join(found) or 'any assignment'}. {'; '.join(room.unclaimed())}".strip()
        )
    every = {student for handed in found.values() for student in handed}
    for student in sorted(students - every):
        raise unknown("student", student, every)
    for name in found:
        released(room, name)


def _grade(room: Classroom, name: str, handed: Mapping[str, Path], *, fresh, limits, **how) -> None:
    """Run the changed submissions of one assignment and enter their points."""
    from lgutils.teach import grade as module

    master = room.masters[name]
    origin = f"{__version__} {limits} {_hash(master)}"
    inside = (room.folder / "submitted").resolve()
    keys = {s: files.sha256(f"{origin} {_handed(p, inside)}".encode()) for s, p in handed.items()}
    known = {row.student: row.record.key for row in rows(room, [name])}
    again = {s: path for s, path in handed.items() if fresh or known.get(s) != keys[s]}
    if not again:
        return
    done = module.folder(again, master, limits=limits, closed=(room.folder,), **how)
    api = room.api(name)
    with room.gradebook() as book:
        for student, graded in done.items():  # the key last: what was cut off here is run again
            _enter(book, name, student, graded, _time(api, name, student))
            _keep(room.autograded(name, student), graded, "" if graded.unrun else keys[student])


def _handed(path: Path, inside: Path) -> str:
    """Hash of what was handed in; links are followed as far as they stay inside."""
    try:
        if path.is_file() and path.resolve().is_relative_to(inside):
            return _hash(path)
    except OSError:  # it may not be read; the grading says so
        pass
    return "no file"


def _hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _enter(book, name: str, student: str, graded, handed_in) -> None:
    """Write the automatic points; those given by hand are left, but are to be looked at again."""
    book.update_or_create_student(student)
    with book.db.no_autoflush:  # else sqlalchemy warns of what nbgrader links a line later
        submission = book.update_or_create_submission(name, student, timestamp=handed_in)
    left = set(graded.pending) - _unanswered(graded)
    for grade in submission.notebooks[0].grades:
        pending = graded.unrun or grade.name in left
        grade.auto_score = None if pending else graded.points[grade.name]
        grade.needs_manual_grade = pending or graded.suspect or grade.manual_score is not None
    book.db.commit()


def _unanswered(graded) -> set[str]:
    """Questions graded by hand that were left as handed out (so not pending) or emptied."""
    found = set()
    for cell in graded.notebook.cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("grade") and marks.get("solution"):
            empty = not cell.source.strip() and not cell.get("attachments")
            if empty or marks["grade_id"] not in graded.pending:
                found.add(marks["grade_id"])
    return found


def _time(api, name: str, student: str):
    """When it was handed in, where nbgrader's exchange left a timestamp.txt."""
    try:
        return api.get_submitted_timestamp(name, student)
    except (ValueError, OverflowError, OSError):
        return None


def _keep(path: Path, graded, key: str) -> None:
    import nbformat

    messages = {**dict.fromkeys(_unanswered(graded), UNANSWERED), **graded.messages}
    record = Record(
        key=key, flags=tuple(graded.flags), messages=messages, suspect=graded.suspect,
        earned=sum(graded.earned.values()), seconds=graded.seconds, unrun=graded.unrun,
    )  # fmt: skip
    graded.notebook.metadata["lgutils"] = asdict(record)
    files.write_text(path, nbformat.writes(graded.notebook) + "\n")


def record_of(path: Path) -> Record:
    """The record kept in an autograded notebook; an empty one where nbgrader itself graded it."""
    if not path.is_file():
        return Record()
    kept = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("lgutils", {})
    kept = {each.name: kept[each.name] for each in fields(Record) if each.name in kept}
    return Record(**{**kept, "flags": tuple(kept.get("flags", ()))})


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
        (row.assignment, row.student, _points(row),
         _waiting(row), "; ".join(row.record.flags) or "-")
        for row in found
    ]  # fmt: skip
    widths = [max(len(line[k]) for line in lines) for k in range(4)]
    return "\n".join(
        "  ".join([*(text.ljust(w) for text, w in zip(line, widths)), line[4]]) for line in lines
    )


def _points(row: Row) -> str:
    if row.record.unrun:
        return "not run"
    told = f"{row.total:g} of {row.maximum:g}"
    return f"{told} (tests: {row.record.earned:g})" if row.record.suspect else told


def _waiting(row: Row) -> str:
    return f"{len(row.pending)} tasks" if len(row.pending) > 2 else " ".join(row.pending) or "-"
