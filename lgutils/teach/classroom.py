"""A teacher's folder, laid out as nbgrader expects it: what was released, handed in and graded."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lgutils import files
from lgutils.errors import UserError, unknown
from lgutils.teach.masters import nbgrader_utils

STUDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
CONFIG = '''"""Settings of nbgrader for this folder; what is changed here also holds for `lgutils teach`."""

from pathlib import Path

c = get_config()
c.CourseDirectory.root = str(Path(__file__).resolve().parent)
c.CourseDirectory.source_directory = {source!r}
'''


@dataclass(frozen=True)
class Classroom:
    """A teacher's folder; made by `enter`.

    folder: absolute.
    masters: assignment -> the instructor's notebook.
    """

    folder: Path
    masters: Mapping[str, Path]

    def choose(self, names: Iterable[str]) -> list[str]:
        """The named assignments, or all of them, each once and in order.

        Raises:
            UserError: there is no such assignment.
        """
        names = list(dict.fromkeys(names)) or list(self.masters)
        for name in names:
            if name not in self.masters:
                raise unknown("assignment", name, self.masters)
        return names

    def api(self, name: str):
        """nbgrader's own interface, with this folder's settings and the assignment's master."""
        from nbgrader.apps import NbGraderAPI
        from traitlets.config.loader import PyFileConfigLoader

        config = PyFileConfigLoader("nbgrader_config.py", path=str(self.folder)).load_config()
        config.CourseDirectory.root = str(self.folder)
        config.CourseDirectory.source_directory = str(self.masters[name].resolve().parent.parent)
        config.NbGraderAPI.log_level = "ERROR"
        return NbGraderAPI(config=config)

    @contextmanager
    def gradebook(self) -> Iterator:
        """nbgrader's gradebook, open; closed at the end."""
        with programs_found(), self.api(next(iter(self.masters))).gradebook as book:
            yield book

    def submissions(self, name: str) -> dict[str, Path]:
        """Student -> what was handed in; the files are only named here, not read.

        Both submitted/STUDENT/NAME/NAME.ipynb and submitted/STUDENT_NAME.ipynb are found.

        Raises:
            UserError: no folder submitted/, a name that is no student id, a link that leads out of
                it, or two files for one student.
        """
        submitted = self.folder / "submitted"
        if not submitted.is_dir():
            raise UserError(
                f"There is no folder {submitted}. Put what students handed in there, as "
                f"submitted/STUDENT/{name}/{name}.ipynb."
            )
        found: dict[str, Path] = {}
        for student, path in _handed_in(submitted, name):
            _add(found, student, path, submitted)
        return found

    def unclaimed(self) -> list[str]:
        """Notebooks in submitted/ that belong to no assignment, a line each with the name it should have."""
        submitted, told = self.folder / "submitted", []
        claimed = {p.resolve() for name in self.masters for _, p in _handed_in(submitted, name)}
        for path in sorted(submitted.rglob("*")):
            own = path.relative_to(submitted)
            hidden = any(part.startswith(".") for part in own.parts)
            if hidden or path.suffix.lower() != ".ipynb" or not path.is_file():
                continue
            if path.resolve() not in claimed:
                alike = (name for name in self.masters if name.lower() in str(own).lower())
                name = next(alike, "NAME")
                told.append(
                    f"not graded: submitted/{own}; expected STUDENT/{name}/{name}.ipynb or "
                    f"STUDENT_{name}.ipynb"
                )
        return told

    def students(self) -> set[str]:
        """Every student id known here: from the gradebook, and from the names in submitted/."""
        submitted = self.folder / "submitted"
        with self.gradebook() as book:
            found = {student.id for student in book.students}
        for name in self.masters:
            found |= {student for student, _ in _handed_in(submitted, name)}
        for path in submitted.glob("*"):
            found.add(path.name if path.is_dir() else path.stem)
        return found

    def autograded(self, name: str, student: str) -> Path:
        """The notebook as it was run for grading."""
        return self.folder / "autograded" / student / name / f"{name}.ipynb"


def enter(
    folder: Path | str, masters: Mapping[str, Path] | None = None, *, new: bool = False
) -> Classroom:
    """Open a teacher's folder.

    Args:
        masters: assignment -> instructor's notebook NAME/NAME.ipynb; None for the course's own.
        new: make the folder where it is missing.
    Raises:
        UserError: nbgrader is not installed, or there is no such folder.
    """
    nbgrader_utils()
    if masters is None:
        from lgutils.teach.masters import masters as found

        masters = found()
    folder = Path(folder).absolute()
    config = folder / "nbgrader_config.py"
    if new and not config.exists():
        source = str(next(iter(masters.values())).resolve().parent.parent)
        files.write_text(config, CONFIG.format(source=source))
    if not config.is_file():
        raise UserError(
            f"{folder} is not a teacher's folder: it has no nbgrader_config.py. "
            "Make one with `lgutils teach release`, or name another with --folder."
        )
    return Classroom(folder, dict(masters))


def _handed_in(submitted: Path, name: str) -> Iterator[tuple[str, Path]]:
    """(what stands for the student, file) of one assignment; nothing is checked yet."""
    for path in sorted(submitted.glob(f"*/{name}")):
        yield path.parent.name, path / f"{name}.ipynb"
    for path in sorted(submitted.glob(f"*_{name}.ipynb")):
        yield path.stem.removesuffix(f"_{name}"), path


def _add(found: dict[str, Path], student: str, path: Path, submitted: Path) -> None:
    if student.startswith("."):
        return
    if not STUDENT.fullmatch(student):
        raise UserError(
            f"{student!r} in {submitted} is no student id. Rename it: letters, digits, '.', '_' and '-' "
            "only, and a letter or digit first."
        )
    if not path.parent.resolve().is_relative_to(submitted.resolve()):
        raise UserError(f"{path.parent} is a link that leads out of {submitted}. Remove the link.")
    if student in found:
        raise UserError(
            f"{student} handed in twice: {found[student]} and {path}. Keep one of the two."
        )
    found[student] = path


@contextmanager
def programs_found() -> Iterator[None]:
    """nbgrader starts `alembic` by name, which must be found also where no environment is active."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before
