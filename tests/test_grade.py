"""Grading: the answers run between the master's tests, and nothing in a submission stops or fools it.

All submissions are graded once, together; the tests look at what came out.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from copy import deepcopy
from pathlib import Path

import pytest

pytest.importorskip("nbgrader")

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lgutils.errors import UserError
from lgutils.teach import assemble, client, ear, grade, masters, sandbox
from lgutils.teach.grade import Limits

QUICK = Limits(cell_seconds=3, total_seconds=40, memory_gb=1, output_mb=0.2, file_mb=2)
DOUBLE = "def double(x):\n    return 2 * x\n"
TRIPLE = "def triple(x):\n    return 3 * x\n"
ACTIVE = (
    "from IPython.display import HTML, SVG, Javascript, Latex, Markdown, display\n"
    "display(HTML('<script>1</script>'), Javascript('1'), SVG('<svg/>'), Latex('$1$'), Markdown('<b>'))\n"
    "print('\\ud800 <script>')"
)
ESSAY = "Because two is even."
ALL = {"double": 2.0, "triple": 1.0, "why": 0.0}

NONE = {"double": 0.0, "triple": 0.0, "why": 0.0}


def marked(cell, name: str, **how):
    """Give a cell nbgrader's metadata."""
    kinds = {"grade": False, "solution": False, "locked": False, "task": False, **how}
    cell.metadata["nbgrader"] = {"schema_version": 3, "grade_id": name, **kinds}
    return cell


def answer(name: str, source: str):
    lines = source.splitlines()
    hidden = ["    ### BEGIN SOLUTION", *lines[1:], "    ### END SOLUTION"]
    return marked(new_code_cell("\n".join([lines[0], *hidden])), f"{name}_answer", solution=True)


def check(name: str, seen: str, hidden: str, points: int):
    source = f"{seen}\n### BEGIN HIDDEN TESTS\n{hidden}\n### END HIDDEN TESTS"
    return marked(new_code_cell(source), name, grade=True, locked=True, points=points)


def make_master():
    """A notebook with two tasks and a question graded by hand; no library is needed."""
    return new_notebook(
        cells=[
            new_markdown_cell("# Numbers"),
            marked(new_code_cell("START = 3"), "setup", locked=True),
            answer("double", DOUBLE),
            check(
                "double",
                "assert double(START) == 6, 'double(3) is not twice 3'",
                "assert double(5) == 10 and sum([double(1)]) == max(abs(-2), 1), 'another number is not doubled'",
                2,
            ),
            answer("triple", TRIPLE),
            check(
                "triple", "assert triple(2) == 6, 'triple(2)'", "assert triple(4) == 12, 'four'", 1
            ),
            marked(new_markdown_cell("Twice is even."), "why", grade=True, solution=True, points=3),
        ]
    )


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("masters") / "numbers"
    folder.mkdir()
    nbformat.write(make_master(), folder / "numbers.ipynb")
    return folder / "numbers.ipynb"


def handed_in(*extra: str, double: str = DOUBLE, triple: str = TRIPLE, why: str = ESSAY):
    """The released notebook with answers; `extra` cells come before the tests of double."""
    book = assemble.stubs(make_master())
    by_name = {c.metadata.get("nbgrader", {}).get("grade_id"): c for c in book.cells}
    by_name["double_answer"].source = double
    by_name["triple_answer"].source = triple
    by_name["why"].source = why
    book.cells[3:3] = [new_code_cell(source) for source in extra]
    return book


def without(book, *names: str):
    gone = [c for c in book.cells if c.metadata.get("nbgrader", {}).get("grade_id") in names]
    book.cells = [c for c in book.cells if c not in gone]
    return book


def edited(book, name: str, source: str | None = None, **metadata):
    for cell in book.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == name:
            cell.source = source if source is not None else cell.source
            cell.metadata.nbgrader.update(metadata)
    return book


def nameless(master: Path):
    """Right answers in the released file, after a tool that drops the metadata of cells."""
    book = assemble.stubs(nbformat.read(master, as_version=4))
    for cell in book.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = {"double_answer": DOUBLE, "triple_answer": TRIPLE, "why": ESSAY}.get(
            name, cell.source
        )
        cell.metadata = {}
    return book


def ending(book, source: str):
    book.cells.append(new_code_cell(source))
    return book


def twice(book, name: str):
    at = next(
        i
        for i, c in enumerate(book.cells)
        if c.metadata.get("nbgrader", {}).get("grade_id") == name
    )
    again = deepcopy(book.cells[at])
    again.source, again["id"] = "def double(x):\n    return 0\n", "again"
    book.cells.insert(at + 1, again)
    return book


def tried(*lines: str) -> str:
    """A cell that does something and hides the error."""
    body = "\n    ".join(lines)
    return f"try:\n    {body}\nexcept BaseException as problem:\n    print(type(problem).__name__)"


def notebooks(master: Path, elsewhere: Path) -> dict:
    """Every kind of submission by name."""
    read = f"open({str(master)!r}).read()"
    wrong = "def double(x):\n    return 7\n"
    swallow = "import time\nwhile True:\n    try:\n        time.sleep(9)\n    except KeyboardInterrupt:\n        pass"
    ignore = "import ast\nclass Deaf(ast.NodeTransformer):\n    def visit_Assert(self, node):\n        return ast.Pass()\nget_ipython().ast_transformers.append(Deaf())"
    close = "import os, stat\nfor i in range(3, 60):\n    try:\n        if stat.S_ISFIFO(os.fstat(i).st_mode):\n            os.close(i)\n    except OSError:\n        pass"
    pipes = "import os, stat\nfor i in range(3, 60):\n    try:\n        if stat.S_ISFIFO(os.fstat(i).st_mode):\n            "
    null = "os.dup2(os.open('/dev/null', os.O_WRONLY), i)\n    except OSError:\n        pass"
    selective = ignore.replace(
        "return ast.Pass()", "return node if 'guard' in ast.unparse(node) else ast.Pass()"
    )
    clear = "import subprocess\ntry:\n    subprocess.run(['ld'])\nexcept PermissionError as error:\n    step = error.__traceback__\n    while step:\n        step.tb_frame.f_locals.get('rules', {}).clear()\n        step = step.tb_next"
    traceback = "for _ in range(300):\n    try:\n        raise ValueError('x' * 1900)\n    except ValueError:\n        get_ipython().showtraceback()"
    from_folder = f"import os; at = os.open({str(elsewhere)!r}, os.O_RDONLY)"
    up = os.path.relpath(master, elsewhere)
    star = "def double(x):\n    return int(sum(array([[x], [x]]), axis=0)[0])\n"
    return {
        "right": handed_in(),
        "displayhook": handed_in(double="def double(x):\n    import sys\n    sys.displayhook(2)\n"),
        "database": handed_in(tried("import sqlite3; sqlite3.connect('x.db')")),
        "history": handed_in("print(get_ipython().history_manager.db.execute('select 41 + 1').fetchall())"),
        "arguments": handed_in("print(open('/proc/self/cmdline').read(), __import__('os').listdir('.'))"),
        "reads by dir_fd": handed_in(tried(from_folder, f"os.open({up!r}, os.O_RDONLY, dir_fd=at)")),
        "writes by dir_fd": handed_in(tried(from_folder, "os.open('made', os.O_WRONLY | os.O_CREAT, dir_fd=at)")),
        "reads another": handed_in(tried(f"open({str(elsewhere / 'right.ipynb')!r}).read()")),
        "reads a kernel": handed_in(tried("import os; open(os.path.dirname(os.environ['HOME']) + '/lgutils-grade-x/kernel.json')")),
        "gc": handed_in(tried("import gc; gc.get_objects()")),
        "rules cleared": handed_in(clear),
        "another channel": handed_in(pipes + null),
        "some asserts": handed_in(selective, double=wrong),
        "numpy star": handed_in(double=f"from numpy import *\n{star}"),
        "math star": handed_in("from math import *"),
        "own max": handed_in("def max(a):\n    return 2 * a", double="def double(x):\n    return max(x)\n"),
        "sum is a number": handed_in("sum = 0\nfor k in range(3):\n    sum += k"),
        "all are numbers": handed_in("max = 3; abs = 2; all = []; int = 5"),
        "pip": handed_in(double="!pip install x\nfiles = !ls\n%pip install y\n" + DOUBLE),
        "nameless": nameless(master) if master.is_file() else None,
        "foreign": new_notebook(cells=[new_code_cell("x = 1")]),
        "mmap": handed_in(tried("import mmap; mmap.mmap(-1, 9_000_000)")),
        "device": handed_in(tried("open('/dev/shm/lgutils-test', 'w')")),
        "tracebacks": handed_in(traceback),
        "In": ending(handed_in(), "print(In)"),
        "own memory": handed_in(tried("import os; open(f'/proc/{os.getpid()}/mem')")),
        "endless answer": handed_in(double="while True:\n    pass\n"),
        "wrong": handed_in(double=wrong),
        "hard-coded": handed_in(double="def double(x):\n    return 6\n"),
        "blank": assemble.stubs(make_master()),
        "master": make_master(),
        "loop": handed_in(double="def double(x):\n    while True:\n        pass\n"),
        "deaf loop": handed_in(triple=swallow),
        "raises first": handed_in(triple="raise RuntimeError('no')\n" + TRIPLE),
        "syntax": handed_in(double="def double(x:\n"),
        "sys.exit": handed_in("import sys; sys.exit()"),
        "os._exit": handed_in(triple="import os; os._exit(0)"),
        "deleted test": without(handed_in(double=wrong), "double"),
        "deleted setup": without(handed_in(), "setup"),
        "deleted answer": without(handed_in(), "double_answer"),
        "edited test": edited(handed_in(double=wrong), "double", "assert True"),
        "twice": twice(handed_in(), "double_answer"),
        "forged": edited(handed_in(double=wrong), "triple", points=100, grade=True),
        "prints": handed_in("print('x' * 200_000_000)"),
        "prints on": handed_in("for _ in range(4000):\n    print('x' * 50_000)"),
        "displays": handed_in("'x' * 200_000_000"),
        "many results": handed_in(
            "from IPython.display import HTML, display\nfor _ in range(50):\n    display(HTML('x' * 100_000))"
        ),
        "writes": handed_in("with open('big', 'wb') as file:\n    file.write(bytes(9_000_000))"),
        "memory": handed_in("hog = bytearray(4_000_000_000)"),
        "reads": handed_in(tried(read)),
        "reads by a link": handed_in(tried(f"open({str(elsewhere / 'link.ipynb')!r}).read()")),
        "reads by proc": handed_in(tried(f"open('/proc/self/root' + {str(master)!r}).read()")),
        "lists": handed_in(tried(f"import os; os.listdir({str(master.parent)!r})")),
        "spies": handed_in(tried("import os; open(f'/proc/{os.getppid()}/environ').read()")),
        "network": handed_in(tried("import urllib.request as u; u.urlopen('http://example.org', timeout=1)")),
        "socket": handed_in(tried("import socket; socket.create_connection(('192.0.2.1', 80), 1)")),
        "loopback": handed_in("import socket\nwith socket.socket() as s:\n    s.bind(('127.0.0.1', 0))"),
        "program": handed_in(tried("import subprocess; subprocess.run(['ls'])")),
        "shell": handed_in("!ls"),
        "fork": handed_in(tried("import os; os.fork()")),
        "spawn": handed_in(tried("import multiprocessing as m, os", "m.get_context('spawn').Process(target=os.getcwd).start()")),
        "outside": handed_in(tried(f"open({str(elsewhere / 'mark')!r}, 'w').write('x')")),
        "limits": handed_in(tried("import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (-1, -1))")),
        "input": handed_in("number = input()"),
        "builtins": handed_in("import builtins\nbuiltins.sum = lambda x: 2\ndef isinstance(*a):\n    return True"),
        "AssertionError": handed_in("class AssertionError(Exception):\n    pass", double=wrong),
        "no asserts": handed_in(ignore, double=wrong),
        "no errors": handed_in("get_ipython().set_custom_exc((Exception,), lambda *a, **k: None)", double=wrong),
        "trace": handed_in(tried("import sys; sys.settrace(lambda *a: None)")),
        "closes": handed_in(close),
        "warns": handed_in(double="def double(x):\n    import warnings\n    warnings.warn('careful')\n    return 2 * x\n"),
        "active": handed_in(ACTIVE, why="<script>window.hit = 1</script>"),
        "environment": handed_in("import os\nprint(os.environ.get('SECRET_OF_THE_TEACHER'), os.getcwd() == os.environ['HOME'])"),
    }  # fmt: skip


EQUAL = """class Equal:
    def __eq__(self, other):
        return True

    def __radd__(self, other):
        return self


def double(x):
    return Equal()
"""
FRAME = """def double(x):
    import linecache, re, sys

    lines = "".join(linecache.getlines(sys._getframe(1).f_code.co_filename))
    told = re.search(rf"double\\({'START' if x == 3 else x}\\) == (\\d+)", lines)
    return int(told[1]) if told else 2
"""
SEND = """session = get_ipython().kernel.session
true = session.send


def send(stream, kind, content=None, *args, **kwargs):
    if isinstance(content, dict) and content.get("status") == "error" and "guard" not in str(content):
        content = {"status": "ok", "execution_count": 1, "user_expressions": {}, "payload": []}
    return None if kind == "error" else true(stream, kind, content, *args, **kwargs)


session.send = send
"""
EXECUTE = """kernel = get_ipython().kernel
do = kernel.do_execute


async def do_execute(code, *args, **kwargs):
    if "guard" in code:
        return await do(code, *args, **kwargs)
    return {"status": "ok", "execution_count": 1, "user_expressions": {}, "payload": []}


kernel.do_execute = do_execute
"""
NODES = """import ast
shell = type(get_ipython())
run = shell.run_ast_nodes


async def nodes(self, found, *args, **kwargs):
    kept = [n for n in found if not isinstance(n, ast.Assert) or "guard" in ast.unparse(n)]
    return await run(self, kept, *args, **kwargs)


shell.run_ast_nodes = nodes
"""
CTYPES = """import ctypes
lib, text = ctypes.CDLL(None), ctypes.create_string_buffer(9000)
print(lib.read(lib.open({path!r}.encode(), 0), text, 9000), text.value.decode())
"""
UNSEEN = {  # cheat: how docs/grading.md names it
    "equal to everything": "equals everything",
    "reads the frame": "look at its caller's source",
    "session.send": "`session.send`",
    "do_execute": "`do_execute`",
    "run_ast_nodes": "`run_ast_nodes`",
    "ctypes": "`ctypes`",
}


def unseen(master: Path) -> dict:
    wrong = "def double(x):\n    return 7\n"
    return {
        "equal to everything": handed_in(double=EQUAL),
        "reads the frame": handed_in(double=FRAME),
        "session.send": handed_in(SEND, double=wrong),
        "do_execute": handed_in(EXECUTE, double=wrong),
        "run_ast_nodes": handed_in(NODES, double=wrong),
        "ctypes": handed_in(CTYPES.format(path=str(master))),
    }


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> Path:
    """The temporary folder in which the kernels' own folders are made."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="module")
def graded(master, kernels, tmp_path_factory) -> dict[str, grade.Graded]:
    """Everything above and some files that are no notebooks, graded two at a time."""
    folder = tmp_path_factory.mktemp("handed in")
    (folder / "link.ipynb").symlink_to(master)
    for name, book in {**notebooks(master, folder), **unseen(master)}.items():
        (folder / f"{name}.ipynb").write_text(json.dumps(book))
    for name, text in {
        "not JSON": "{", "empty": "", "a list": "[1, 2]", "odd cells": '{"cells": [1, {"source": 5}, {}]}',
        "deep": "[" * 100_000, "bytes": "\udcff",
    }.items():  # fmt: skip
        (folder / f"{name}.ipynb").write_bytes(text.encode("utf-8", "surrogateescape"))
    (folder / "folder.ipynb").mkdir()
    with (folder / "huge.ipynb").open("wb") as file:
        file.truncate(assemble.LARGEST + 1)
    files = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    files["missing"] = folder / "nobody.ipynb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_OF_THE_TEACHER", "42")
        patch.setattr(tempfile, "tempdir", str(kernels))
        return grade.folder(files, master, workers=2, limits=QUICK, progress=False)


def printed(graded, name: str) -> str:
    cells = graded[name].notebook.cells
    return "".join(o.get("text", "") for c in cells for o in c.get("outputs", ()))


def said(graded, name: str) -> str:
    return " | ".join(graded[name].flags)


@pytest.mark.parametrize("name", ["right", "master"])
def test_the_reference_solution_gets_full_marks_and_no_flag(graded, name):
    assert (graded[name].points, graded[name].flags) == (ALL, ())


def test_an_answered_question_waits_for_a_person_and_a_blank_one_does_not(graded):
    assert graded["right"].pending == ("why",)
    assert graded["blank"].pending == ()


def test_the_blank_release_gets_nothing_and_says_why(graded):
    assert graded["blank"].points == NONE
    assert graded["blank"].messages == {
        "double": "No answer was given.",
        "triple": "No answer was given.",
    }


def test_a_wrong_answer_loses_its_task_and_gets_the_words_of_the_assert(graded):
    assert graded["wrong"].points == {**ALL, "double": 0}
    assert graded["wrong"].messages == {"double": "double(3) is not twice 3"}


def test_a_hidden_test_catches_a_hard_coded_answer(graded):
    assert graded["hard-coded"].messages == {"double": "another number is not doubled"}


def test_an_endless_loop_costs_only_its_task(graded):
    assert graded["loop"].points == {**ALL, "double": 0}
    assert "cell double was stopped after 3 s" in said(graded, "loop")


def test_a_loop_that_ignores_the_interrupt_is_killed_and_keeps_what_was_earned(graded):
    assert graded["deaf loop"].points == {**ALL, "triple": 0}
    assert "killed after 3 s" in said(graded, "deaf loop")


@pytest.mark.parametrize(
    ("name", "lost"), [("raises first", "triple"), ("syntax", "double"), ("os._exit", "triple")]
)
def test_a_cell_that_fails_costs_only_its_task(graded, name, lost):
    assert graded[name].points == {**ALL, lost: 0}


def test_sys_exit_changes_nothing(graded):
    assert graded["sys.exit"].points == ALL


def test_a_kernel_that_ends_itself_is_flagged(graded):
    assert "the kernel ended in cell triple_answer" in said(graded, "os._exit")


def test_a_deleted_test_is_put_back_and_counts(graded):
    assert graded["deleted test"].points == {**ALL, "double": 0}
    assert graded["deleted test"].flags == ("test cell double was missing and was put back",)


def test_a_deleted_setup_is_put_back_before_it_is_needed(graded):
    assert graded["deleted setup"].points == ALL
    assert "cell setup was missing" in said(graded, "deleted setup")


def test_a_deleted_answer_is_worth_nothing(graded):
    assert graded["deleted answer"].points == {**ALL, "double": 0}


def test_an_edited_test_is_replaced(graded):
    assert graded["edited test"].points == {**ALL, "double": 0}
    assert "locked cell double was edited" in said(graded, "edited test")


def test_a_doubled_cell_is_told_and_its_second_copy_runs_too(graded):
    assert graded["twice"].points == {**ALL, "double": 0}
    assert "came twice: only the first is graded as such" in said(graded, "twice")


def test_points_in_the_submission_are_not_believed(graded):
    assert graded["forged"].points == {**ALL, "double": 0}
    cells = {
        c.metadata.get("nbgrader", {}).get("grade_id"): c for c in graded["forged"].notebook.cells
    }
    assert cells["triple"].metadata.nbgrader.points == 1


@pytest.mark.parametrize("name", ["prints", "prints on", "displays", "many results", "tracebacks"])
def test_endless_output_is_dropped_and_flagged_and_costs_nothing(graded, name):
    assert graded[name].points == ALL
    assert "the rest was dropped" in said(graded, name)
    assert len(nbformat.writes(graded[name].notebook)) < 1.5e6


def test_a_huge_file_and_a_huge_array_fail_where_they_are_made(graded):
    errors = {
        name: [o.ename for c in graded[name].notebook.cells for o in c.get("outputs", ()) if o.output_type == "error"]
        for name in ("writes", "memory")
    }  # fmt: skip
    assert errors["writes"] == ["OSError"]
    if sys.platform == "linux":
        assert errors["memory"] == ["MemoryError"]
    assert graded["writes"].points == graded["memory"].points == ALL


@pytest.mark.parametrize(
    "name",
    [
        "reads", "reads by a link", "reads by proc", "reads by dir_fd", "reads another",
        "reads a kernel", "own memory", "lists", "spies", "network", "socket",
    ],
)  # fmt: skip
def test_reaching_for_solutions_or_the_network_is_seen_though_the_error_was_hidden(graded, name):
    if "/proc" in str(notebooks(Path("/x"), Path("/x"))[name]) and sys.platform != "linux":
        pytest.skip("there is no /proc here")
    assert graded[name].suspect
    assert graded[name].points == NONE
    assert graded[name].earned == ALL
    assert "This notebook may not" in said(graded, name)


@pytest.mark.parametrize(
    "name", ["no asserts", "some asserts", "closes", "another channel", "gc", "rules cleared"]
)
def test_blinding_the_tests_is_suspect(graded, name):
    assert graded[name].suspect
    assert graded[name].points == NONE


@pytest.mark.parametrize(
    "name",
    [
        "program",
        "shell",
        "pip",
        "fork",
        "spawn",
        "outside",
        "limits",
        "trace",
        "database",
        "writes by dir_fd",
        "mmap",
        "device",
    ],
)
def test_programs_forks_and_files_outside_are_refused_and_flagged_but_cost_nothing(graded, name):
    assert "This notebook may" in said(graded, name)
    assert graded[name].points == ALL
    assert not graded[name].suspect


@pytest.mark.xfail(strict=True, reason="neither refused nor noticed, as docs/grading.md says")
@pytest.mark.parametrize("name", UNSEEN)
def test_a_cheat_that_the_guide_admits_is_noticed(graded, name):
    assert graded[name].flags or graded[name].points != ALL


@pytest.mark.parametrize("name", UNSEEN)
def test_the_guide_admits_what_is_neither_refused_nor_noticed(name):
    guide = (Path(__file__).parents[1] / "docs" / "grading.md").read_text(encoding="utf-8")
    assert UNSEEN[name] in guide.split("## What is neither refused nor noticed")[1]


def test_sockets_within_this_computer_are_allowed(graded):
    assert (graded["loopback"].points, graded["loopback"].flags) == (ALL, ())


def test_a_question_to_the_keyboard_does_not_wait(graded):
    assert graded["input"].points == ALL
    assert "stopped" not in said(graded, "input")


def test_redefined_builtins_are_put_back_before_the_tests(graded):
    assert graded["builtins"].points == ALL
    assert "Python's own sum was redefined" in said(graded, "builtins")


@pytest.mark.parametrize(
    "name", ["numpy star", "math star", "own max", "sum is a number", "all are numbers"]
)
def test_tests_mean_pythons_builtins_and_answers_their_own_names(graded, name):
    assert (graded[name].points, graded[name].flags) == (ALL, ())


def test_a_result_before_the_error_is_no_partial_credit(graded):
    assert graded["displayhook"].points == {**ALL, "double": 0}


def test_no_database_is_open_in_the_session(graded):
    assert "42" not in printed(graded, "history")


def test_the_kernels_arguments_and_folder_do_not_say_what_is_closed(graded, master):
    assert str(master.parent) not in printed(graded, "arguments")
    assert "seal.json" not in printed(graded, "arguments")


def test_a_line_for_the_shell_says_that_it_did_not_run(graded):
    assert "not run while grading" in printed(graded, "pip")


def test_cells_without_names_are_known_by_their_ids(graded):
    assert (graded["nameless"].points, graded["nameless"].flags) == (ALL, ())


def test_a_notebook_of_something_else_is_told_in_one_sentence(graded):
    assert graded["foreign"].flags == ("no cell of this assignment was found",)
    assert graded["foreign"].points == NONE


def test_the_history_of_inputs_does_not_hold_the_tests(graded):
    assert "return 2 * x" in printed(graded, "In")
    assert "another number" not in printed(graded, "In")


def test_an_error_in_the_answers_own_cell_is_told_as_such(graded):
    assert graded["syntax"].messages["double"].startswith("in your answer cell: SyntaxError")
    assert graded["endless answer"].messages["double"] == "your answer cell was stopped after 3 s"


@pytest.mark.parametrize("name", ["AssertionError", "no errors"])
def test_a_failing_assert_costs_its_points_whatever_the_errors_are_called(graded, name):
    assert graded[name].points == {**ALL, "double": 0}


def test_of_active_outputs_and_texts_only_plain_text_is_stored(graded):
    assert graded["active"].points == ALL
    outputs = [out for cell in graded["active"].notebook.cells for out in cell.get("outputs", ())]
    assert {kind for out in outputs for kind in out.get("data", ())} == {"text/plain"}
    assert graded["active"].notebook.cells[-1].source == "< script>window.hit = 1< /script>"
    nbformat.writes(graded["active"].notebook).encode()  # also what is no character


def test_a_warning_is_not_a_wrong_answer(graded):
    assert graded["warns"].points == ALL


def test_the_kernel_sees_no_other_environment_and_works_in_its_home(graded):
    outputs = [o.text for c in graded["environment"].notebook.cells for o in c.get("outputs", ())]
    assert outputs == ["None True\n"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("not JSON", "not JSON"), ("empty", "not JSON"), ("deep", "not JSON"), ("bytes", "not JSON"),
        ("a list", "not a notebook"), ("folder", "not a file"), ("huge", "20 are allowed"),
        ("missing", "there is no file"),
    ],
)  # fmt: skip
def test_what_is_no_notebook_is_worth_nothing_and_says_why(graded, name, reason):
    assert graded[name].points == NONE
    assert reason in said(graded, name)
    assert set(graded[name].notebook.cells[0]) >= {"cell_type", "source"}


def test_a_notebook_with_odd_cells_counts_as_blank(graded):
    assert graded["odd cells"].points == NONE


def test_a_link_that_leads_elsewhere_is_not_followed(master, tmp_path):
    (tmp_path / "mine.ipynb").symlink_to(master)
    with pytest.raises(assemble.Unreadable, match="link that leads outside"):
        assemble.read(tmp_path / "mine.ipynb")


def test_every_notebook_that_comes_out_is_valid_and_scored_alike_by_nbgrader(graded):
    from nbgrader.utils import determine_grade, is_grade

    for name, one in graded.items():
        nbformat.validate(one.notebook)
        if one.seconds:
            found = {
                c.metadata.nbgrader.grade_id: determine_grade(c)[0]
                for c in one.notebook.cells
                if is_grade(c)
            }
            assert {task: score or 0 for task, score in found.items()} == one.earned, name


def test_nothing_is_left_behind(graded, kernels):
    assert list(kernels.iterdir()) == []
    children = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True
    ).stdout
    assert "lgutils.teach.seal" not in children
    assert not [t for t in threading.enumerate() if "_listen" in t.name]


def test_grade_gives_the_points_alone(master, tmp_path):
    nbformat.write(handed_in(), tmp_path / "mine.ipynb")
    assert grade.grade(master, tmp_path / "mine.ipynb", QUICK) == ALL


def test_the_time_for_all_cells_ends_too(master, tmp_path):
    nbformat.write(handed_in("import time; time.sleep(60)"), tmp_path / "mine.ipynb")
    done = grade.run(master, tmp_path / "mine.ipynb", Limits(total_seconds=2))
    assert done.points == NONE
    assert "stopped after 2 s in all; later cells were not run" in done.flags


def test_grading_can_be_stopped(master, tmp_path):
    nbformat.write(handed_in("import time; time.sleep(600)"), tmp_path / "mine.ipynb")
    stop, patient = threading.Event(), Limits(cell_seconds=500, total_seconds=500)
    threading.Timer(2, stop.set).start()
    done = grade.run(master, tmp_path / "mine.ipynb", patient, stop=stop)
    assert "grading was stopped" in done.flags


def test_a_folder_of_the_teacher_can_be_closed_too(master, tmp_path):
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "answer.txt").write_text("42")
    look = tried(f"open({str(tmp_path / 'others' / 'answer.txt')!r}).read()")
    nbformat.write(handed_in(look), tmp_path / "mine.ipynb")
    done = grade.run(master, tmp_path / "mine.ipynb", QUICK, closed=(tmp_path / "others",))
    assert done.suspect


def test_a_folder_that_holds_python_cannot_be_closed(master, tmp_path):
    nbformat.write(handed_in(), tmp_path / "mine.ipynb")
    with pytest.raises(UserError, match="folder of their own"):
        grade.run(master, tmp_path / "mine.ipynb", closed=(Path(sys.prefix),))


def test_attachments_of_a_text_answer_are_kept(master):
    book = handed_in()
    book.cells[-1]["attachments"] = {"sketch.png": {"image/png": "iVBORw0KGgo="}}
    given = [assemble._cell(cell) for cell in json.loads(json.dumps(book))["cells"]]
    made, _ = assemble.assemble(masters.load(master), given)
    assert made.cells[-1].attachments == {"sketch.png": {"image/png": "iVBORw0KGgo="}}


def test_a_pipe_or_a_link_to_itself_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "loop.ipynb").symlink_to("loop.ipynb")
    with pytest.raises(assemble.Unreadable, match="it is not a file"):
        assemble.read(tmp_path / "pipe.ipynb")
    with pytest.raises(assemble.Unreadable, match=r"there is no file|cannot be read"):
        assemble.read(tmp_path / "loop.ipynb")


def test_tasks_come_from_the_master_with_their_points(master):
    found = masters.tasks(master)
    assert {name: (task.points, task.manual) for name, task in found.items()} == {
        "double": (2.0, False), "triple": (1.0, False), "why": (3.0, True),
    }  # fmt: skip


def test_a_master_that_names_two_cells_alike_is_refused(tmp_path):
    nbformat.write(twice(make_master(), "double"), tmp_path / "m.ipynb")
    with pytest.raises(UserError, match="'double' for two cells"):
        masters.load(tmp_path / "m.ipynb")


def test_a_master_that_cannot_be_read_is_the_teachers_fault(tmp_path):
    with pytest.raises(UserError, match="not a readable notebook"):
        grade.run(tmp_path / "none.ipynb", tmp_path / "mine.ipynb")


def test_limits_and_workers_must_be_positive(master):
    with pytest.raises(UserError, match="cell_seconds is 0"):
        Limits(cell_seconds=0)
    with pytest.raises(UserError, match="workers is 0"):
        grade.folder({}, master, workers=0)


def test_a_failed_cell_without_an_error_output_gets_one():
    cell = new_code_cell("assert False")
    client.settle(cell, "not run")
    assert cell.outputs[0].evalue == "not run"


def test_a_kernel_that_does_not_start_is_tried_again_and_is_not_the_students_fault(
    master, tmp_path, monkeypatch
):
    nbformat.write(handed_in(), tmp_path / "mine.ipynb")
    calls, real = [], sandbox.execute

    def failing(times):
        def execute(*args, **how):
            calls.append(1)
            if len(calls) <= times:
                raise RuntimeError("Kernel died before replying to kernel_info")
            return real(*args, **how)

        return execute

    monkeypatch.setattr(sandbox, "execute", failing(1))
    done = grade.run(master, tmp_path / "mine.ipynb", QUICK)
    assert (done.points, done.unrun, len(calls)) == (ALL, False, 2)
    calls.clear()
    monkeypatch.setattr(sandbox, "execute", failing(9))
    done = grade.run(master, tmp_path / "mine.ipynb", QUICK)
    assert (done.points, done.unrun, len(calls)) == (NONE, True, 2)
    assert "Kernel died" in done.flags[0]


def slow_master(folder: Path, seconds: float) -> Path:
    """The master with a set-up that takes so long."""
    book = make_master()
    book.cells[1].source = f"import time; time.sleep({seconds}); START = 3"
    nbformat.write(book, folder / "slow.ipynb")
    return folder / "slow.ipynb"


def test_a_setup_that_is_stopped_gets_more_time_and_the_right_answers_their_points(tmp_path):
    slow = slow_master(tmp_path, 2)
    nbformat.write(handed_in(), tmp_path / "mine.ipynb")
    done = grade.run(slow, tmp_path / "mine.ipynb", Limits(cell_seconds=1))
    assert (done.points, done.unrun) == (ALL, False)


def test_a_setup_that_does_not_end_means_not_run_and_never_nothing(tmp_path):
    slow = slow_master(tmp_path, 60)
    nbformat.write(handed_in(), tmp_path / "mine.ipynb")
    done = grade.run(slow, tmp_path / "mine.ipynb", Limits(cell_seconds=0.5))
    assert done.unrun
    assert done.flags == ("not graded: cell setup did not end in 2 s; was this computer busy?",)
    with pytest.raises(UserError, match=r"no points yet: .* Grade it again"):
        grade.grade(slow, tmp_path / "mine.ipynb", Limits(cell_seconds=0.1))


def test_a_cell_that_mostly_waited_for_a_processor_is_not_the_students_fault(
    master, tmp_path, monkeypatch
):
    monkeypatch.setattr(client, "BUSY", 2)
    monkeypatch.setattr(client.Client, "clock", lambda self: 0.1 * time.monotonic())
    nbformat.write(handed_in("import time; time.sleep(60)"), tmp_path / "mine.ipynb")
    assert grade.run(master, tmp_path / "mine.ipynb", Limits(cell_seconds=0.5)).unrun


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc here")
def test_the_clock_of_a_kernel_counts_what_it_does_and_sleeps_but_not_what_it_waits(monkeypatch):
    watched = client.Client(new_notebook())
    watched._group = os.getpid()
    began = watched.clock()
    time.sleep(0.05)
    assert watched.clock() - began > 0.04
    monkeypatch.setattr(Path, "read_text", lambda self: f"0 {10**12} 0")
    assert began - watched.clock() > 900


def test_what_could_not_be_run_is_tried_again_at_the_end_alone_with_more_time(
    master, tmp_path, monkeypatch
):
    tried = []

    def once(master, path, *, limits, **how):
        tried.append((path, limits.cell_seconds, threading.current_thread().name))
        return grade._nothing(masters.load(master), "busy", unrun=path == "b" and limits == QUICK)

    monkeypatch.setattr(grade, "_once", once)
    monkeypatch.setattr(sandbox, "execute", lambda *args, **how: None)
    done = grade.folder({"b": "b", "c": "c"}, master, limits=QUICK, progress=False)
    assert not done["b"].unrun
    assert tried[2:] == [("b", 4 * QUICK.cell_seconds, "MainThread")]


def test_the_masters_own_cells_fill_the_cache_before_the_first_submission(
    master, tmp_path, monkeypatch
):
    ran = []

    def execute(book, ours, **how):
        ran.append([cell.source for cell in book.cells])
        raise RuntimeError

    monkeypatch.setattr(sandbox, "execute", execute)
    nbformat.write(handed_in(), tmp_path / "mine.ipynb")
    grade.folder({"a": tmp_path / "mine.ipynb"}, master, limits=QUICK, progress=False)
    assert ran[0] == ["START = 3"]
    assert len(ran[1]) == 7


def test_the_cache_is_made_where_there_is_none_yet(master, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.delenv("LGUTILS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    keep = (
        "from lgutils import files\npath = files.target(files.cache_dir() / 'made' / 'x', force=True)\n"
        "files.write_text(path, 'y')"
    )
    nbformat.write(handed_in(double=f"{keep}\n{DOUBLE}"), tmp_path / "mine.ipynb")
    done = grade.run(master, tmp_path / "mine.ipynb", QUICK)
    assert (done.points, done.flags) == (ALL, ())


def test_a_builtin_that_the_assignment_asks_for_is_the_students(tmp_path):
    (tmp_path / "own").mkdir()
    book = new_notebook(
        cells=[
            answer("sum", "def sum(x):\n    return 5\n"),
            check("sum", "assert sum([1]) == 5", "assert max(1, 2) == 2", 1),
        ]
    )
    nbformat.write(book, tmp_path / "own" / "own.ipynb")
    assert grade.grade(*[tmp_path / "own" / "own.ipynb"] * 2, QUICK) == {"sum": 1}


def test_too_many_cells_are_not_read(tmp_path):
    (tmp_path / "mine.ipynb").write_text(json.dumps({"cells": [{}] * 2001}))
    with pytest.raises(assemble.Unreadable, match="2001 cells"):
        assemble.read(tmp_path / "mine.ipynb")


def test_only_known_kinds_are_noted_and_suspicious_ones_have_room_left():
    ran = ear.Ran()
    source, channel = os.pipe()
    hearing = ear.Ear(source, ran)
    lines = [
        ["x", "=HYPERLINK(1)"],
        *(["write", f"file {i}"] for i in range(30)),
        ["solution", "s"],
    ]
    os.write(channel, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    os.close(channel)
    hearing.close()
    assert ran.flags == [*(f"file {i}" for i in range(20)), "s"]
    assert ran.suspect


def test_a_long_path_for_the_kernel_falls_back_to_ports(tmp_path):
    assert client._sockets(Path("/short/kernel.json"))["transport"] == "ipc"
    assert client._sockets(Path("/", "long" * 30, "kernel.json")) == {}
