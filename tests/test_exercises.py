"""Exercises and predictions: the helper, and that every chapter and its solutions fit together."""

import ast
import contextlib
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lgutils.errors import UserError
from lgutils.exercises import answered, called, live, number, numbers, predict

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


@pytest.mark.parametrize(
    "answer", [0, False, "", [], np.zeros(3), float("nan"), torch.zeros(2), [np.ones(2)]]
)
def test_any_value_but_dots_and_none_counts_as_an_answer(answer, capsys):
    assert answered(answer)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("answers", [(...,), (None,), (1, ...), (None, 2), ([1, None],), ((...,),)])
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


@pytest.fixture
def shown(monkeypatch):
    """Every object that is displayed."""
    found = []
    monkeypatch.setattr("IPython.display.display", found.append)
    return found


@pytest.mark.parametrize("typed", ["", "  "])
def test_nothing_is_shown_while_the_box_is_empty(box, shown, typed, capsys):
    box.box.value = typed
    capsys.readouterr()
    box.check(50)
    assert [label.value for label in shown] == [""]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("typed", ["many", "nan", "inf", "12,5", "40 points"])
def test_what_is_no_number_in_the_box_is_told_without_the_answer(box, shown, typed):
    box.check(50)
    box.box.value = typed
    assert shown[0].value == (
        f"{typed!r} is no number: write one in %, such as 12.5, with a decimal point."
    )


def test_the_empty_line_fills_when_a_number_is_typed_later(box, shown):
    box.check(50, digits=0)
    box.box.value = "40"
    assert shown[0].value == "you: 40 %, measured: 50 %, off by 10 %"


# --- what a check reads answers with --------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        [1, 2.0],
        (np.float32(1), np.int64(2)),
        np.array([1, 2]),
        torch.tensor([1.0, 2.0], requires_grad=True),
        [torch.tensor(1), torch.tensor(2.0, requires_grad=True)],
        pd.Series([1, 2]),
    ],
)
def test_numbers_come_in_any_container(answer):
    found = numbers(answer, (2,))
    assert found.dtype == np.float64
    assert found.tolist() == [1, 2]


@pytest.mark.parametrize("answer", ["1", ["1"], [1, None], [[1], [1, 2]], {1: 2}, 1j, object()])
def test_what_holds_no_numbers_is_a_wrong_answer(answer):
    with pytest.raises(AssertionError, match="Numbers are asked for, but the answer is"):
        numbers(answer)


def test_another_shape_is_a_wrong_answer():
    with pytest.raises(AssertionError, match=r"\(3,\) is asked for, but the answer has \(2,\)"):
        numbers([1, 2], (3,))


@pytest.mark.parametrize("answer", [3, 3.0, np.int8(3), [3], torch.tensor([[3]])])
def test_one_number_comes_in_any_container(answer):
    found = number(answer, whole=True)
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("answer", [[1, 2], [], math.nan, math.inf])
def test_not_just_one_finite_number_is_a_wrong_answer(answer):
    with pytest.raises(AssertionError, match="One finite number is asked for"):
        number(answer)


def test_a_fraction_is_a_wrong_answer_where_a_whole_number_is_asked():
    assert number(2.5) == 2.5
    with pytest.raises(AssertionError, match=r"whole number .* the answer is 2\.5"):
        number(2.5, whole=True)


def test_an_error_in_the_students_function_is_told_in_one_sentence():
    def half(x):
        return x / "2"

    with pytest.raises(AssertionError, match=r"half stopped at `return x / .*TypeError") as told:
        called(half, 1)
    assert told.value.__context__ is None


def test_a_function_that_gives_nothing_back_is_asked_for_its_return():
    def half(x):
        x / 2

    with pytest.raises(AssertionError, match=r"half gives nothing back.*`return`"):
        called(half, 1)


def test_a_function_with_dots_left_in_it_is_not_answered_yet():
    def half(x):
        y = ...
        return None if y is ... else x / y

    assert called(half, 1) is None


def test_a_functions_result_is_given_as_it_is():
    assert called(lambda a, b: [a, b], 1, 2) == [1, 2]


def test_what_is_no_function_is_a_wrong_answer():
    with pytest.raises(AssertionError, match="A function is asked for, but the answer is 'abc'"):
        called("abc", 1)


def test_an_assertion_inside_the_students_function_is_passed_on():
    def fails():
        raise AssertionError("in evaluation mode")

    with pytest.raises(AssertionError, match=r"^in evaluation mode$"):
        called(fails)


def test_jupyter_shows_a_wrong_answer_as_one_line():
    with pytest.raises(AssertionError) as told:
        number("many")
    assert told.value._render_traceback_() == [str(told.value)]


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
    for key, exercise in asked.items():
        assert solved[key].check == exercise.check, exercise.heading


def test_solutions_were_run_from_top_to_bottom_and_are_right(solutions):
    cells = [cell for cell in cells_of(solutions) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for exercise in exercises(solutions).values():
        assert "Not answered yet" not in exercise.printed, exercise.heading
        assert "right" in exercise.printed, exercise.heading


def test_no_exercise_shows_a_line_of_its_answer(chapter, solutions):
    asked, solved = exercises(chapter), exercises(solutions)
    shown = lines(*(part for e in asked.values() for part in (e.text, e.answer, e.check)))
    for key, exercise in solved.items():
        own = lines(exercise.answer) - lines(asked[key].answer)
        own = {line for line in own if len(line) > 12 and not line.startswith("#")}
        assert not own & shown, exercise.heading


# --- what the checks say to wrong answers, and to right ones in another container -----------------


@dataclass(frozen=True)
class Solved:
    """An exercise just before its check: what the cells above and the solution have made."""

    check: str
    names: dict  # of what a student writes -> "value" or "function"
    made: dict

    def say(self, **answers):
        """What the check prints with other answers in the place of the right ones."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(self.check, "check", "exec"), {**self.made, **answers})
        return out.getvalue()


def written(check):
    """What `answered(...)` in the check asks for: name -> "value" or "function"."""
    found = {}
    for node in ast.walk(ast.parse(check)):
        if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "answered"):
            continue
        for given in node.args:
            given = given.value if isinstance(given, ast.NamedExpr) else given
            if isinstance(given, ast.Name):
                found[given.id] = "value"
                continue
            is_called = getattr(given.func, "id", "") == "called"
            found[given.args[0].id if is_called else given.func.id] = "function"
    return found


@cache
def solved(name):
    """The three `Solved` of a chapter; its solutions are run from top to bottom."""
    made, found = {"__name__": "__main__"}, []
    for cell in cells_of(ROOT / "notebooks" / "solutions" / name):
        if cell["cell_type"] != "code":
            continue
        answer, mark, check = "".join(cell["source"]).partition("\nif answered(")
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(answer, name, "exec"), made)
        if mark:
            found.append(Solved(mark + check, written(mark + check), dict(made)))
    return found


def off(answer):
    """A wrong answer of the right kind."""
    if isinstance(answer, bool | np.bool_):
        return not answer
    if isinstance(answer, str):
        return answer + "?"
    if isinstance(answer, list | tuple):
        return type(answer)(map(off, answer))
    if is_dataclass(answer):
        return replace(answer, mean=answer.mean + 1)
    return answer * 1.5 + 1


WRONG = {
    "a text": lambda right: "wrong",
    "a list of texts": lambda right: ["wrong", "too"],
    "an odd shape": lambda right: np.zeros((2, 3, 5, 7)),
    "None inside": lambda right: [1.0, None],
    "off": off,
}


def into(container, answer):
    """An answer with its numbers in a list, a NumPy array or a tensor; others as they are."""
    if isinstance(answer, bool | str) or is_dataclass(answer):
        return answer
    try:
        array = np.asarray(answer)
    except ValueError:  # parts of several shapes
        return [into(container, part) for part in answer]
    if array.dtype.kind not in "iuf":
        return answer
    return {"list": array.tolist, "numpy": array.copy, "torch": lambda: torch.tensor(array)}[
        container
    ]()


@pytest.fixture(params=(1, 2, 3))
def exercise(chapter, request):
    return solved(chapter.name)[request.param - 1]


def refused(exercise, **answers):
    """Whether the check names a fault, or says that there is no answer yet."""
    try:
        return exercise.say(**answers).startswith("Not answered yet")
    except AssertionError as error:
        return bool(str(error))


def changed(exercise, change):
    """For each name that a student writes: the right answer changed, ready for `say`."""
    for name, kind in exercise.names.items():
        right = exercise.made[name]
        if kind == "value":
            yield {name: change(right)}
        else:
            yield {name: lambda *given, right=right: change(right(*given))}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer_meets_a_sentence(exercise, wrong):
    for answers in changed(exercise, WRONG[wrong]):
        assert refused(exercise, **answers), list(answers)


def test_a_function_that_fails_or_is_none_meets_a_sentence(exercise):
    for name in (name for name, kind in exercise.names.items() if kind == "function"):
        assert refused(exercise, **{name: "a text"})
        assert refused(exercise, **{name: lambda *given: 1 / 0})


@pytest.mark.parametrize("container", ["list", "numpy", "torch"])
def test_a_right_answer_is_right_in_any_container(exercise, container):
    for answers in changed(exercise, lambda right: into(container, right)):
        assert "right" in exercise.say(**answers)
