"""What the benchmarks share: a clock, taking turns, ratios, peaks of memory, tables."""

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch

from lgutils import ancestry
from lgutils.errors import UserError
from lgutils.machine import cores


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call, work that a GPU has still to do included."""
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def turns(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every side in every round: A B C, A B C, ..., so that drift hits all alike.

    Args:
        sides: what to call, by name; each is called once more before, untimed.
        rounds: at least 1.
    """
    if rounds < 1:
        raise UserError(f"{rounds} rounds were asked for; 1 or more are needed.")
    for call in sides.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            times[name].append(seconds(call))
    return times


def ratios(times: Sequence[float], ours: Sequence[float]) -> list[float]:
    """How many times longer than ours, round by round."""
    return [t / o for t, o in zip(times, ours, strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range, e.g. "1.50 (1.20 to 1.90)"."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def machine(where: torch.device) -> str:
    """One line on what the figures were measured on."""
    return (
        f"{ancestry.device_title(where)}, {platform.machine()}, {cores()} cores, "
        f"torch {torch.__version__}"
    )


def _resident(field: str) -> int:
    """Bytes in a line of /proc/self/status: "VmRSS", now, or "VmHWM", the peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def growth(call: Callable[[], object], where: torch.device) -> int | None:
    """Bytes by which memory rises above where it stands, at most, while `call` runs.

    On a GPU what torch's allocator hands out; on a CPU the resident set, which only Linux can tell
    (None elsewhere). Run it in a fresh process: freed pages stay resident and are used again.
    getrusage's ru_maxrss is the same peak, but never falls, and begins at that of the parent.
    """
    if where.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not Path("/proc/self/clear_refs").exists():
        call()
        return None
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak becomes the present
    before = _resident("VmRSS")
    call()
    return max(0, _resident("VmHWM") - before)
