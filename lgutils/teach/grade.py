"""Grade one submission, or many at once, without a database."""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lgutils.errors import UserError
from lgutils.machine import cores
from lgutils.teach import assemble, masters, sandbox
from lgutils.teach.sandbox import Limits

BLANK = "NotImplementedError"  # what a cell raises as it was handed out
UNANSWERED = "No answer was given."
__all__ = ["Graded", "Limits", "folder", "grade", "run"]


@dataclass(frozen=True)
class Graded:
    """One graded submission.

    Args:
        points: by task (grade_id); all zero where `suspect`.
        notebook: executed and complete, with nbgrader's metadata (an `nbformat.NotebookNode`).
        flags: what the teacher should know, a sentence each.
        messages: for each task that failed, a sentence: its test's words, the error in the answer's own cell, or
            that none was given.
        seconds: wall clock.
        earned: by task, what the tests gave.
        pending: questions graded by hand that were answered; they count 0 until then.
        suspect: it tried to read a solution, to use the network or to blind the tests. The whole submission is worth
            nothing until the teacher has looked; `earned` keeps what the tests gave.
        unrun: it could not be run for a reason that is not the student's (no kernel could be started, the
            assignment's own set-up did not end, the computer was too busy).
    """

    points: dict[str, float]
    notebook: object
    flags: tuple[str, ...]
    messages: dict[str, str]
    seconds: float
    earned: dict[str, float]
    pending: tuple[str, ...] = ()
    suspect: bool = False
    unrun: bool = False


def run(
    master: Path | str,
    submission: Path | str,
    limits: Limits | None = None,
    *,
    closed: Sequence[Path] = (),
    stop: threading.Event | None = None,
) -> Graded:
    """Grade one submission; whatever is in it, the answer is a `Graded`.

    The student's answers run between the master's own tests in a process of their own; where this
    computer could not start it or was too slow for the master's own set-up, once more with more time,
    and then the answer is `unrun`. What is closed to them, and what that does not stop, is said
    in `lgutils.teach.seal`.

    Args:
        master: the instructor's notebook.
        submission: the student's file; one that is no notebook is worth 0 and flagged.
        limits: time, memory and output; None for the defaults.
        closed: more folders that the notebook may not read, e.g. the one with all submissions. The
            masters and the solutions are always closed.
        stop: when set, the kernel is killed.
    Raises:
        UserError: the master, the limits or this computer is at fault, not the submission.
    """
    how = {"closed": closed, "limits": limits or Limits(), "stop": stop or threading.Event()}
    graded = _once(master, submission, **how)
    return _again(master, submission, **how) if graded.unrun else graded


def _again(master, submission, *, limits: Limits, **how) -> Graded:
    """With more time, for a submission that could not be run."""
    return _once(master, submission, limits=limits.longer(), **how)


def _once(master, submission, *, closed, limits: Limits, stop: threading.Event) -> Graded:
    source = masters.load(master)
    try:
        given = assemble.read(submission)
    except assemble.Unreadable as reason:
        return _nothing(source, str(reason))
    if stop.is_set():
        return _nothing(source, "grading was stopped", unrun=True)
    how = {"closed": (*_always_closed(Path(master)), *closed), "limits": limits, "stop": stop}
    try:
        return _attempt(source, given, how)
    except UserError:
        raise
    except Exception as error:
        reason = f"it could not be run ({type(error).__name__}: {error})"
    return _nothing(source, reason, unrun=True)


def _attempt(source, given: list[dict], how: dict) -> Graded:
    utils = masters.nbgrader_utils()
    book, flags = assemble.assemble(source, given)
    where = _where(book, masters.tasks_of(source))
    ours = {index for index, cell in enumerate(book.cells) if utils.is_locked(cell)}
    first = masters.setup_of(source)
    setup = {index for index in ours if masters.name_of(book.cells[index]) in first}
    ran = sandbox.execute(book, ours, setup=setup, kept=masters.defined_in(source), **how)
    if ran.unrun:
        return _nothing(source, ran.unrun, unrun=True)
    messages = {
        name: _words(book, index, ran.errors)
        for name, (index, _) in where.items()
        if ran.errors.get(index)
    }
    scores = {name: _score(book.cells[index]) for name, (index, task) in where.items()}
    earned = {name: score or 0.0 for name, score in scores.items()}
    return Graded(
        points=dict.fromkeys(earned, 0.0) if ran.suspect else earned,
        notebook=book,
        flags=(*flags, *ran.flags),
        messages=messages,
        seconds=ran.seconds,
        earned=earned,
        pending=tuple(name for name, score in scores.items() if score is None),
        suspect=ran.suspect,
    )


def _words(book, index: int, errors: Mapping[int, str]) -> str:
    """What to tell about a failed task: its test's words, or what went wrong in the answer's own cell."""
    utils, error = masters.nbgrader_utils(), errors[index]
    if error.startswith("NameError"):
        before = [at for at in range(index) if at in errors and utils.is_solution(book.cells[at])]
        answer = errors.get(before[-1], "") if before else ""
        if answer.startswith("stopped after"):
            return f"your answer cell was {answer}"
        if answer and answer != BLANK:
            return f"in your answer cell: {answer}"
        error = answer or error
    return UNANSWERED if error == BLANK else error


def grade(
    master: Path | str, submission: Path | str, limits: Limits | None = None
) -> dict[str, float]:
    """Points by task for one submission: no folders, no database.

    Args: as `run`.
    Raises:
        UserError: as `run`, or it could not be run here, which is not the student's fault.
    """
    done = run(master, submission, limits)
    if done.unrun:
        raise UserError(f"{submission} has no points yet: {done.flags[0]}. Grade it again.")
    return done.points


def folder(
    submissions: Mapping[str, Path | str],
    master: Path | str,
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    closed: Sequence[Path] = (),
    progress: bool = True,
    each: Callable[[str, Graded], None] | None = None,
) -> dict[str, Graded]:
    """Grade many submissions at once; a bad one never stops the others, and none can read another.

    The master's own cells run first, so that images which they draw lie in the cache. What could not be run
    is tried again at the end, alone and with more time.

    Args:
        submissions: file by student.
        master: the instructor's notebook.
        workers: kernels at the same time; None for one a core. Each may take `limits.memory_gb`.
        limits, closed: as for `run`.
        progress: show a bar.
        each: called with student and result as soon as a submission is graded, e.g. to keep it.
    Returns:
        A `Graded` by student, in the order given.
    Raises:
        UserError: as `run`, or `workers` below 1.
    """
    workers = cores() if workers is None else workers
    if workers < 1:
        raise UserError(f"workers is {workers}, but must be 1 or more.")
    masters.load(master)
    closed = (*closed, *(path for path in map(Path, submissions.values()) if _is_plain(path)))
    how = {"closed": closed, "limits": limits or Limits(), "stop": threading.Event()}
    if submissions:
        _fill_cache(Path(master), **how)
    done, bar = {}, tqdm(total=len(submissions), unit="notebook", disable=not progress)
    with ThreadPoolExecutor(workers) as pool:
        futures = {
            pool.submit(_once, master, path, **how): name for name, path in submissions.items()
        }

        def finish(student: str, graded: Graded) -> None:
            done[student] = graded
            bar.update()
            if each is not None:
                each(student, graded)

        try:
            late = []
            for future in as_completed(futures):
                if future.result().unrun:
                    late.append(futures[future])
                else:
                    finish(futures[future], future.result())
            for student in late:
                finish(student, _again(master, submissions[student], **how))
        except BaseException:  # Ctrl-C too: kill the kernels, start no more
            how["stop"].set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            bar.close()
    return {student: done[student] for student in submissions}


def _fill_cache(master: Path, *, closed, limits: Limits, stop: threading.Event) -> None:
    """Run the master's own cells once, without any answers and with much time; what they say does not matter."""
    from nbformat.v4 import new_notebook

    utils = masters.nbgrader_utils()
    cells = [c for c in masters.load(master).cells if utils.is_locked(c) and not utils.is_grade(c)]
    closed = (*_always_closed(master), *closed)
    with contextlib.suppress(Exception):  # the submissions will say it
        sandbox.execute(
            new_notebook(cells=cells), (), closed=closed, limits=limits.longer(), stop=stop
        )


def _is_plain(path: Path) -> bool:
    """Whether it is a file, not a link: a link could close a file that every notebook needs."""
    return os.path.isfile(path) and not path.is_symlink()


def _nothing(source, reason: str, *, unrun: bool = False) -> Graded:
    """Nothing to grade: no points, and the blank assignment in its place."""
    book, _ = assemble.assemble(source, [])
    points = dict.fromkeys(masters.tasks_of(source), 0.0)
    messages = dict.fromkeys(points, "nothing to grade")
    flag = f"not graded: {reason}"
    return Graded(points, book, (flag,), messages, 0.0, points, unrun=unrun)


def _where(book, tasks: dict[str, masters.Task]) -> dict[str, tuple[int, masters.Task]]:
    """Task and index of its cell in the assembled notebook, in the master's order."""
    found = {
        cell.metadata.nbgrader.grade_id: index
        for index, cell in enumerate(book.cells)
        if "nbgrader" in cell.metadata
    }
    return {name: (found[name], task) for name, task in tasks.items()}


def _score(cell) -> float | None:
    """nbgrader's own score for an executed cell; None where a person must look."""
    try:
        return masters.nbgrader_utils().determine_grade(cell)[0]
    except (ValueError, KeyError, TypeError):  # a test cell with a result that is no score
        return 0.0


def _always_closed(master: Path) -> tuple[Path, ...]:
    """The master's own folder, all masters, the solutions, and the history that holds them."""
    assignments = masters.folder()
    more = assignments, assignments.parent / "solutions", assignments.parent.parent / ".git"
    return master.resolve().parent, *more
