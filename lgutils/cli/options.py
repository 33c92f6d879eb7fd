"""Options that several commands share, and what their texts mean."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from lgutils import files
from lgutils.errors import UserError

MOST_SEED = 2**31 - 1  # what every generator takes
RESERVED = ("arch", "gene", "num_classes", "seed")  # what `inherit` is called with


def stated(text: str | None) -> str | None:
    """Refuse an option that was given without a value, as an unset variable of a shell gives it."""
    if text is not None and not text.strip(" ,"):
        raise typer.BadParameter("it is empty. Give a value, or leave the option out.")
    return text


Out = Annotated[Path, typer.Option(help="File to write (safetensors).")]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace a file that lgutils did not write, or another kind."),
]
Scale = Annotated[
    str | None,
    typer.Option(
        callback=stated,
        help="quick (two CPU cores), paper (a GPU), rehearsal (paper's path in minutes).",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(callback=stated, help="cpu, cuda, cuda:1; default: a GPU if there is one."),
]
Precision = Annotated[
    str | None,
    typer.Option(
        callback=stated,
        help="float32 or bfloat16; default: bfloat16 where the recipe allows it and it is fast.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of downloaded or own datasets; default: $LGUTILS_DATA, else the cache."
    ),
]


def look_in(folder: Path | None) -> None:
    """Say where datasets are, to this process and to those that it starts."""
    if folder is not None:
        os.environ["LGUTILS_DATA"] = str(files.expand(folder).absolute())


def again(folder: Path | None) -> str:
    """The option that the next command needs too."""
    return f" --data-dir {folder}" if folder else ""


def scale_of(size: str) -> str:
    """The scale whose ancestors learn from images of this size."""
    return "paper" if size == "full" else size


def budget_of(text: str) -> int | float:
    """A number of layers, at least 1, or a share in (0, 1]."""
    try:
        found = int(text) if text.isdecimal() else float(text)
    except ValueError:
        found = 0
    if (isinstance(found, int) and found >= 1) or 0 < found <= 1:
        return found
    raise UserError(
        f"--budget {text!r} is neither a number of layers (3) nor a share of the parameters (0.4)."
    )


def settings_of(pairs: list[str]) -> dict:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise UserError(f"--set {pair!r} is not NAME=VALUE, such as depth=4 or stages=1,2,3,2.")
        if name in RESERVED:
            raise UserError(
                f"--set {name} is not possible: it has an option of its own, or follows from the dataset. "
                "Leave it out."
            )
        settings[name] = _value(f"[{value}]" if "," in value else value, value)
    return settings


def _value(text: str, plain: str) -> Any:
    """JSON, else the plain text."""
    try:
        return json.loads(text, parse_constant=str)
    except ValueError:
        return plain
    except RecursionError:
        raise UserError(
            f"--set {plain[:20]}... is nested too deeply. Give a number or a list."
        ) from None


def names(text: str | None) -> tuple[str, ...]:
    """The parts of a list; none where nothing was given."""
    return tuple(filter(None, map(str.strip, (text or "").split(","))))


def numbers(text: str | None, option: str) -> tuple[int, ...]:
    """A list of numbers from 1 on, sorted, each once; none where nothing was given."""
    try:
        found = tuple(sorted(set(map(int, names(text)))))
    except ValueError:
        found = (0,)
    if found and found[0] < 1:
        raise UserError(f"{option} {text!r} is not a list of numbers from 1 on, such as 1,3.")
    return found


def channels(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"{option} {text!r} is not a number for each channel, such as 0.485,0.456,0.406."
        ) from None


def part_of(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        k, n = map(int, text.split("/"))
    except ValueError:
        k, n = 0, 0
    if not 1 <= k <= n:
        raise UserError(f"--part {text!r} is not K/N with K from 1 to N, such as 3/16.")
    return k, n
