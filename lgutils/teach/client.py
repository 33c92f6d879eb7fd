"""A client for a sealed kernel: nbclient, with its own clock, a limit on output, and a guard."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import zmq.asyncio
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_output

from lgutils import files
from lgutils.teach import clean
from lgutils.teach.guard import GUARD

GRACE = 3.0  # seconds between the interrupt and the kill
PATIENCE = 30.0  # seconds for the guard, which takes milliseconds
BUSY = 10  # times a limit: so long a cell may take in all, however long it waited for a processor
LARGEST_MESSAGE = 32_000_000  # bytes; larger ones are not even received
COUNTED = ("error", "stream", "display_data", "execute_result", "update_display_data")


class NoAnswer(Exception):
    """A cell that takes milliseconds did not end."""


def sealed(book, config: dict) -> "Client":
    """A client whose kernel is `lgutils.teach.seal`, not started yet.

    Args:
        book: the notebook, filled in place.
        config: for the seal: channel, home, limits and the rest; see `sandbox`.
    """
    context = zmq.asyncio.Context()
    context.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
    file = Path(config["home"]) / "kernel.json"
    manager = _Manager(context=context, connection_file=str(file), **_sockets(file))
    files.write_text(file.with_name("seal.json"), json.dumps(config))  # the seal removes it
    start = "from lgutils.teach.seal import main; main()"
    manager._kernel_spec = KernelSpec(
        argv=[sys.executable, "-c", start, "-f", "{connection_file}"],
        display_name="sealed", language="python",
    )  # fmt: skip
    client = Client(
        book, km=manager, timeout=None, allow_errors=True, record_timing=False,
        store_widget_state=False, shutdown_kernel="immediate",
    )  # fmt: skip
    client.log.setLevel(60)
    client.limit = config["output_mb"] * 1e6
    return client


def _sockets(file: Path) -> dict[str, str]:
    """Sockets that are files in the kernel's folder, not ports; a path for one has about 100 bytes."""
    place = file.with_name("ipc")
    return {"transport": "ipc", "ip": str(place)} if len(bytes(place)) < 90 else {}


class _Manager(AsyncKernelManager):
    def client(self, **kwargs):
        return super().client(context=self.context, **kwargs)


class Client(NotebookClient):
    """Believes the kernel's replies rather than its outputs, and keeps only so much output."""

    limit = 2e6  # bytes of a cell; five times as much of all
    spilled = False  # whether something was dropped
    killed = ""  # why, where the clock did it
    starved = False  # whether something was stopped that had mostly waited for a processor
    _group: int | None = None
    _waited = 0.0
    _size = _total = _count = 0
    _reply: dict | None = None

    @asynccontextmanager
    async def started(self, **kwargs):
        """Start the kernel; kill its whole process group at the end, however that comes."""
        context = self.km.context
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            async with self.async_setup_kernel(cleanup_kc=True, **quiet, **kwargs):
                self._group = self.km.provisioner.process.pid
                try:
                    yield self
                finally:
                    self.kill()
        finally:
            context.destroy(linger=0)

    def alive(self) -> bool:
        """Whether the kernel's process runs."""
        process = self.km.provisioner.process if self.km and self.km.provisioner else None
        return process is not None and process.poll() is None

    def kill(self) -> None:
        """Kill the kernel and everything in its process group."""
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)

    def clock(self) -> float:
        """Seconds on a clock that stands still while the kernel waits for a processor (Linux)."""
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended; another system
            waited = Path(f"/proc/{self._group}/schedstat").read_text().split()[1]
            self._waited = int(waited) / 1e9
        return time.monotonic() - self._waited

    async def guard(self, index: int, word: str) -> bool:
        """Run a cell that must fail, in the place of cell `index`; False if it did not fail as it must.

        What the seal does when it sees it is in `lgutils.teach.guard`.

        Raises:
            NoAnswer: it did not end.
        """
        cell = self.nb.cells[index]
        try:
            wrong = new_code_cell(f"{GUARD}{word}'")
            self._reply = None
            work = self.async_execute_cell(wrong, index, store_history=False)
            if await self._timed(work, PATIENCE):
                raise NoAnswer
            reply = self._reply or {}
            return (reply.get("ename"), reply.get("evalue")) == ("AssertionError", f"guard {word}")
        finally:
            self.nb.cells[index] = cell

    async def step(self, index: int, seconds: float, remember: bool) -> tuple[str, bool]:
        """Run cell `index`, interrupt it after `seconds`, kill the kernel if that does not help.

        Args:
            remember: whether the notebook can see the cell's source later (`In`).
        Returns:
            (what went wrong in one line, or "", whether it was interrupted).
        Raises:
            DeadKernelError: the kernel ended or had to be killed.
        """
        cell = self.nb.cells[index]
        self._count, self._size, self._reply = self._count + 1, 0, None
        how = {"execution_count": self._count, "store_history": remember}
        late = await self._timed(self.async_execute_cell(cell, index, **how), seconds)
        error = f"stopped after {seconds:.3g} s" if late else self._error(cell)
        return error, late

    async def _timed(self, work, seconds: float) -> bool:
        """Whether it had to be interrupted."""
        task, began, ends = asyncio.ensure_future(work), time.monotonic(), self.clock() + seconds
        while not task.done():
            left = ends - self.clock()
            self.starved = left > 0 and time.monotonic() > began + BUSY * seconds
            if left <= 0 or self.starved:
                break
            await asyncio.wait({task}, timeout=min(left, 1))
        else:
            await task
            return False
        await self.km.interrupt_kernel()
        done, _ = await asyncio.wait({task}, timeout=GRACE)
        if not done:
            self.killed = f"the kernel was killed after {seconds:.3g} s (it ignored the interrupt)"
            self.kill()
        await asyncio.wait_for(task, 10)
        return True

    def _error(self, cell) -> str:
        if not cell.source.strip():
            return ""
        reply = self._reply or {}
        if reply.get("status") == "ok":
            return ""
        name, text = (
            clean.text(reply.get(k, d)) for k, d in (("ename", "no answer"), ("evalue", ""))
        )
        text = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()[:500]
        if name == "AssertionError" and text:
            return text
        if name == "_IncompleteInputError":  # what Python 3.13 calls it
            name = "SyntaxError"
        return f"{name[:100]}: {text}".removesuffix(": ")

    async def async_execute_cell(self, cell, cell_index, **kwargs):
        """As nbclient's; the reply is kept."""

        async def keep(cell, cell_index, execute_reply):
            self._reply = execute_reply["content"]

        self.on_cell_executed = keep
        return await super().async_execute_cell(cell, cell_index, **kwargs)

    def process_message(self, msg, cell, cell_index):
        """As nbclient's; widgets and `clear_output` are ignored, and output beyond the limit is dropped."""
        kind = msg["msg_type"]
        if kind.startswith("comm") or kind == "clear_output":
            return None
        if kind == "error":
            content = msg["content"]
            content["evalue"] = str(content.get("evalue", ""))[:2000]
            content["traceback"] = [str(line)[:5000] for line in content.get("traceback", [])[-20:]]
        if kind in COUNTED:
            size = len(json.dumps(msg["content"], default=str))
            self._size, self._total = self._size + size, self._total + size
            if self._size > self.limit or self._total > 5 * self.limit:
                self.spilled = True
                return None
        return super().process_message(msg, cell, cell_index)


def settle(cell, error: str) -> None:
    """Make a cell's outputs say what the reply said, since nbgrader scores by outputs.

    A failed cell has an error output, and that first; in one that ran well, warnings count as ordinary text
    (nbgrader gives no points where anything was written to stderr).
    """
    if error and not any(out.output_type == "error" for out in cell.outputs):
        cell.outputs.append(
            new_output("error", ename="NotGraded", evalue=error, traceback=[f"NotGraded: {error}"])
        )
    if error:  # first, since nbgrader takes a result before it for partial credit
        cell.outputs.sort(key=lambda out: out.output_type != "error")
    for out in cell.outputs if not error else ():
        if out.output_type == "stream":
            out.name = "stdout"
