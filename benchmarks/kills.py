"""Kill commands at random times, start them again until they end, and compare with an unbroken run.

    python benchmarks/kills.py --kills 200 --seed 0
    python benchmarks/kills.py --kills 20 --only accumulate,site

A job is one command of `lgutils`, as small as it allows. It is run once unbroken. Then trials follow: the
same command, from the same start, is killed at times drawn over the whole length of the unbroken run and
started again each time, until after one to six kills it is left to end. More than half of the kills are
SIGKILL to all its processes, the others SIGKILL or SIGTERM to the first process alone, or SIGINT to all.

After each kill every file that is visible in the folder and in the cache must be whole, and no process may
be left (after half a minute). At the end rows, weights and all other files must be those of the unbroken run,
bit for bit, but for measured times; and no file may be there that the unbroken run did not leave. Ray's own
folder of sessions and nbgrader's `alembic.ini`, both in the system's temporary folder, are not looked at. All runs have one thread, and images and checkpoints of their own.

One line a kill is printed and kept in FOLDER/kills.jsonl. The same call goes on where the last one was
stopped, and calls with other jobs add to the table. A trial that fell stays in the folder to be looked
at. Linux or macOS; the exit code is 1 if anything fell.
"""

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from common import table
from PIL import Image

from lgutils import course, files
from lgutils.errors import UserError, unknown
from lgutils.fleet.jobs import code_version

WAYS = {  # signal, whether all processes of the group get it, share
    "KILL to all": (signal.SIGKILL, True, 11),
    "KILL to one": (signal.SIGKILL, False, 3),
    "TERM to one": (signal.SIGTERM, False, 3),
    "INT to all": (signal.SIGINT, True, 3),
}
MOST = 6  # kills of a trial
UNBROKEN = "0"  # the folder of the first run, as trials are counted from 1
GRACE, PATIENCE = 30, 60  # seconds for what a dead process left; for ending after TERM or INT
ALONE = ("LGUTILS_DATA", "LGUTILS_SCALE", "LGUTILS_DEBUG", "RAY_ADDRESS", "WORLD_SIZE", "RANK")
TIMES = re.compile(rb"\d+ minutes of one worker")
HEADER = ["job", "kills", "resumed", "equal", "orphans", "litter", "fallen"]


# --- what a file says -----------------------------------------------------------------------------


def timeless(value: Any) -> Any:
    """JSON without measured times."""
    if isinstance(value, dict):
        told = {k: v for k, v in value.items() if k not in ("seconds", "training time")}
        return {k: timeless(v) for k, v in told.items()}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def _database(path: Path) -> Any:
    """Rows of a results file, or how many rows each table has; of a copy, as reading may repair it."""
    with tempfile.TemporaryDirectory() as folder:
        for part in path.parent.glob(f"{path.name}*"):  # its journal too
            shutil.copy(part, folder)
        with closing(sqlite3.connect(Path(folder, path.name))) as db:
            if (said := db.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                raise ValueError(said)
            names = sorted(
                n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
            )
            if names == ["rows"]:
                found = db.execute("SELECT key, outcome FROM rows ORDER BY key")
                return {key: timeless(json.loads(outcome)) for key, outcome in found}
            return {n: db.execute(f'SELECT count(*) FROM "{n}"').fetchone()[0] for n in names}


def _csv(path: Path) -> list[dict]:
    if not (text := path.read_text(encoding="utf-8")).endswith("\n"):
        raise ValueError("no end of line")
    return [timeless(row) for row in csv.DictReader(text.splitlines(), strict=True)]


def content(path: Path) -> Any:
    """What a file says, without measured times.

    Raises:
        Exception: of any kind, if it is not whole.
    """
    if ".ckpt" in path.suffixes:
        return sorted(torch.load(path, map_location="cpu", weights_only=True))
    if path.suffix == ".safetensors":
        _, meta = files.load_tensors(path)
        return timeless(meta)  # with a hash of the tensors, which was checked
    if path.suffix == ".npy":
        return files.sha256(np.load(path).data)
    if path.suffix in (".sqlite", ".db"):
        return _database(path)
    if path.suffix in (".json", ".ipynb"):
        return timeless(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".csv":
        return _csv(path)
    if path.suffix == ".png":
        with Image.open(path) as image:
            image.load()
    text = TIMES.sub(b"", path.read_bytes())
    page = (
        text.lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))
    )  # others are parts of pages
    if page and not text.rstrip().endswith(b"</html>"):
        raise ValueError("no end of page")
    return text


def paths(place: Path) -> set[str]:
    """Files of a run, but not Ray's own, nor what nbgrader leaves of `alembic` in the temporary folder."""
    found = (
        p.relative_to(place) for top in ("out", "cache", "tmp") for p in (place / top).rglob("*")
    )
    ours = (p for p in found if p.parts[:2] != ("tmp", "ray") and p.name != "alembic.ini")
    return {str(p) for p in ours if not (place / p).is_dir()}


def visible(place: Path) -> list[str]:
    """Files that a user sees: none that is hidden or in a hidden folder."""
    hidden = re.compile(r"^tmp/|(^|/)\.")
    return sorted(name for name in paths(place) if not hidden.search(name))


def broken(place: Path) -> list[str]:
    """Visible files that are not whole, and why."""
    told = []
    for name in visible(place):
        try:
            content(place / name)
        except Exception as error:  # whatever a reader raises
            told.append(f"{name}: {type(error).__name__}: {error}")
    return told


def differences(place: Path, unbroken: Path) -> list[str]:
    """Files of the unbroken run that are missing here or say something else."""
    there = set(visible(place))
    return [
        name
        for name in visible(unbroken)
        if name not in there or content(place / name) != content(unbroken / name)
    ]


def living(place: Path) -> list[psutil.Process]:
    """Processes whose environment names the folder: what a run started, in whatever group."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            told = process.environ().values()
            if any(f"{place}/" in value for value in told) and process.status() != "zombie":
                found.append(process)
    return found


def left_alive(place: Path, seconds: float = GRACE) -> list[str]:
    """End what is still there after some time; gives the command lines."""
    until = time.monotonic() + seconds
    while (found := living(place)) and time.monotonic() < until:
        time.sleep(0.2)
    told = []
    for process in found:
        with suppress(psutil.Error):
            told.append(" ".join(process.cmdline())[:200])
            process.kill()
    return told


# --- jobs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A command that is killed, run in the folder `out`.

    Attributes:
        command: what follows `lgutils`.
        share: of all kills, compared with other jobs.
        after: jobs whose unbroken runs leave what this one starts from.
        needs: packages; without them the job is left out.
    """

    name: str
    command: str
    share: int = 1
    after: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def prepare(self, out: Path) -> None:
        """Put there what the command needs and no other job leaves."""
        if self.name == "grade":
            master = course.notebooks_folder() / "assignments/a1_splits/a1_splits.ipynb"
            blank = out / "room/release/a1_splits/a1_splits.ipynb"
            for student, path in {"anna": blank, "ben": master}.items():
                folder = out / "room/submitted" / student / "a1_splits"
                folder.mkdir(parents=True)
                shutil.copy(path, folder)
        if self.name == "site":  # an older one, which is replaced
            (out / "site").mkdir()
            for name in (".lgutils-site", "index.html"):
                (out / "site" / name).write_text("<html></html>\n")


MODEL = "--arch learngene_vgg --set stages=1,1 --set widths=4,8 --scale quick"
REPLICATE = "replicate --tasks 4 --claims 1 --families cnn --scale quick --out found --backend"
HALF = "--part 1/2"  # of the jobs, without the report; the serial one writes it
JOBS = {
    job.name: job
    for job in (
        Job("data", "data glyphs --size rehearsal --export pictures", 2),
        Job("accumulate", f"accumulate {MODEL} --out a.safetensors", 3),
        Job(
            "condense",
            "condense a.safetensors --budget 1 --seeds 2 --iterations 20 --out g.safetensors",
            3,
            ("accumulate",),
        ),
        Job("replicate-serial", f"{REPLICATE} serial", 2, ("accumulate",)),
        Job("replicate-processes", f"{REPLICATE} processes {HALF}", 3, ("accumulate",)),
        Job("replicate-vmap", f"{REPLICATE} vmap {HALF}", 2, ("accumulate",)),
        Job("replicate-ray", f"{REPLICATE} ray {HALF}", 2, ("accumulate",), ("ray",)),
        Job("release", "teach release a1_splits --folder room", 2, needs=("nbgrader",)),
        Job("grade", "teach grade --folder room", 3, ("accumulate", "release"), ("nbgrader",)),
        Job("site", "site", 1, needs=("sphinx", "nbgrader")),
    )
}


def chosen(only: str) -> list[Job]:
    """Jobs by name or start of name, comma-separated; all without a name."""
    found: dict[str, Job] = {}
    for part in only.split(",") if only else [""]:
        fitting = {name: job for name, job in JOBS.items() if name.startswith(part.strip())}
        if not fitting:
            raise unknown("job", part, JOBS)
        found |= fitting
    missing = {
        n: [need for need in job.needs if find_spec(need) is None] for n, job in found.items()
    }
    for name in filter(missing.get, found):
        print(f"{name} is left out: it needs {', '.join(missing[name])}.")
    return [job for name, job in found.items() if not missing[name]]


def shared_out(kills: int, jobs: Sequence[Job]) -> dict[str, int]:
    """How many of the kills each job gets, by its share."""
    ends = np.cumsum([job.share for job in jobs])
    counts = np.diff(np.round(kills * ends / ends[-1]), prepend=0)
    return {job.name: int(count) for job, count in zip(jobs, counts, strict=True)}


def start(job: Job, place: Path) -> subprocess.Popen:
    """Start the command in a group of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ALONE}
    folders = {"LGUTILS_CACHE": str(place / "cache"), "TMPDIR": str(place / "tmp")}
    with (place / "said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "lgutils", *job.command.split()],
            cwd=place / "out", env={**kept, **folders, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip


def send(process: subprocess.Popen, way: str) -> None:
    number, to_all, _ = WAYS[way]
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number) if to_all else os.kill(process.pid, number)


def last_words(place: Path) -> str:
    return (place / "said").read_text(errors="replace").replace("\r", "\n").strip()[-600:]


# --- the campaign ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Campaign:
    """Kills of all jobs, written down in a folder.

    Attributes:
        folder: short: Ray makes sockets in it, whose paths may have some 100 bytes in all.
        seed: draws times and signals.
    """

    folder: Path
    seed: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        mine = {"seed": self.seed, "code": code_version()}
        if any({k: e[k] for k in mine} != mine for e in self.events("campaign")):
            raise UserError(
                f"{self.folder} holds a campaign with another seed or another lgutils. Name another "
                "--folder, or delete it."
            )
        if not self.events("campaign"):
            self.note("campaign", **mine)

    def note(self, kind: str, **event: Any) -> None:
        """Write down what happened."""
        if self.stop.is_set():  # what was stopped from outside says nothing
            raise InterruptedError
        with (self.folder / "kills.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"kind": kind, **event}) + "\n")

    def events(self, kind: str, **where: Any) -> list[dict]:
        """What happened so far."""
        path = self.folder / "kills.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        found = (json.loads(line) for line in lines)
        where = {"kind": kind, **where}
        return [e for e in found if all(e.get(k) == v for k, v in where.items())]

    def unbroken(self, job: Job) -> float:
        """Run the command once without a kill, if that was not done; gives its seconds."""
        for event in self.events("unbroken", job=job.name):
            return event["seconds"]
        place = self.folder / job.name / UNBROKEN
        self._begin(job, place)
        began = time.monotonic()
        if code := self._run(job, place):
            raise UserError(f"{job.name} ended with {code}, unbroken: {last_words(place)}")
        seconds = round(time.monotonic() - began, 2)
        self.note("unbroken", job=job.name, seconds=seconds)
        print(f"{job.name}: {seconds:.0f} s unbroken", flush=True)
        return seconds

    def _begin(self, job: Job, place: Path) -> None:
        """Make the folder that the command starts from."""
        for name in job.after:
            self.unbroken(JOBS[name])
        left_alive(place, 0)
        shutil.rmtree(place, ignore_errors=True)
        for top in ("out", "cache"):
            (place / top).mkdir(parents=True)
            for name in job.after:
                source = self.folder / name / UNBROKEN / top
                shutil.copytree(source, place / top, copy_function=_copy, dirs_exist_ok=True)
        (place / "tmp").mkdir()
        job.prepare(place / "out")

    def _run(self, job: Job, place: Path, seconds: float | None = None, way: str = "") -> int:
        """Run until it ends or is killed; gives the exit code."""
        process = start(job, place)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            send(process, way)
            return process.wait(PATIENCE)
        finally:
            if process.poll() is None:
                send(process, "KILL to all")
                process.wait()

    def trial(self, job: Job, number: int, quota: int) -> None:
        """Kill and start again one to `MOST` times, let it end, compare."""
        place, length = self.folder / job.name / str(number), self.unbroken(job)
        this = {"job": job.name, "trial": number}
        if not self.events("begin", **this):
            self._begin(job, place)
            self.note("begin", **this, there=visible(place))
        left_alive(place, 0)  # of a campaign that was killed itself
        planned = random.Random(f"{self.seed} {this}").randint(1, MOST)
        while len(self.events("kill", **this)) < planned:
            count = len(self.events("kill", job=job.name))
            if count >= quota:
                break
            dice = random.Random(f"{self.seed} {this} {count}")
            when, way = dice.uniform(0, length), _way(dice)
            try:
                code = self._run(job, place, when, way)
            except subprocess.TimeoutExpired:
                code = None
            if code is not None and code >= 0 and code != 128 + WAYS[way][0]:
                return self._ended(job, this, code)  # by itself, before
            self._killed(this, count + 1, when, way, code)
        try:
            code = self._run(job, place, 60 + 10 * length, "KILL to all")
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        return self._ended(job, this, code)

    def _killed(self, this: dict, number: int, when: float, way: str, code: int | None) -> None:
        place = self.folder / this["job"] / str(this["trial"])
        start = self.events("begin", **this)[0]["there"]
        fell = [] if code is not None else [f"did not end within {PATIENCE} s"]
        orphans, fell = left_alive(place), fell + broken(place)
        left = visible(place) != start
        self.note(
            "kill", **this, number=number, after=round(when, 2), way=way, left=left,
            orphans=orphans, fell=fell,
        )  # fmt: skip
        told = ["left something" if left else "left nothing", *(f"ORPHAN {o}" for o in orphans),
                *(f"FELL {f}" for f in fell)]  # fmt: skip
        print(f"{this['job']} {this['trial']}: kill {number}, {way}, {when:.1f} s: {'; '.join(told)}",
              flush=True)  # fmt: skip

    def _ended(self, job: Job, this: dict, code: int) -> None:
        place, whole = (self.folder / job.name / name for name in (str(this["trial"]), UNBROKEN))
        orphans = left_alive(place)
        fell = [f"ended with {code}: {last_words(place)}"] if code else broken(place)
        differ = [] if fell else differences(place, whole)
        litter = [] if fell else sorted(paths(place) - paths(whole))
        told = {"orphans": orphans, "fell": fell, "differ": differ, "litter": litter}
        self.note("end", **this, **told)
        bad = "; ".join(f"{kind.upper()} {what}" for kind, found in told.items() for what in found)
        print(f"{job.name} {this['trial']}: ended, {bad or 'equal'}", flush=True)
        if not bad:
            shutil.rmtree(place)

    def run(self, job: Job, quota: int) -> None:
        """Trials until the job has had its kills."""
        self.unbroken(job)
        number = len(self.events("end", job=job.name)) + 1
        while len(self.events("kill", job=job.name)) < quota or self.events(
            "begin", job=job.name, trial=number
        ):
            self.trial(job, number, quota)
            number += 1

    def line(self, name: str) -> list[str]:
        """A job's line of the table."""
        kills, ends = self.events("kill", job=name), self.events("end", job=name)
        equal = sum(not (end["fell"] or end["differ"]) for end in ends)
        orphans, fell = (sum(len(e[k]) for e in kills + ends) for k in ("orphans", "fell"))
        counts = [orphans, sum(len(end["litter"]) for end in ends), fell]
        resumed = sum(kill["left"] for kill in kills)
        return [name, str(len(kills)), str(resumed), f"{equal} of {len(ends)}", *map(str, counts)]

    def fell(self) -> bool:
        """Whether anything did."""
        kinds = ("orphans", "fell", "differ", "litter")
        every = self.events("kill") + self.events("end")
        return any(event.get(kind) for event in every for kind in kinds)


def _copy(source: str, target: str) -> None:
    """Copy a file; images, which are large and only ever replaced as a whole, get a second name."""
    os.link(source, target) if source.endswith(".npy") else shutil.copy2(source, target)


def _way(dice: random.Random) -> str:
    return dice.choices(list(WAYS), [share for _, _, share in WAYS.values()])[0]


def together(campaign: Campaign, jobs: Iterable[Job], kills: int, workers: int) -> bool:
    """Several jobs side by side; what they start from is made before.

    Returns:
        Whether all could be run; one that does not even end unbroken is told and left out.
    """
    jobs, ready = list(jobs), []
    for job in jobs:
        try:
            campaign.unbroken(job)
            ready.append(job)
        except UserError as error:
            print(f"FELL {error}", flush=True)
    with ThreadPoolExecutor(workers) as pool:
        quotas = shared_out(kills, jobs)
        running = [pool.submit(campaign.run, job, quotas[job.name]) for job in ready]
        try:
            for future in running:
                future.result()
        except BaseException:  # Ctrl-C: end what runs, and write nothing about it
            campaign.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            left_alive(campaign.folder, 0)
            raise
    return len(ready) == len(jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="of all chosen jobs together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help=f"some of: {', '.join(JOBS)}")
    parser.add_argument("--workers", type=int, default=1, help="jobs side by side")
    folder = Path(tempfile.gettempdir(), "kills")
    parser.add_argument("--folder", type=Path, default=folder, help=f"default: {folder}")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # children take both, whatever the shell ignores
        signal.signal(number, signal.default_int_handler)
    campaign = Campaign(given.folder.resolve(), given.seed)
    began = time.monotonic()
    try:
        ran = together(campaign, chosen(given.only), given.kills, given.workers)
    except KeyboardInterrupt:
        print("Stopped; the same call goes on.")
        sys.exit(130)
    done = [name for name in JOBS if campaign.events("kill", job=name)]
    print(
        f"\nseed {given.seed}, {(time.monotonic() - began) / 60:.0f} minutes, {campaign.folder}\n"
    )
    print(table(HEADER, [campaign.line(name) for name in done]))
    sys.exit(campaign.fell() or not ran)


if __name__ == "__main__":
    main()
