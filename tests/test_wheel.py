"""The wheel alone, without a clone: built, installed into a fresh environment, used in an empty folder."""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from lgutils import course, home, ship
from lgutils.errors import UserError
from lgutils.site import sources
from lgutils.teach import masters

ROOT = Path(__file__).parents[1]
LEFT_OUT = (".*", "build", "dist", "runs", "*.egg-info", "__pycache__", "tests")


def ended(command, folder, environment=None):
    """Run a command and give what it prints; a failure shows what it said."""
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in a copy, as building leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "clone", ignore=shutil.ignore_patterns(*LEFT_OUT))
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    ended([*pip, "-w", folder, "."], folder / "clone")
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def place(wheel, tmp_path_factory):
    """A fresh environment with the wheel and nothing else of ours; other packages are those here."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=os.name != "nt")
    bin_ = place / ("Scripts" if os.name == "nt" else "bin")
    packages = next(iter(place.rglob("site-packages")))
    shared = [p for p in sys.path if Path(p).name == "site-packages"]
    (packages / "shared.pth").write_text("\n".join(shared))  # no .pth of theirs is read: no clone
    pip = [sys.executable, "-m", "pip", "--python", bin_ / "python", "install", "-q"]
    ended([*pip, "--no-deps", "--no-index", wheel], place)
    return packages / "lgutils", bin_ / "lgutils"


@pytest.fixture(scope="module")
def run(place):
    """Runs the installed command: (folder, arguments) -> what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["JUPYTER_PATH"] = str(Path(sys.prefix, "share", "jupyter"))
    return lambda folder, *line: ended([place[1], *line], folder, environment)


def look(folder):
    """Every file with its content, but for Python's own caches."""
    return {
        path: hashlib.sha256(path.read_bytes()).digest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def used(place, run, tmp_path_factory):
    """An empty folder after one chapter, a start and a release; and whether the package changed."""
    folder, before = tmp_path_factory.mktemp("empty"), look(place[0])
    run(folder, "course", "--only", "00", "--out", "pages")
    run(folder, "start", "mine", "--no-open")
    run(folder, "teach", "release", "a1_splits")
    return folder, look(place[0]) == before


def test_a_chapter_runs_without_a_clone(used):
    assert "00_paradigm" in (used[0] / "pages" / "00_paradigm.html").read_text(encoding="utf-8")


def test_the_chapters_can_be_started_without_a_clone(used):
    found = {p.name for p in (used[0] / "mine").iterdir()}
    assert found == {"solutions", *(p.name for p in course.chapters())}


def test_an_assignment_is_released_without_a_clone(used):
    assert (used[0] / "teaching" / "release" / "a1_splits" / "a1_splits.ipynb").is_file()


def test_nothing_is_written_into_the_package(used):
    assert used[1]


def test_the_first_words_say_where_the_course_lies(place, run, tmp_path):
    assert str(place[0] / "carried") in run(tmp_path)


def test_stored_results_are_those_of_the_clone(place):
    carried = place[0] / "carried" / "results"
    for path in ship.results_folder().rglob("*.csv"):
        assert (carried / path.relative_to(ship.results_folder())).read_bytes() == path.read_bytes()


def test_the_site_is_made_of_the_same_pages(place, monkeypatch, tmp_path):
    found = []
    for name, root in (("clone", home.folder()), ("wheel", place[0] / "carried")):
        monkeypatch.setattr(home, "folder", lambda root=root: root)
        sources.collect(tmp_path / name)
        found.append({p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("*")})
    assert found[0] == found[1]


def test_what_the_wheel_carries_is_found_where_there_is_no_clone(tmp_path, monkeypatch):
    monkeypatch.setattr(home, "PACKAGE", tmp_path / "site-packages" / "lgutils")
    monkeypatch.setattr(home, "CARRIED", tmp_path / "site-packages" / "lgutils" / "carried")
    with pytest.raises(UserError, match="missing from this installation"):
        home.folder()
    assignments = home.CARRIED / "notebooks" / "assignments"
    assignments.mkdir(parents=True)
    (home.CARRIED / "notebooks" / "00_one.ipynb").touch()
    assert course.notebooks_folder() == home.CARRIED / "notebooks"
    assert ship.results_folder() == home.CARRIED / "results"
    assert masters.folder() == assignments


def test_what_the_wheel_carries_wins_over_the_notebooks_of_another_package(tmp_path, monkeypatch):
    monkeypatch.setattr(home, "PACKAGE", tmp_path / "lgutils")
    monkeypatch.setattr(home, "CARRIED", tmp_path / "lgutils" / "carried")
    for place in (tmp_path, home.CARRIED):
        (place / "notebooks").mkdir(parents=True)
        (place / "notebooks" / "01_one.ipynb").touch()
    assert home.folder() == home.CARRIED


def test_what_ships_is_made_again_only_in_a_clone(monkeypatch):
    monkeypatch.setattr(home, "CARRIED", home.folder())
    with pytest.raises(UserError, match="Only in a clone"):
        ship.run(["pictures"])
