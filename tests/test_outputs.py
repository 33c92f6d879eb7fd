"""Nothing of the user's is destroyed, and the command never ends in a traceback."""

import errno
import io
import os
import sqlite3
import stat
import subprocess
import sys

import nbformat
import pytest

from lgutils import ancestry, cli, course, data, files, fleet, learngene
from lgutils.data import sources
from lgutils.errors import UserError
from lgutils.fleet import store

KINDS = ("ancestor", "learngene", "descendant")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_cnn):
    """The current folder, with an ancestor `a`, its learngene `g`, a text file and a link to `g`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LGUTILS_DATA", str(tmp_path / "data"))  # --data-dir sets it
    tiny_cnn.save("a.safetensors")
    learngene.extract(tiny_cnn, ["features.7"]).save("g.safetensors")
    (tmp_path / "text.txt").write_text("mine")
    (tmp_path / "link").symlink_to("g.safetensors")
    return tmp_path


@pytest.fixture
def ended(monkeypatch, capsys):
    """Run a command line in this process: its exit code and what it said on stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lgutils", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    return run


def state(folder):
    """Every file below a folder: what it is and what it holds."""
    return {
        p: (
            os.readlink(p)
            if p.is_symlink()
            else p.read_bytes()
            if p.is_file()
            else p.stat().st_mode
        )
        for p in sorted(folder.rglob("*"))
    }


# --- every odd command line that was tried: words of the refusal, exit code 2, nothing changed --------

COMMANDS = {
    "condense a.safetensors": "learngene",
    "inherit g.safetensors": "descendant",
    "accumulate cnn": "ancestor",
}
EVIL_OUTPUTS = {
    "": "names no file",
    ".": "names no file",
    "..": "is a folder",
    "/": "names no file",
    "/dev/null": "a device",
    "/dev/full": "a device",
    "folder": "is a folder",
    "text.txt": "--force",
    "text.txt/x": "Not a directory",
    "other": "--force",
    "pipe": "a pipe",
    "socket": "a socket",
    "locked": "read-only",
    "loop": "symbolic links",
    "/proc/nowhere/x": "Cannot write",
    "~nobody-of-this-name/x": "home folder is not known",
    "n" * 256: "shorter name",
    "ä" * 128: "shorter name",
    "new/" + "n" * 256: "shorter name",
    "input": "is read by this command",
    "hard": "is read by this command",
}


@posix
@pytest.mark.parametrize("out", EVIL_OUTPUTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_must_not_be_written_is_refused_at_once(folder, ended, command, out):
    verb, given = command.split()
    (folder / "folder").mkdir()
    os.mkfifo("pipe")
    os.mknod("socket", stat.S_IFSOCK | 0o600)
    (folder / "locked").write_text("x")
    (folder / "locked").chmod(0o444)
    (folder / "loop").symlink_to("loop")
    other = next(kind for kind in KINDS if kind != COMMANDS[command])
    files.save_tensors("other", other, {}, {})
    if verb == "accumulate":
        given, options = "w.safetensors", ["--arch", "vgg11", "--weights", "w.safetensors"]
        (folder / given).write_bytes(b"weights")
    else:
        options = [given]
    (folder / "input").symlink_to(given)
    os.link(given, "hard")
    before = state(folder)
    code, said = ended(verb, *options, "--out", out)
    assert (code, EVIL_OUTPUTS[out] in said, len(said.splitlines())) == (2, True, 1), said
    assert state(folder) == before


ODD = [
    # condense
    ("condense a.safetensors --budget 0", "--budget '0' is neither"),
    ("condense a.safetensors --budget 0.0", "neither"),
    ("condense a.safetensors --budget=-1", "neither"),
    ("condense a.safetensors --budget 1.5", "neither"),
    ("condense a.safetensors --budget nan", "neither"),
    ("condense a.safetensors --budget inf", "neither"),
    ("condense a.safetensors --budget 1e999", "neither"),
    ("condense a.safetensors --budget " + "9" * 5000, "neither"),
    ("condense a.safetensors --budget EMPTY", "is empty"),
    ("condense a.safetensors --layers EMPTY", "is empty"),
    ("condense a.safetensors --layers ,", "is empty"),
    ("condense a.safetensors --layers features.99", "Unknown"),
    ("condense a.safetensors --seeds 0", "'--seeds'"),
    ("condense a.safetensors --seeds 99999999999", "'--seeds'"),
    ("condense a.safetensors --iterations 0", "'--iterations'"),
    ("condense a.safetensors --iterations 99999999999", "'--iterations'"),
    ("condense a.safetensors --device EMPTY", "is empty"),
    ("condense a.safetensors --device meta", "cannot compute on it"),
    ("condense a.safetensors --device mps", "mps"),
    ("condense a.safetensors --device xpu", "xpu"),
    ("condense a.safetensors --device cuda:99", "cuda:99"),
    ("condense a.safetensors --device tpu", "Unknown device"),
    ("condense a.safetensors --scale EMPTY", "is empty"),
    ("condense a.safetensors --criterion best", "Unknown"),
    ("condense a.safetensors --protocol dirty", "protocol"),
    ("condense a.safetensors --open-world nonsense", "Unknown dataset"),
    ("condense a.safetensors --open-world EMPTY", "is empty"),
    ("condense a.safetensors --layers features.4,features.4", "twice"),
    ("condense a.safetensors --scale paper --layers recipe", "names no layers"),
    ("condense text.txt", "text.txt"),
    ("condense g.safetensors", "is of kind 'learngene'"),
    ("condense .", "a folder"),
    ("condense /dev/null", "a device"),
    ("condense " + "n" * 300, "name"),
    # inherit
    ("inherit g.safetensors --seed -1", "'--seed'"),
    (f"inherit g.safetensors --seed {2**64}", "'--seed'"),
    ("inherit g.safetensors --ways 1", "'--ways'"),
    ("inherit g.safetensors --shots 0", "'--shots'"),
    ("inherit g.safetensors --epochs 0", "'--epochs'"),
    ("inherit g.safetensors --device meta", "cannot compute on it"),
    ("inherit g.safetensors --arch EMPTY", "is empty"),
    ("inherit g.safetensors --arch nonsense", "Unknown architecture"),
    ("inherit g.safetensors --dataset EMPTY", "is empty"),
    ("inherit g.safetensors --set seed=1", "--set seed is not possible"),
    ("inherit g.safetensors --set arch=vgg11", "--set arch is not possible"),
    ("inherit g.safetensors --set arch=", "not NAME=VALUE"),
    ("inherit g.safetensors --set num_classes=3", "--set num_classes is not possible"),
    ("inherit g.safetensors --set gene=3", "--set gene is not possible"),
    ("inherit g.safetensors --set EMPTY", "not NAME=VALUE"),
    ("inherit g.safetensors --set =3", "not NAME=VALUE"),
    ("inherit g.safetensors --set pretrained=1", "not accepted"),
    ("inherit g.safetensors --set hidden=0,0", "hidden"),
    ("inherit g.safetensors --set stages=1e99", "cannot build"),
    ("inherit g.safetensors --set stages=NaN", "stages"),
    ("inherit g.safetensors --set model_name=x", "cannot build"),
    ("inherit g.safetensors --set kwargs={}", "cannot build"),
    ("inherit g.safetensors --set drop_rate=-1", "cannot build"),
    ("inherit g.safetensors --set stages=" + "[" * 100_000, "nested"),
    # accumulate
    ("accumulate EMPTY", "Unknown family"),
    ("accumulate custom", "names no architecture"),
    ("accumulate --arch EMPTY", "is empty"),
    ("accumulate --arch vgg11 --weights EMPTY", "is empty"),
    ("accumulate --arch vgg11 --weights text.txt", "text.txt"),
    ("accumulate --arch learngene_vit --set depth=1e99 --weights w.pth", "learngene_vit"),
    ("accumulate --arch vgg11 --set seed=1", "--set seed is not possible"),
    ("accumulate cnn --dataset EMPTY", "is empty"),
    ("accumulate cnn --scale EMPTY", "is empty"),
    ("accumulate --arch learngene_vit --set num_heads=0 --weights w", "num_heads 0"),
    ("accumulate --arch vgg11 --weights .", "nor a file"),
    ("accumulate --arch vgg11 --weights /dev/zero", "nor a file"),
    ("accumulate --arch vgg11 --weights w --mean nan,1,1 --std 1,1,1", "mean (nan"),
    ("accumulate --arch vgg11 --weights w --mean 0,0,0 --std 0,0,0", "std (0.0"),
    ("accumulate --arch vgg11 --weights w --match x", "Unknown way to match"),
    ("accumulate cnn --precision fp4 --fresh", "Unknown precision"),
    ("accumulate cnn --precision EMPTY", "is empty"),
    ("accumulate cnn --dataset digits,glyphs", "Unknown dataset"),
    ("accumulate cnn --fresh --device meta", "cannot compute on it"),
    # data
    ("data digits --export text.txt", "Cannot write"),
    ("data digits --export .", "not from this export"),
    ("data digits --size EMPTY", "Unknown size"),
    ("data digits --data-dir ~nobody-of-this-name", "home folder is not known"),
    ("data EMPTY", "Unknown dataset"),
    ("data folder:~nobody-of-this-name", "not found"),
    ("data folder:" + "n" * 300, "not found"),
    ("data digits@0", "pixels"),
    ("data digits --size huge", "Unknown size"),
    ("data cifar100", "not found"),
    ("data glyphs --download", "cannot be fetched"),
    ("data digits@9999999999999999999999", "pixels"),
    # info
    ("info EMPTY", "folder"),
    ("info text.txt", "text.txt"),
    ("info /dev/zero", "a device"),
    ("info " + "n" * 5000, "name"),
    ("info \udcff", "\\udcff"),
    # course
    ("course --only EMPTY", "is empty"),
    ("course --only ,", "is empty"),
    ("course --only 99", "Unknown chapter"),
    ("course --scale EMPTY", "is empty"),
    ("course --out text.txt", "Not a directory"),
    ("course --out ~nobody-of-this-name", "home folder is not known"),
    # replicate
    ("replicate --families custom", "names no architecture"),
    ("replicate --families EMPTY", "is empty"),
    ("replicate --claims 9", "the paper has 1 to 4"),
    ("replicate --claims 0", "from 1 on"),
    ("replicate --claims EMPTY", "is empty"),
    ("replicate --claims " + "9" * 5000, "not a list of numbers"),
    ("replicate --tasks 99999999999", "'--tasks'"),
    ("replicate --tasks 3", "at least 4"),
    ("replicate --shots 0,10,20", "from 1 on"),
    ("replicate --shots ,", "is empty"),
    ("replicate --part 0/0", "not K/N"),
    ("replicate --part 2/1", "not K/N"),
    ("replicate --part -1/3", "not K/N"),
    ("replicate --part EMPTY", "is empty"),
    ("replicate --dataset EMPTY", "is empty"),
    ("replicate --scale EMPTY", "is empty"),
    ("replicate --out text.txt", "Not a directory"),
    ("replicate --out /dev/null", "Not a directory"),
    # the others
    ("compare EMPTY EMPTY", "claims.json"),
    ("compare . ..", "claims.json"),
    ("ship EMPTY", "Unknown"),
    ("ship ancestors nonsense", "Unknown part"),
    ("site --repository ftp://x", "https://HOST/OWNER/NAME"),
    ("teach feedback --folder /dev/null", "not a teacher's folder"),
    ("teach report --folder .", "not a teacher's folder"),
    ("teach grade nonsense --folder .", "not a teacher's folder"),
    ("site --out text.txt", "is not a site"),
    ("site --out .", "is not a site"),
    ("site --out /dev/null", "is not a site"),
    ("teach grade --cell-seconds nan", "cell-seconds"),
    ("teach grade --folder text.txt", "not a teacher's folder"),
    ("teach release --folder text.txt", "Cannot write"),
    ("nonsense", "No such command"),
]


@pytest.mark.parametrize(("line", "words"), ODD, ids=[line[:60] for line, _ in ODD])
def test_an_odd_command_line_is_refused_in_a_sentence(folder, ended, line, words):
    before = state(folder)
    code, said = ended(*("" if word == "EMPTY" else word for word in line.split()))
    assert (code, words in said, "Traceback" in said) == (2, True, False), said[-2000:]
    assert state(folder) == before


# --- what is written ------------------------------------------------------------------------------


def test_a_learngene_goes_where_a_link_leads(folder, ended):
    assert ended("condense", "a.safetensors", "--layers", "features.4", "--out", "link")[0] == 0
    assert (folder / "link").is_symlink()
    assert learngene.Learngene.load("g.safetensors").names == ("features.4",)


def test_a_file_of_ours_is_replaced_without_asking(folder, ended):
    options = ("--layers", "features.4", "--out", "g.safetensors")
    assert ended("condense", "a.safetensors", *options)[0] == 0


def test_force_replaces_what_is_there(folder, ended):
    options = ("--layers", "features.4", "--out", "text.txt", "--force")
    assert ended("condense", "a.safetensors", *options)[0] == 0
    assert files.load_tensors("text.txt", "learngene")


@posix
@pytest.mark.parametrize("line", ["info {}", "condense {}", "condense a.safetensors --out {}"])
def test_a_name_that_is_no_text_is_refused(folder, ended, line):
    name = os.fsdecode(b"x\xff.safetensors")
    (folder / name).write_bytes((folder / "a.safetensors").read_bytes())
    code, said = ended(*line.format(name).split())
    assert (code, "x\\udcff.safetensors is no name in UTF-8" in said) == (2, True)


def test_another_programs_checkpoint_is_kept(folder, ended):
    (folder / "new.ckpt.0").write_bytes(b"of another program")
    code, said = ended("condense", "a.safetensors", "--out", "new.safetensors")
    assert (code, "new.ckpt.0" in said) == (2, True)
    assert (folder / "new.ckpt.0").read_bytes() == b"of another program"


def test_an_ancestor_with_the_checkpoints_name_is_kept(folder, ended):
    (folder / "a.safetensors").rename("g.ckpt.0")
    code, said = ended("condense", "g.ckpt.0", "--out", "g.safetensors")
    assert (code, "is read by this command" in said) == (2, True)


def test_samples_may_be_exported_again_into_their_folder(folder, digits):
    data.export(digits, "out", (0, 1), 1)
    (folder / "out" / ".DS_Store").touch()  # what macOS leaves where somebody looked
    data.export(digits, "out", (0, 1), 1)
    (folder / "out" / ".DS_Store").unlink()
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["000_0", "001_1"]


def test_samples_are_not_mixed_with_pictures_that_are_there(folder, digits):
    (folder / "out" / "cats").mkdir(parents=True)
    with pytest.raises(UserError, match="holds cats, which is not from this export"):
        data.export(digits, "out", (0, 1), 1)


def test_glyphs_are_not_drawn_for_a_cache_that_cannot_be_written(folder, monkeypatch):
    monkeypatch.setenv("LGUTILS_CACHE", str(folder / "text.txt"))
    monkeypatch.setattr(sources.glyphs, "render", lambda n: pytest.fail("drawn"))
    with pytest.raises(UserError, match="Set LGUTILS_CACHE to a folder"):
        data.load("glyphs", "rehearsal")


@pytest.mark.parametrize("name", ["runs.csv", "claims.json", "report.html", "report.md"])
def test_a_report_of_someone_else_is_not_replaced(folder, ended, name):
    (folder / "results").mkdir()
    (folder / "results" / name).write_text("mine")
    code, said = ended("replicate", "--out", "results")
    assert (code, f"holds {name}" in said) == (2, True)
    assert list((folder / "results").iterdir()) == [folder / "results" / name]


# --- the course's run folder ----------------------------------------------------------------------


def chapter(*sources, **outputs):
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(s, **outputs) for s in sources]
    )


@pytest.fixture
def notebook(folder, monkeypatch):
    """A course of one chapter; running it only notes that it would have run."""
    (folder / "notebooks").mkdir()
    nbformat.write(chapter("1 + 1"), folder / "notebooks" / "00_one.ipynb")
    monkeypatch.setattr(course, "notebooks_folder", lambda: folder / "notebooks")
    monkeypatch.setattr(course, "_execute", lambda *_: "ran")
    (folder / "run").mkdir()
    return folder / "run" / "00_one.ipynb"


def test_a_copy_that_nobody_edited_is_replaced(notebook):
    nbformat.write(chapter("1 + 1", outputs=[], execution_count=3), notebook)
    notebook.with_suffix(".html").write_text("its page")
    assert course.run(out=notebook.parent) == ["ran"]


@pytest.mark.parametrize("source", ["1 + 1  # my note", ""])
def test_a_notebook_that_was_edited_stops_the_course_before_it_runs(notebook, source):
    nbformat.write(chapter(source), notebook)
    before = notebook.read_bytes()
    with pytest.raises(UserError, match=r"holds 00_one\.ipynb .* perhaps your work"):
        course.run(out=notebook.parent)
    assert notebook.read_bytes() == before


def test_an_added_cell_stops_the_course(notebook):
    nbformat.write(chapter("1 + 1", "my_answer = 2"), notebook)
    with pytest.raises(UserError, match="perhaps your work"):
        course.run(out=notebook.parent)


@pytest.mark.parametrize("name", ["00_one.ipynb", "00_one.html"])
def test_a_foreign_file_of_a_chapters_name_stops_the_course(notebook, name):
    notebook.with_name(name).write_text("mine")
    with pytest.raises(UserError, match="perhaps your work"):
        course.run(out=notebook.parent)


def test_other_notebooks_in_the_folder_do_not_matter(notebook):
    nbformat.write(chapter("mine"), notebook.with_name("mine.ipynb"))
    assert course.run(out=notebook.parent) == ["ran"]


# --- the results file -----------------------------------------------------------------------------


def test_a_results_file_in_use_says_to_wait(folder, monkeypatch):
    monkeypatch.setattr(store, "WAIT", 0.05)
    fleet.Results("r.sqlite").__exit__()
    other = sqlite3.connect("r.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UserError, match=r"in use by another process .* Wait until that one ends"):
        fleet.Results("r.sqlite")
    other.close()


def test_a_database_of_another_program_is_left_alone(folder):
    other = sqlite3.connect("r.sqlite")
    with other:
        other.execute("CREATE TABLE bookmarks (address TEXT)")
    other.close()
    before = (folder / "r.sqlite").read_bytes()
    with pytest.raises(UserError, match="of another program, with the table 'bookmarks'"):
        fleet.Results("r.sqlite")
    assert (folder / "r.sqlite").read_bytes() == before


def test_a_folder_in_the_results_files_place_is_no_reason_to_delete_it(folder):
    (folder / "r.sqlite").mkdir()
    with pytest.raises(UserError, match="is a folder, but a file is expected") as told:
        fleet.Results("r.sqlite")
    assert "elete" not in str(told.value)


CODES = {
    sqlite3.SQLITE_BUSY: "Wait until",
    sqlite3.SQLITE_LOCKED: "Wait until",
    sqlite3.SQLITE_FULL: "Free some space",
    sqlite3.SQLITE_IOERR_WRITE: "Free some space",
    sqlite3.SQLITE_CANTOPEN: "Allow access",
    sqlite3.SQLITE_READONLY_DBMOVED: "Allow access",
    sqlite3.SQLITE_PERM: "Allow access",
    sqlite3.SQLITE_CORRUPT: "Move it away",
    sqlite3.SQLITE_NOTADB: "delete it to start anew",
}


@pytest.mark.parametrize("code", CODES)
def test_only_what_is_no_database_may_be_deleted(folder, code):
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    said = str(store._explain(error, folder / "r.sqlite"))
    assert CODES[code] in said
    assert ("delete" in said.lower()) == (code == sqlite3.SQLITE_NOTADB)


# --- the command's edge ---------------------------------------------------------------------------


def fails(error):
    def command(**_):
        raise error

    return command


@pytest.fixture
def failing(monkeypatch, ended):
    """Run a command that ends with this exception."""

    def run(error):
        monkeypatch.setattr(sys.modules["lgutils.cli.app"], "app", fails(error))
        return ended("recipes")

    return run


def test_an_unforeseen_error_is_one_sentence_and_a_log(own_cache, failing):
    code, said = failing(KeyError("so\nwhat"))
    log = own_cache / "last-fault.log"
    assert (code, len(said.splitlines())) == (1, 1)
    assert "KeyError" in said
    assert str(log) in said
    assert "Traceback" in log.read_text()


def test_the_log_is_elsewhere_where_the_cache_cannot_be_written(folder, failing, monkeypatch):
    monkeypatch.setenv("LGUTILS_CACHE", str(folder / "text.txt"))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    code, said = failing(ZeroDivisionError())
    (log,) = folder.glob("lgutils-*/last-fault.log")
    assert (code, str(log) in said) == (1, True)


def test_debug_shows_the_traceback(folder, monkeypatch):
    monkeypatch.setenv("LGUTILS_DEBUG", "1")
    monkeypatch.setattr(sys.modules["lgutils.cli.app"], "app", fails(KeyError("x")))
    with pytest.raises(KeyError):
        cli.main()


OUTSIDE = {
    "full": (OSError(errno.ENOSPC, "No space left"), "The disk is full"),
    "forbidden": (
        PermissionError(errno.EACCES, "Permission denied", "x"),
        "Cannot use x: Permission",
    ),
    "long": (OSError(errno.ENAMETOOLONG, "File name too long", "x"), "Cannot use x: File name too"),
    "memory": (MemoryError(), "The memory is full"),
    "torch": (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "The memory is full"),
    "lines": (UserError("one\n  two\nthree"), "lgutils: one two three\n"),
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_what_the_machine_lacks_is_said_in_a_sentence(folder, failing, what):
    error, words = OUTSIDE[what]
    code, said = failing(error)
    assert (code, words in said, len(said.splitlines())) == (2, True, 1), said


def test_ctrl_c_outside_of_a_command_is_130(folder, failing):
    assert failing(KeyboardInterrupt())[0] == 130


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK"])
def test_what_torchrun_sets_must_be_a_number(ended, monkeypatch, name):
    monkeypatch.setenv(name, "abc")
    code, said = ended("recipes")
    assert (code, f"{name} is 'abc'" in said) == (2, True)


def shell(command, **environment):
    """Run a line of bash in which `lgutils` is the command: exit code, stdout, stderr."""
    line = f'lgutils() {{ "{sys.executable}" -m lgutils "$@"; }}; {command}'
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, env={**os.environ, **environment}, timeout=300
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_the_terminal_cannot_show_is_escaped(ended, monkeypatch, encoding):
    shown = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    assert ended("info", ancestry.shipped_path("cnn"))[0] == 0
    assert rb"\u03a9" in shown.buffer.getvalue()


@posix
def test_the_c_locale_shows_escapes():
    c = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    code, out, err = shell(f"lgutils info {ancestry.shipped_path('cnn')}", **c)
    assert (code, rb"\u03a9" in out, err) == (0, True, b"")


@posix
@pytest.mark.parametrize(
    "line",
    ["lgutils --version | :", "lgutils --help 2>&1 | :", "lgutils --version 2>&- | :"],
)
def test_output_that_nobody_reads_ends_quietly(line):
    code, out, err = shell(f"{line.replace(':', '(exec <&-; sleep 1)')}; exit ${{PIPESTATUS[0]}}")
    assert (code, out, err) == (141, b"", b"")


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_to_a_full_disk_is_said(folder):
    code, _, err = shell("lgutils --version > /dev/full")
    assert (code, b"The disk is full" in err, len(err.splitlines())) == (2, True, 1)
