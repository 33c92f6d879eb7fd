"""Run jobs: one after another, in processes of one thread, stacked, or on a cluster; the rows are the same.

"Same" means: equal to the bit between serial, processes and Ray's CPU tasks on one kind of machine; stacked,
the sums run in another order, so weights differ by rounding (tested: logits within 1e-3 after training) and
accuracies by a few test images. Dropout draws differ too; the course's descendants have none.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import replace

import torch
from tqdm import tqdm

from lgutils import machine, train
from lgutils.checks import Whole, checked, expect
from lgutils.errors import UserError, unknown
from lgutils.fleet import cluster, stack
from lgutils.fleet.jobs import Job, Row, check, run_job
from lgutils.fleet.store import Results
from lgutils.machine import cores, end_with

BACKENDS = ("auto", "serial", "processes", "vmap", "ray")
FEW = 16  # fewer jobs than this are not worth measuring, or starting processes for


def run(
    jobs: Iterable[Job],
    *,
    results: Results | None = None,
    backend: str = "auto",
    workers: int | None = None,
    progress: str | None = None,
) -> list[Row]:
    """Run jobs and return their rows in the same order; a job that stands twice is run once.

    Args:
        results: rows found there are not made again, and each finished row is stored at once, so a run
            that was killed goes on where it was.
        backend: "serial", "processes" (one thread each), "vmap" (jobs of one architecture stacked),
            "ray" (a cluster, see `cluster.run`), or "auto": Ray if RAY_ADDRESS names a cluster, else
            the fastest of the first three for each architecture, as timed on this machine.
        workers: processes, or CPUs where Ray starts on this machine; None for one a CPU core. With 0
            everything but "ray" stays in this process.
        progress: title of a progress bar.
    Raises:
        UserError: an unknown backend, something that is not a job, a worker that died, Ray missing.
    """
    jobs = check(jobs)
    if results is not None:
        expect(results, Results, "results", "Open one: Results(path).")
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    done = {} if results is None else results.find(jobs)
    pending = list({job.key: job for job in jobs if job.key not in done}.values())
    workers = cores() if workers is None else checked("workers", workers, Whole)
    bar = tqdm(
        total=len(done) + len(pending), initial=len(done), desc=progress, unit="job",
        disable=progress is None, smoothing=0.05,
    )  # fmt: skip
    with bar, closing(_rows(pending, backend, workers)) as finished:  # a stop ends the workers too
        for rows in finished:
            if results is not None:
                results.add(rows)
            done |= {row.job.key: row for row in rows}
            bar.update(len(rows))
    return [done[job.key] for job in jobs]


def _rows(jobs: Sequence[Job], backend: str, workers: int) -> Iterator[list[Row]]:
    """Finished rows, as they come."""
    parts = choose(jobs, workers) if backend == "auto" else {backend: jobs}
    for name, part in parts.items():
        if name == "vmap":
            for group in stack.groups(part):
                yield from stack.run(group)
        elif name == "ray" and part:
            yield from cluster.run(part, workers)
        elif name == "processes" and workers > 0 and part:
            yield from _in_processes(part, workers)
        else:
            yield from ([run_job(job)] for job in part)


def _in_processes(jobs: Sequence[Job], workers: int) -> Iterator[list[Row]]:
    with pool(min(workers, len(jobs))) as processes:
        queue, waiting = iter(jobs), set()
        try:
            for job in queue:
                waiting.add(processes.submit(run_job, job))
                if len(waiting) >= 4 * workers:  # a short queue: a stop loses little
                    yield _finished(waiting)
            while waiting:
                yield _finished(waiting)
        except BaseException:
            processes.shutdown(wait=False, cancel_futures=True)
            raise


def _finished(waiting: set[Future]) -> list[Row]:
    """Wait for at least one row; take the finished ones out of the set, a failed one last."""
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    good = {future for future in done if future.exception() is None}
    waiting -= good
    return [future.result() for future in good or done]


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that start with one thread; spawned, since a forked child may hang in OpenMP.

    Raises:
        UserError: one of them died.
    """
    unguarded = machine.unguarded()
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, spawn, end_with, (os.getpid(),)) as processes:
            yield processes
    except BrokenProcessPool as error:
        raise UserError(
            unguarded
            or "A worker process died, perhaps for lack of memory. Finished rows are kept; run again, with "
            "fewer workers."
        ) from error
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def choose(jobs: Sequence[Job], workers: int) -> dict[str, list[Job]]:
    """The fastest backend for each architecture on this machine, measured on shortened jobs.

    On a CPU, processes are taken to multiply the serial rate by their number. Too few jobs to be worth
    measuring go with the rest, or stay serial. Where RAY_ADDRESS names a cluster, it takes all.
    """
    if len(jobs) < FEW:
        return {"serial": list(jobs)}
    if workers and os.environ.get("RAY_ADDRESS"):
        return {"ray": list(jobs)}
    kinds: dict[tuple, list[Job]] = {}
    for job in jobs:
        kinds.setdefault((job.family, job.scale, job.method == "full fine-tune"), []).append(job)
    parts: dict[str, list[Job]] = {}
    for kind in sorted(kinds.values(), key=len, reverse=True):
        name = _fastest(kind, workers) if len(kind) >= FEW or not parts else next(iter(parts))
        parts.setdefault(name, []).extend(kind)
    return parts


def _fastest(jobs: Sequence[Job], workers: int) -> str:
    cpu = train.device().type == "cpu"
    largest = max(stack.groups(jobs), key=len)
    short = [replace(job, fit=replace(job.fit, epochs=2), log_at=()) for job in largest]
    alone = _time(lambda: [run_job(job) for job in short[:2]]) / len(short[:2])
    probe = short[: 4 if cpu else 64]
    rates = {
        "processes" if cpu and workers > 1 else "serial": alone
        / (workers if cpu and workers else 1),
        "vmap": _time(lambda: list(stack.run(probe))) / len(probe),
    }
    return min(rates, key=rates.get)


def _time(work: Callable[[], object]) -> float:
    """Seconds of the second of two runs: the first one warms up."""
    work()
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
