"""Options that several commands share, and what their texts mean."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from lgutils.errors import UserError

Out = Annotated[Path, typer.Option(help="File to write (safetensors).")]
Scale = Annotated[
    str | None,
    typer.Option(help="quick (two CPU cores), paper (a GPU), rehearsal (paper's path in minutes)."),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1; default: a GPU if there is one.")
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="float32 or bfloat16; default: bfloat16 where the recipe allows it and it is fast."
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
        os.environ["LGUTILS_DATA"] = str(folder.absolute())


def again(folder: Path | None) -> str:
    """The option that the next command needs too."""
    return f" --data-dir {folder}" if folder else ""


def scale_of(size: str) -> str:
    """The scale whose ancestors learn from images of this size."""
    return "paper" if size == "full" else size


def budget_of(text: str) -> int | float:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise UserError(
            f"--budget {text!r} is neither a number of layers (3) nor a share (0.4)."
        ) from None


def settings_of(pairs: list[str]) -> dict:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--set {pair!r} is not NAME=VALUE, such as depth=4 or stages=1,2,3,2.")
        try:
            settings[name] = json.loads(f"[{value}]" if "," in value else value)
        except json.JSONDecodeError:
            settings[name] = value
    if "num_classes" in settings:
        raise UserError(
            "--set num_classes is not possible: the classes follow from the dataset. Leave it out."
        )
    return settings


def numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise UserError(f"{option} {text!r} is not a list of numbers such as 1,3.") from None


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
        raise UserError(f"--part {text!r} is not K/N such as 3/16.") from None
    return k, n
