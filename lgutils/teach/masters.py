"""The instructor's masters of the assignments, and the tasks in them."""

import contextlib
import symtable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lgutils import home
from lgutils.errors import UserError, missing


@dataclass(frozen=True)
class Task:
    """What can be scored in an assignment: a test cell, or a question graded by hand.

    Args:
        points: the most it can give.
        manual: whether a person grades it.
    """

    points: float
    manual: bool


def nbgrader_utils() -> ModuleType:
    """`nbgrader.utils`, which says what kind of cell a cell is.

    Raises:
        UserError: nbgrader is not installed.
    """
    try:
        from nbgrader import utils
    except ImportError as error:
        raise missing("lgutils teach needs nbgrader", "teach") from error
    return utils


def folder() -> Path:
    """The folder of the masters, see `home.folder`."""
    return home.folder() / "notebooks" / "assignments"


def masters() -> dict[str, Path]:
    """The course's assignments by name, in order: `notebooks/assignments/NAME/NAME.ipynb`."""
    found = sorted(folder().glob("*/*.ipynb"))
    return {path.stem: path for path in found if path.stem == path.parent.name}


def load(master: Path | str):
    """Read a master and check that its cells can be graded.

    Returns:
        An `nbformat.NotebookNode`.
    Raises:
        UserError: missing or damaged file, a name used twice, no task in it.
    """
    import nbformat

    utils = nbgrader_utils()
    try:
        book = nbformat.read(master, as_version=4)
    except Exception as error:  # nbformat raises many kinds for a damaged file
        raise UserError(f"The master {master} is not a readable notebook ({error}).") from error
    named = [cell for cell in book.cells if "grade_id" in cell.metadata.get("nbgrader", {})]
    names = [cell.metadata.nbgrader.grade_id for cell in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"The master {master} uses the name {twice[0]!r} for two cells. Rename one."
        )
    if not any(utils.is_grade(cell) for cell in named):
        raise UserError(f"The master {master} has no graded cell. Give a test cell points first.")
    return book


def name_of(cell) -> str | None:
    """A cell's name (grade_id); None where it has none."""
    marks = cell.metadata.get("nbgrader")
    name = marks.get("grade_id") if isinstance(marks, dict) else None
    return name if isinstance(name, str) else None


def by_name(book) -> dict:
    """The named cells of a notebook, in order."""
    return {name_of(cell): cell for cell in book.cells if name_of(cell)}


def tasks(master: Path | str) -> dict[str, Task]:
    """The tasks of a master by grade_id, in order; points are read here and nowhere else.

    Raises:
        UserError: as `load`.
    """
    return tasks_of(load(master))


def tasks_of(book) -> dict[str, Task]:
    """The same for a master that was read already."""
    utils = nbgrader_utils()
    found = {}
    for cell in book.cells:
        if utils.is_grade(cell):
            meta = cell.metadata.nbgrader
            manual = utils.is_solution(cell) or cell.cell_type != "code"
            found[meta.grade_id] = Task(float(meta.points), manual)
    return found


def setup_of(book) -> list[str]:
    """Names of the master's own cells before its first answer, without which no answer can be right."""
    utils, found = nbgrader_utils(), []
    for name, cell in by_name(book).items():
        if utils.is_solution(cell):
            break
        if not utils.is_grade(cell):
            found.append(name)
    return found


def defined_in(book) -> set[str]:
    """Names that the code cells of a master define, e.g. the function that is asked for."""
    found = set()
    for cell in book.cells:
        if cell.cell_type == "code":
            with contextlib.suppress(SyntaxError):  # magics
                for symbol in symtable.symtable(cell.source, "cell", "exec").get_symbols():
                    if symbol.is_assigned() or symbol.is_imported():
                        found.add(symbol.get_name())
    return found
