"""The wheel carries the course too: notebooks, stored results and docs, under `lgutils/carried`."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = ("*.md", "CITATION.cff", "docs/**/*", "notebooks/**/*", "results/**/*")
MADE = (".*", "__pycache__", "report.html", "*.sqlite*")  # names that are not in git


def carried() -> list[Path]:
    """The course's files, relative to the clone."""
    found = {path for pattern in CARRIED for path in Path().glob(pattern) if path.is_file()}
    return sorted(
        path for path in found if not any(Path(part).match(m) for part in path.parts for m in MADE)
    )


class WithCourse(build_py):
    """Not for `pip install -e`: there the package finds the clone around itself."""

    def run(self):
        super().run()
        for path in [] if self.editable_mode else carried():
            target = Path(self.build_lib, "lgutils", "carried", path)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))

    def get_source_files(self):
        return [*super().get_source_files(), *map(str, carried())]


setup(cmdclass={"build_py": WithCourse})
