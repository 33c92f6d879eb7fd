"""Many descendants: each (method, task, seed) is a job, each finished job is a row.

A job trains on one CPU thread, whatever the number of worker processes, so the same job gives the same
row alone or in a crowd.
"""

import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from lgutils import ancestry, data, files, inherit, learngene, train
from lgutils.ancestry import Ancestor, AncestryConfig
from lgutils.data import ImageSet, Task
from lgutils.errors import UserError
from lgutils.train import FitConfig

LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
TUNING_TASKS = tuple(range(1000, 1006))  # open-world tasks; never the tasks that are reported
FEW_SHOT = FitConfig(epochs=20, batch_size=25, lr=3e-3, shift=3, log_every=1000)


@dataclass(frozen=True)
class Job:
    """One descendant to train.

    Attributes:
        family: whose ancestor: "cnn" or "vit", at the current scale.
        method: a name in `inherit.METHODS`.
        layers: blocks of the learngene (for the baselines: how many, and their descendant's shape).
        task: the few-shot task.
        dataset, pool: "glyphs" or "digits"; "novel" or "open_world" classes.
        arch_kwargs: the descendant's, laid over the ancestor's.
        fit: how to train.
        seed: the descendant's fresh layers and the control's draw.
    """

    family: str
    method: str
    layers: tuple[str, ...]
    task: Task
    dataset: str = "glyphs"
    pool: str = "novel"
    arch_kwargs: dict[str, Any] = field(default_factory=dict)
    fit: FitConfig = FEW_SHOT
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """A finished job: last-epoch accuracy in [0, 1], share inherited, wall seconds, the task's key."""

    job: Job
    accuracy: float
    inherited: float
    seconds: float
    task_key: str


@lru_cache(maxsize=4)
def _ancestor(family: str) -> Ancestor:
    return ancestry.accumulate(AncestryConfig.preset(family), progress=False)


@lru_cache(maxsize=2)
def _images(dataset: str) -> ImageSet:
    return data.load(dataset)


def run_job(job: Job) -> Row:
    """Train one descendant and evaluate it after the last epoch."""
    torch.set_num_threads(1)
    ancestor = _ancestor(job.family)
    gene = learngene.extract(ancestor, job.layers)
    classes = getattr(data.split(job.dataset), job.pool)
    episode = job.task.draw(_images(job.dataset), classes)
    descendant = inherit.descend(
        job.method, ancestor, gene, num_classes=job.task.n_way, seed=job.seed, **job.arch_kwargs
    )
    fitted = train.fit(
        descendant.model, episode.train, descendant.normalize, job.fit, test=episode.test
    )
    return Row(job, fitted.score.accuracy, descendant.inherited_share, fitted.seconds, episode.key)


def run(
    jobs: Iterable[Job], *, workers: int | None = None, progress: str | None = None
) -> list[Row]:
    """Run jobs and return their rows in the same order.

    Args:
        workers: processes of one thread each; None for one a CPU core, 0 for this process.
        progress: title of a progress bar.
    """
    jobs = list(jobs)
    if workers is None:
        workers = 0 if torch.cuda.is_available() or len(jobs) < 8 else min(_cores(), 16)
    bar = {"total": len(jobs), "desc": progress, "unit": "job", "disable": progress is None}
    if not workers:
        threads = torch.get_num_threads()
        try:
            return list(tqdm(map(run_job, jobs), **bar))
        finally:
            torch.set_num_threads(threads)
    spawn = multiprocessing.get_context("spawn")  # a forked child may hang in OpenMP
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        try:
            return list(tqdm(pool.map(run_job, jobs), **bar))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """One line a row: the job flattened, what came out of it, and the versions that made it."""
    where, lines = train.device(), []
    about = {name: v for name, v in ancestry.versions().items() if name != "python"}
    about["device"] = "1 CPU thread" if where.type == "cpu" else ancestry.device_title(where)
    for row in rows:
        job = row.job
        lines.append(
            {
                "family": job.family, "method": job.method, "layers": " ".join(job.layers),
                "dataset": job.dataset, "pool": job.pool,
                "descendant": json.dumps(job.arch_kwargs, sort_keys=True),
                "n_way": job.task.n_way, "k_shot": job.task.k_shot, "task": job.task.seed,
                "task_key": row.task_key[:16], "seed": job.seed, "lr": job.fit.lr,
                "epochs": job.fit.epochs, "accuracy": round(row.accuracy, 4),
                "inherited": round(row.inherited, 4), "seconds": round(row.seconds, 2),
                **about,
            }
        )  # fmt: skip
    return pd.DataFrame(lines)


def accuracies(frame: pd.DataFrame, **where: Any) -> np.ndarray:
    """Accuracies of the matching lines, ordered by task, for paired statistics.

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
    return frame.sort_values("task")["accuracy"].to_numpy()


def _cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def tuned_path(scale_name: str = "quick") -> Path:
    """Where the tuned learning rates of a scale stand."""
    return ancestry.shipped_path("cnn").with_name(f"learning-rates-{scale_name}.json")


def tuned_fit(family: str, method: str, *, path: Path | None = None) -> FitConfig:
    """The few-shot configuration with the arm's own learning rate, tuned on open-world classes."""
    try:
        table = json.loads((path or tuned_path()).read_text())["best"]
        return replace(FEW_SHOT, lr=table[family][method])
    except (KeyError, OSError, ValueError):
        raise UserError(
            f"No learning rate was tuned for {method!r} of {family!r}. Use fleet.tune first."
        ) from None


def tune(
    layers: dict[str, Sequence[str]],
    shapes: dict[str, dict[str, Any]],
    methods: Sequence[str],
    path: Path,
    *,
    progress: bool = True,
) -> dict:
    """Give every arm its best learning rate, from the same grid and the same open-world tasks.

    Args:
        layers: the learngene's blocks of each family.
        shapes: the descendant of each family, as arguments for timm.
        methods: the arms.
        path: JSON file to write: the grid, every mean accuracy, and the best rate of each arm.
    """
    jobs = [
        Job(family, method, tuple(names), Task(seed=s), pool="open_world", seed=s,
            arch_kwargs=shapes[family], fit=replace(FEW_SHOT, lr=lr))
        for family, names in layers.items()
        for method in methods
        for lr in LEARNING_RATES
        for s in TUNING_TASKS
    ]  # fmt: skip
    rows = run(jobs, progress="tuning" if progress else None)
    means: dict = {}
    for row in rows:
        arm = means.setdefault(row.job.family, {}).setdefault(row.job.method, {})
        arm.setdefault(str(row.job.fit.lr), []).append(row.accuracy)
    for arms in means.values():
        for arm in arms.values():
            for lr in arm:
                arm[lr] = round(sum(arm[lr]) / len(arm[lr]), 4)
    best = {f: {m: float(max(t, key=t.get)) for m, t in arms.items()} for f, arms in means.items()}
    limits = (min(LEARNING_RATES), max(LEARNING_RATES))
    edges = [f"{f}: {m}" for f, arms in best.items() for m, lr in arms.items() if lr in limits]
    table = {
        "best": best,
        "means": means,
        "tasks": [asdict(Task(seed=s)) for s in TUNING_TASKS],
        "layers": {f: list(names) for f, names in layers.items()},
        "shapes": shapes,
        "at the edge of the grid": edges,
        "fit": asdict(FEW_SHOT),
        "versions": ancestry.versions(),
    }
    files.write_text(path, json.dumps(table, indent=1, ensure_ascii=False) + "\n")
    return table
