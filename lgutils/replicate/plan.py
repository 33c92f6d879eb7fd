"""What is swept: the jobs behind each claim, of one family on one dataset."""

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

import numpy as np

from lgutils import blocks, fleet, inherit, models
from lgutils.data import Normalize, Task
from lgutils.errors import UserError
from lgutils.evidence import GENE, REFERENCE_SHOTS, SCRATCH
from lgutils.fleet import Job
from lgutils.fleet.tuning import LONG
from lgutils.learngene import Learngene
from lgutils.replicate.design import TASKS, Design, Sizes

CLAIMS = {
    1: "converge faster",
    2: "be less sensitive to hyper-parameters",
    3: "perform better",
    4: "need fewer samples",
}
MANY = 14  # more blocks than this have too many subsets to list
PLENTY = 400  # rival sets, when it takes long to check which fit
STUDIES = {1: ("arms", "long"), 2: ("grid",), 3: ("arms", "long", "sets"), 4: ("shots", "long")}


def steps_fixed(job: Job) -> Job:
    """The job with as many optimiser steps as a 5-way 10-shot task has, whatever its shots.

    Otherwise fewer samples would also mean less training, and the two could not be told apart.
    """
    usual = replace(job, task=replace(job.task, k_shot=Task().k_shot))
    steps = job.fit.epochs * usual.steps_per_epoch
    return replace(job, fit=replace(job.fit, epochs=steps // job.steps_per_epoch))


def layer_sets(base: Job, count: int) -> list[tuple[str, ...]]:
    """Random other sets of blocks with the learngene's budget of parameters, which fit the descendant.

    The number of blocks is free. Parameters may differ by as little as leaves at least `count` sets to
    draw from: nothing in a ViT, whose blocks are equal; in a CNN, whose blocks are not, by a share that
    `budget_gap` tells.
    """
    rivals = _rivals(base)
    limit = sorted(rivals.values())[:count][-1]
    near = [names for names, gap in rivals.items() if gap <= limit]
    order = np.random.default_rng(13).permutation(len(near))[:count]
    return [near[i] for i in sorted(order)]


def budget_gap(base: Job, count: int = Design.random_sets) -> float:
    """By what share the parameters of the sets of `layer_sets` may differ from the learngene's."""
    return sorted(_rivals(base).values())[:count][-1]


def _rivals(base: Job) -> dict[tuple[str, ...], float]:
    """Other sets of the ancestor's blocks that fit, and how far each is from the learngene's budget."""
    config = base.ancestry
    whole = _blocks_only(config.arch, json.dumps(config.arch_kwargs))
    sizes = {layer.name: layer.num_params for layer in whole.layers}
    budget = sum(blocks.find(whole.layers, name).num_params for name in base.layers)
    rivals = {
        names: round(abs(sum(sizes[x] for x in names) - budget) / budget, 6)
        for names in _subsets(tuple(sizes))
        if names != tuple(base.layers)
    }
    kwargs = base.arch_kwargs if base.arch else {**config.arch_kwargs, **base.arch_kwargs}
    descendant = models.create(base.arch or config.arch, 2, **kwargs)
    slots = [layer for layer in blocks.layers(descendant) if layer.role == "block"]
    state, found = descendant.state_dict(), {}
    for names in sorted(rivals, key=rivals.get):  # stop when there are plenty: checking takes time
        with suppress(UserError):
            inherit.assign(_only(whole, names), slots, state)
            found[names] = rivals[names]
        if len(found) >= PLENTY and rivals[names] > max(list(found.values())[:PLENTY]):
            break
    if not found:
        raise UserError(f"No other set of blocks fits the descendant of {base.family!r}.")
    return {names: found[names] for names in rivals if names in found}


def _subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All subsets in a fixed order; of many blocks a fixed random sample."""
    if len(names) <= MANY:
        return [c for n in range(1, len(names) + 1) for c in itertools.combinations(names, n)]
    coins = np.random.default_rng(17).random((2**MANY, len(names)))
    shares = np.random.default_rng(18).random((2**MANY, 1))
    drawn = [tuple(np.array(names)[row].tolist()) for row in coins < shares]
    return sorted({picked for picked in drawn if picked})


@lru_cache(maxsize=4)
def _blocks_only(arch: str, kwargs: str) -> Learngene:
    """All blocks of an untrained ancestor: their shapes are what counts here."""
    arguments = json.loads(kwargs)
    model = models.create(arch, 2, **arguments)
    layers = tuple(layer for layer in blocks.layers(model) if layer.role == "block")
    depths = tuple(i / max(len(layers) - 1, 1) for i in range(len(layers)))
    return Learngene(arch, arguments, layers, depths, model.state_dict(), Normalize((0.0,), (1.0,)))


def _only(whole: Learngene, names: tuple[str, ...]) -> Learngene:
    kept = [i for i, layer in enumerate(whole.layers) if layer.name in names]
    layers, depths = (tuple(part[i] for i in kept) for part in (whole.layers, whole.depths))
    return replace(whole, layers=layers, depths=depths)


def plan(
    base: Job,
    fits: Mapping,
    claims: Collection[int],
    tasks: int = TASKS,
    design: Design | None = None,
) -> dict:
    """The jobs of one family on one dataset, by study.

    Args:
        base: a job with the learngene's layers, the descendant's shape, the dataset and the scale.
        fits: how each arm trains (its own learning rate): arm -> `FitConfig`.
        claims: which of the paper's claims; a study that two claims need is there once.
        tasks: of the main comparison.
        design: what is varied; None for the one of the job's scale and family.
    Returns:
        study -> jobs. "arms": every method. "long": scratch with five times the steps, at 10 and at 20
        shots. "grid": learngene and scratch over learning rate x weight decay. "sets": learngenes of
        random layers. "shots": learngene and scratch at several shots, equal steps.
    """
    size, design = Sizes(tasks), design or Design.preset(base.scale, base.family)
    methods = fleet.ARMS if 3 in claims else (GENE, SCRATCH)
    arms = {m: replace(base, method=m, fit=fits[m]) for m in methods}
    arms |= {m: replace(arms[m], log_at=design.logged(m)) for m in (GENE, SCRATCH)}
    patient = replace(base, method=SCRATCH, fit=fits[LONG], log_at=design.logged(LONG))
    pair = [arms[GENE], arms[SCRATCH]]

    def vary(jobs: Sequence[Job], study: str, **axes) -> list[Job]:
        return [j for job in jobs for j in fleet.grid(job, **axes, task=range(size.of(study)))]

    makers = {
        "arms": lambda: vary(list(arms.values()), "arms"),
        "long": lambda: _long(vary([patient], "long")),
        "grid": lambda: vary(
            [replace(j, log_at=()) for j in pair],
            "grid",
            lr=design.rates,
            weight_decay=design.weight_decays,
        ),
        "sets": lambda: vary(
            [replace(arms[GENE], log_at=())],
            "sets",
            layers=layer_sets(base, design.random_sets),
        ),
        "shots": lambda: [
            job if job.task.k_shot == Task().k_shot else steps_fixed(replace(job, log_at=()))
            for job in vary(pair, "shots", k_shot=design.shots)
        ],
    }
    wanted = dict.fromkeys(study for claim in sorted(claims) for study in STUDIES[claim])
    return {study: makers[study]() for study in wanted}


def _long(jobs: list[Job]) -> list[Job]:
    """The patient scratch arm at 10 shots and, with as many steps, at 20."""
    twenty = [
        replace(
            job,
            task=replace(job.task, k_shot=REFERENCE_SHOTS),
            fit=replace(job.fit, epochs=job.fit.epochs // 2),
            log_at=(),
        )
        for job in jobs
    ]
    return jobs + twenty
