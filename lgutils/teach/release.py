"""Student versions of the assignments: solutions become stubs, hidden tests and outputs go."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lgutils import files
from lgutils.errors import UserError
from lgutils.teach.classroom import Classroom, enter, programs_found

REGION = re.compile(
    r"^[^\n]*### BEGIN (SOLUTION|HIDDEN TESTS)[^\n]*\n(.*?)^[^\n]*### END \1", re.M | re.S
)
MARK = re.compile(r"\b(BEGIN|END) (SOLUTION|HIDDEN TESTS?)\b", re.I)
KEPT = ("nbgrader", "deletable", "editable", "tags")  # of a cell's metadata
SHORT = 20  # characters; a solution as short as `return a + b` may well stand elsewhere


def release(
    names: Iterable[str] = (),
    folder: Path | str = "teaching",
    *,
    masters: Mapping[str, Path] | None = None,
) -> dict[str, Path]:
    """Make student versions with nbgrader and enter the assignments into its gradebook.

    Args:
        names: assignments; none for all.
        folder: the teacher's folder; made where missing.
        masters: assignment -> instructor's notebook NAME/NAME.ipynb; None for the course's own.
    Returns:
        Assignment -> release/NAME/NAME.ipynb, free of solutions, hidden tests and outputs.
    Raises:
        UserError: an unknown assignment, a text of a solution that is left (the student version is
            then removed), tasks that changed after submissions were graded, a broken master.
    """
    names = list(names)
    room = enter(folder, masters, new=True, names=names)
    return {name: _release(room, name) for name in room.choose(names)}


def _release(room: Classroom, name: str) -> Path:
    import nbformat

    with programs_found():
        done = room.api(name).generate_assignment(name)
    if not done["success"]:
        if (
            "KeyboardInterrupt" in f"{done.get('error')}{done.get('log')}"
        ):  # nbgrader takes it for an error
            raise KeyboardInterrupt
        raise UserError(_reason(name, room.folder, done))
    path = room.folder / "release" / name / f"{name}.ipynb"
    book = _bare(nbformat.read(path, as_version=4))
    if left := leaks(nbformat.read(room.masters[name], as_version=4), book):
        path.unlink()
        raise UserError(f"{name} was not released: {left} Correct the master and release again.")
    return files.write_text(path, nbformat.writes(book) + "\n")


def check_released(room: Classroom, name: str) -> None:
    """Check that the gradebook knows an assignment with the tasks that its master has now.

    Raises:
        UserError: it was not released, or has changed since.
    """
    from nbgrader.api import MissingEntry

    from lgutils.teach.masters import tasks

    with room.gradebook() as book:
        try:
            known = {c.name: c.max_score for c in book.find_notebook(name, name).grade_cells}
        except MissingEntry:
            raise UserError(
                f"{name} was not released from {room.folder}. Run `lgutils teach release {name}` first."
            ) from None
    if known != {task: float(t.points) for task, t in tasks(room.masters[name]).items()}:
        raise UserError(
            f"The tasks of {name} changed after it was released. Run `lgutils teach release {name}`."
        )


def _reason(name: str, folder: Path, done: Mapping) -> str:
    told = f"{done.get('error') or ''}\n{done.get('log') or ''}"
    if "submissions associated" in told:
        return (
            f"The tasks of {name} changed, but submissions of it were graded already. Release it into "
            f"another --folder, or move {folder / 'gradebook.db'} away (points given by hand "
            "stay in it), release and grade again."
        )
    errors = re.findall(r"^(?:\w+\.)*(\w+(?:Error|Exception): .+)$", told, re.M) or [told.strip()]
    return f"nbgrader did not release {name}: {errors[-1]}. Correct the master {name}.ipynb."


def _bare(book):
    """The notebook with only the metadata that students and nbgrader need."""
    kept = ("kernelspec", "language_info")
    book.metadata = {key: book.metadata[key] for key in kept if key in book.metadata}
    for cell in book.cells:
        cell.metadata = {key: cell.metadata[key] for key in KEPT if key in cell.metadata}
    return book


def leaks(master, book) -> str:
    """What of the master's solutions or hidden tests is left in a student version.

    Args:
        master, book: notebooks as nbformat reads them.
    Returns:
        One sentence, or "" where nothing is left.
    """
    for number, cell in enumerate(book.cells, 1):
        if MARK.search(cell.source):
            return f"cell {number} still holds a mark such as ### BEGIN SOLUTION."
        if cell.get("outputs"):
            return f"cell {number} still holds outputs."
    text = "\n".join(_plain(cell.source) for cell in book.cells)
    for secret in _secrets(master):
        if len(secret) >= SHORT and secret in text:
            return f"the text {secret.splitlines()[0]!r} of a solution or hidden test is left."
    return ""


def _secrets(master) -> Iterable[str]:
    for cell in master.cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("solution") and not REGION.search(cell.source):
            yield _plain(cell.source)  # the whole cell is the answer
        for region in REGION.finditer(cell.source):
            yield _plain(region[2])


def _plain(source: str) -> str:
    """Without indentation and empty lines."""
    return "\n".join(line.strip() for line in source.splitlines() if line.strip())
