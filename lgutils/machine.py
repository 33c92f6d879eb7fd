"""What this computer offers to a process: cores that are free, and the arithmetic that it is fast at."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the command line must not wait for torch
    import torch

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait sleep: two that spin for each other
# beside other work are several times slower. OpenMP reads it when torch is loaded.
ROUNDS = 4  # of the probe; the fastest counts
SLOWER = 2  # times slower than float32, and bfloat16 is not used: emulated it is 4 to 8 times


def cores() -> int:
    """Cores that this process may use, which in a container can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def unguarded() -> str:
    """Why processes that this one starts cannot begin, if it is so: the script has no main guard; else "".

    Each of them imports the script. Without the guard it would start processes again, which Python
    forbids; in such a process this function ends it, and the script's own process tells why.
    """
    if getattr(
        multiprocessing.current_process(), "_inheriting", False
    ):  # it is importing the script
        sys.exit(1)
    script = getattr(sys.modules["__main__"], "__file__", None)
    try:
        guarded = script is None or "__main__" in Path(script).read_text(errors="replace")
    except OSError:
        guarded = True  # not a script that could be read again
    if guarded:
        return ""
    return (
        f"Worker processes import {Path(script).name}, which lacks a main guard and would start them "
        'again. Put what it does under `if __name__ == "__main__":`.'
    )


def end_with(parent: int) -> None:
    """End this process when the one that started it is gone, even if that was killed without a word.

    Not on Windows: there a parent's number stays, and that of a virtual environment's is its launcher's.
    """
    if sys.platform == "win32":
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def free_cores(seconds: float = 0.1) -> int:
    """Cores that nobody else keeps busy, at least 1; where the system does not tell, `cores()`.

    Args:
        seconds: how long to look (Linux). This process should not compute meanwhile.
    """
    try:
        before = _idle()
        time.sleep(seconds)
        idle = (_idle() - before) / os.sysconf("SC_CLK_TCK") / seconds
    except (AttributeError, OSError, ValueError, IndexError):
        return cores()
    return max(1, min(cores(), round(idle)))


def _idle() -> int:
    """Clock ticks in which the cores of this process had nothing to do."""
    lines = Path("/proc/stat").read_text().splitlines()
    mine = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    found = [line.split() for line in lines if line.split(" ")[0] in mine]
    idle = sum(int(fields[4]) + int(fields[5]) for fields in found)  # idle and waiting for a disk
    if not idle:
        raise ValueError("never idle since it started: a sandbox that does not count")
    return idle


@contextmanager
def free_threads() -> Iterator[int]:
    """Compute in the block with no more threads than cores are free; yields their number.

    A number that the user chose, by OMP_NUM_THREADS or `torch.set_num_threads`, stays. So does torch's own
    where it is below that of the cores (torch may count two hyperthreads once), and where waiting threads
    sleep (`PASSIVE`): there more threads than free cores do little harm, and the sums, so the weights, do not
    hang on what else is running.
    """
    import torch

    before = torch.get_num_threads()
    passive = os.environ.get("OMP_WAIT_POLICY", "").upper() == PASSIVE["OMP_WAIT_POLICY"]
    chosen = passive or before == 1 or os.environ.get("OMP_NUM_THREADS") or before < cores()
    now = before if chosen else min(before, free_cores())
    torch.set_num_threads(now)
    try:
        yield now
    finally:
        torch.set_num_threads(before)


class Arithmetic(NamedTuple):
    """What a device is fast at, beside float32 in the usual memory layout.

    Attributes:
        bfloat16: autocast to bfloat16 pays.
        channels_last: images and convolutions are faster with the channels last.
    """

    bfloat16: bool
    channels_last: bool


@lru_cache
def arithmetic(kind: str = "cpu") -> Arithmetic:
    """What a device is fast at; asked or measured once a process.

    A GPU is asked by torch's own queries. So is a CPU, where torch has public ones: oneDNN is what makes
    channels last pay. The one for bfloat16 does not know what a user switched off (ONEDNN_MAX_CPU_ISA), so a yes
    is tried in a fraction of a second: an emulated bfloat16 is many times slower than float32.

    Args:
        kind: of the device, "cpu", "cuda", ...
    """
    import torch

    if kind != "cpu":
        query = getattr(torch.get_device_module(kind), "is_bf16_supported", None)
        return Arithmetic(query is not None and query(including_emulation=False), True)
    told = getattr(torch.cpu, "get_capabilities", dict)()
    able = not told or any("bf16" in name and has is True for name, has in told.items())
    return Arithmetic(able and _tried(), torch.backends.mkldnn.is_available())


def _tried() -> bool:
    """Whether a small convolution's step in bfloat16 is no slower than in float32, on one thread.

    The clock is the thread's own where it is fine enough, so that other programs do not decide.
    """
    import torch

    fine = time.get_clock_info("thread_time").resolution < 1e-5
    clock = time.thread_time if fine else time.perf_counter
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
        steps = {dtype: _step(dtype) for dtype in best}
        with torch.enable_grad():
            for _ in range(ROUNDS + 1):  # the first one warms up, and is never the fastest
                for dtype, step in steps.items():
                    began = clock()
                    step()
                    best[dtype] = min(best[dtype], clock() - began)
    finally:
        torch.set_num_threads(threads)
    return best[torch.bfloat16] < SLOWER * best[torch.float32]


def _step(dtype: "torch.dtype") -> Callable[[], None]:
    """A function that passes images forwards and backwards through two convolutions."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
        ).to(memory_format=torch.channels_last)  # fmt: skip
        x = torch.randn(4, 64, 16, 16).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = net(x).float().square().mean()
        loss.backward()

    return step
