"""Many machines: jobs as tasks of a Ray cluster (https://docs.ray.io), or in shares for a job array.

Jobs travel in shards, a task each. Only the process that asked for them (the driver) writes rows, so nodes
need no common disk. A shard whose worker or node dies is done again; nothing of it was stored before.
"""

import os
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from lgutils import files
from lgutils.errors import UserError, missing
from lgutils.fleet import stack
from lgutils.fleet.jobs import Job, Row, ancestor_of, code_version, run_job

PASSED_ON = ("LGUTILS_CACHE", "LGUTILS_DATA", "LGUTILS_SCALE")  # environment of the tasks
SHARDS = 4  # for each worker at least: the last ones end at about the same time
LARGEST = 8  # jobs in a shard on a CPU: what a dying node can cost
RETRIES = 5  # of a shard whose worker or node died

Work = Callable[[Sequence[Job]], Iterator[list[Row]]]
Sent = tuple[
    str, str, Any
]  # an ancestor's file: name, SHA-256, reference to its content in Ray's store


def part(jobs: Sequence[Job], k: int, n: int) -> list[Job]:
    """The k-th of n disjoint shares of jobs, which together are all of them.

    Jobs are dealt like cards, sorted by architecture and length, so shares differ by at most one job of
    each kind. They depend on the set of jobs, not on its order; a job that stands twice is dealt once.

    Args:
        k: from 1 to n.
    Raises:
        UserError: k is not in that range.
    """
    if not 1 <= k <= n:
        raise UserError(f"Part {k} of {n} was asked for; parts are counted from 1 to {max(n, 1)}.")

    def card(job: Job) -> tuple:
        steps = job.fit.epochs * job.steps_per_epoch
        shape = f"{job.arch} {job.arch_kwargs}"
        return job.scale, job.family, job.dataset, shape, steps, job.method, job.key

    mine = {
        job.key for job in sorted({job.key: job for job in jobs}.values(), key=card)[k - 1 :: n]
    }
    return list({job.key: job for job in jobs if job.key in mine}.values())


def shards(jobs: Sequence[Job], workers: int, largest: int = LARGEST) -> list[list[Job]]:
    """Jobs in lists of one architecture, as many lists as keep all workers busy to the end."""
    size = max(1, min(largest, -(-len(jobs) // (SHARDS * max(workers, 1)))))
    return [group[i : i + size] for group in stack.groups(jobs) for i in range(0, len(group), size)]


def run(jobs: Sequence[Job], workers: int, work: Work | None = None) -> Iterator[list[Row]]:
    """Rows of the jobs, as shards of them finish on the nodes of a Ray cluster.

    The cluster is the one this process is connected to, else the one at `$RAY_ADDRESS`, else the one that
    `ray start` made here; where there is none, one is started on this machine and stopped at the end. If
    it has GPUs, every task takes one and stacks its jobs; else a task takes a CPU and one thread.

    Args:
        workers: CPUs of a cluster that is started here.
        work: what a task does with its jobs, if not that.
    Raises:
        UserError: Ray is missing, no cluster answers, a node has another lgutils or none, a shard
            that was lost again and again.
        Exception: whatever a job raised, after the rows that were finished by then.
    """
    ray = _ray()
    with _connected(ray, workers):
        cpus, gpus = (int(ray.cluster_resources().get(name, 0)) for name in ("CPU", "GPU"))
        if not cpus:
            raise UserError("The Ray cluster has no CPU to give. Join nodes with `ray start`.")
        work = work or (stack.run if gpus else _one_by_one)
        task = ray.remote(_shard).options(
            num_cpus=1, num_gpus=1 if gpus else 0, max_retries=RETRIES, runtime_env=_environment()
        )
        pieces = shards(jobs, gpus or cpus, stack.CHUNK["cuda"] if gpus else LARGEST)
        sent = _ancestors(ray, jobs)
        waiting = [
            task.remote(work, piece, code_version(), _files_of(piece, sent)) for piece in pieces
        ]
        yield from _collected(ray, waiting)


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise missing("The backend 'ray' needs Ray", "cluster") from None
    return ray


@contextmanager
def _connected(ray: ModuleType, workers: int) -> Iterator[None]:
    """Connect to a cluster or start one; leave as it was what was there before."""
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        _ask_first()
        try:
            ray.init(num_cpus=max(workers, 1), include_dashboard=False, **quiet)
        except ValueError:  # raised where there is a cluster, which has CPUs of its own
            ray.init(**quiet)
    except (OSError, RuntimeError, ValueError) as error:
        where = os.environ.get("RAY_ADDRESS") or "the address that `ray start` left here"
        raise UserError(
            f"No Ray cluster could be used at {where} ({error}). Start one (ray start --head), "
            "correct RAY_ADDRESS, or unset it and run `ray stop` to use this machine only."
        ) from error
    except Exception as error:  # a plain one, where starting takes longer than Ray allows
        raise UserError(
            f"Ray did not start on this machine ({error}). Try again when it is less busy, or use the "
            "backend 'processes'."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _ask_first() -> None:
    """Raise an OSError if nobody listens at RAY_ADDRESS: Ray itself would try for minutes."""
    where = urlsplit("//" + os.environ.get("RAY_ADDRESS", "").rpartition("://")[2])
    if where.port:
        socket.create_connection((where.hostname, where.port), timeout=10).close()


def _environment() -> dict[str, dict[str, str]]:
    """Ray's description of what every task finds in its environment."""
    told = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"env_vars": {**told, "OMP_NUM_THREADS": "1"}}


def _ancestors(ray: ModuleType, jobs: Sequence[Job]) -> dict[str, list[Sent]]:
    """Files that tasks need in their cache, by the key of the ancestor's configuration.

    Shipped ancestors need none. One that is not yet at hand is trained here, once, not on every node.
    """
    needed = {job.ancestry.key: job for job in jobs}
    sent: dict[str, list[Sent]] = {}
    for key, job in needed.items():
        ancestor_of(job)
        found = files.cache_dir().glob(f"ancestor-*{key}.safetensors")
        contents = [(path.name, path.read_bytes()) for path in sorted(found)]
        sent[key] = [(name, files.sha256(data), ray.put(data)) for name, data in contents]
    return sent


def _files_of(shard: Sequence[Job], sent: Mapping[str, list[Sent]]) -> list[Sent]:
    return [file for key in sorted({job.ancestry.key for job in shard}) for file in sent[key]]


def _collected(ray: ModuleType, waiting: list) -> Iterator[list[Row]]:
    """Rows as tasks end; at an error first all rows that are there; what is left then is cancelled."""
    try:
        while waiting:
            ray.wait(waiting)
            ended, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            outcomes = [_outcome(ray, task) for task in ended]
            if rows := [row for rows, _ in outcomes for row in rows]:
                yield rows
            for _, error in outcomes:
                if error is not None:
                    raise error
    finally:
        for task in waiting:
            ray.cancel(task, force=True)


def _outcome(ray: ModuleType, done: Any) -> tuple[list[Row], Exception | None]:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:  # before or after the shard's own code
        return [], UserError(
            f"A node could not do a task of the fleet. Install this lgutils ({code_version()}) and its "
            f"requirements on every node, and restart Ray there. The node said: {error}"
        )
    except ray.exceptions.RayError as error:
        return [], UserError(
            f"A shard of the fleet was lost {RETRIES + 1} times ({type(error).__name__}), perhaps for "
            "lack of memory. Finished rows are kept; run again, with fewer CPUs a node."
        )


# --- in the task ----------------------------------------------------------------------------------


def _one_by_one(jobs: Sequence[Job]) -> Iterator[list[Row]]:
    return ([run_job(job)] for job in jobs)


def _shard(
    work: Work, jobs: Sequence[Job], version: str, ancestors: Sequence[Sent]
) -> tuple[list[Row], Exception | None]:
    """Do the jobs; gives the finished rows and, if one raised, its error."""
    rows: list[Row] = []
    try:
        if code_version() != version:
            raise UserError(
                f"A node has another lgutils (code {code_version()}) than this process ({version}). "
                "Install the same one on every node, and restart Ray there."
            )
        _place(ancestors)
        for more in work(jobs):
            rows += more
    except Exception as error:
        error.add_note(f"In the task: {traceback.format_exc()}")
        return rows, error
    return rows, None


def _place(ancestors: Sequence[Sent]) -> None:
    """Put the driver's ancestors into this node's cache, in place of others of the same name."""
    for name, digest, content in ancestors:
        path = files.cache_dir() / Path(name).name
        if not path.is_file() or files.sha256(path.read_bytes()) != digest:
            with files.atomic(path) as temporary:
                temporary.write_bytes(_ray().get(content))
