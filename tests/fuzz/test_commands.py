"""Every command with every option, sensible and odd: it works or says in one sentence why not.

The options are those that the app has: a new one is tried by itself.
"""

import contextlib
import inspect
import io
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import get_args, get_type_hints

import numpy as np
import pytest
import typer
from borders import patch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from samples import idx
from typer.models import OptionInfo
from yard import Hang, bounded, look, place, share, text

from lgutils import cli

SENSIBLE = {  # by the name of the option or argument
    "ancestor": ["a.safetensors", "v.safetensors", "link.safetensors"],
    "learngene": ["g.safetensors", "gv.safetensors"],
    "file": ["a.safetensors", "g.safetensors", "d.safetensors", "link.safetensors"],
    "out": ["new.safetensors", "new folder/new.safetensors", "new", "old.safetensors"],
    "export": ["samples", "new/samples"],
    "dataset": ["glyphs", "digits", "fashion-mnist", "folder:pics", "folder:pics@16", "mini-imagenet@16", "cifar100"],
    "ancestor_data": ["", "glyphs", "folder:pics@16"],
    "size": ["rehearsal", "quick", "full"], "scale": ["quick", "rehearsal", "paper"],
    "data_dir": [".", "data", "nowhere"], "family": ["cnn", "vit", "vgg16", "resnet18"],
    "families": ["cnn", "vit", "cnn,vit", "vgg16"], "arch": ["learngene_vgg", "learngene_vit", "resnet18"],
    "weights": ["", "timm", "weights.safetensors", "weights.pth"],
    "set_": ["stages=1,1,1", "widths=4,6,6", "depth=2", "embed_dim=12", "num_heads=2", "img_size=32"],
    "device": ["cpu"], "criterion": ["lambda", "cka", "gradient-stability", "random", "first", "last"],
    "budget": ["1", "3", "0.4", "1.0"], "layers": ["recipe", "features.4", "blocks.0,blocks.1"],
    "protocol": ["clean", "paper"], "seeds": ["1", "2"], "iterations": ["1", "3"], "ways": ["2", "5"],
    "shots": ["1", "5", "1,10,20"], "epochs": ["1", "3"], "seed": ["0", "7"], "only": ["02", "01,03", "00"],
    "claims": ["1,2,3,4", "3"], "tasks": ["5", "20"], "backend": ["auto", "serial", "vmap", "ray"],
    "part": ["1/2", "16/16"], "a": ["results", "link results"], "b": ["results"],
    "parts": ["scores", "pictures", "rates"], "repository": ["", "https://github.com/owner/name"],
    "branch": ["main"], "site_branch": ["gh-pages"], "names": ["a1_splits", "a5_judging"],
    "folder": ["teaching"], "student": ["ann", "bob"], "workers": ["1", "2"], "cell_seconds": ["1", "30.5"],
}  # fmt: skip
OURS = {f"{name}.safetensors" for name in ("a", "v", "g", "gv", "d", "old")}  # written by lgutils
PATHS = [
    "", ".", "..", "nowhere", "notes.txt", "photo.png", "thesis.ipynb", "folder", "full", "pics", "pipe", "dangling",
    "link.safetensors", "empty.safetensors", "foreign.safetensors", "readonly.txt", "a.safetensors", "g.safetensors",
    "old.safetensors", "rows.sqlite", "scores.json", "weights.pth", "notes.txt/below", "n" * 300, "~nouser/x",
    "Ω é.safetensors", "\udcff\udcfe", "a b", "-", "--", "con", "x\ny", "x\x1b[31m", "results", "new.txt", " ",
    "pics/a/0.png", "bare.safetensors/", "./a.safetensors", "folder/../a.safetensors", "teaching", "notebooks",
]  # fmt: skip
NUMBERS = [
    "0", "-1", "1", "2", "3", "1000", "99999999999", str(2**31), str(2**63), str(2**64), "1e3", "0.5", "nan", "inf",
    "-inf", "1e400", "0x10", "1_000", "٣", " 4 ", "9" * 5000, "", "three", "-0",
]  # fmt: skip
STRINGS = [
    "", " ", ",", ",,", "=", "seed=1", "arch=", "hidden=0,0", "depth=", "=3", "stages=0", "stages=-1,2", "depth=99999999",
    "widths=1e9,1e9", "num_classes=3", "pretrained=true", "embed_dim=[[[[", "x={\"a\":1}", "stages=" + "[" * 9999, "stages=NaN,1",
    "meta", "mps", "xpu", "cuda", "cuda:99", "cpu:0", "cnn,cnn", "custom", "CNN", "folder:", "folder:..", "folder:~nouser",
    "folder:\udcff", "folder:full", "folder:notes.txt", "glyphs@1", "glyphs@8", "digits@99999", "glyphs@64", "mini-imagenet",
    "flowers102", "1/0", "0/1", "2/1", "-1/3", "1/3/5", "1/2.5", "a/b", "../x", "ä", "Ω", "\udcff", "x" * 2000, "a\nb",
    "%s%d{0}", "*", "'; DROP TABLE rows", "--help", "-h", "nowhere", "features.4,features.4", "head", "stem", "1,1",
    "0", "-1", "0.0", "1.5", "1e-9", "nan", "inf", "1.", ".", "http://x/y", "https://x", "https://h/o/n?q=<script>",
]  # fmt: skip
ENVIRONMENT = {
    "LGUTILS_SCALE": ["", "quick", "papre", "rehearsal", "\udcff"],
    "LGUTILS_CACHE": ["notes.txt", "cache", "nowhere/cache", "~nouser", ""],
    "LGUTILS_DATA": ["notes.txt", "data", "", "nowhere", "~nouser"],
    "WORLD_SIZE": ["abc", "", "2", "0", "-1", "1"], "RANK": ["abc", "", "0"], "COLUMNS": ["10", "x"],
    "LGUTILS_PRECISION": ["float32", "bfloat17"], "XDG_CACHE_HOME": ["notes.txt"],
}  # fmt: skip


@dataclass(frozen=True)
class Option:
    """An option or argument of a command; `flag` is empty for an argument."""

    name: str
    flag: str
    kind: str
    required: bool

    @property
    def several(self) -> bool:
        return "list[" in self.kind


def options(function: Callable) -> list[Option]:
    """What a command takes, read from its annotations as typer does."""
    defaults = inspect.signature(function).parameters
    found = []
    for name, hint in get_type_hints(function, include_extras=True).items():
        if name == "return":
            continue
        kind, about = get_args(hint)[:2]
        words = (about.default, *(about.param_decls or ()))
        named = [word for word in words if isinstance(word, str) and word.startswith("--")]
        flag = next(iter(named), f"--{name.replace('_', '-')}")
        flag = flag if isinstance(about, OptionInfo) else ""
        found.append(
            Option(name, flag, str(kind), defaults[name].default is inspect.Parameter.empty)
        )
    return found


def commands(app: typer.Typer = cli.app, words: tuple[str, ...] = ()) -> dict[tuple, list[Option]]:
    """Every command of the app by its words."""
    found = {
        (*words, command.name or command.callback.__name__): options(command.callback)
        for command in app.registered_commands
    }
    for group in app.registered_groups:
        found |= commands(group.typer_instance, (*words, group.name))
    return found


def odd(option: Option, random: Random) -> str:
    """A value that an option of this type should not be given, or one that it may."""
    own = PATHS if "Path" in option.kind else STRINGS if "str" in option.kind else NUMBERS
    if random.random() < 0.15:
        letters = [
            chr(random.choice([random.randrange(1, 256), random.randrange(1, 0x11000)]))
            for _ in "123456"
        ]
        return "".join(c for c in letters if c not in "/~\x00")
    return random.choice(own if random.random() < 0.6 else random.choice([PATHS, NUMBERS, STRINGS]))


def line_of(seed: int) -> tuple[str, ...]:
    """A command line: most values sensible, so that the odd ones are reached.

    A seed of Python's own generator draws it: hypothesis would try the first few again and again.
    """
    random, every = Random(seed), sorted(commands().items())
    words, taken = random.choices(every, [1 + len(options) for _, options in every])[0]
    line, arguments = list(words), []
    chosen = [option for option in taken if option.required or random.random() < 0.4]
    strange = random.sample(chosen, min(len(chosen), random.choice([0, 1, 1, 2])))
    for option in chosen:
        if option.kind == str(bool):
            line.append(option.flag)
            continue
        sensible = SENSIBLE.get(option.name)
        for _ in range(random.choice([1, 2]) if option.several else 1):
            normal = sensible and option not in strange
            value = random.choice(sensible) if normal else odd(option, random)
            if option.flag:
                line += [option.flag, value]
            else:
                arguments.append(value)
    return (*line, *arguments)


def environment_of(seed: int) -> dict[str, str]:
    """Mostly nothing, else one variable that lgutils looks at."""
    random = Random(seed)
    name = random.choice(sorted(ENVIRONMENT))
    return {name: random.choice(ENVIRONMENT[name])} if random.random() < 0.25 else {}


SEEDS = st.integers(0, 2**60)
ENCODINGS = ["utf-8", "utf-8", "utf-8", "ascii", "cp1252"]


# --- a yard with a user's files -------------------------------------------------------------------------


def pictures(folder: Path, classes: int = 6, each: int = 6) -> None:
    random = np.random.default_rng(0)
    for c in range(classes):
        (folder / "abcdefghijklmnopqrst"[c]).mkdir(parents=True)
        for i in range(each):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "abcdefghijklmnopqrst"[c] / f"{i}.png")


def furnish(yard: Path, samples: dict) -> None:
    """What a user may have lying about; nothing of it may come to harm."""
    for name, content in {
        "a.safetensors": "ancestor-cnn", "v.safetensors": "ancestor-vit", "g.safetensors": "learngene-cnn",
        "gv.safetensors": "learngene-vit", "d.safetensors": "descendant", "old.safetensors": "ancestor-cnn",
        "foreign.safetensors": "weights", "weights.safetensors": "weights", "scores.json": "scores",
        "rows.sqlite": "rows", "thesis.ipynb": "notebook", "results/claims.json": "claims.json",
        "results/runs.csv": "runs.csv", "results/subjects.json": "subjects.json", "notebooks/02.ipynb": "notebook",
        "teaching/submitted/ann/a1_splits/a1_splits.ipynb": "notebook",
        "teaching/submitted/bob_a1_splits.ipynb": "notebook",
    }.items():  # fmt: skip
        (yard / name).parent.mkdir(parents=True, exist_ok=True)
        (yard / name).write_bytes(samples[content])
    for name in (
        "notes.txt",
        "readonly.txt",
        "weights.pth",
        "full/mine.txt",
        "teaching/nbgrader_config.py",
    ):
        (yard / name).parent.mkdir(parents=True, exist_ok=True)
        (yard / name).write_text("c = get_config()\n")
    (yard / "readonly.txt").chmod(0o444)
    (yard / "empty.safetensors").touch()
    (yard / "folder").mkdir()
    (yard / "link.safetensors").symlink_to("a.safetensors")
    (yard / "link results").symlink_to("results")
    (yard / "dangling").symlink_to("nowhere at all")
    os.mkfifo(yard / "pipe")
    Image.new("RGB", (9, 9)).save(yard / "photo.png")
    pictures(yard / "pics")
    pictures(yard / "data" / "pics")
    raw = yard / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(np.zeros((60, 28, 28))))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(60) % 10))


@pytest.fixture(scope="module")
def world(tmp_path_factory, samples):
    """base/yard is where the user is; base/home, base/outside are where nothing is to happen."""
    base = tmp_path_factory.mktemp("world")
    for name in ("whole", "home", "outside", "cache"):
        (base / name).mkdir()
    furnish(base / "whole", samples)
    (base / "outside" / "other.txt").write_text("another's")
    shutil.copytree(base / "whole", base / "yard", symlinks=True, copy_function=_copy)
    before = {name: look(base / name) for name in ("yard", "home", "outside")}
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        yield World(base, before)


def _copy(source, target):
    if not Path(source).is_fifo():
        return shutil.copy2(source, target)
    os.mkfifo(target)
    return target


class World:
    """The folders around a case; silent, as hypothesis writes down what a test is given."""

    def __init__(self, base, before):
        self.base, self.yard, self.before = base, base / "yard", before

    def __repr__(self) -> str:
        return "..."

    def again(self) -> None:
        """Put the yard back."""
        for name in ("yard", "cache", "home", "outside"):
            shutil.rmtree(self.base / name)
            (self.base / name).mkdir()
        (self.base / "outside" / "other.txt").write_text("another's")
        self.yard.rmdir()
        shutil.copytree(self.base / "whole", self.yard, symlinks=True, copy_function=_copy)

    def call(self, line: tuple[str, ...], environment: dict, encoding: str):
        """Run a command line as a shell would: (exit code, output, errors, exception)."""
        out, errors = (
            io.TextIOWrapper(io.BytesIO(), encoding, how) for how in ("strict", "backslashreplace")
        )
        code, fell = 0, None
        with pytest.MonkeyPatch.context() as patching:
            patching.chdir(self.yard)
            for name, value in {
                "LGUTILS_CACHE": str(self.base / "cache"), "LGUTILS_DATA": "data", "HOME": str(self.base / "home"),
                "HF_HUB_OFFLINE": "1", "MPLCONFIGDIR": str(self.base / "cache"), "HF_HOME": str(self.base / "cache" / "hub"), **environment,
            }.items():  # fmt: skip
                patching.setenv(name, value)
            patching.setattr(sys, "argv", ["lgutils", *line])
            patching.setattr(sys, "stdout", out)
            patching.setattr(sys, "stderr", errors)
            try:
                with bounded():
                    cli.main()
                    sys.stdout.flush()
            except SystemExit as end:
                code = end.code or 0
            except BaseException as error:
                fell = error
        return code, *(_read(stream) for stream in (out, errors)), fell


def _read(stream: io.TextIOWrapper) -> str:
    with contextlib.suppress(ValueError):
        stream.flush()
    return stream.buffer.getvalue().decode("utf-8", "replace")


def left(path: str) -> bool:
    """Whether a name is that of something half-written."""
    name = Path(path).name
    kept = name in (".lgutils-site", ".nojekyll")
    return name.endswith(".part") or (name.startswith((".", "tmp")) and not kept)


def replaceable(world: World, line: tuple[str, ...], code: int) -> set[str]:
    """Files that this command may write anew: named as output, ours or with --force, and never its input."""
    if code:
        return set()
    values = [os.path.relpath(os.path.realpath(world.yard / v), world.yard.resolve()) for v in line]
    outputs = {value for flag, value in zip(line, values[1:]) if flag in ("--out", "--folder")}
    inputs = {value for flag, value in zip(line, values[1:]) if flag not in ("--out", "--folder")}
    return outputs - inputs if "--force" in line else (outputs & OURS) - inputs


def touched(world: World, code: int, caches: tuple[str, ...], may: set[str]) -> list[str]:
    """What came to harm or was left behind, a line each."""
    told, now = [], {name: look(world.base / name) for name in world.before}
    own = {
        name for name in now["home"] if name.startswith(".cache")
    }  # where caches are, if nowhere else
    if set(now["home"]) - own or now["outside"] != world.before["outside"]:
        told.append(f"outside changed: {sorted(now['home'])[:3]}")
    new = sorted(set(now["yard"]) - set(world.before["yard"]))
    new = [name for name in new if not name.startswith(caches)]
    if parts := [n for n in [*new, *look(world.base / "cache")] if left(n)]:
        told.append(f"left behind: {parts[:3]}")
    if code == 2 and new:
        told.append(f"refused, but written: {new[:3]}")
    for name, how in world.before["yard"].items():
        if now["yard"].get(name) != how and name not in may:
            told.append(f"{name} was {how[:14]}, is {now['yard'].get(name, 'gone')[:14]}")
    return told


def judge(figures, world, line, environment, encoding):
    figures.counts["tried"] += 1
    case = (line, environment, encoding)
    code, _, errors, fell = world.call(line, environment, encoding)
    may = replaceable(world, line, code)
    harm = touched(world, code, tuple(filter(None, environment.values())), may)
    if harm or look(world.yard) != world.before["yard"]:
        world.again()
    if isinstance(fell, Hang):
        figures.fallen("Hang", place(fell), case, text(fell))
    elif fell is not None:
        figures.fallen(type(fell).__name__, place(fell), case, text(fell))
    elif harm:
        figures.fallen(harm[0], line[0] if line else "no command", case, "\n".join(harm))
    elif code == 2:
        said = [part for part in errors.split("\n") if part.startswith(("lgutils: ", "Error: "))]
        usage = "Usage:" in errors
        if len(said) != 1 or not (usage or errors.rstrip().split("\n")[-1] == said[0]):
            figures.fallen(
                "no one sentence", line[0] if line else "no command", case, errors[-900:]
            )
        else:
            given = sum(map(len, line))  # may be told again
            figures.refused(said[0][: max(1, len(said[0]) - given)], case, f"{line[:1]}")
    elif code == 0 and "Traceback" not in errors:
        figures.counts["worked"] += 1
    else:
        figures.fallen(f"exit code {code}", " ".join(line[:1]), case, errors[-900:])


FELL = {  # these ended in a traceback, hung, or destroyed a file once
    "Greek classes on an old terminal": ("accumulate", "cnn"),
    "Greek classes of a task on an old terminal": ("inherit", "g.safetensors", "--epochs", "1"),
    "a seed below zero": ("inherit", "g.safetensors", "--seed", "-1"),
    "a seed beyond 64 bits": ("inherit", "g.safetensors", "--seed", str(2**64)),
    "very many seeds": ("condense", "a.safetensors", "--criterion", "random", "--seeds", "99999999999"),
    "very many tasks": ("replicate", "--tasks", "99999999999"),
    "a name of 300 letters": ("compare", "n" * 300, "results"),
    "a teacher's folder of 300 letters": ("teach", "report", "--folder", "n" * 300),
    "a name that is no UTF-8": ("info", "\udcff\udcfe"),
    "nobody's home": ("data", "digits", "--data-dir", "~nouser/x"),
    "a nested setting": ("accumulate", "--arch", "resnet18", "--set", "stages=" + "[" * 9999),
    "a setting without a value": ("accumulate", "--arch", "resnet18", "--set", "arch="),
    "a seed as a setting": ("accumulate", "--arch", "learngene_vgg", "--set", "seed=1"),
    "hidden layers of no width": ("accumulate", "--arch", "learngene_vgg", "--set", "hidden=0,0"),
    "samples onto a file": ("data", "digits", "--export", "notes.txt"),
    "out is empty": ("condense", "a.safetensors", "--layers", "features.4", "--out", ""),
    "out is the input": ("condense", "a.safetensors", "--layers", "features.4", "--out", "a.safetensors"),
    "out is the input by a link": (
        "condense", "a.safetensors", "--layers", "features.4", "--out", "link.safetensors",
    ),
    "out is a text": ("condense", "a.safetensors", "--layers", "features.4", "--out", "notes.txt"),
    "out is a pipe": ("condense", "a.safetensors", "--layers", "features.4", "--out", "pipe"),
    "the input is a pipe": ("info", "pipe"),
    "out is a link to nowhere": (
        "condense", "a.safetensors", "--layers", "features.4", "--out", "dangling",
    ),
    "a device that is not there": ("accumulate", "cnn", "--fresh", "--device", "mps"),
    "a device without data": ("accumulate", "cnn", "--fresh", "--device", "meta"),
    "an adopted family": ("replicate", "--families", "custom"),
    "a new teacher's folder for no assignment": ("teach", "release", "nothing", "--folder", "new"),
}  # fmt: skip
SILENT = {  # these were taken for something else without a word
    "a budget of nothing": ("condense", "a.safetensors", "--criterion", "random", "--budget", "0"),
    "an empty budget": ("condense", "a.safetensors", "--criterion", "random", "--budget", ""),
    "no layers": ("condense", "a.safetensors", "--layers", ""),
    "no chapters": ("course", "--only", ""),
}


@pytest.mark.parametrize("name", [*FELL, *SILENT])
def test_a_command_line_that_fell_once(world, figures, name):
    judge(figures, world, (FELL | SILENT)[name], {}, "ascii")


@pytest.mark.parametrize("name", SILENT)
def test_a_command_line_that_said_nothing_is_refused(world, name):
    assert world.call(SILENT[name], {}, "utf-8")[0] == 2


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK"])
def test_a_number_of_torchrun_that_is_none(world, figures, name):
    judge(figures, world, ("recipes",), {name: "abc"}, "utf-8")


@settings(max_examples=share(0.3))
@given(
    line=SEEDS.map(line_of),
    environment=SEEDS.map(environment_of),
    encoding=st.sampled_from(ENCODINGS),
)
@example(line=("--version",), environment={}, encoding="ascii")
def test_command_lines(world, figures, line, environment, encoding):
    judge(figures, world, line, environment, encoding)
