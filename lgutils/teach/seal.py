"""The kernel in which a submission runs: limits and an audit hook, then an ordinary IPython kernel.

What the seal refuses (`PermissionError`, and a line to the grading process even where the notebook
swallows the error): opening or listing the masters, the solutions, the teacher's folder, other
submissions and other kernels' folders; sockets to other computers and looking up their names; other
programs, forks and signals to other processes; writing outside the notebook's own folder; databases
(sqlite3), shared memory (mmap), `sys.settrace`, and the searching functions of `gc`.

Before each cell of the master comes a cell that must fail (`guard`). It shows that assertions fail, that
what is closed is still refused and that the refusal is heard; Python's changed builtins and IPython's
transformers of code are put back. The master's cells mean Python's builtins, the answers their own names.

What it does not stop. Audit events come from Python, so code that goes around Python (ctypes, a
native extension such as safetensors or `torch.from_file`) can read every file that this user can
read, use the network and even take the hook out. Existence and size of files can be seen. A refusal's
traceback leads to the rules: who empties them and fills them again before the next cell of the
master is not seen. The tests run in the same process as the answers: hidden tests can be read by a
notebook that prepares for them or that looks at the calling frames, functions of libraries can be
replaced (`numpy.allclose = ...`), an answer can be an object that is equal to everything, and the
session's own machinery can be patched. A notebook can report untrue things about itself. Other servers on this
computer can be reached, new files in lgutils' cache are seen by others, and a notebook may write many
files of the allowed size. Where students are not trusted, grade in a container without network, or as
a separate user who may not read the masters.
"""

import builtins
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from ipykernel.iostream import OutStream


class Stream(OutStream):
    """A notebook's stdout or stderr that stops a cell which prints too much."""

    limit = 2_000_000  # characters a cell
    told: Callable[[str], None] = staticmethod(lambda sentence: None)
    _cell, _left = "", 0

    def write(self, string: str) -> int | None:
        """Print, or raise `OSError` beyond the limit (in other threads: drop it)."""
        cell = (self.parent_header or {}).get("header", {}).get("msg_id")  # None outside cells
        if cell != self._cell:
            self._cell, self._left = cell, self.limit
        before, self._left = self._left, self._left - len(string)
        if self._left >= 0:
            return super().write(string)
        sentence = f"A cell printed more than {self.limit / 1e6:g} MB; the rest was dropped."
        if before >= 0:
            self.told(sentence)
        if threading.current_thread() is threading.main_thread():
            raise OSError(sentence)
        return len(string)


def main() -> None:
    """Run a kernel; `seal.json` in the working folder, made by `client`, says how."""
    file = Path("seal.json")
    config = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    from ipykernel.kernelapp import IPKernelApp

    os.set_inheritable(config["channel"], False)
    rules, guard = _private("rules.py"), _private("guard.py")
    report = rules["reporter"](config["channel"])
    Stream.limit = int(config["output_mb"] * 1e6)
    Stream.told = staticmethod(lambda sentence: report("output", sentence))
    app = IPKernelApp.instance(
        outstream_class="lgutils.teach.seal.Stream", capture_fd_output=False, log_level=50
    )
    app.initialize([*sys.argv[1:], "--HistoryManager.enabled=False"])
    del sys.argv[1:]
    _no_programs(app.shell, report)
    _cut_messages(app.session, Stream.limit)
    _limit(config)
    closed = [*config["closed"], f"{Path(config['home']).parent / rules['PREFIX']}probe"]
    restore = guard["restorer"](report, app.shell, closed[0], config["kept"])
    rules["install"](report, config["home"], config["cache"], closed, restore)
    report("ready", "")
    app.start()


def _no_programs(shell, report: Callable[[str, str], None]) -> None:
    """Lines with ! and %pip do nothing and say so, and the rest of their cell goes on."""
    from IPython.utils.text import SList

    def system(command: str) -> None:
        short = command.replace(sys.executable, "python")[:100]
        report(
            "process", f"This notebook may not start other programs, as lines with ! do ({short})."
        )
        print("not run while grading")

    def getoutput(command: str, *args, **kwargs) -> SList:
        system(command)
        return SList()

    shell.system, shell.getoutput = system, getoutput


def _cut_messages(session, limit: int) -> None:
    """Make a session cut what is too long for a message: a huge result, picture or error text."""
    send = session.send

    def cut(value):
        if isinstance(value, str) and len(value) > limit:
            Stream.told(f"A cell gave more than {limit / 1e6:g} MB at once; the rest was dropped.")
            return value[:1000] + " ... (cut)"
        if isinstance(value, str):  # half of a character, which no message can hold
            return value.encode("utf-8", "replace").decode()
        if isinstance(value, dict):
            return {key: cut(each) for key, each in value.items()}
        return [cut(each) for each in value] if isinstance(value, list) else value

    def limited(stream, message, content=None, *args, **kwargs):
        if isinstance(message, dict):
            message = {**message, "content": cut(message["content"])}
        return send(stream, message, cut(content), *args, **kwargs)

    session.send = limited


def _private(name: str) -> dict:
    """Run a module beside this one with its own copy of the builtins; it is not in `sys.modules`."""
    path = Path(__file__).with_name(name)
    names = {"__name__": path.stem, "__builtins__": vars(builtins).copy()}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    return names


def _limit(config: dict) -> None:
    """Limits of the operating system: memory, processor time, size of a file, no core dump."""
    import resource

    for name, most in (
        ("RLIMIT_DATA", int(config["memory_gb"] * 2**30)),
        ("RLIMIT_CPU", int(config["cpu_seconds"])),
        ("RLIMIT_FSIZE", int(config["file_mb"] * 2**20)),
        ("RLIMIT_CORE", 0),
    ):
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))
