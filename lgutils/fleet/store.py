"""Rows on disk, each exactly once, whatever gets killed; and rows as a table.

SQLite does the hard part: a row is committed whole or not at all, and several processes may write.
"""

import json
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from tqdm import tqdm

from lgutils import reading
from lgutils.checks import NotNegative, Share, Whole
from lgutils.errors import UserError
from lgutils.fleet.jobs import Job, Row

WAIT = 60  # seconds for another process that writes
SCHEMA = "CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, outcome TEXT NOT NULL)"
LARGEST = 2**34  # bytes of a results file
LONGEST = 2**20  # bytes of an outcome; more is damage and not even read
ROWS = (
    f"SELECT key, CASE WHEN length(outcome) <= {LONGEST} THEN CAST(outcome AS BLOB) END FROM rows"
)
INSERT = """INSERT INTO rows VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET outcome = excluded.outcome
    WHERE NOT sound(CAST(outcome AS BLOB))"""


class Results:
    """A file of finished rows (SQLite), identified by their job's key.

    A key is stored once: a second row for it is ignored. A row that is damaged (its JSON, or an accuracy
    outside of 0 to 1) counts as absent: it is told, made again, and then replaced. The file may be on a
    local disk or on a network disk that keeps POSIX locks. Where another process is writing, it is waited
    for, up to a minute.

    Args:
        path: made if it is not there.
    Raises:
        UserError: not a results file, or it cannot be used: the sentence says what stands against it.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and reading.regular(self.path, LARGEST) == 1:
                raise _foreign(self.path)  # SQLite would take a file of one byte for an empty one
            self._db = sqlite3.connect(self.path, timeout=WAIT)
            self._check()
            with self._db:
                self._db.execute(SCHEMA)
            self._db.text_factory = partial(str, encoding="utf-8", errors="replace")
            self._db.create_function("sound", 1, _is_sound, deterministic=True)
        except (sqlite3.Error, OSError) as error:
            raise _explain(error, self.path) from error

    def _check(self) -> None:
        """Refuse another program's database."""
        there = dict(self._db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'"))
        columns = [line[1] for line in self._db.execute("PRAGMA table_info(rows)")]
        if there and columns != ["key", "outcome"]:
            raise UserError(
                f"{self.path} is a database of another program, with the table {min(there)!r}. Name "
                "another file."
            )

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def __len__(self) -> int:
        return self._db.execute("SELECT count(*) FROM rows").fetchone()[0]

    def add(self, rows: Iterable[Row]) -> None:
        """Store rows: all of them or, if the process dies meanwhile, none."""
        self._insert([(row.job.key, json.dumps(_outcome(row))) for row in rows])

    def absorb(self, paths: Iterable[Path | str]) -> int:
        """Take over the rows of other results files, which stay as they are; returns how many were new.

        A key that is stored already is left alone, so a file may be absorbed again. The others should
        be finished: on a network disk without locks a file must not be read while it is written.

        Raises:
            UserError: a file is missing, or is not a results file.
        """
        before = len(self)
        for path in map(Path, paths):
            if not path.is_file():
                raise UserError(f"There is no results file {path}. Check the name.")
            with Results(path) as other:
                self._insert([(key, data.decode()) for key, data in other._sound().items()])
        return len(self) - before

    def _insert(self, lines: list[tuple[str, str]]) -> None:
        try:
            with self._db:
                self._db.executemany(INSERT, lines)
        except sqlite3.Error as error:
            said = f"{len(lines)} rows could not be written"
            raise UserError(f"{said}: {_explain(error, self.path)}") from error

    def find(self, jobs: Sequence[Job]) -> dict[str, Row]:
        """The stored rows of these jobs, by key; one that is damaged counts as absent, and is told."""
        stored, keyed = self._sound(), {job.key: job for job in jobs}
        return {key: _row(job, stored[key]) for key, job in keyed.items() if key in stored}

    def _sound(self) -> dict[str, bytes]:
        """Key -> outcome as JSON, of all rows but the damaged ones."""
        found, first = self._stored(), ""
        sound = {key: data for key, data in found.items() if _is_sound(data)}
        for key in found.keys() - sound.keys():
            first = first or _why(found[key], f"the row {key!r}")
        if first:
            count = len(found) - len(sound)
            tqdm.write(
                f"{self.path}: {count} of {len(found)} rows cannot be read and count as absent; they "
                f"are made again where they are asked for. The first: {first}",
                file=sys.stderr,
            )
        return sound

    def _stored(self) -> dict[str, bytes | None]:
        """Key -> outcome as JSON; None where it is longer than any outcome."""
        try:
            return dict(self._db.execute(ROWS))
        except sqlite3.Error as error:
            raise _explain(error, self.path) from error


def _foreign(path: Path) -> UserError:
    return UserError(f"{path} is not a results file. Name another, or delete it to start anew.")


def _explain(error: sqlite3.Error | OSError, path: Path) -> UserError:
    """What stands against using a results file. Only one that is no database is worth nothing."""
    stays = "What is stored stays: run the same command again."
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the rest of it only refines
        case sqlite3.SQLITE_NOTADB:
            return _foreign(path)
        case sqlite3.SQLITE_CORRUPT:
            return UserError(
                f"{path} is damaged ({error}). Move it away to start anew; `sqlite3 FILE .recover` may "
                "save its rows."
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return UserError(
                f"{path} has been in use by another process for {WAIT} s. Wait until that one ends, or "
                f"stop it. {stays}"
            )
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return UserError(
                f"The disk of {path} is full or broken ({error}). Free some space. {stays}"
            )
    reason = getattr(error, "strerror", None) or error
    return UserError(
        f"{path} cannot be opened for writing ({reason}). Allow access to it and to its folder, or name "
        f"another. {stays}"
    )


def _outcome(row: Row) -> dict[str, Any]:
    return {
        "accuracy": row.accuracy, "curve": row.curve, "inherited": row.inherited,
        "seconds": row.seconds, "task_key": row.task_key, "about": row.about,
    }  # fmt: skip


class _Outcome(msgspec.Struct):
    """What is stored of a row."""

    accuracy: Share
    curve: tuple[tuple[Whole, Share], ...]
    inherited: Share
    seconds: NotNegative
    task_key: str
    about: dict[str, str]


def _row(job: Job, data: bytes) -> Row:
    return Row(job=job, **msgspec.structs.asdict(reading.parsed(data, _Outcome, job.key)))


def _why(data: bytes | None, name: str) -> str:
    """Why an outcome is damaged; "" if it is not."""
    if data is None or len(data) > LONGEST:
        return f"{name} has no outcome of at most {LONGEST} bytes."
    try:
        reading.parsed(data, _Outcome, name, "")
    except UserError as error:
        return str(error).rstrip()
    return ""


def _is_sound(data: bytes | None) -> bool:
    return not _why(data, "")


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """One line a row: the job flattened, what came out of it, and what made it."""
    lines = []
    for row in rows:
        job = row.job
        lines.append(
            {
                "family": job.family, "method": job.method, "layers": " ".join(job.layers),
                "dataset": job.dataset, "pool": job.pool, "scale": job.scale,
                "ancestor_seed": job.ancestor_seed,
                "descendant": json.dumps(job.arch_kwargs, sort_keys=True),
                "n_way": job.task.n_way, "k_shot": job.task.k_shot, "task": job.task.seed,
                "task_key": row.task_key[:16], "seed": job.seed,
                "optimizer": job.fit.optimizer, "lr": job.fit.lr,
                "weight_decay": job.fit.weight_decay, "batch_size": job.fit.batch_size,
                "epochs": job.fit.epochs, "steps": job.fit.epochs * job.steps_per_epoch,
                "accuracy": round(row.accuracy, 4),
                "curve": " ".join(f"{step}:{value:.4f}" for step, value in row.curve),
                "inherited": round(row.inherited, 4), "seconds": round(row.seconds, 2),
                **row.about, "key": job.key,
            }
        )  # fmt: skip
    return pd.DataFrame(lines)


def accuracies(frame: pd.DataFrame, **where: Any) -> np.ndarray:
    """Accuracies of the matching lines, ordered by task, for paired statistics.

    Raises:
        UserError: nothing matches, or a task matches twice.
    """
    return select(frame, **where)["accuracy"].to_numpy()


def select(frame: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The matching lines, one for each task, ordered by task.

    Raises:
        UserError: nothing matches, or a task matches twice.
    """
    for column, value in where.items():
        frame = frame[frame[column] == value]
    if frame.empty or frame["task"].duplicated().any():
        raise UserError(
            f"{len(frame)} lines match {where}; exactly one for each task is expected. "
            "Name more columns, or check their values."
        )
    return frame.sort_values("task")


def curves(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Learning curves of lines that were logged at the same steps.

    Returns:
        (steps (S,), accuracies (lines, S) in [0, 1]).
    Raises:
        UserError: they were not.
    """
    pairs = [[p.split(":") for p in str(text).split()] for text in frame["curve"]]
    steps = {tuple(int(step) for step, _ in line) for line in pairs}
    if len(steps) != 1:
        raise UserError(
            f"The {len(frame)} curves have {len(steps)} different sets of steps; one is expected."
        )
    return np.array(steps.pop()), np.array([[float(value) for _, value in line] for line in pairs])
