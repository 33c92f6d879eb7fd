"""The command itself: its help, its version, how it ends."""

import os
import sys
from typing import Annotated

import typer

from lgutils import __version__, machine
from lgutils.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learngene: accumulate knowledge, condense a learngene, let descendants inherit it. "
    "Start with `lgutils course`, or: lgutils accumulate cnn --out a.safetensors; "
    "lgutils condense a.safetensors --out g.safetensors; "
    "lgutils inherit g.safetensors --out d.safetensors",
)


def _version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _alone_but_for(command: str) -> None:
    """Refuse to run under torchrun what would only do the same several times."""
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and sys.argv[1:2] != [command]:
        raise UserError(
            f"Several processes were started, but only `lgutils {command}` shares its work between them. "
            "Start the others without torchrun; see docs/cluster.md for fleets."
        )


def main() -> None:
    """Entry point: one sentence and exit code 2 for bad input, 130 for Ctrl-C."""
    os.environ.update({**machine.PASSIVE, **os.environ})
    try:
        _alone_but_for("accumulate")
        app()
    except UserError as error:
        if int(os.environ.get("RANK") or 0) == 0:  # one sentence, however many processes
            print(f"lgutils: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:  # typer turns Ctrl-C into 130 without a word
        if end.code == 130:
            print(
                "lgutils: stopped. Finished files are kept; a training with a checkpoint goes on.",
                file=sys.stderr,
            )
        raise
