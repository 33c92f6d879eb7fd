"""Running the notebooks: what a reader sees while a cell works."""

import asyncio

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lgutils import course
from lgutils.errors import UserError
from lgutils.report.ledgers import PHONE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("one\ntwo\n", "two"),
        ("epoch 1\repoch 2", "epoch 2"),
        ("\x1b[32mgreen\x1b[0m\n\n", "green"),
        ("x" * 500, "x" * course.WIDTH),
    ],
)
def test_the_last_line_of_a_running_cell_is_short_and_plain(text, shown):
    cell = new_code_cell("", outputs=[new_output("stream", text=text)])
    assert course._last_line(cell) == shown


def test_before_the_first_cell_there_is_no_last_line():
    assert course._last_line(None) == ""


def test_the_clock_ticks_while_the_work_goes_on():
    ticks = []

    async def tick():
        ticks.append(1)

    asyncio.run(course._ticking(asyncio.sleep(2.5), tick))
    assert len(ticks) == 3


def test_an_error_of_the_work_passes_through_the_clock():
    async def broken():
        raise KeyError("inside")

    async def tick(): ...

    with pytest.raises(KeyError, match="inside"):
        asyncio.run(course._ticking(broken(), tick))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What `course.run` writes while a cell prints and then works for three seconds; 0.5 are expected."""
    folder, capture = tmp_path_factory.mktemp("notebooks"), pytest.MonkeyPatch()
    source = "import time\nprint('step 1')\ntime.sleep(3)"
    book = new_notebook(cells=[new_code_cell(source)], metadata={"lgutils": {"seconds": 0.5}})
    nbformat.write(book, folder / "00_slow.ipynb")
    seen = []
    with capture.context() as patch:
        patch.setattr(course, "notebooks_folder", lambda: folder)
        patch.setattr(course, "tqdm", recorder(seen))
        course.run(out=folder / "run")
    return seen


def recorder(seen: list[str]) -> type:
    """A tqdm that keeps what it is told to show."""

    class Recorder(course.tqdm):
        def set_description_str(self, text="", refresh=True):
            seen.append(text)

        @classmethod
        def write(cls, text, **_):
            seen.append(text)

    return Recorder


def test_a_running_cell_shows_its_time_and_its_last_line(told):
    shown = {line for line in told if line.endswith("step 1")}
    assert len(shown) >= 3  # a second apart, so each with another time


def test_a_chapter_that_takes_three_times_its_time_says_once_why_it_may(told):
    (reason,) = [line for line in told if "as long as expected" in line]
    assert reason.startswith("00_slow takes 3 times")
    assert "cores are free" in reason or "one core" in reason


# --- folding, refreshing, a folder to work in -------------------------------------------------------------


def exported(**tags):
    """The page of a notebook with one code cell for each name, which has these tags."""
    cells = [
        new_code_cell(
            f"{name} = 'code of {name}'", metadata={"tags": found},
            outputs=[new_output("stream", text=f"output of {name}")],
        )
        for name, found in tags.items()
    ]  # fmt: skip
    return BeautifulSoup(course._html(new_notebook(cells=cells), "page"), "html.parser")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("tag", "folded"), [("hide-input", "code"), ("hide-output", "output")])
def test_a_page_folds_what_a_tag_hides_and_nothing_else(tag, folded):
    page = exported(plain=["other"], hidden=[tag])
    (box,) = page.select("details.folded")
    assert not box.has_attr("open")
    text = box.get_text()
    assert f"{folded} of hidden" in text
    for other in {"code", "output"} - {folded}:
        assert f"{other} of hidden" in page.get_text().replace(text, "")
    assert "plain" not in text


@pytest.mark.filterwarnings("ignore")
def test_a_box_of_markdown_holds_its_text():
    text = "<details><summary>Hint</summary>\n\nthe answer\n\n</details>"
    page = course._html(new_notebook(cells=[new_markdown_cell(text)]), "page")
    assert "the answer" in BeautifulSoup(page, "html.parser").details.get_text()


def test_refreshing_keeps_what_cells_say_of_themselves(tmp_path):
    about = {
        "tags": ["hide-input", "nbval-ignore-output"], "jupyter": {"source_hidden": True},
        "slideshow": {"slide_type": "slide"},
    }  # fmt: skip
    path = tmp_path / "00_one.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 + 1", metadata=about)]), path)
    course.refresh(str(path))
    (cell,) = nbformat.read(path, as_version=4).cells
    assert cell.metadata == about
    assert cell.outputs[0].data["text/plain"] == "2"


def test_refreshing_stores_what_was_printed_in_one_piece_and_no_progress_bar(tmp_path):
    source = (
        "import sys\nfor k in 'ab':\n    print(k, flush=True)\n    print('bar', file=sys.stderr)"
    )
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), tmp_path / "00_one.ipynb")
    course.refresh(str(tmp_path / "00_one.ipynb"))
    (output,) = nbformat.read(tmp_path / "00_one.ipynb", as_version=4).cells[0].outputs
    assert (output.name, output.text) == ("stdout", "a\nb\n")


def test_the_chapters_of_a_wheel_are_not_refreshed(tmp_path, monkeypatch):
    monkeypatch.setattr(course.home, "CARRIED", course.home.folder())
    with pytest.raises(UserError, match="Only in a clone"):
        course.refresh("00")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A course of two chapters: gives a function that writes a chapter anew."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(course, "notebooks_folder", lambda: folder)

    def write(name, source):
        nbformat.write(new_notebook(cells=[new_code_cell(source, id="one")]), folder / name)

    write("00_one.ipynb", "1")
    write("01_two.ipynb", "2")
    return write


def edit(path, source=None, output=None):
    book = nbformat.read(path, as_version=4)
    if source:
        book.cells[0].source = source
    if output:
        book.cells[0].outputs = [new_output("stream", text=output)]
    nbformat.write(book, path)


def test_a_start_copies_every_chapter(shelf, tmp_path):
    done = course.start(tmp_path / "mine")
    assert done == course.Started(["00_one", "01_two"], [])
    assert sorted(p.name for p in (tmp_path / "mine").iterdir()) == ["00_one.ipynb", "01_two.ipynb"]


def test_solutions_come_along_and_changed_ones_stay(shelf, tmp_path):
    (tmp_path / "notebooks" / "solutions").mkdir()
    shelf("solutions/00_one.ipynb", "answer")
    assert course.start(tmp_path / "mine").copied == ["00_one", "01_two", "solutions/00_one"]
    mine = tmp_path / "mine" / "solutions" / "00_one.ipynb"
    edit(mine, source="my work")
    shelf("solutions/00_one.ipynb", "newer")
    assert course.start(tmp_path / "mine").kept == ["solutions/00_one"]
    assert "my work" in mine.read_text(encoding="utf-8")


def test_a_second_start_changes_nothing(shelf, tmp_path):
    course.start(tmp_path / "mine")
    before = (tmp_path / "mine" / "00_one.ipynb").read_bytes()
    assert course.start(tmp_path / "mine") == course.Started([], [])
    assert (tmp_path / "mine" / "00_one.ipynb").read_bytes() == before


def test_a_changed_chapter_is_kept_and_named_even_if_there_is_a_newer_one(shelf, tmp_path):
    course.start(tmp_path / "mine")
    edit(tmp_path / "mine" / "00_one.ipynb", source="my work")
    shelf("00_one.ipynb", "newer")
    assert course.start(tmp_path / "mine").kept == ["00_one"]
    assert "my work" in (tmp_path / "mine" / "00_one.ipynb").read_text(encoding="utf-8")


def test_an_unchanged_chapter_gives_way_to_a_newer_one_though_it_was_run(shelf, tmp_path):
    course.start(tmp_path / "mine")
    edit(tmp_path / "mine" / "00_one.ipynb", output="run")
    shelf("00_one.ipynb", "newer")
    assert course.start(tmp_path / "mine").copied == ["00_one"]
    assert "newer" in (tmp_path / "mine" / "00_one.ipynb").read_text(encoding="utf-8")


def test_outputs_of_a_chapter_that_is_up_to_date_stay(shelf, tmp_path):
    course.start(tmp_path / "mine")
    edit(tmp_path / "mine" / "00_one.ipynb", output="run")
    course.start(tmp_path / "mine")
    assert '"run"' in (tmp_path / "mine" / "00_one.ipynb").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["not a notebook", '{"cells": []}', ""])
def test_a_foreign_file_with_a_chapters_name_is_kept(content, shelf, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "01_two.ipynb").write_text(content)
    assert course.start(tmp_path / "mine") == course.Started(["00_one"], ["01_two"])
    assert (tmp_path / "mine" / "01_two.ipynb").read_text() == content


def test_the_courses_own_folder_is_no_place_to_start(shelf, tmp_path):
    with pytest.raises(UserError, match="own notebooks"):
        course.start(tmp_path / "notebooks")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A JupyterLab that writes its arguments down and ends with 3; gives what it wrote."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "jupyterlab.py").write_text(LAB.format(str(tmp_path / "said")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    monkeypatch.setenv("LAB", "")
    return tmp_path / "said"


LAB = """\
import os, signal, sys, time
if os.environ["LAB"]:  # on Ctrl-C it saves for a second
    signal.signal(signal.SIGINT, lambda *_: time.sleep(1))
    os.kill(os.getppid(), signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
open({0!r}, "w").write(sys.argv[-1])
sys.exit(3)
"""


def test_jupyterlab_opens_in_the_folder(lab, tmp_path):
    assert course.open_lab(tmp_path) == 3
    assert lab.read_text() == f"--ServerApp.root_dir={tmp_path}"


@pytest.mark.parametrize("module", ["jupyterlab", "random", "signal"])
def test_modules_in_the_readers_folder_are_not_run_in_place_of_jupyterlabs(
    module, lab, tmp_path, monkeypatch
):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / f"{module}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(mine)
    assert course.open_lab(mine) == 3


def test_on_ctrl_c_jupyterlab_ends_at_its_own_pace(lab, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB", "1")
    assert course.open_lab(tmp_path) == 0
    assert lab.exists()


def test_without_jupyterlab_one_sentence_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(course, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "lgutils\[course\]"'):
        course.open_lab(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_a_chapter_runs_in_the_run_folder(shelf, tmp_path):
    shelf("00_one.ipynb", "open('mine.txt', 'w').close()")
    course.run("00", out=tmp_path / "run")
    assert (tmp_path / "run" / "mine.txt").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_page_draws_equations_itself_and_leaves_dollars_in_code():
    text = "So $x_1$ costs `$5` and `$6`:\n\n$$ \\frac{1}{B} < 2 $$\n\n<details>\n\nalso $y$\n\n</details>"
    page = BeautifulSoup(
        course._html(new_notebook(cells=[new_markdown_cell(text)]), "page"), "html.parser"
    )
    assert [found["display"] for found in page.select("main math")] == ["inline", "block", "inline"]
    assert page.select_one("main msub").get_text() == "x1"
    assert [code.get_text() for code in page.select("main code")] == ["$5", "$6"]


@pytest.mark.filterwarnings("ignore")
def test_a_page_has_the_styles_by_which_a_ledger_fits_a_phone():
    page = BeautifulSoup(course._html(new_notebook(cells=[]), "page"), "html.parser")
    assert any(PHONE.strip() in style.get_text() for style in page.select("style"))
