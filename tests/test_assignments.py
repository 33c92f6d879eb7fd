"""Tests of the assignments' tests: what a right, a blank and a wrong answer get.

A wrong answer of `tests/wrong/NAME.py` is put in place of one solution, and all cells are run in this process. The real
grader runs three submissions of each assignment: the reference solution, the blank one, and one with every task wrong.
"""

import copy
import importlib
import re
import sys
import warnings
from functools import cache
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbgrader.preprocessors import ClearHiddenTests, ClearOutput, ClearSolutions

from lgutils.teach import grade, masters, release

FOLDER = Path(__file__).parents[1] / "notebooks" / "assignments"
MASTERS = {path.stem: path for path in sorted(FOLDER.glob("*/*.ipynb"))}
WRONG = {name: importlib.import_module(f"wrong.{name}").WRONG for name in MASTERS}
WRONG_ANSWERS = [
    pytest.param(name, task, title, id=f"{name}-{task}-{title}")
    for name, tasks in WRONG.items()
    for task, answers in tasks.items()
    for title in answers
]


@cache
def stored(name):
    return nbformat.read(MASTERS[name], as_version=4)


def read(name):
    """The master, as a copy that may be changed."""
    return copy.deepcopy(stored(name))


def called(cell):
    """The cell's name for nbgrader, or its id."""
    return cell.metadata.get("nbgrader", {}).get("grade_id", cell.id)


def tasks(name, manual=False):
    """Tasks graded by tests, or those graded by hand."""
    return [task for task, about in masters.tasks(MASTERS[name]).items() if about.manual is manual]


def answered(name, answers):
    """The master with other answers, {task: source}."""
    book, sources = read(name), {f"{task}_answer": source for task, source in answers.items()}
    for cell in book.cells:
        cell.source = sources.get(called(cell), cell.source)
    return book


def blank(name):
    """The student version, made by nbgrader's own preprocessors."""
    book = read(name)
    for step in (ClearSolutions, ClearHiddenTests, ClearOutput):
        book, _ = step().preprocess(book, {})
    return book


def lost(book):
    """Run the code cells up to the last test; {task: what its test said} of those that failed."""
    names, found = {"__name__": "__main__"}, {}
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    last = max(i for i, cell in enumerate(cells) if cell.metadata.get("nbgrader", {}).get("grade"))
    for cell in cells[: last + 1]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(compile(cell.source, called(cell), "exec"), names)
        except Exception as error:
            if cell.metadata.get("nbgrader", {}).get("grade"):
                found[called(cell)] = f"{type(error).__name__}: {error}"
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    return found


@pytest.fixture(scope="module", params=MASTERS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def graded(name, tmp_path_factory):
    """What the real grader says about three submissions."""
    first = {task: next(iter(answers.values()))[0] for task, answers in WRONG[name].items()}
    books = {"reference": read(name), "blank": blank(name), "wrong": answered(name, first)}
    folder = tmp_path_factory.mktemp(name)
    for kind, book in books.items():
        nbformat.write(book, folder / f"{kind}.ipynb")
    paths = {kind: folder / f"{kind}.ipynb" for kind in books}
    return grade.folder(paths, MASTERS[name], progress=False)


# --- how an assignment is made --------------------------------------------------------------------


def test_an_assignment_has_five_to_eight_tasks_with_tests(name):
    assert 5 <= len(tasks(name)) <= 8


def test_an_assignment_has_one_question_graded_by_hand(name):
    assert len(tasks(name, manual=True)) == 1


def test_a_task_is_worth_one_to_three_points(name):
    points = masters.tasks(MASTERS[name])
    assert all(points[task].points in (1, 2, 3) for task in tasks(name))


def test_the_first_cell_says_how_many_points_there_are(name):
    total = sum(task.points for task in masters.tasks(MASTERS[name]).values())
    first = read(name).cells[0].source
    assert re.search(rf"\b{total:.0f} points|\bPoints\W+{total:.0f}\b", first)


def test_every_task_has_its_answer_right_before_its_tests(name):
    named = [cell for cell in read(name).cells if "nbgrader" in cell.metadata]
    before = {called(cell): last for last, cell in pairwise(named)}
    for task in tasks(name):
        marks = before[task].metadata.nbgrader
        assert (marks.grade_id, marks.solution, marks.grade) == (f"{task}_answer", True, False)


def test_every_task_has_hidden_tests(name):
    sources = {called(cell): cell.source for cell in read(name).cells}
    assert not [task for task in tasks(name) if "### BEGIN HIDDEN TESTS" not in sources[task]]


# --- the student version --------------------------------------------------------------------------


def test_the_student_version_holds_no_solution(name):
    assert release.leaks(read(name), blank(name)) == ""


def test_every_answer_of_the_student_version_is_to_be_written(name):
    sources = {called(cell): cell.source for cell in blank(name).cells}
    assert all("raise NotImplementedError()" in sources[f"{task}_answer"] for task in tasks(name))
    assert all(sources[task] == "YOUR ANSWER HERE" for task in tasks(name, manual=True))


def test_no_line_of_a_solution_is_left_in_its_cell(name):
    sources = {called(cell): cell.source for cell in blank(name).cells}
    for cell in read(name).cells:
        for body in re.findall(r"BEGIN SOLUTION\n(.*?)### END SOLUTION", cell.source, re.S):
            left = set(map(str.strip, sources[called(cell)].splitlines())) - {""}
            assert not left & set(map(str.strip, body.splitlines()))


# --- the real grader ------------------------------------------------------------------------------


def test_the_reference_solution_gets_full_marks(name, graded):
    worth = masters.tasks(MASTERS[name])
    expected = {task: 0 if about.manual else about.points for task, about in worth.items()}
    assert graded["reference"].points == expected
    assert graded["reference"].flags == ()


def test_the_blank_student_version_gets_nothing(graded):
    assert set(graded["blank"].points.values()) == {0}


def test_all_tasks_wrong_gets_nothing(graded):
    assert set(graded["wrong"].points.values()) == {0}


def test_a_submission_with_wrong_answers_is_not_suspect(graded):
    assert not graded["wrong"].suspect


# --- wrong answers --------------------------------------------------------------------------------


def test_there_are_three_wrong_answers_to_every_task(name):
    assert {task: len(answers) >= 3 for task, answers in WRONG[name].items()} == dict.fromkeys(
        tasks(name), True
    )


@pytest.mark.parametrize(("assignment", "task", "title"), WRONG_ANSWERS)
def test_a_wrong_answer_loses_exactly_its_task_and_is_told_why(assignment, task, title):
    source, words = WRONG[assignment][task][title]
    found = lost(answered(assignment, {task: source}))
    assert list(found) == [task]
    assert words
    assert words in found[task]
