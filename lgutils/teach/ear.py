"""What the grading process hears from a kernel, and what it notes about it."""

import asyncio
import contextlib
import json
import os
import re
import threading
from dataclasses import dataclass, field

SUSPECT = ("solution", "network", "seal")
KINDS = (*SUSPECT, "process", "write", "output", "builtins")


@dataclass
class Ran:
    """What happened: the error of each cell by index ("" where it ran well), and what was noticed.

    unrun: why nothing that happened says anything about the student; "" where it does.
    """

    errors: dict[int, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    suspect: bool = False
    seconds: float = 0.0
    unrun: str = ""

    def flag(self, sentence: str, kind: str = "") -> None:
        """Note a sentence once, and whether it is of a suspicious kind: for these there is more room."""
        if sentence not in self.flags and len(self.flags) < (40 if kind in SUSPECT else 20):
            self.flags.append(sentence)
        self.suspect |= kind in SUSPECT


class Ear:
    """Listens to what the seal reports, in a thread, so that the kernel never waits for us."""

    def __init__(self, source: int, ran: Ran):
        self.ended, self.ready = False, threading.Event()
        self._words: set[str] = set()
        self._source, self._ran = source, ran
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        rest = b""
        while data := os.read(self._source, 65536):
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-4096:]
            for line in lines:
                with contextlib.suppress(ValueError, TypeError):
                    self._note(*map(str, json.loads(line)))
        self.ended = True

    def _note(self, kind: str, sentence: str) -> None:
        if kind == "ready":
            self.ready.set()
        elif kind == "guard":
            self._words.add(sentence)
        elif kind in KINDS:
            self._ran.flag(re.sub(r"[^ -~]", "?", sentence), kind)

    async def heard(self, word: str) -> bool:
        """Whether the seal said a guard's word, at once or within ten seconds (of a busy computer)."""
        for _ in range(500):
            if word in self._words:
                return True
            await asyncio.sleep(0.02)
        return False

    def check(self, client) -> None:
        """Flag a kernel that lives, but whose seal can no longer report or never did."""
        if client.alive() and (self.ended or not self.ready.wait(1)):
            self._ran.flag("the notebook closed the channel that watches it", "seal")

    def close(self) -> None:
        """Wait until everything was read; all writing ends are closed by now."""
        self._thread.join(5)
        if not self._thread.is_alive():
            os.close(self._source)
