"""Grading what was handed in: it is run, and its points go into nbgrader's gradebook."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from lgutils import __version__, files
from lgutils.errors import UserError, unknown
from lgutils.teach.classroom import Classroom, enter
from lgutils.teach.grade import UNANSWERED, Limits
from lgutils.teach.records import Record, Row, rows
from lgutils.teach.release import check_released
from lgutils.teach.tables import write_csv


def grade(
    names: Iterable[str] = (),
    folder: Path | str = "teaching",
    *,
    students: Iterable[str] = (),
    workers: int | None = None,
    limits: Limits | None = None,
    fresh: bool = False,
    progress: bool = True,
    masters: Mapping[str, Path] | None = None,
) -> list[Row]:
    """Run what was handed in, enter the points, write autograded/ and grades.csv.

    A submission that was graded before is run again only if it, the master, the limits or lgutils' version
    changed, or if it could not be run. Points are entered as soon as they are known: what was graded before an
    interruption stays.
    Points given by hand stay; nbgrader asks for another look at them where a submission changed.

    Args:
        names: assignments; none for all that were released and handed in.
        folder: the teacher's folder.
        students: only these; none for all.
        workers: submissions run at a time; None for one a core.
        limits: None for the usual ones.
        fresh: run all again.
        progress: show a bar.
        masters: assignment -> instructor's notebook; None for the course's own.
    Returns:
        A row for each submission of these assignments and students.
    Raises:
        UserError: nothing was handed in, an unknown assignment or student, an assignment that was
            not released or has changed since, workers below 1.
    """
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
        left = "; ".join(f"not graded: {path}; {why}" for path, why in room.left_out())
        raise UserError(
            f"Nothing was handed in: {room.folder / 'submitted'} holds no STUDENT/NAME/NAME.ipynb "
            f"for {', '.join(found) or 'any assignment'}. {left}".strip()
        )
    every = {student for handed in found.values() for student in handed}
    for student in sorted(students - every):
        raise unknown("student", student, every)
    for name in found:
        check_released(room, name)


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
    api = room.api(name)
    with room.gradebook() as book:

        def enter_one(student: str, graded) -> None:
            """At once, so that a kill costs only what runs; the key last: what was cut off is run again."""
            _enter(book, name, student, graded, _time(api, name, student, inside))
            _keep(room.autograded(name, student), graded, "" if graded.unrun else keys[student])

        closed = (room.folder,)
        module.folder(again, master, limits=limits, closed=closed, each=enter_one, **how)


def _handed(path: Path, inside: Path) -> str:
    """Hash of what was handed in; links are followed as far as they stay inside."""
    try:
        if os.path.isfile(path) and path.resolve().is_relative_to(inside):
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


def _time(api, name: str, student: str, inside: Path):
    """When it was handed in, where nbgrader's exchange left a timestamp.txt."""
    stamp = inside / student / name / "timestamp.txt"
    if not os.path.isfile(stamp) or os.path.getsize(stamp) > 200:
        return None
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
