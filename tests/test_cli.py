"""The command line: what it prints, what it writes, how it refuses."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest
import torch
import typer
from test_replicate import pretend
from typer.testing import CliRunner

from lgutils import cli, course, files, fleet, models, ship
from lgutils.cli import options
from lgutils.errors import UserError
from lgutils.site import render


def shell(*arguments, **environment):
    """What the command prints in a process of its own, and its exit code."""
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "lgutils", *arguments],
        capture_output=True, text=True, encoding="utf-8", env={**os.environ, **environment},
    )  # fmt: skip


def commands(group=None, words=()):
    """Every command by its words, those of groups too."""
    group = group or typer.main.get_command(cli.app)
    for name, found in group.commands.items():
        yield (*words, name), found
        if hasattr(found, "commands"):
            yield from commands(found, (*words, name))


EVERY = dict(commands())


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_first_words_load_nothing_heavy(arguments):
    done = shell(*arguments)
    assert done.returncode == 0
    assert not {"torch", "numpy", "pandas"} & set(re.findall(r"\| +(\w+)$", done.stderr, re.M))


def test_without_an_argument_four_commands_are_told():
    first = re.findall(r"^  lgutils (\w+)", shell().stdout, re.M)
    assert len(first) == 4
    assert {(name,) for name in first} <= EVERY.keys()


def test_help_has_the_commands_in_the_order_of_their_panels():
    shown = re.findall(r"^\W (\w+)  ", shell("--help").stdout, re.M)
    assert shown == [name for name in cli.ORDER if (name,) in EVERY and name != "ship"]


@pytest.mark.parametrize("words", [(), *EVERY], ids=" ".join)
def test_help_is_cut_nowhere_and_ends_with_an_example(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(cli.app, [*words, "--help"]).output
    assert "…" not in shown
    assert "..." not in re.sub(r"(ARGS\]|\w\]?)\.\.\.|, \.\.\.", "", shown)  # which mean "several"
    assert max(map(len, shown.splitlines())) <= 80
    last = shown.rstrip().splitlines()[-1]
    assert last.strip().startswith(f"Example: lgutils {' '.join(words)}".rstrip())


def test_help_keeps_to_ascii_where_the_terminal_has_no_more():
    shown = shell("--help", PYTHONIOENCODING="ascii", LC_ALL="C").stdout
    assert shown.isascii()
    assert "\\u" not in shown


def test_a_refusal_is_one_plain_line_without_a_frame():
    errors = [e for e in shell("data", "--size").stderr.splitlines() if "import time" not in e]
    assert errors[-1] == "Error: Option '--size' requires an argument."


def test_a_folder_in_the_home_folder_is_opened_where_it_was_copied_to(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setattr(course, "open_lab", lambda folder: opened.append(folder) or 0)
    done = CliRunner().invoke(cli.app, ["start", "~/mine"])
    assert opened == [tmp_path / "mine"]
    assert f"Solutions to the exercises: {tmp_path / 'mine' / 'solutions'}." in done.output


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Words of a command -> exit code of the example in its help; all run in one folder, in order."""
    folder, found = tmp_path_factory.mktemp("examples"), {}
    for name in ("mine", "theirs"):
        shutil.copytree(ship.results_folder() / "digits-quick", folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(course, "open_lab", lambda folder: 0)
        patch.setattr(fleet.backends, "choose", lambda jobs, workers: {"serial": jobs})
        patch.setattr(fleet.backends, "run_job", pretend)
        patch.setattr(render, "render", lambda source, html, *_: html.mkdir())
        patch.setitem(ship.PARTS, "pictures", lambda: None)
        for words in sorted(
            EVERY, key=lambda words: (words[0] == "teach", cli.ORDER.index(words[0]))
        ):
            line = shlex.split(EVERY[words].epilog.removeprefix("Example: lgutils "))
            found[words] = CliRunner().invoke(cli.app, line)
            if words == ("teach", "release"):
                shutil.copytree(folder / "teaching/release", folder / "teaching/submitted/ann")
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_the_example_of_every_command_runs(words, examples):
    done = examples[words]
    assert done.exit_code == 0, (done.output, done.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "nowhere.safetensors"),
        ("accumulate", "cmn"),
        ("data", "glyfs"),
        ("course", "--only", "77"),
        ("course", "--scale", "papre"),
        ("condense", "nowhere.safetensors", "--budget", "many"),
        ("ship", "everything"),
        ("replicate", "--claims", "1,9"),
        ("replicate", "--claims", "one"),
        ("replicate", "--dataset", "mnist"),
        ("replicate", "--families", "rnn"),
        ("replicate", "--tasks", "3"),
        ("replicate", "--backend", "slurm"),
        ("compare", "nowhere", "elsewhere"),
        ("accumulate",),
        ("accumulate", "cnn", "--arch", "vgg11"),
        ("accumulate", "cnn", "--weights", "timm"),
        ("accumulate", "vgg16", "--scale", "quick"),
        ("accumulate", "--arch", "vgg11", "--weights", "nowhere.pth"),
        ("data", "cifar100", "--data-dir", "."),
        ("data", "glyphs", "--download"),
        ("replicate", "--part", "3"),
        ("replicate", "--part", "4/3"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LGUTILS_DATA", str(tmp_path))  # --data-dir sets it: put back after the test
    monkeypatch.setattr(sys, "argv", ["lgutils", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    errors = capsys.readouterr().err
    assert end.value.code == 2
    assert errors.startswith("lgutils: ")
    assert len(errors.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_whole_story_runs_from_a_shell(tmp_path):
    run = CliRunner()
    ancestor, gene, heir = (tmp_path / f"{n}.safetensors" for n in ("a", "g", "d"))
    for arguments in (
        ["accumulate", "cnn", "--out", ancestor],
        ["condense", ancestor, "--out", gene, "--iterations", "2", "--budget", "2"],
        ["inherit", gene, "--out", heir, "--set", "stages=1,2,2,3", "--epochs", "2"],
    ):
        result = run.invoke(cli.app, list(map(str, arguments)))
        assert result.exit_code == 0, (result.output, result.exception)
    _, meta = files.load_tensors(heir, "descendant")
    assert meta["settings"] == {"stages": [1, 2, 2, 3]}
    for path in (ancestor, gene, heir):
        shown = run.invoke(cli.app, ["info", str(path)])
        assert shown.exit_code == 0
        assert path.name in shown.output


def test_an_adopted_model_goes_the_same_way_from_a_shell(tmp_path):
    from safetensors.torch import save_file

    settings = {"stages": [1, 1, 1], "widths": [4, 6, 6]}
    save_file(
        models.create("learngene_vgg", 7, seed=3, **settings).state_dict(),
        tmp_path / "w.safetensors",
    )
    ancestor, gene, heir = (tmp_path / f"{n}.safetensors" for n in ("a", "g", "d"))
    shape = ["--set", "stages=1,1,1", "--set", "widths=4,6,6"]
    outputs = []
    for arguments in (
        ["accumulate", "--arch", "learngene_vgg", *shape, "--weights", tmp_path / "w.safetensors",
         "--out", ancestor],
        ["condense", ancestor, "--out", gene, "--iterations", "1", "--budget", "1"],
        ["condense", ancestor, "--out", gene, "--layers", "features.8"],
        ["inherit", gene, "--out", heir, "--epochs", "1", "--dataset", "digits"],
    ):  # fmt: skip
        result = CliRunner().invoke(cli.app, list(map(str, arguments)))
        assert result.exit_code == 0, (result.output, result.exception)
        outputs.append(result.stdout)
    assert "adopted from" in outputs[0]
    assert "features.8" in outputs[2]


def test_the_recipes_are_listed():
    result = CliRunner().invoke(cli.app, ["recipes"])
    assert result.exit_code == 0
    assert "| `vgg16` | 33.87 |" in result.stdout


def test_only_accumulating_is_shared_between_processes(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sys, "argv", ["lgutils", "replicate"])
    for rank, words in (("1", ""), ("0", "only `lgutils accumulate` shares its work")):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2
        assert words in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_leaves_nothing_half_written(tmp_path):
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have ignored it\n"
        "sys.argv = ['lgutils', 'accumulate', 'cnn', '--fresh', '--out', 'a.safetensors']\n"
        "from lgutils.cli import main; main()"
    )
    environment = {**os.environ, "LGUTILS_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            time.sleep(14)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "stopped" in errors
    left = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert not [p for p in left if p.suffix == ".part" or p.name == "a.safetensors"]


def book(*sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture
def small_course(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(book("1 + 1"), folder / "00_good.ipynb")
    nbformat.write(book("1 / 0"), folder / "01_bad.ipynb")
    nbformat.write(book("import os; print(os.environ['LGUTILS_SCALE'])"), folder / "02_scale.ipynb")
    monkeypatch.setattr(course, "notebooks_folder", lambda: folder)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_course_goes_on_after_a_failed_chapter_and_names_it(small_course, tmp_path):
    before = {p.name: p.read_bytes() for p in small_course.iterdir()}
    result = CliRunner().invoke(cli.app, ["course", "--out", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "01_bad" in result.output
    assert "ZeroDivisionError" in result.output
    pages = sorted(p.name for p in (tmp_path / "run").glob("*.html"))
    assert pages == ["00_good.html", "01_bad.html", "02_scale.html"]
    assert before == {p.name: p.read_bytes() for p in small_course.iterdir()}


@pytest.mark.filterwarnings("ignore")
def test_course_hands_the_scale_to_the_notebooks(small_course, tmp_path):
    course.run("02", out=tmp_path / "run", scale="paper")
    done = json.loads((tmp_path / "run" / "02_scale.ipynb").read_text())
    assert done["cells"][0]["outputs"][0]["text"] == ["paper\n"]


@pytest.mark.filterwarnings("ignore")
def test_course_pages_need_nothing_from_the_network(small_course, tmp_path):
    course.run("00", out=tmp_path / "run")
    page = (tmp_path / "run" / "00_good.html").read_text()
    for attribute in ('src="http', 'src="//', 'href="http', "@import", 'src=""'):
        assert attribute not in page


def test_course_refuses_to_write_over_the_notebooks(small_course):
    with pytest.raises(UserError, match="own folder"):
        course.run(out=small_course)


def test_settings_become_numbers_and_lists():
    assert options.settings_of(["depth=4", "stages=1,2,3", "act=gelu"]) == {
        "depth": 4, "stages": [1, 2, 3], "act": "gelu",
    }  # fmt: skip
    with pytest.raises(UserError, match="NAME=VALUE"):
        options.settings_of(["depth"])


def test_torch_threads_are_left_as_they_were():
    from lgutils import fleet

    threads = torch.get_num_threads()
    assert fleet.run([], workers=0) == []
    assert torch.get_num_threads() == threads
