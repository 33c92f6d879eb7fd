"""A job is one descendant to train; `grid` declares many, `run_job` trains one and gives its row."""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

import lgutils
from lgutils import ancestry, data, distill, inherit, learngene, recipes, train
from lgutils.ancestry import Ancestor, AncestryConfig
from lgutils.checks import Kwargs, Names, Seed, expect, once, plain, typed
from lgutils.data import Episode, ImageSet, Task
from lgutils.errors import UserError, unknown
from lgutils.inherit import Descendant
from lgutils.learngene import Learngene
from lgutils.recipes import FEW_SHOT
from lgutils.train import Epochs, FitConfig, Fitted

ARMS = (*inherit.METHODS, "distillation")
DRAWN = ("random layers", "shuffled")  # controls that the job's seed draws


@dataclass(frozen=True)
class Job:
    """One descendant to train.

    Attributes:
        family: whose ancestor, see `recipes.find`.
        method: a name in `ARMS`.
        layers: blocks of the learngene (for the baselines: how many, and their descendant's shape).
        task: the few-shot task.
        dataset, pool: see `data.load`; "novel" or "open_world" classes.
        arch_kwargs: the descendant's; without `arch` laid over the ancestor's.
        fit: how to train.
        seed: the descendant's fresh layers and the control's draw.
        scale: of the ancestor and of the images, see `scale.SCALES`.
        ancestor_seed: which of the ancestors; 0 is the shipped one at quick scale.
        log_at: epochs after which to evaluate; the last one always.
        arch: the descendant's architecture; None for the ancestor's.
        ancestor_data: what the ancestor learns from; empty for the recipe's dataset.
    """

    family: str
    method: str
    layers: Names
    task: Task
    dataset: str = "glyphs"
    pool: str = "novel"
    arch_kwargs: Kwargs = field(default_factory=dict)
    fit: FitConfig = FEW_SHOT
    seed: Seed = 0
    scale: str = "quick"
    ancestor_seed: Seed = 0
    log_at: Epochs = ()
    arch: str | None = None
    ancestor_data: str = ""

    def __post_init__(self):
        typed(self)
        once("layers", self.layers)
        if late := [epoch for epoch in self.log_at if epoch > self.fit.epochs]:
            raise UserError(
                f"log_at {self.log_at} has epoch {late[0]}, but there are {self.fit.epochs} epochs."
            )
        if self.method not in ARMS:
            raise unknown("method", self.method, ARMS)
        if self.pool not in ("novel", "open_world"):
            raise unknown("pool", self.pool, ("novel", "open_world"))

    @property
    def ancestry(self) -> AncestryConfig:
        """The configuration of the ancestor."""
        return AncestryConfig.preset(
            self.family, self.scale, seed=self.ancestor_seed, dataset=self.ancestor_data or None
        )

    @property
    def key(self) -> str:
        """Hex digest of everything that decides the outcome; the row's identity."""
        content = {**_told(self), "ancestor": self.ancestry.key}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch."""
        return -(-self.task.n_way * self.task.k_shot // self.fit.batch_size)


def _told(job: Job) -> dict[str, Any]:
    """A job's settings without those at their default, so that a new field moves no old key.

    Training and task are told in full: what they mean must not change with a default.
    """
    blank = {f.name: f.default for f in fields(job)}
    told = {name: value for name in blank if (value := getattr(job, name)) != blank[name]}
    return {**told, "fit": job.fit.told(), "task": asdict(job.task)}


@dataclass(frozen=True)
class Row:
    """A finished job.

    Attributes:
        accuracy: after the last epoch, in [0, 1].
        curve: (optimiser step, accuracy) pairs, as logged.
        inherited: share of the descendant's entries that were inherited, 0 to 1.
        seconds: wall time of training and evaluating; in a stack, the stack's time over its jobs.
        task_key: digest of the task's images.
        about: device, backend, versions and the digest of the code that made the row.
    """

    job: Job
    accuracy: float
    curve: tuple[tuple[int, float], ...]
    inherited: float
    seconds: float
    task_key: str
    about: dict[str, str]


@dataclass(frozen=True)
class Prepared:
    """What a job trains: its ancestor, its images and its untrained descendant."""

    job: Job
    ancestor: Ancestor
    episode: Episode
    descendant: Descendant


def grid(base: Job, **axes: Iterable[Any]) -> list[Job]:
    """All combinations of some settings, the last axis fastest.

    Args:
        base: gives what the axes leave open.
        axes: name -> values. A name is a field of `Job`, of `FitConfig` (lr, weight_decay, batch_size,
            epochs, ...) or of `Task` (n_way, k_shot). `task` takes task seeds: each also seeds the
            descendant's fresh layers, unless `seed` is an axis of its own.
    Example:
        ``grid(job, method=("learngene", "scratch"), lr=(1e-3, 1e-2), task=range(20))``
    Raises:
        UserError: a name that is none of these, a single value, no value, or one that stands there twice.
    """
    expect(base, Job, "base", "Make one: Job(family, method, layers, Task()).")
    axes = {name: _axis(name, values) for name, values in axes.items()}
    jobs = []
    for values in product(*axes.values()):
        job = base
        for name, value in sorted(zip(axes, values, strict=True), key=_is_late):
            job = _with(job, name, value, seeded="seed" in axes)
        jobs.append(job)
    return jobs


def _is_late(setting: tuple[str, Any]) -> bool:
    """Whether what is set is held against the number of epochs."""
    return setting[0] == "log_at"


def _axis(name: str, values: Any) -> list[Any]:
    """The values of an axis of `grid`."""
    if isinstance(values, str | dict) or not isinstance(values, Iterable):
        raise UserError(
            f"{name}={values!r} is a single value; an axis has several, or one in a tuple: {name}=({values!r},)."
        )
    found = [plain(value) for value in values]
    if not found:
        raise UserError(
            f"The axis {name!r} has no values, so that there are no jobs. Give one at least."
        )
    once(name, list(map(repr, found)))
    return found


def _with(job: Job, name: str, value: Any, seeded: bool) -> Job:
    if name == "task" and type(value) is int:
        task = replace(job.task, seed=value)
        return replace(job, task=task) if seeded else replace(job, task=task, seed=value)
    if name in {f.name for f in fields(Job)}:
        return replace(job, **{name: value})
    for part in ("fit", "task"):
        owner = getattr(job, part)
        if name in {f.name for f in fields(owner)}:
            return replace(job, **{part: replace(owner, **{name: value})})
    legal = {f.name for owner in (Job, FitConfig, Task) for f in fields(owner)}
    raise unknown("setting", name, legal)


@lru_cache(maxsize=8)
def _ancestor(config_key: str, family: str, scale: str, seed: int, dataset: str) -> Ancestor:
    config = AncestryConfig.preset(family, scale, seed=seed, dataset=dataset or None)
    return ancestry.accumulate(config, progress=False)


@lru_cache(maxsize=2)
def _images(dataset: str, size: str) -> ImageSet:
    return data.load(dataset, size)


@lru_cache(maxsize=256)
def _source(
    which: tuple, layers: tuple[str, ...], method: str, draw: int, arch: str | None, kwargs: str
) -> Learngene:
    """What a method inherits; shared by all jobs that inherit the same."""
    ancestor, (_, family, scale, *_) = _ancestor(*which), which
    gene = learngene.extract(ancestor, layers, travels=recipes.find(family, scale).travels)
    return inherit.source(method, ancestor, gene, draw, arch, **json.loads(kwargs))


def ancestor_of(job: Job) -> Ancestor:
    """The ancestor of a job; trained now if it is not yet at hand."""
    return _ancestor(*_which(job))


def _which(job: Job) -> tuple:
    return job.ancestry.key, job.family, job.scale, job.ancestor_seed, job.ancestor_data


def prepare(job: Job) -> Prepared:
    """Draw a job's images and build its descendant; trains an ancestor that is not yet at hand."""
    ancestor = ancestor_of(job)
    images = _images(job.dataset, recipes.find(job.family, job.scale).size)
    episode = job.task.draw(images, getattr(data.split(job.dataset), job.pool))
    method = "scratch" if job.method == "distillation" else job.method
    inherited = _source(
        _which(job), job.layers, method, job.seed if method in DRAWN else 0, job.arch,
        json.dumps(job.arch_kwargs),
    )  # fmt: skip
    descendant = inherit.born(
        method, inherited, job.arch, num_classes=job.task.n_way, seed=job.seed, **job.arch_kwargs
    )
    return Prepared(job, ancestor, episode, descendant)


def trained(prepared: Prepared, **options: Any) -> Fitted:
    """Train what was prepared; `options` go to `train.fit`."""
    job, heir = prepared.job, prepared.descendant
    model: nn.Module = heir.model
    if job.method == "distillation":
        model = distill.distilling(model, prepared.ancestor, seed=job.seed)
        options["objective"] = distill.objective
    return train.fit(
        model, prepared.episode.train, heir.normalize, job.fit, test=prepared.episode.test,
        log_at=job.log_at, **options,
    )  # fmt: skip


def run_job(job: Job) -> Row:
    """Train one descendant, on one CPU thread or on the GPU, and evaluate it after the last epoch.

    A run whose loss stops being a number counts with the accuracy of chance: it is a bad setting, and
    to leave it out would flatter the arm.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.perf_counter()
    try:
        prepared = prepare(job)
        curve = _curve(prepared)
    finally:
        torch.set_num_threads(threads)
    steps = [(epoch * job.steps_per_epoch, value) for epoch, value in curve]
    return finished(prepared, steps, time.perf_counter() - began, "one at a time")


def _curve(prepared: Prepared) -> Sequence[tuple[int, float]]:
    """(epoch, accuracy) pairs of a training; those of chance where it diverges."""
    job = prepared.job
    try:
        return trained(prepared).curve
    except train.Diverged:
        return [(epoch, 1 / job.task.n_way) for epoch in sorted({*job.log_at, job.fit.epochs})]


def finished(
    prepared: Prepared, curve: Sequence[tuple[int, float]], seconds: float, backend: str
) -> Row:
    """The row of a trained job; the curve ends with the last epoch."""
    return Row(
        prepared.job, curve[-1][1], tuple(curve), prepared.descendant.inherited_share, seconds,
        prepared.episode.key, made_by(backend, prepared.job.fit),
    )  # fmt: skip


def made_by(backend: str, fit: FitConfig) -> dict[str, str]:
    """Device, arithmetic, versions, code and backend behind a row of this process."""
    where = train.device()
    stacked = backend == "stacked"  # which keeps the usual memory layout
    alone = where.type == "cpu" and not stacked
    device = "1 CPU thread" if alone else ancestry.device_title(where)
    computes = fit.precision_on(where) if stacked else train.arithmetic_on(where, fit)
    made = {"device": device, "arithmetic": computes}
    return {**made, **ancestry.versions(), "code": code_version(), "backend": backend}


@lru_cache(maxsize=1)
def code_version() -> str:
    """Digest of the package's source files, so that a row says which code made it."""
    digest = hashlib.sha256()
    for path in sorted(Path(lgutils.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def check(jobs: Iterable[Job]) -> list[Job]:
    """Refuse what is not a job, before hours are spent; returns them as a list."""
    if isinstance(jobs, Job) or not isinstance(jobs, Iterable):
        raise UserError(
            f"A fleet runs a list of jobs; {type(jobs).__name__} was given. Use [job] or grid()."
        )
    jobs = list(jobs)
    for job in jobs:
        if not isinstance(job, Job):
            raise UserError(
                f"A fleet runs Job objects; {type(job).__name__} was given. Use grid()."
            )
    return jobs
