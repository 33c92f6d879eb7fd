"""Run one notebook in a kernel of its own, within limits, and believe nothing that it says."""

import asyncio
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from lgutils import files, scratch
from lgutils.errors import UserError
from lgutils.teach.ear import Ear, Ran
from lgutils.teach.rules import PREFIX


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Args:
        cell_seconds: time for a cell; then it is interrupted and the next one runs. On Linux the time does
            not count in which the kernel waited for a processor.
        total_seconds: the same for all cells; then the kernel is killed.
        memory_gb: memory that the kernel may allocate (Linux; other systems may ignore it).
        output_mb: output kept of a cell; five times as much of the whole notebook.
        file_mb: size of a file that it writes.
    """

    cell_seconds: float = 30
    total_seconds: float = 180
    memory_gb: float = 4
    output_mb: float = 2
    file_mb: float = 50

    def __post_init__(self):
        for each in fields(self):
            if not getattr(self, each.name) > 0:
                given = getattr(self, each.name)
                raise UserError(f"{each.name} is {given}, but a limit must be more than 0.")

    def longer(self) -> "Limits":
        """Four times the time, for what may have been the computer's fault."""
        return replace(
            self, cell_seconds=4 * self.cell_seconds, total_seconds=4 * self.total_seconds
        )


def execute(
    book,
    ours: Collection[int],
    *,
    setup: Collection[int] = (),
    closed: Sequence[Path] = (),
    kept: Collection[str] = (),
    limits: Limits | None = None,
    stop: threading.Event | None = None,
) -> Ran:
    """Run a notebook's code cells in order; an error in one does not stop the others.

    The kernel is a process of its own with its own empty folder (its home and working folder, removed
    afterwards), a short list of environment variables, and the seal of `lgutils.teach.seal`, whose docstring says
    what this does not stop. At the end its whole process group is killed.

    Args:
        book: changed in place: outputs and execution counts are filled in.
        ours: indices of the master's own cells; a cell that must fail is sent before each, and they mean
            Python's builtins whatever the notebook calls by these names.
        setup: those of them without which nothing can be said of the answers.
        closed: folders in which it may open nothing, and files.
        kept: names that the master defines itself; a builtin among them, e.g. `round`, stays the student's.
        limits: None for the defaults.
        stop: when set, the kernel is killed.
    Returns:
        A `Ran`; a cell that was not reached has an error there. It is `unrun` where a cell of the set-up did
        not end, or the computer was too busy.
    Raises:
        UserError: this system cannot do it, or a closed folder holds Python or lgutils itself.
    """
    if os.name != "posix":
        raise UserError("Grading needs Linux or macOS. On Windows, run it inside WSL.")
    from lgutils.teach import clean
    from lgutils.teach.client import settle

    limits, stop = limits or Limits(), stop or threading.Event()
    closed = _closed(closed)
    files.cache_dir().mkdir(
        parents=True, exist_ok=True
    )  # a kernel may write in it, but not make it
    began, ran = time.perf_counter(), Ran()
    with scratch.folder(Path(tempfile.gettempdir()).resolve(), PREFIX) as home:
        config = _config(home, closed, kept, limits)
        cells = (ours, setup)
        _in_thread(lambda: asyncio.run(_session(book, cells, config, limits, ran, stop)), stop)
    for index, cell in enumerate(book.cells):
        if cell.cell_type == "code":
            cell.outputs = clean.outputs(cell.outputs)
            settle(cell, ran.errors.setdefault(index, "not run: the kernel had ended before"))
    ran.seconds = time.perf_counter() - began
    return ran


def _config(home: Path, closed, kept, limits: Limits) -> dict:
    """What the seal must know, but for the channel."""
    return {
        "home": str(home), "cache": str(files.cache_dir().resolve()), "closed": closed,
        "kept": sorted(kept), "cpu_seconds": 2 * limits.total_seconds + 10,
        "memory_gb": limits.memory_gb, "output_mb": limits.output_mb, "file_mb": limits.file_mb,
    }  # fmt: skip


def _closed(folders: Sequence[Path]) -> list[str]:
    found = [Path(folder).resolve() for folder in folders]
    for folder in found:
        for needed in (Path(__file__).parent, Path(sys.prefix), Path(tempfile.gettempdir())):
            if needed.resolve().is_relative_to(folder):
                raise UserError(
                    f"The folder {folder} must be closed to students, but {needed} lies in it. "
                    "Keep submissions in a folder of their own."
                )
    return [str(folder) for folder in found if folder.exists()]


def _in_thread(work, stop: threading.Event) -> None:
    """Run in a thread and wait: an event loop in the main thread would take over Ctrl-C."""
    problem: list[BaseException] = []

    def guarded():
        try:
            work()
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        thread.join()
    except BaseException:  # Ctrl-C: end the kernel first
        stop.set()
        thread.join()
        raise
    if problem:
        raise problem[0]


async def _session(book, cells, config: dict, limits: Limits, ran: Ran, stop) -> None:
    from lgutils.teach.client import sealed

    reading, channel = os.pipe()
    ear = Ear(reading, ran)
    home = config["home"]
    try:
        client = sealed(book, {**config, "channel": channel})
        start = {"env": _environment(Path(home)), "cwd": home, "pass_fds": (channel,)}
        try:
            async with client.started(**start):
                os.close(channel)
                channel = -1
                watcher = asyncio.create_task(_watch(client, ran, stop, ear))
                try:
                    await _cells(client, *cells, ear, limits, ran)
                    ear.check(client)
                finally:
                    watcher.cancel()
                    if client.spilled:
                        ran.flag(
                            f"more than {limits.output_mb:g} MB of output: the rest was dropped"
                        )
        finally:
            if channel >= 0:
                os.close(channel)
    finally:
        ear.close()


async def _cells(client, ours, setup, ear: Ear, limits: Limits, ran: Ran) -> None:
    """Run the cells one after the other until the time is over or the kernel has ended."""
    ends = client.clock() + limits.total_seconds
    for index, cell in enumerate(client.nb.cells):
        if cell.cell_type != "code" or ran.unrun:
            continue
        left = ends - client.clock()
        if left <= 0:
            ran.flag(f"stopped after {limits.total_seconds:g} s in all; later cells were not run")
            return
        name = cell.metadata.get("nbgrader", {}).get("grade_id", f"number {index + 1}")
        seconds = min(limits.cell_seconds, left)
        try:
            if index in ours:
                await _guard(client, index, ear, ran)
            ran.errors[index], late = await client.step(index, seconds, index not in ours)
        except Exception as error:  # nothing that a kernel sends may stop the grading
            why = client.killed or _why(error)
            ran.errors[index] = f"{why} in cell {name}"
            ran.flag(f"{why} in cell {name}; later cells were not run")
            if index in setup or client.starved or type(error).__name__ == "NoAnswer":
                ran.unrun = f"{why} in cell {name}"
            return
        if late:
            ran.flag(f"cell {name} was stopped after {seconds:.3g} s")
            if index in setup or client.starved:
                ran.unrun = f"cell {name} did not end in {seconds:.3g} s; was this computer busy?"


async def _guard(client, index: int, ear: Ear, ran: Ran) -> None:
    """Before a cell of the master: assertions must fail, and what is closed must be refused."""
    word = secrets.token_hex(8)
    if not await client.guard(index, word):
        ran.flag("assertions had no effect in this notebook: it was tampered with", "seal")
    elif not await ear.heard(word):
        ran.flag("nothing was refused any more in this notebook: it was tampered with", "seal")


def _why(error: Exception) -> str:
    known = {"DeadKernelError": "the kernel ended", "NoAnswer": "the kernel did not answer"}
    if why := known.get(type(error).__name__):
        return why
    return f"the kernel's messages made no sense ({type(error).__name__})"


async def _watch(client, ran: Ran, stop: threading.Event, ear: Ear) -> None:
    """Kill the kernel when asked to; notice a channel that was closed while the kernel lives."""
    while True:
        await asyncio.sleep(0.2)
        if stop.is_set():
            ran.flag("grading was stopped")
            client.kill()
            return
        if ear.ended:
            await asyncio.sleep(1)
            ear.check(client)
            return


def _environment(home: Path) -> dict[str, str]:
    """The few environment variables that a notebook needs; everything else stays outside."""
    kept = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    (home / "tmp").mkdir()
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "MPLCONFIGDIR": str(_fonts(home / "matplotlib")),
        "LGUTILS_CACHE": str(files.cache_dir().resolve()),
        "LGUTILS_WIDGETS": "0",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",  # the tests were made on a CPU
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _fonts(folder: Path) -> Path:
    """A folder for matplotlib with its list of fonts: making one takes time and starts a program."""
    import matplotlib.font_manager

    folder.mkdir()
    for path in Path(matplotlib.get_cachedir()).glob("fontlist-*.json"):
        shutil.copy(path, folder)
    return folder
