"""A teacher's folder, laid out as nbgrader expects it: what was released, handed in and graded."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from lgutils import files
from lgutils.errors import UserError, unknown
from lgutils.teach.masters import nbgrader_utils

STUDENT = re.compile(r"[^\W_][\w.-]{0,99}")
RULE = "letters, digits, '.', '_' and '-' only, a letter or digit first, at most 100"
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
        api = NbGraderAPI(config=config)
        kept = self.folder / "gradebook.db"
        if api.coursedir.db_url == f"sqlite:///{kept}" and not kept.exists():
            _made_whole(api, kept)
        return api

    @contextmanager
    def gradebook(self) -> Iterator:
        """nbgrader's gradebook, open; closed at the end."""
        with programs_found(), self.api(next(iter(self.masters))).gradebook as book:
            yield book

    def submissions(self, name: str) -> dict[str, Path]:
        """Student -> what is graded; the files are only named here, not read.

        Both submitted/STUDENT/NAME/NAME.ipynb and submitted/STUDENT_NAME.ipynb are found; of two files of one
        student the newer counts. What is not graded, `left_out` tells.

        Raises:
            UserError: no folder submitted/.
        """
        submitted = self.folder / "submitted"
        if not submitted.is_dir():
            raise UserError(
                f"There is no folder {submitted}. Put what students handed in there, as "
                f"submitted/STUDENT/{name}/{name}.ipynb."
            )
        return _sorted_out(submitted, name)[0]

    def left_out(self) -> list[tuple[str, str]]:
        """What lies in submitted/ and is not graded: (file, why), in which only the file names a student."""
        submitted = self.folder / "submitted"
        left, claimed = {}, set()
        for name in self.masters:
            chosen, others = _sorted_out(submitted, name)
            left |= others
            claimed |= {os.path.realpath(path) for path in (*chosen.values(), *others)}
        for path in sorted(submitted.rglob("*")):
            own = path.relative_to(submitted)
            hidden = any(part.startswith(".") for part in own.parts)
            if hidden or path.suffix.lower() != ".ipynb" or not os.path.isfile(path):
                continue
            if os.path.realpath(path) not in claimed:
                alike = (name for name in self.masters if name.lower() in str(own).lower())
                name = next(alike, "NAME")
                left[path] = f"expected STUDENT/{name}/{name}.ipynb or STUDENT_{name}.ipynb"
        return [(shown(path.relative_to(self.folder)), why) for path, why in left.items()]

    def students(self) -> set[str]:
        """Every student id known here, as messages may spell it: from the gradebook and from submitted/."""
        submitted = self.folder / "submitted"
        with self.gradebook() as book:
            found = {student.id for student in book.students}
        for name in self.masters:
            found |= {student for student, _ in _handed_in(submitted, name)}
        for path in submitted.glob("*"):
            found.add(path.name if path.is_dir() else path.stem)
        found |= {normalize(form, name) for name in found for form in ("NFC", "NFD")}
        return found | {re.sub("[^ -~]", "?", name) for name in found}  # so does a kernel's report

    def autograded(self, name: str, student: str) -> Path:
        """The notebook as it was run for grading."""
        return self.folder / "autograded" / student / name / f"{name}.ipynb"


def enter(
    folder: Path | str, masters: Mapping[str, Path] | None = None, *, new: bool = False,
    names: Iterable[str] = (),
) -> Classroom:  # fmt: skip
    """Open a teacher's folder.

    Args:
        masters: assignment -> instructor's notebook NAME/NAME.ipynb; None for the course's own.
        new: make the folder where it is missing.
        names: assignments that must be known, before the folder is made.
    Raises:
        UserError: nbgrader is not installed, or there is no such folder or assignment.
    """
    nbgrader_utils()
    if masters is None:
        from lgutils.teach.masters import masters as found

        masters = found()
    folder = Path(folder).absolute()
    room, config = Classroom(folder, dict(masters)), folder / "nbgrader_config.py"
    room.choose(names)
    if new and not config.exists():
        source = str(next(iter(masters.values())).resolve().parent.parent)
        files.write_text(config, CONFIG.format(source=source))
    if not config.is_file():
        raise UserError(
            f"{folder} is not a teacher's folder: it has no nbgrader_config.py. "
            "Make one with `lgutils teach release`, or name another with --folder."
        )
    return room


def _made_whole(api, kept: Path) -> None:
    """Make the gradebook at once: nbgrader makes it in steps, and would never complete one that was cut off."""
    with files.atomic(kept) as temporary, programs_found():
        api.coursedir.db_url = f"sqlite:///{temporary}"
        api.gradebook.close()
    api.coursedir.db_url = f"sqlite:///{kept}"


def shown(path: Path | str) -> str:
    """A path as text that can be printed and written, whatever bytes are in it."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _handed_in(submitted: Path, name: str) -> Iterator[tuple[str, Path]]:
    """(what stands for the student, file) of one assignment; nothing is checked yet.

    A folder without the file counts as handed in only if it holds no other notebook.
    """
    for path in sorted(submitted.glob(f"*/{name}")):
        file = path / f"{name}.ipynb"
        if os.path.lexists(file) or not any(path.glob("*.ipynb")):
            yield path.parent.name, file
    for path in sorted(submitted.glob(f"*_{name}.ipynb")):
        yield path.stem.removesuffix(f"_{name}"), path


def _sorted_out(submitted: Path, name: str) -> tuple[dict[str, Path], dict[Path, str]]:
    """Student -> file to grade, and file -> why it is not graded."""
    found: dict[str, list[Path]] = {}
    left = {}
    for student, path in _handed_in(submitted, name):
        student = normalize("NFC", student)
        if student == ".ipynb_checkpoints" or student.startswith("._"):  # what systems leave
            continue
        if not STUDENT.fullmatch(student):
            left[path] = f"the part for the student is no id: {RULE}"
        elif not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(submitted)):
            left[path] = "a link that leads out of submitted/"
        else:
            found.setdefault(student, []).append(path)
    for paths in found.values():
        paths.sort(key=_changed, reverse=True)
        left |= dict.fromkeys(paths[1:], "handed in twice, and the newer file is graded")
    return {student: paths[0] for student, paths in found.items()}, left


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


@contextmanager
def programs_found() -> Iterator[None]:
    """nbgrader starts `alembic` by name, which must be found also where no environment is active."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before
