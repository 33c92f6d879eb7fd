"""The command itself: its help, its version, how it ends."""

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import typer.core

from lgutils import __version__, files, home, machine, reading
from lgutils.errors import UserError

BAD, FAULT, STOPPED, CLOSED = 2, 1, 130, 141  # exit codes; the last two are the shell's own
OUTSIDE = {  # the machine is to blame
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.EIO,
    *files.FULL,
}  # fmt: skip
REFUSED = typer.BadParameter.__mro__[
    2
]  # click's ClickException, which newer typers keep to themselves

PANELS = {  # of `lgutils --help`, in the order in which people need the commands
    "Begin here": ("try", "start", "course"),
    "The method, step by step": ("data", "accumulate", "condense", "inherit", "info"),
    "The evidence": ("replicate", "compare"),
    "For teachers": ("teach",),
    "More": ("site", "recipes", "ship"),
}
HIDDEN = ("ship",)  # maintenance
ORDER = [name for names in PANELS.values() for name in names]

WELCOME = """\
lgutils {version}: learngenes, knowledge that a network can be born with.
A large network learns a lot; a few of its layers, the learngene, are handed on;
new networks inherit them and learn a new task from a handful of images.

  lgutils try            See it happen in half a minute.
  lgutils start FOLDER   Copy the course there and open it in JupyterLab.
  lgutils course         Run all chapters; read them as pages in a browser.
  lgutils replicate      Test the four claims of the paper, arXiv 2305.02279.

Read on: lgutils --help lists all commands, lgutils COMMAND --help explains one.
{place}"""


class _InOrder(typer.core.TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    cls=_InOrder,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Learngene: accumulate knowledge, condense a learngene, let descendants inherit it.",
    epilog="Example: lgutils try",
)


def panel(name: str) -> str:
    """The panel of a command in `lgutils --help`."""
    return next(title for title, names in PANELS.items() if name in names)


def command(example: str, group: typer.Typer | None = None) -> Callable[[Callable], Callable]:
    """Make a function the command that its example calls; the example ends the command's help."""
    name, epilog = example.split()[2 if group else 1], f"Example: {example}"
    if group:
        return group.command(name, epilog=epilog)
    return app.command(name, epilog=epilog, rich_help_panel=panel(name), hidden=name in HIDDEN)


def _version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit


def _place() -> str:
    """Where the course lies here, if it does."""
    with suppress(UserError):
        return f"Notebooks, docs and stored results are in {home.folder()}."
    return ""


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        print(WELCOME.format(version=__version__, place=_place()).rstrip())


def _launched(name: str, default: int) -> int:
    """A number that torchrun sets."""
    text = os.environ.get(name) or str(default)
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"{name} is {text!r}, where torchrun puts a number. Unset it, or start with torchrun."
        ) from None


def _alone_but_for(command: str) -> None:
    """Refuse to run under torchrun what would only do the same several times."""
    if _launched("WORLD_SIZE", 1) > 1 and sys.argv[1:2] != [command]:
        raise UserError(
            f"Several processes were started, but only `lgutils {command}` shares its work between them. "
            "Start the others without torchrun; see docs/cluster.md for fleets."
        )


def main() -> None:
    """Entry point: one sentence, and the exit code 2 for bad input, 1 for a fault, 130 for Ctrl-C.

    A fault's traceback goes into a log; `LGUTILS_DEBUG=1` shows it instead.
    """
    os.environ.update({**machine.PASSIVE, **os.environ})
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what the terminal cannot show becomes an escape
            stream.reconfigure(errors="backslashreplace")
    first, told = True, ""
    try:
        first = _launched("RANK", 0) == 0  # one sentence, however many processes
        _alone_but_for("accumulate")
        code = _run()
    except UserError as error:
        code, told = BAD, str(error) if first else ""
    except KeyboardInterrupt:
        code = STOPPED
    except BrokenPipeError:
        code = CLOSED
    except BaseException as error:  # a panic of safetensors is no Exception
        if os.environ.get("LGUTILS_DEBUG"):
            raise
        code, told = _unforeseen(error)
    if code == STOPPED:  # typer turns Ctrl-C into it without a word
        told = "stopped. Finished files are kept; a training with a checkpoint goes on."
    _end(code, " ".join(map(str.strip, told.splitlines())))


def _run() -> int:
    """Run the command and give its exit code; a `BrokenPipeError` where nobody reads what it prints."""
    streams = sys.stdout, sys.stderr
    try:
        code = app(standalone_mode=False) or 0  # commands return nothing
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer and rich turn it into an exit
            sys.stdout, sys.stderr = streams
            raise end.__context__ from None
        code = end.code
    except REFUSED as refused:
        refused.show()  # plainly: typer would put a frame around it, and break its lines
        code = refused.exit_code
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _unforeseen(error: BaseException) -> tuple[int, str]:
    """Exit code and sentence for what no command foresaw."""
    reason = f"{type(error).__name__}: {reading.reason(error)}"
    if isinstance(error, OSError) and error.errno in files.FULL:
        return BAD, "The disk is full. Free some space and run the same command again."
    if isinstance(error, OSError) and error.errno in OUTSIDE:
        what = f" {error.filename}" if error.filename else ""
        return BAD, f"Cannot use{what}: {error.strerror}. Choose another, or allow access to it."
    if isinstance(error, MemoryError) or "OutOfMemory" in reason or "allocate memory" in reason:
        return (
            BAD,
            f"The memory is full ({reason}). Close other programs, or choose a smaller size.",
        )
    return (
        FAULT,
        f"This is a fault of lgutils ({reason}). Please report it with the log in {_log()}.",
    )


def _log() -> Path | str:
    """Write down the exception that is handled now; give the place."""
    text = f"lgutils {__version__}, Python {sys.version}\n{sys.argv}\n{traceback.format_exc()}"
    try:
        return files.write_text(files.cache_dir() / "last-fault.log", text)
    except (UserError, OSError):
        pass
    try:
        folder = tempfile.mkdtemp(prefix="lgutils-")
        return files.write_text(Path(folder, "last-fault.log"), text)
    except (UserError, OSError):
        return "no file, as none could be written; LGUTILS_DEBUG=1 shows it"


def _end(code: int | None, told: str) -> NoReturn:
    """Print the sentence and leave; output that nobody takes is dropped without a word."""
    with suppress(OSError):
        if told:
            print("lgutils:", told, file=sys.stderr)
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):  # Python flushes them at its end
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
