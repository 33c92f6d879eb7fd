"""The tables and pictures of README and docs: made from what is stored, and short."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lgutils import pictures, summary
from lgutils.report import Claim, Interval

ROOT = Path(__file__).resolve().parents[1]
FILLED = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
YES, OPEN, NO = (Interval(*ends, 9) for ends in ((2, 1, 3), (0, -1, 1), (-2, -3, -1)))


@pytest.mark.parametrize("path", FILLED, ids=lambda path: path.stem)
def test_the_tables_of_a_page_are_those_of_the_stored_results(path):
    text = path.read_text(encoding="utf-8")
    assert summary.filled(text, ROOT / "results") == text


def test_the_tables_are_made_without_the_packages_that_build_the_site():
    code = (
        "import sys, scipy.stats; "  # which looks for sphinx
        "sys.modules.update(dict.fromkeys(['docutils', 'sphinx', 'myst_nb'])); "
        "from lgutils import course, summary; "
        "print(summary.chapters(course.notebooks_folder().parent / 'results'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "notebooks/02_condense.ipynb" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("page", "names"),
    [("README.md", ["four", "chapters"]), ("docs/results.md", ["four", "measured"]),
     ("docs/cheatsheet.md", ["four"])],
)  # fmt: skip
def test_a_page_has_its_tables(page, names):
    assert re.findall(r"<!-- (\w+) -->", (ROOT / page).read_text(encoding="utf-8")) == names


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_the_four_claims_are_four_rows_that_a_phone_can_show():
    _, _, *rows = summary.four(ROOT / "results").splitlines()
    assert len(rows) == 4
    assert max(len(line) for row in rows for line in re.split(r"<br>|\|", row)) < 50


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        ([YES, YES], "✓ supported"),
        ([OPEN, OPEN], "○ not supported"),
        ([NO], "✗ contradicted"),
        ([YES, OPEN], "◐ in part (1 of 2)"),
        ([YES, NO], "◐ in part (1 of 2, 1 contradict it)"),
        ([OPEN, NO, NO], "✗ contradicted (2 of 3)"),
    ],
)
def test_one_word_for_several_measurements(effects, said):
    assert summary.word([Claim("s", effect) for effect in effects]) == said


def test_every_chapter_is_in_the_table_with_its_picture():
    rows = summary.chapters(ROOT / "results").splitlines()[2:]
    assert len(rows) == len(list(ROOT.glob("notebooks/[0-9]*.ipynb")))
    assert all('src="docs/thumbs/' in row for row in rows)


# --- pictures -------------------------------------------------------------------------------------


def notebook(folder, *cells):
    """A notebook of cells that show a picture of a colour; the first of each is its tags."""

    def png(colour, size):
        with io.BytesIO() as file:
            Image.new("RGB", size, colour).save(file, "png")
            return base64.b64encode(file.getvalue()).decode()

    stored = [
        {"metadata": {"tags": tags}, "outputs": [{"data": {"image/png": png(colour, size)}}]}
        for tags, colour, size in cells
    ]
    path = folder / "00_x.ipynb"
    path.write_text(json.dumps({"cells": [{"metadata": {}}, *stored]}))
    return path


WIDE = (200, 100)


@pytest.mark.parametrize(
    ("tags", "middle"), [([], (255, 0, 0)), (["thumbnail", "hide-input"], (0, 0, 255))]
)
def test_a_thumbnail_shows_the_tagged_figure_or_else_the_first(tmp_path, tags, middle):
    path = notebook(tmp_path, ([], "red", WIDE), (tags, "blue", WIDE))
    small = pictures.thumbnail(path).convert("RGB")
    assert small.size == pictures.THUMBNAIL
    assert small.getpixel((160, 100)) == middle


def test_a_tall_figure_shows_its_top(tmp_path):
    small = pictures.thumbnail(notebook(tmp_path, ([], "red", (100, 900))))
    colours = small.convert("RGB").getcolors()
    assert max(colours)[1] == (255, 0, 0)


def test_a_chapter_without_a_figure_has_no_thumbnail(tmp_path):
    assert pictures.thumbnail(notebook(tmp_path)) is None


def test_the_hero_has_a_panel_a_family_with_three_curves():
    figure = pictures.hero(ROOT / "results" / "glyphs-quick")
    panels = [axis for part in figure.subfigs for axis in part.axes if axis.get_xlabel()]
    assert [axis.get_title("left") for axis in panels] == ["CNN", "ViT"]
    assert [len(axis.get_legend_handles_labels()[1]) for axis in panels] == [3, 3]


@pytest.mark.parametrize("name", ["hero", "learngene"])
def test_the_pictures_of_the_readme_are_small(name):
    assert (ROOT / "docs" / f"{name}.png").stat().st_size < 150_000


def test_the_thumbnails_are_small():
    found = list((ROOT / "docs" / "thumbs").glob("*.png"))
    assert found
    assert max(path.stat().st_size for path in found) < 30_000
