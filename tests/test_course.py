"""Running the notebooks: what a reader sees while a cell works."""

import asyncio

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lgutils import course


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
