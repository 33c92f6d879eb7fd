"""What a case may do: work, or refuse with one sentence. Everything else is a fall, told with its place."""

import contextlib
import faulthandler
import hashlib
import os
import resource
import signal
import stat
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings

from lgutils.errors import UserError

SECONDS = 15  # a case that takes longer hangs
MEMORY = 1536 * 2**20  # bytes of address space that a case may add
LONGEST = 800  # characters of a refusal


def share(part: float) -> int:
    """So many of all cases; for `settings(max_examples=...)`."""
    return max(1, round(part * settings.default.max_examples))


class Hang(BaseException):
    """A case that did not end in time."""


class Fallen(AssertionError):
    """Neither worked nor refused."""


@dataclass(repr=False)
class Figures:
    """What became of the cases. `keep` notes falls and goes on, as a campaign does; else they are raised."""

    keep: bool = False
    counts: Counter = field(default_factory=Counter)
    falls: dict[str, str] = field(default_factory=dict)

    def fallen(self, what: str, where: str, case: object, told: str = "") -> None:
        self.counts["fallen"] += 1
        if not self.keep:
            raise Fallen(f"{what} at {where}\ncase: {case!r}\n{told}")
        kind, text = f"{what} at {where}", f"{case!r}\n{told}"
        if len(text) < len(self.falls.get(kind, text + " ")):
            self.falls[kind] = text

    def reader(self, call: Callable[[], object], case: object) -> object:
        """Call a reader; what it gives, or None where it refused."""
        self.counts["tried"] += 1
        try:
            with bounded():
                found = call()
        except UserError as error:
            self.refused(str(error), case, place(error))
            return None
        except Fallen:
            raise
        except BaseException as error:
            self.fallen(type(error).__name__, place(error), case, text(error))
            return None
        self.counts["worked"] += 1
        return found

    def refused(self, sentence: str, case: object, where: str = "the command") -> None:
        """Count a refusal, if it is one sentence or two in one line."""
        if "\n" in sentence.strip() or len(sentence) > LONGEST or not sentence.strip():
            self.fallen("no one sentence", where, case, sentence)
        else:
            self.counts["refused"] += 1

    def claim(self, holds: bool, what: str, case: object) -> None:
        """Count a case as fallen that worked, but wrongly."""
        if not holds:
            self.counts["worked"] -= 1
            self.fallen(what, "its result", case)

    def __str__(self) -> str:
        kinds = ("tried", "refused", "worked", "fallen")
        return ", ".join(f"{self.counts[kind]:,} {kind}" for kind in kinds)


def text(error: BaseException) -> str:
    lines = traceback.format_exception(error)
    return "".join(lines[-8:])


def place(error: BaseException) -> str:
    """The innermost line of the library that an error went through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/lgutils/" in f.filename]
    if not frames:
        return "?"
    path = frames[-1].filename.rpartition("/lgutils/")[2]
    return f"{path}:{frames[-1].lineno} {frames[-1].name}"


@contextlib.contextmanager
def bounded(seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """Raise `Hang` after some time, and let no more memory be had than `memory` beyond what is there."""

    def late(*_: object) -> None:
        raise Hang(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # A thread that waits cannot be stopped by a signal.
    faulthandler.dump_traceback_later(3 * seconds, exit=True, file=sys.__stderr__)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def look(folder: Path) -> dict[str, str]:
    """Everything below a folder: path -> kind, mode and content."""
    found = {}
    for root, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(root, name)
            found[os.path.relpath(path, folder)] = _told(path)
    return found


def _told(path: str) -> str:
    how = os.lstat(path)
    if stat.S_ISLNK(how.st_mode):
        return f"link to {os.readlink(path)}"
    if not stat.S_ISREG(how.st_mode):
        return f"{stat.filemode(how.st_mode)}"
    with open(path, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return f"{stat.filemode(how.st_mode)} {digest}"
