"""A teacher's folder: student versions, grading into nbgrader's gradebook, feedback, class report."""

import csv
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from unicodedata import normalize

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

from lgutils.cli.app import app
from lgutils.cli.teach import teach as commands
from lgutils.errors import UserError
from lgutils.teach import classreport, classroom, feedback, gradebook, records, release, tables
from lgutils.teach import grade as grading
from lgutils.teach.masters import masters as shipped

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
RIGHT = "def double(x):\n    return 2 * x"
HARD_CODED = "def double(x):\n    return {1: 2}[x]"


def marks(name: str, **kinds) -> dict:
    kinds = {"grade": False, "solution": False, "locked": False, "task": False, **kinds}
    return {"nbgrader": {"grade_id": name, "schema_version": 3, **kinds}}


def tiny_cells() -> list:
    answer = f"{RIGHT.splitlines()[0]}\n    ### BEGIN SOLUTION\n    return 2 * x  # the number twice\n    ### END SOLUTION"
    double = (
        "assert double(1) == 2, 'not doubled'\n### BEGIN HIDDEN TESTS\n"
        "assert double(3) == 6, 'only works for 1'\n### END HIDDEN TESTS"
    )
    half = "def half(x):\n    ### BEGIN SOLUTION\n    return x / 2  # not the floor of it\n    ### END SOLUTION"
    return [
        new_markdown_cell("# Tiny assignment"),
        new_code_cell(answer, metadata=marks("double_answer", solution=True)),
        new_code_cell(double, metadata=marks("double", grade=True, locked=True, points=2)),
        new_code_cell(half, metadata=marks("half_answer", solution=True)),
        new_code_cell(
            "assert half(3) == 1.5, 'rounded'",
            metadata=marks("half", grade=True, locked=True, points=1),
        ),
        new_markdown_cell(
            "Because multiplying is repeated adding.",
            metadata=marks("why", grade=True, solution=True, points=3),
        ),
    ]


def write_master(folder: Path, cells: list, name: str = "tiny") -> dict[str, Path]:
    """An executed master as course authors store it, and the mapping that names it."""
    book = new_notebook(cells=cells, metadata={"kernelspec": KERNEL, "lgutils": {"seconds": 1}})
    for count, cell in enumerate((c for c in cells if c.cell_type == "code"), 1):
        cell.execution_count = count
        cell.metadata["execution"] = {"iopub.status.busy": "2026-01-01"}
    path = folder / name / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return {name: path}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A teacher's folder in which the tiny assignment was released, and its masters."""
    base = tmp_path_factory.mktemp("teach")
    masters = write_master(base / "masters", tiny_cells())
    release.release((), base / "teaching", masters=masters)
    return base / "teaching", masters


@pytest.fixture
def room(released, tmp_path):
    """A copy of it for one test."""
    folder, masters = released
    shutil.copytree(folder, tmp_path / "teaching")
    masters = {
        n: shutil.copytree(p.parent, tmp_path / "m" / n) / p.name for n, p in masters.items()
    }
    return classroom.enter(tmp_path / "teaching", masters)


def hand_in(room, student: str, answers: dict[str, str] | None = None, name: str = "tiny") -> Path:
    """Fill in the release with these sources by grade_id and put it where submissions lie."""
    book = nbformat.read(room.folder / "release" / name / f"{name}.ipynb", as_version=4)
    for cell in book.cells:
        task = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = (answers or {}).get(task, cell.source)
    path = room.folder / "submitted" / student / name / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


@pytest.fixture
def ran(monkeypatch):
    """Grading without kernels: `double` is right or hard-coded, `half` fails; lists who was run."""
    calls = []

    def one(path, master) -> grading.Graded:
        book = nbformat.read(path, as_version=4)
        source = next(c.source for c in book.cells if "double(x)" in c.source)
        points = {"double": 2.0 * ("2 * x" in source), "half": 0.0, "why": 0.0}
        messages = {"half": "AssertionError: rounded"}
        if "NotImplementedError" in source:
            messages["double"] = "No answer was given."
        elif not points["double"]:
            messages["double"] = "AssertionError: only works for 1"
        full = {c.metadata.nbgrader.grade_id: c.source for c in nbformat.read(master, 4).cells[1:]}
        for cell in book.cells[1:]:
            name = cell.metadata.nbgrader.grade_id
            if name in points and cell.cell_type == "code":
                cell.source = full[name]
            if name in messages:
                quoted = ["assert double(3) == 6, 'only works for 1'"]
                cell.outputs = [
                    new_output(
                        "error", ename="AssertionError", evalue="of a test", traceback=quoted
                    )
                ]
        suspect, unrun = "cheat" in str(path), "unlucky" in str(path)
        flags = ("This notebook may not read submitted/student0.",) if suspect else ()
        return grading.Graded(
            points=dict.fromkeys(points, 0.0) if suspect or unrun else points, notebook=book,
            flags=flags, messages=messages, seconds=0.0 if unrun else 1.25, pending=("why",),
            suspect=suspect, earned=points, unrun=unrun,
        )  # fmt: skip

    def folder(submissions, master, *, each, **how):
        calls.append((sorted(submissions), how))
        for student, path in submissions.items():
            if student == "stopped":
                raise KeyboardInterrupt
            each(student, one(path, master))

    monkeypatch.setattr(grading, "folder", folder)
    return calls


def by_hand(room, student: str, points: float, comment: str, name="tiny", task="why") -> None:
    """What nbgrader's form does when a teacher types points and a comment."""
    with room.gradebook() as book:
        grade = book.find_grade(task, name, name, student)
        grade.manual_score, grade.needs_manual_grade = points, False
        book.find_comment(task, name, name, student).manual_comment = comment
        book.db.commit()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# --- release


def test_the_student_version_holds_stubs_and_no_hidden_tests(room):
    text = text_of(room.folder / "release" / "tiny" / "tiny.ipynb")
    assert "raise NotImplementedError()" in text
    assert "YOUR ANSWER HERE" in text
    for secret in ("the number twice", "repeated adding", "HIDDEN", "only works for 1"):
        assert secret not in text


def test_the_student_version_has_no_outputs_counts_or_private_metadata(room):
    book = nbformat.read(room.folder / "release" / "tiny" / "tiny.ipynb", as_version=4)
    assert set(book.metadata) <= {"kernelspec", "language_info"}
    for cell in book.cells:
        assert set(cell.metadata) <= {"nbgrader", "deletable", "editable", "tags"}
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_a_solution_that_is_left_in_another_cell_is_refused(tmp_path):
    cells = [*tiny_cells(), new_markdown_cell("Hint:\n\n    return 2 * x  # the number twice")]
    masters = write_master(tmp_path / "masters", cells)
    with pytest.raises(UserError, match=r"tiny was not released: the text .*the number twice"):
        release.release((), tmp_path / "teaching", masters=masters)
    assert not (tmp_path / "teaching" / "release" / "tiny" / "tiny.ipynb").exists()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("### begin hidden tests\nassert half(3) == 1.5", "cell 1 still holds a mark"),
        ("if True:\n    assert double(3) == 6, 'only works for 1'", "hidden test is left"),
        ("Because multiplying is repeated adding.", "of a solution or hidden test is left"),
        ("assert double(1) == 2", ""),
    ],
)
def test_what_is_left_of_solutions_and_hidden_tests_is_found(source, told):
    found = release.leaks(
        new_notebook(cells=tiny_cells()), new_notebook(cells=[new_code_cell(source)])
    )
    assert told in found
    assert bool(told) == bool(found)


def test_an_unknown_assignment_is_named_with_the_nearest(room):
    with pytest.raises(UserError, match=r"Unknown assignment 'tny'\. Nearest: 'tiny'"):
        release.release(["tny"], room.folder, masters=room.masters)


def test_tasks_cannot_change_once_submissions_are_graded(room, ran):
    hand_in(room, "student01", {"double_answer": RIGHT})
    gradebook.grade((), room.folder, masters=room.masters)
    write_master(room.masters["tiny"].parent.parent, tiny_cells()[:3])
    with pytest.raises(UserError, match="tasks of tiny changed, but submissions of it were graded"):
        release.release((), room.folder, masters=room.masters)


# --- the folder


def test_a_folder_that_is_no_teachers_folder_is_refused(tmp_path, released):
    with pytest.raises(UserError, match=r"not a teacher's folder.*lgutils teach release"):
        classroom.enter(tmp_path, released[1])


def test_a_gradebook_that_was_cut_off_while_it_was_made_is_not_there(room, monkeypatch):
    (room.folder / "gradebook.db").unlink()

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr("nbgrader.api.get_alembic_version", stop)
    with pytest.raises(KeyboardInterrupt):
        room.api("tiny")
    assert not list(room.folder.glob("*gradebook.db*"))


def test_ctrl_c_is_no_fault_of_the_master(room, monkeypatch):
    log = "[ERROR] Canceled\nKeyboardInterrupt"
    stopped = SimpleNamespace(
        generate_assignment=lambda name: {"success": False, "error": None, "log": log}
    )
    monkeypatch.setattr(classroom.Classroom, "api", lambda self, name: stopped)
    with pytest.raises(KeyboardInterrupt):
        release.release(["tiny"], room.folder, masters=room.masters)


def test_without_nbgrader_it_says_what_to_install(room, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbgrader", None)
    with pytest.raises(
        UserError, match=r'teach needs nbgrader: python -m pip install "lgutils\[teach\]"'
    ):
        classroom.enter(room.folder, room.masters)


def test_submissions_are_found_in_folders_and_as_single_files(room):
    first = hand_in(room, "student01")
    flat = shutil.copy(first, room.folder / "submitted" / "student_02_tiny.ipynb")
    assert room.submissions("tiny") == {"student01": first, "student_02": Path(flat)}


ODD = ("a b", "-rf", "x;y", ".hidden", "<b>", "a" * 101, os.fsdecode(b"\xff"), "tab\there", "_x")


@pytest.mark.parametrize("student", ODD)
def test_a_name_that_is_no_student_id_is_told_and_the_others_are_graded(room, ran, student):
    path = hand_in(room, student)
    hand_in(room, "student01")
    rows = gradebook.grade((), room.folder, masters=room.masters)
    assert [row.student for row in rows] == ["student01"]
    ((file, why),) = room.left_out()
    assert file == classroom.shown(path.relative_to(room.folder))
    assert "is no id" in why


def test_a_name_with_an_accent_is_one_student_however_it_is_spelt(room, ran):
    hand_in(room, normalize("NFD", "zoé"), {"double_answer": RIGHT})
    (row,) = gradebook.grade((), room.folder, masters=room.masters)
    assert (row.student, row.total, room.left_out()) == (normalize("NFC", "zoé"), 2, [])
    assert room.api("tiny").get_autograded_students("tiny") == {row.student}
    assert feedback.feedback((), room.folder, masters=room.masters)[0].is_file()
    assert {"zo?", "zoe?"} <= room.students()  # as a kernel reports it


def test_a_link_that_leads_out_of_the_folder_is_told_and_not_followed(room, tmp_path):
    outside = tmp_path / "elsewhere" / "tiny"
    outside.mkdir(parents=True)
    path = hand_in(room, "student01")
    (room.folder / "submitted" / "student02").symlink_to(outside.parent)
    assert room.submissions("tiny") == {"student01": path}
    assert room.left_out() == [
        ("submitted/student02/tiny/tiny.ipynb", "a link that leads out of submitted/")
    ]


@pytest.mark.parametrize("newer", [0, 1])
def test_of_two_files_of_one_student_the_newer_is_graded_and_the_other_told(room, newer):
    path = hand_in(room, "student01")
    paths = [path, Path(shutil.copy(path, room.folder / "submitted" / "student01_tiny.ipynb"))]
    os.utime(paths[newer], (2e9, 2e9))
    assert room.submissions("tiny") == {"student01": paths[newer]}
    assert room.left_out() == [
        (
            str(paths[1 - newer].relative_to(room.folder)),
            "handed in twice, and the newer file is graded",
        )
    ]


def test_the_report_says_why_files_were_not_graded_and_whose_only_when_asked(room, ran):
    hand_in(room, "student01")
    shutil.copy(hand_in(room, "a b"), room.folder / "submitted" / "student01_tiny.ipynb")
    gradebook.grade((), room.folder, masters=room.masters)
    classreport.report((), room.folder, masters=room.masters)
    text = text_of(room.folder / "report.md")
    assert "| handed in twice, and the newer file is graded | 1 |" in text
    assert "a b/tiny" not in text
    classreport.report((), room.folder, masters=room.masters, with_names=True)
    assert "| submitted/a b/tiny/tiny.ipynb | the part" in text_of(room.folder / "report.md")


def test_pipes_in_the_place_of_files_do_not_hold_up_the_class(room, ran):
    path = hand_in(room, "student01")
    os.mkfifo(path.with_name("timestamp.txt"))
    pipe = hand_in(room, "student02")
    pipe.unlink()
    os.mkfifo(pipe)
    (room.folder / "submitted" / "student03_tiny.ipynb").symlink_to("student03_tiny.ipynb")
    assert set(room.submissions("tiny")) == {"student01", "student02", "student03"}
    assert room.left_out() == []
    assert gradebook._handed(pipe, room.folder) == "no file"
    assert gradebook._time(room.api("tiny"), "tiny", "student01", room.folder / "submitted") is None


def test_a_folder_with_only_a_misnamed_notebook_is_not_worth_nothing_but_told(room, ran):
    path = hand_in(room, "student01")
    path.rename(path.with_name("tiny (1).ipynb"))
    assert room.submissions("tiny") == {}
    assert room.left_out()[0][0] == "submitted/student01/tiny/tiny (1).ipynb"


MISNAMED = (
    "student02_tiny (1).ipynb", "student03-tiny.ipynb", "student04_Tiny.ipynb",
    "student05_tiny.IPYNB", "student06_tiny_late.ipynb", "student07/tiny.ipynb",
    "student08/tiny/tiny (1).ipynb",
)  # fmt: skip


def misname(room, name: str) -> None:
    path = room.folder / "submitted" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


@pytest.mark.parametrize("name", MISNAMED)
def test_a_notebook_that_no_assignment_claims_is_named_with_the_name_it_should_have(room, name):
    misname(room, name)
    assert room.left_out() == [
        (f"submitted/{name}", "expected STUDENT/tiny/tiny.ipynb or STUDENT_tiny.ipynb")
    ]


def test_what_is_graded_or_hidden_or_no_notebook_is_not_named(room):
    path = hand_in(room, "student01")
    shutil.copy(path, room.folder / "submitted" / "student02_tiny.ipynb")
    misname(room, "student01/tiny/.ipynb_checkpoints/tiny-checkpoint.ipynb")
    misname(room, "student01/tiny/notes.txt")
    assert room.left_out() == []


def test_where_only_misnamed_notebooks_were_handed_in_they_are_named(room):
    misname(room, "student07/answers.ipynb")
    with pytest.raises(
        UserError, match=r"Nothing was handed in.*student07/answers.ipynb; expected"
    ):
        gradebook.grade((), room.folder, masters=room.masters)


# --- grading


def test_points_and_what_is_pending_reach_gradebook_and_csv(room, ran):
    hand_in(room, "student01", {"double_answer": RIGHT})
    hand_in(room, "student02", {"double_answer": HARD_CODED})
    first, second = gradebook.grade((), room.folder, masters=room.masters)
    assert (first.points, first.total, first.maximum) == ({"double": 2, "half": 0, "why": 0}, 2, 6)
    assert (second.total, second.pending) == (0, ("why",))
    with (room.folder / "grades.csv").open() as handle:
        lines = list(csv.DictReader(handle))
    assert lines[0] == {
        "student": "student01", "assignment": "tiny", "double": "2.0", "half": "0.0", "why": "0.0",
        "total": "2.0", "max": "6.0", "by-hand pending": "why", "flags": "", "seconds": "1.2",
    }  # fmt: skip


def test_an_unchanged_submission_is_not_run_again(room, ran):
    hand_in(room, "student01", {"double_answer": HARD_CODED})
    hand_in(room, "student02", {"double_answer": RIGHT})
    gradebook.grade((), room.folder, masters=room.masters)
    hand_in(room, "student01", {"double_answer": RIGHT})
    first, _ = gradebook.grade((), room.folder, masters=room.masters)
    assert [students for students, _ in ran] == [["student01", "student02"], ["student01"]]
    assert first.points["double"] == 2


def test_what_was_graded_before_a_stop_is_not_run_again(room, ran):
    for student in ("anna", "stopped"):
        hand_in(room, student, {"double_answer": RIGHT})
    with pytest.raises(KeyboardInterrupt):
        gradebook.grade((), room.folder, masters=room.masters)
    assert [row.student for row in records.rows(room, ["tiny"])] == ["anna"]
    with pytest.raises(KeyboardInterrupt):
        gradebook.grade((), room.folder, masters=room.masters)
    assert [students for students, _ in ran] == [["anna", "stopped"], ["stopped"]]


def test_other_limits_or_fresh_run_everything_again(room, ran):
    hand_in(room, "student01")
    for how in ({}, {"limits": grading.Limits(cell_seconds=5)}, {"fresh": True}):
        gradebook.grade((), room.folder, masters=room.masters, **how)
    assert len(ran) == 3


def test_a_link_inside_the_folder_is_run_again_when_its_target_changes(room, ran):
    submitted = room.folder / "submitted"
    target = hand_in(room, "student01", {"double_answer": HARD_CODED}).rename(submitted / "kept")
    (submitted / "student01/tiny").rmdir()
    (submitted / "student01").rmdir()
    (submitted / "student01_tiny.ipynb").symlink_to("kept")
    for content in (target.read_text(), target.read_text().replace("[x]", "[x] * 1")):
        target.write_text(content)
        for _ in range(2):
            gradebook.grade((), room.folder, masters=room.masters)
    assert len(ran) == 2


def test_a_link_out_of_the_folder_counts_as_no_file_whatever_it_points_to(room, ran, tmp_path):
    path = hand_in(room, "student01")
    outside = path.rename(tmp_path / "outside.ipynb")
    path.symlink_to(outside)
    for _ in range(2):
        outside.write_text(outside.read_text() + "\n")
        gradebook.grade((), room.folder, masters=room.masters)
    assert len(ran) == 1


def test_the_record_is_found_however_much_a_submission_printed(tmp_path):
    book = new_notebook(metadata={"lgutils": {"key": "abc", "suspect": True}})
    lines = new_output("stream", name="stdout", text="\n" * 3_000_000)
    book.cells = [new_code_cell("", outputs=[lines])]
    (tmp_path / "a.ipynb").write_text(nbformat.writes(book))
    assert (tmp_path / "a.ipynb").stat().st_size > 2**25
    found = records.record_of(tmp_path / "a.ipynb")
    assert (found.key, found.suspect) == ("abc", True)


def test_what_could_not_be_run_has_no_points_and_is_tried_again(room, ran):
    hand_in(room, "student01", {"double_answer": RIGHT})
    hand_in(room, "unlucky", {"double_answer": RIGHT})
    rows = gradebook.grade((), room.folder, masters=room.masters)
    assert re.search(r"unlucky +not run +- +-", tables.table(rows))
    with (room.folder / "grades.csv").open() as handle:
        line = list(csv.DictReader(handle))[1]
    assert (line["student"], line["double"], line["total"]) == ("unlucky", "", "not run")
    assert [
        page.parts[-3] for page in feedback.feedback((), room.folder, masters=room.masters)
    ] == ["student01"]
    gradebook.grade((), room.folder, masters=room.masters)
    assert [students for students, _ in ran] == [["student01", "unlucky"], ["unlucky"]]


@pytest.mark.parametrize(("answer", "pending"), [("", ()), (" \n", ()), ("So.", ("why",))])
def test_an_answer_that_was_emptied_is_worth_nothing_and_needs_no_look(room, ran, answer, pending):
    hand_in(room, "student01", {"double_answer": RIGHT, "why": answer})
    (row,) = gradebook.grade((), room.folder, masters=room.masters)
    assert (row.points["why"], row.pending) == (0, pending)
    assert row.record.messages.get("why") == (None if pending else "No answer was given.")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_a_cell_of_the_csv_never_starts_a_formula(room, ran, start, monkeypatch):
    told = f"{start}HYPERLINK(0)"
    monkeypatch.setattr(tables, "rows", lambda *_: [
        records.Row("student01", "tiny", {"double": -1.0}, {"double": 2.0}, (),
                      records.Record(flags=(told,)))
    ])  # fmt: skip
    with tables.write_csv(room).open(newline="") as handle:
        (line,) = csv.DictReader(handle)
    assert (line["flags"], line["double"]) == (f"'{told}", "-1.0")


def test_only_the_named_student_is_run(room, ran):
    hand_in(room, "student01")
    hand_in(room, "student02")
    rows = gradebook.grade((), room.folder, students=["student02"], masters=room.masters)
    assert ran[0][0] == ["student02"]
    assert [row.student for row in rows] == ["student02"]


def test_points_given_by_hand_stay_and_are_to_be_looked_at_after_a_change(room, ran):
    hand_in(room, "student01", {"double_answer": HARD_CODED})
    gradebook.grade((), room.folder, masters=room.masters)
    by_hand(room, "student01", 2.5, "Good reason.")
    assert records.rows(room, ["tiny"])[0].pending == ()
    hand_in(room, "student01", {"double_answer": RIGHT})
    (row,) = gradebook.grade((), room.folder, masters=room.masters)
    assert row.points == {"double": 2, "half": 0, "why": 2.5}
    assert row.pending == ("why",)


def test_everything_in_a_suspect_submission_is_to_be_looked_at(room, ran):
    hand_in(room, "cheat", {"double_answer": RIGHT})
    (row,) = gradebook.grade((), room.folder, masters=room.masters)
    assert row.total == 0
    assert row.pending == ("double", "half", "why")


def test_points_of_a_suspect_submission_can_be_given_by_hand(room, ran):
    hand_in(room, "cheat", {"double_answer": RIGHT})
    gradebook.grade((), room.folder, masters=room.masters)
    by_hand_points = {"double": 2.0, "half": 0.0}
    with room.gradebook() as book:
        for task, points in by_hand_points.items():
            grade = book.find_grade(task, "tiny", "tiny", "cheat")
            grade.manual_score, grade.needs_manual_grade = points, False
        book.db.commit()
    (row,) = records.rows(room, ["tiny"])
    assert (row.total, row.pending) == (2, ("why",))


def test_nothing_handed_in_is_said(room):
    with pytest.raises(UserError, match=r"There is no folder .*submitted"):
        gradebook.grade((), room.folder, masters=room.masters)
    (room.folder / "submitted").mkdir()
    with pytest.raises(UserError, match="Nothing was handed in"):
        gradebook.grade((), room.folder, masters=room.masters)


def test_an_unknown_student_is_named_with_the_nearest(room, ran):
    hand_in(room, "student01")
    with pytest.raises(UserError, match=r"Unknown student 'studnt01'. Nearest: 'student01'"):
        gradebook.grade((), room.folder, students=["studnt01"], masters=room.masters)


def test_an_assignment_must_be_released_first(room, ran):
    path = shutil.copytree(
        hand_in(room, "student01").parent, room.folder / "submitted/student01/other"
    )
    (path / "tiny.ipynb").rename(path / "other.ipynb")
    masters = {**room.masters, **write_master(room.folder.parent / "m", tiny_cells(), "other")}
    with pytest.raises(UserError, match=r"other was not released.*lgutils teach release other"):
        gradebook.grade((), room.folder, masters=masters)
    assert not ran  # also the released one waits


def test_a_master_with_other_points_must_be_released_again(room, ran):
    hand_in(room, "student01")
    cells = tiny_cells()
    cells[2].metadata.nbgrader.points = 5
    write_master(room.masters["tiny"].parent.parent, cells)
    with pytest.raises(UserError, match="changed after it was released"):
        gradebook.grade((), room.folder, masters=room.masters)


def test_nbgrader_itself_can_go_on_in_the_folder(room, ran):
    hand_in(room, "student01", {"double_answer": RIGHT})
    gradebook.grade((), room.folder, masters=room.masters)
    api = room.api("tiny")
    assert api.get_autograded_students("tiny") == {"student01"}
    (submission,) = api.get_submissions("tiny")
    assert (submission["score"], submission["needs_manual_grade"]) == (2, True)
    assert api.generate_feedback("tiny", "student01")["success"]


# --- feedback


def page_of(room, student: str) -> str:
    feedback.feedback((), room.folder, masters=room.masters)
    return text_of(room.folder / "feedback" / student / "tiny" / "tiny.html")


def test_feedback_tells_points_messages_and_comments(room, ran):
    hand_in(room, "student01", {"double_answer": HARD_CODED, "why": "It is so."})
    gradebook.grade((), room.folder, masters=room.masters)
    by_hand(room, "student01", 2.5, "A good reason, student.")
    page = page_of(room, "student01")
    assert "tiny: 2.5 of 6 points" in page
    assert "only works for 1" in page  # the message of the hidden test
    assert "A good reason, student." in page


def test_feedback_shows_neither_hidden_tests_nor_tracebacks_that_quote_them(room, ran):
    hand_in(room, "student01", {"double_answer": HARD_CODED})
    gradebook.grade((), room.folder, masters=room.masters)
    plain = re.sub(r"<[^>]+>", "", page_of(room, "student01"))
    assert "double(1) == 2" in plain
    assert "# hidden tests" in plain
    assert "double(3) == 6" not in plain


HOSTILE = (
    '<script>alert(1)</script><img src="https://example.org/a.png"><iframe src=//example.org></iframe>'
    '<meta http-equiv="refresh" content="0;url=https://example.org">'
    "<style>b { background: url(https://example.org/b.png) }</style>"
)


def test_feedback_loads_nothing_from_elsewhere_whatever_a_student_wrote(room, ran):
    hand_in(room, "student01", {"double_answer": RIGHT, "why": HOSTILE})
    gradebook.grade((), room.folder, masters=room.masters)
    page = page_of(room, "student01")
    assert "<script" not in page
    assert not re.search(r"<(?!a\b)[^>]*\b(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert re.findall(r"<meta[^>]*http-equiv[^>]*>", page) == [
        f'<meta http-equiv="Content-Security-Policy" content="{feedback.POLICY}">'
    ]
    assert "default-src 'none'" in feedback.POLICY  # stops the address in the style sheet


def test_feedback_has_one_list_of_tasks_and_it_leads_to_their_cells(room, ran):
    hand_in(room, "student01", {"double_answer": RIGHT})
    gradebook.grade((), room.folder, masters=room.masters)
    page = page_of(room, "student01")
    assert "Test cell" not in page  # nbgrader's list, without names
    assert 'id="toc"' not in page
    for task in ("double", "half", "why"):
        assert f'<a href="#{task}">{task}</a>' in page
        assert f'<a name="{task}"></a>' in page


WIDE_ANSWER = (
    "| " + " | ".join(f"column{k}" for k in range(20)) + " |\n" + "|---" * 20 + "|\n" + "| 1 " * 20
    + '|\n\n<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=" width="900">'
    + "\n\n" + "long" * 50
)  # fmt: skip


def test_feedback_fits_a_phone(room, ran, browser):
    code = f"{RIGHT}  # {'a long remark ' * 20}\n{'x' * 200} = 1"
    hand_in(room, "student01", {"double_answer": code, "why": WIDE_ANSWER})
    gradebook.grade((), room.folder, masters=room.masters)
    page_of(room, "student01")
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    tab.goto((room.folder / "feedback/student01/tiny/tiny.html").as_uri())
    width = tab.evaluate("document.documentElement.scrollWidth")
    tab.close()
    assert width <= 390


def test_feedback_before_grading_is_refused(room):
    with pytest.raises(UserError, match=r"Nothing was graded.*lgutils teach grade"):
        feedback.feedback((), room.folder, masters=room.masters)


# --- class report


@pytest.fixture
def graded_class(room, ran):
    """Three right, two hard-coded, one that cheated."""
    for k in range(5):
        hand_in(room, f"student{k}", {"double_answer": RIGHT if k < 3 else HARD_CODED})
    hand_in(room, "cheat", {"double_answer": RIGHT})
    gradebook.grade((), room.folder, masters=room.masters)
    return room


def test_the_report_names_nobody_unless_asked(graded_class):
    folder, masters = graded_class.folder, graded_class.masters
    classreport.report((), folder, masters=masters)
    assert "student" not in text_of(folder / "report.html").replace("students", "")
    classreport.report((), folder, masters=masters, with_names=True)
    assert "student3" in text_of(folder / "report.html")


def test_the_report_hides_ids_in_flags_and_messages_also_of_students_not_graded(room, ran):
    hand_in(room, "cheat", {"double_answer": RIGHT})
    gradebook.grade((), room.folder, masters=room.masters)
    hand_in(room, "student0")
    classreport.report((), room.folder, masters=room.masters)
    assert "This notebook may not read submitted/STUDENT." in text_of(room.folder / "report.md")
    classreport.report((), room.folder, masters=room.masters, with_names=True)
    assert "This notebook may not read submitted/student0." in text_of(room.folder / "report.md")


def test_the_report_counts_what_was_not_answered_beside_the_messages(room, ran):
    hand_in(room, "student0")
    hand_in(room, "student1")
    hand_in(room, "student2", {"double_answer": HARD_CODED})
    gradebook.grade((), room.folder, masters=room.masters)
    classreport.report((), room.folder, masters=room.masters)
    text = text_of(room.folder / "report.md")
    assert re.search(r"\| double .*\| 2 +\| 1 time: AssertionError: only works for 1", text)
    assert "No answer was given" not in text


def test_the_report_shows_messages_as_text(room, monkeypatch):
    hostile = "<img src=x onerror=alert(1)> [x](javascript:alert(1))"
    record = records.Record(flags=(hostile,), messages={"double": hostile}, seconds=1.0)
    row = records.Row("student01", "tiny", {"double": 0.0}, {"double": 2.0}, (), record)
    monkeypatch.setattr(classreport, "rows", lambda *_: [row])
    classreport.report((), room.folder, masters=room.masters, with_names=True)
    page, text = (text_of(room.folder / name) for name in ("report.html", "report.md"))
    assert page.count("&lt;img src=x onerror") == 3
    assert "<img src=x" not in page + text
    assert "](javascript" not in text


def test_the_report_leaves_out_what_could_not_be_run(room, ran):
    hand_in(room, "student0", {"double_answer": RIGHT})
    hand_in(room, "unlucky", {"double_answer": RIGHT})
    gradebook.grade((), room.folder, masters=room.masters)
    classreport.report((), room.folder, masters=room.masters)
    text = text_of(room.folder / "report.md")
    assert "n = 1 submissions" in text
    assert "Left out: 1 that this computer could not run" in text


def test_the_report_has_shares_right_with_wilson_intervals_and_messages(graded_class):
    classreport.report((), graded_class.folder, masters=graded_class.masters)
    text = text_of(graded_class.folder / "report.md")
    lines = {
        line.split(" | ")[0].lstrip("| "): line for line in text.splitlines() if line[:1] == "|"
    }
    assert "60.0% [23.1%, 88.2%], n = 5" in lines["double"]  # 3 of 5: the suspect one is left out
    assert "2 times: AssertionError: only works for 1" in lines["double"]
    assert "0.0% [0.0%, 43.4%], n = 5" in lines["half"]
    assert "0 of 5 graded so far" in lines["why"]
    assert "This notebook may not read submitted/STUDENT." in text


def test_the_figures_of_the_report_have_alternative_text(graded_class):
    classreport.report((), graded_class.folder, masters=graded_class.masters)
    alts = re.findall(r'<img alt="([^"]*)"', text_of(graded_class.folder / "report.html"))
    assert len(alts) == 2
    assert "3 with 0 points, 3 with 2 points" in alts[0]
    assert "half 0%, double 60%" in alts[1]


# --- the command


def test_the_commands_lead_from_one_to_the_next(released, room, ran, monkeypatch):
    monkeypatch.setattr("lgutils.teach.masters.masters", lambda: room.masters)
    hand_in(room, "student01", {"double_answer": RIGHT})
    told = ""
    for command in ("release", "grade", "feedback", "report"):
        done = CliRunner().invoke(app, ["teach", command, "--folder", str(room.folder)])
        assert done.exit_code == 0, done.output
        told += done.output
    assert "teach grade" in told
    assert re.search(r"student01 +2 of 6 +why", told)
    assert (room.folder / "report.html").is_file()


def test_the_command_tells_what_was_not_graded_and_what_was_not_run(room, ran, monkeypatch):
    monkeypatch.setattr("lgutils.teach.masters.masters", lambda: room.masters)
    hand_in(room, "unlucky")
    misname(room, "student03-tiny.ipynb")
    done = CliRunner().invoke(app, ["teach", "grade", "--folder", str(room.folder)])
    assert done.stderr.count("student03-tiny.ipynb") == 1
    assert "Not run, for the reasons above: 1. Run the same command again." in done.stdout


def test_the_limit_of_a_cell_reaches_the_grading(room, ran, monkeypatch):
    monkeypatch.setattr("lgutils.teach.masters.masters", lambda: room.masters)
    hand_in(room, "student01")
    CliRunner().invoke(
        commands,
        ["grade", "tiny", "--folder", str(room.folder), "--cell-seconds", "7", "--workers", "3"],
    )
    how = ran[0][1]
    assert (how["limits"].cell_seconds, how["workers"]) == (7, 3)


# --- the whole round trip over a real assignment

NAME = "a5_judging"
READS = (
    "try:\n    from lgutils.teach.masters import masters\n"
    f"    print(masters()['{NAME}'].read_text())\nexcept Exception:\n    pass\n"
)
CALLS = (
    "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 80), timeout=1)\n"
    "except Exception:\n    pass\n"
)
LOOP = "def holm(p_values):\n    while True:\n        pass"
FLOOD = "for _ in range(200):\n    print('x' * 1_000_000)\n"


def with_answers(book, answers: dict[str, str]):
    for cell in book.cells:
        task = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = answers.get(task, cell.source)
    return book


def cell_of(book, task: str):
    return next(c for c in book.cells if c.metadata.get("nbgrader", {}).get("grade_id") == task)


def deleted(book) -> None:
    book.cells.remove(cell_of(book, "holm"))


def edited(book) -> None:
    cell_of(book, "holm").source = "pass"
    cell_of(book, "holm_answer").source = "def holm(p_values):\n    return p_values"


def duplicated(book) -> None:
    book.cells.append(new_code_cell("pass", metadata=cell_of(book, "holm").metadata))


def forged(book) -> None:
    cell_of(book, "holm").metadata.nbgrader.points = 100


def before(task: str, code: str):
    """A change that puts code on top of an answer."""

    def change(book) -> None:
        cell = cell_of(book, f"{task}_answer")
        cell.source = code + cell.source

    return change


def instead(task: str, code: str):
    def change(book) -> None:
        cell_of(book, f"{task}_answer").source = code

    return change


def half_done(stub):
    def change(book) -> None:
        for task in ("best_epoch_gain", "steps_until", "equivalence_p"):
            cell_of(book, f"{task}_answer").source = cell_of(stub, f"{task}_answer").source

    return change


def class_of_thirty(master: Path, stub_path: Path) -> dict[str, tuple]:
    """Student -> (notebook or text of the file, tasks lost or None for all)."""
    from wrong.a5_judging import WRONG

    stub = nbformat.read(stub_path, as_version=4)
    given = {c.metadata.nbgrader.grade_id: c.source for c in nbformat.read(master, 4).cells
             if c.metadata.get("nbgrader", {}).get("solution")}  # fmt: skip
    changes = {f"right{k}": (lambda book: None, ()) for k in range(5)}
    for task, answers in WRONG.items():
        changes[f"wrong_{task}"] = (instead(task, next(iter(answers.values()))[0]), (task,))
    changes |= {
        "loop": (instead("holm", LOOP), ("holm",)),
        "import": (before("holm", "import no_such_module\n"), ("holm",)),
        "flood": (before("holm", FLOOD), ("holm",)),
        "exit": (before("equivalence_p", "import os\nos._exit(1)\n"), ("equivalence_p",)),
        "deleted": (deleted, ()),
        "edited": (edited, ("holm",)),
        "duplicated": (duplicated, ()),
        "forged": (forged, ()),
        "reads": (before("holm", READS), None),
        "network": (before("holm", CALLS), None),
        "half": (half_done(stub), ("best_epoch_gain", "steps_until", "equivalence_p")),
    }
    made = {"blank0": (stub, None), "blank1": (stub, None)}
    made |= {"text": ("My answer is 42.", None), "empty": ("", None), "list": ("[1, 2]", None)}
    for student, (change, lost) in changes.items():
        book = with_answers(nbformat.read(stub_path, as_version=4), given)
        change(book)
        made[student] = (book, lost)
    made["nothing"] = (None, None)
    return made


def hand_out_and_in(folder: Path) -> dict[str, tuple[str, ...] | None]:
    """Release the assignment and let thirty students hand in; gives the tasks each must lose."""
    done = CliRunner().invoke(app, ["teach", "release", NAME, "--folder", str(folder)])
    assert done.exit_code == 0, done.output
    made = class_of_thirty(shipped()[NAME], folder / "release" / NAME / f"{NAME}.ipynb")
    for student, (book, _) in made.items():
        path = folder / "submitted" / student / NAME / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        if book is not None:
            path.write_text(book if isinstance(book, str) else nbformat.writes(book))
    return {student: lost for student, (_, lost) in made.items()}


NOTICED = {
    "deleted": "missing", "edited": "edited", "duplicated": "twice", "loop": "stopped after 15 s",
    "exit": "the kernel ended", "flood": "printed more than", "reads": "may not read",
    "network": "may not use the network", "text": "not JSON", "empty": "not JSON",
    "list": "not a notebook", "nothing": "no file",
}  # fmt: skip


def test_a_class_of_thirty_is_graded_and_told(tmp_path, monkeypatch):
    folder = tmp_path / "teaching"
    expected = hand_out_and_in(folder)
    arguments = [
        "teach",
        "grade",
        NAME,
        "--folder",
        str(folder),
        "--workers",
        "2",
        "--cell-seconds",
        "15",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    room = classroom.enter(folder)
    rows = {row.student: row for row in records.rows(room, [NAME])}
    assert len(rows) == len(expected) == 30
    for student, lost in expected.items():
        row = rows[student]
        tests = [task for task in row.points if task != "judge_abstract"]
        wrong = [task for task in tests if row.points[task] < row.most[task]]
        assert wrong == (tests if lost is None else list(lost)), student
        assert bool(row.record.flags) == (student in NOTICED), (student, row.record.flags)
        assert NOTICED.get(student, "") in " ".join(row.record.flags)
    assert {s for s, row in rows.items() if row.record.suspect} == {"reads", "network"}

    by_hand(room, "right0", 3, "All seven sentences.", NAME, "judge_abstract")
    monkeypatch.setattr(grading, "folder", None)  # nothing changed, so nothing is run
    assert CliRunner().invoke(app, arguments).exit_code == 0
    with (folder / "grades.csv").open() as handle:
        lines = {line["student"]: line for line in csv.DictReader(handle)}
    assert len(lines) == 30
    assert (lines["right0"]["total"], lines["right0"]["max"]) == ("20.0", "20.0")
    assert lines["right1"]["by-hand pending"] == "judge_abstract"

    pages = feedback.feedback([NAME], folder)
    assert len(pages) == 30
    assert "All seven sentences." in text_of(folder / "feedback" / "right0" / NAME / f"{NAME}.html")
    CliRunner().invoke(app, ["teach", "report", NAME, "--folder", str(folder)])
    report = text_of(folder / "report.md")
    assert "cell holm was stopped after 15 s" in report
    assert "leave out 6 that could not be run or are suspect" in report
    assert "right0" not in report
