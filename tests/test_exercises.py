"""Exercises and predictions: the helper, and that every chapter and its solutions fit together."""

import ast
import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lgutils.errors import UserError
from lgutils.exercises import answered, live, predict

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]*.ipynb"))
HEADING = re.compile(r"^### Exercise (\S+) · .+", re.MULTILINE)


@pytest.fixture(autouse=True)
def no_browser(monkeypatch):
    monkeypatch.delenv("LGUTILS_WIDGETS", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)


@pytest.fixture
def box(monkeypatch):
    """A prediction in % with its box, an `ipywidgets.Text` to write into."""
    pytest.importorskip("ipywidgets")
    monkeypatch.setenv("LGUTILS_WIDGETS", "1")
    return predict("How many?", unit="%")


# --- the helper -----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [0, False, "", [], np.zeros(3), float("nan")])
def test_any_value_but_dots_and_none_counts_as_an_answer(answer, capsys):
    assert answered(answer)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("answers", [(...,), (None,), (1, ...), (None, 2)])
def test_an_exercise_with_one_answer_missing_is_not_answered(answers, capsys):
    assert not answered(*answers)
    assert capsys.readouterr().out.startswith("Not answered yet")


def test_a_function_whose_body_is_dots_is_not_answered():
    def stub():
        """What it should do."""
        ...

    assert not answered(stub())


def test_without_a_browser_the_question_is_printed_and_the_number_later(capsys):
    bet = predict("Where will it end?", unit="%")
    assert capsys.readouterr().out.startswith("Where will it end?")
    bet.check(94.04)
    assert capsys.readouterr().out == "measured: 94.0 %\n"


def test_a_guess_is_printed_beside_the_number_with_the_distance(capsys):
    predict("How many?", guess=np.int64(3)).check(2.5, digits=2)
    assert capsys.readouterr().out == "you: 3.00, measured: 2.50, off by 0.50\n"


@pytest.mark.parametrize("guess", [math.nan, math.inf, "40", None, True, [40]])
def test_a_guess_that_is_no_finite_number_is_refused(guess):
    with pytest.raises(UserError, match="is not a number"):
        predict("How many?", guess=guess)


def test_a_number_typed_into_the_box_is_the_guess(box, capsys):
    box.box.value = " 40 % "
    capsys.readouterr()
    box.check(50, digits=0)
    assert capsys.readouterr().out == "you: 40 %, measured: 50 %, off by 10 %\n"


@pytest.mark.parametrize("typed", ["", "many", "nan", "inf", "1,000"])
def test_the_number_stays_hidden_until_the_box_holds_a_number(box, typed, capsys):
    box.box.value = typed
    capsys.readouterr()
    box.check(50)
    out = capsys.readouterr().out
    assert "50" not in out
    assert out.startswith("First write a number")


def test_a_notebook_server_means_a_browser(monkeypatch):
    pytest.importorskip("ipywidgets")
    monkeypatch.setenv("JPY_SESSION_NAME", "some.ipynb")
    assert live()


def test_widgets_can_be_switched_off_by_hand(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "some.ipynb")
    monkeypatch.setenv("LGUTILS_WIDGETS", "0")
    assert not live()


def test_without_ipywidgets_a_browser_gets_the_printed_question(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.setenv("LGUTILS_WIDGETS", "1")
    bet = predict("Where will it end?")
    assert bet.box is None
    assert capsys.readouterr().out.startswith("Where will it end?")


def test_the_helper_loads_neither_torch_nor_ipywidgets():
    code = "import sys, lgutils.exercises; print({'torch', 'ipywidgets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- chapters and their solutions -----------------------------------------------------------------


@dataclass(frozen=True)
class Exercise:
    """What stands in a notebook under one `### Exercise` heading."""

    heading: str
    text: str
    answer: str  # the code before `if answered(`
    check: str  # the code from there on
    printed: str


def cells_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def printed(cell):
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def lines(*texts):
    """The lines of some texts, without spaces around them."""
    return {line.strip() for text in texts for line in text.splitlines()}


def exercises(path):
    """Number, such as "3.1" -> `Exercise`."""
    groups = []
    for cell in cells_of(path):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and (found := HEADING.search(source)):
            groups.append((found, source, []))
        elif cell["cell_type"] == "code" and groups:
            groups[-1][2].append(cell)
    found = {}
    for heading, text, cells in groups:
        code = "\n\n".join("".join(cell["source"]) for cell in cells)
        answer, mark, check = code.partition("\nif answered(")
        out = "".join(map(printed, cells))
        found[heading[1]] = Exercise(heading[0], text, answer, mark + check, out)
    return found


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    return request.param


def test_every_prediction_of_a_chapter_has_a_name_of_its_own(chapter):
    code = "\n".join("".join(c["source"]) for c in cells_of(chapter) if c["cell_type"] == "code")
    names = re.findall(r"(\w+) = (?:\{\s*\w+: )?predict\(", code)
    assert names
    assert len(names) == len(set(names))


@pytest.fixture
def solutions(chapter):
    return chapter.parent / "solutions" / chapter.name


def test_a_chapter_ends_with_three_numbered_exercises(chapter):
    number = chapter.stem.partition("_")[0].removeprefix("0")
    assert list(exercises(chapter)) == [f"{number}.{i}" for i in (1, 2, 3)]


def test_an_exercise_has_a_collapsible_hint(chapter):
    for exercise in exercises(chapter).values():
        assert "<details><summary>Hint</summary>\n\n" in exercise.text, exercise.heading
        assert "\n\n</details>" in exercise.text, exercise.heading


def test_every_assert_of_an_exercise_has_a_message(chapter):
    for exercise in exercises(chapter).values():
        asserts = [n for n in ast.walk(ast.parse(exercise.check)) if isinstance(n, ast.Assert)]
        assert asserts, exercise.heading
        assert all(a.msg for a in asserts), exercise.heading


def test_a_stored_chapter_leaves_its_exercises_unanswered(chapter):
    for exercise in exercises(chapter).values():
        assert "Not answered yet" in exercise.printed, exercise.heading
        assert "right" not in exercise.printed, exercise.heading


def test_a_chapter_links_its_solutions(chapter):
    sources = ("".join(cell["source"]) for cell in cells_of(chapter))
    assert any(f"](solutions/{chapter.name})" in source for source in sources)


def test_solutions_are_checked_by_the_very_lines_of_the_chapter(chapter, solutions):
    asked, solved = exercises(chapter), exercises(solutions)
    assert [e.heading for e in solved.values()] == [e.heading for e in asked.values()]
    for number, exercise in asked.items():
        assert solved[number].check == exercise.check, exercise.heading


def test_solutions_were_run_from_top_to_bottom_and_are_right(solutions):
    cells = [cell for cell in cells_of(solutions) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for exercise in exercises(solutions).values():
        assert "Not answered yet" not in exercise.printed, exercise.heading
        assert "right" in exercise.printed, exercise.heading


def test_no_exercise_shows_a_line_of_its_answer(chapter, solutions):
    asked, solved = exercises(chapter), exercises(solutions)
    shown = lines(*(part for e in asked.values() for part in (e.text, e.answer, e.check)))
    for number, exercise in solved.items():
        own = lines(exercise.answer) - lines(asked[number].answer)
        own = {line for line in own if len(line) > 12 and not line.startswith("#")}
        assert not own & shown, exercise.heading
