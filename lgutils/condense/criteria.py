"""Rival ways to score an ancestor's layers, all with the signature of the lambda criterion.

``criterion(ancestor, open_world, config, runs) -> Scores``: the higher, the more a layer belongs in
the learngene.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lgutils import blocks, data, models
from lgutils.ancestry import Ancestor, growing
from lgutils.blocks import block_names
from lgutils.checks import Count, checked, expect
from lgutils.condense.run import CondenseConfig, Condensed, Images, check, condense_seeds
from lgutils.errors import UserError, unknown


@dataclass(frozen=True)
class Scores:
    """A score for every block of the ancestor, repeated over seeds.

    Attributes:
        method: the criterion's name.
        layers: the ancestor's blocks, in order.
        runs: (seeds, layers) float64 array.
        matrix: (layers, slots) lambda or CKA averaged over seeds, for criteria that have one.
        slots: the pseudo-descendant's blocks, for the columns of `matrix`.
    """

    method: str
    layers: tuple[str, ...]
    runs: np.ndarray
    matrix: np.ndarray | None = None
    slots: tuple[str, ...] = ()

    @property
    def mean(self) -> np.ndarray:
        """(layers,) mean over seeds."""
        return self.runs.mean(0)

    @property
    def spread(self) -> np.ndarray:
        """(layers,) standard deviation over seeds; NaN for a single seed."""
        if len(self.runs) < 2:
            return np.full(len(self.layers), np.nan)
        return self.runs.std(0, ddof=1)


def from_condensed(condensed: Sequence[Condensed]) -> Scores:
    """Score each ancestor layer by its largest mean lambda: its best partner in the small model."""
    if not condensed:
        raise UserError("Scores need at least one run of condensing; none was given.")
    tables = np.stack([c.matrix().double().numpy() for c in condensed])
    first, compared = condensed[0], ~np.isnan(tables[0]).all(1)
    compared &= np.array(first.layers) != "stem"  # which travels anyway
    runs = np.full(tables.shape[:2], np.nan)  # NaN, which no choice ever takes, where not compared
    runs[:, compared] = np.nanmax(tables[:, compared], 2)
    return Scores("lambda", first.layers, runs, tables.mean(0), first.slots)


def lambda_(
    ancestor: Ancestor, open_world: Images, config: CondenseConfig, runs: int = 1, **options
) -> Scores:
    """The paper's criterion: the learned pair weights (arXiv 2305.02279)."""
    seeds = range(config.seed, config.seed + runs)
    return from_condensed(condense_seeds(ancestor, open_world, config, seeds, **options))


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment of two representations of the same images.

    Args:
        x, y: (N, P) and (N, Q).
    Returns:
        Similarity in [0, 1]; 1 for representations equal up to rotation and scale.
    Source: Kornblith et al., arXiv 1905.00414, Eq. 3 with linear kernels.
    """
    x, y = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
    # The N x N form: features outnumber images here.
    kx, ky = x @ x.T, y @ y.T
    return float((kx * ky).sum() / (kx.norm() * ky.norm()).clamp_min(1e-12))


@torch.no_grad()
def _flat_maps(model: nn.Module, names: Sequence[str], x: Tensor) -> list[Tensor]:
    with blocks.tapped(model, names) as outputs:
        model.eval()(x)
        return [blocks.as_maps(outputs[name], model).flatten(1) for name in names]


def cka(
    ancestor: Ancestor, open_world: Images, config: CondenseConfig, runs: int = 1, **_
) -> Scores:
    """Linear CKA to a pseudo-descendant trained alone on open-world classes, on up to 256 other images."""
    from lgutils import train

    layers, tables = block_names(ancestor.model), []
    rows = torch.randperm(len(open_world[1]), generator=torch.Generator().manual_seed(config.seed))
    held = min(256, len(rows) // 3)
    x = ancestor.card.normalize(open_world[0][rows[:held]])
    training = (open_world[0][rows[held:]], open_world[1][rows[held:]])
    theirs = _flat_maps(models.copied(ancestor.model), layers, x)
    for seed in range(config.seed, config.seed + runs):
        classes = int(open_world[1].max()) + 1
        small = models.create(config.arch, classes, seed=seed, **config.arch_kwargs)
        fit = train.FitConfig(epochs=3, lr=2e-3, seed=seed)
        small = train.fit(small, training, ancestor.card.normalize, fit, device_name="cpu").model
        slots = block_names(small)
        ours = _flat_maps(small, slots, x)
        tables.append([[linear_cka(a, b) for b in ours] for a in theirs])
    tables = np.array(tables)
    return Scores("cka", tuple(layers), tables.max(2), tables.mean(0), tuple(slots))


def gradient_stability(
    ancestor: Ancestor, open_world: Images, config: CondenseConfig, runs: int = 1, **_
) -> Scores:
    """Layers whose gradients have calmed down (AAAI 2022, arXiv 2106.06788).

    The paper counts, while the ancestor meets new tasks, the share of weight-gradient entries above
    5e-10 and keeps the layers where it is small. Here the tasks are 5-way tasks of open-world
    classes, every task starts from the same ancestor, entries count by their size relative to the
    layer's weights (1e-3 of their root mean square; the paper's threshold is absolute and signed,
    and then nearly every entry of one sign counts), and the score is one minus the share.
    """
    names = block_names(ancestor.model)
    layers = [blocks.find(blocks.layers(ancestor.model), name) for name in names]
    classes = int(open_world[1].max()) + 1
    pool = data.ImageSet(
        "open-world", *open_world, tuple(map(str, range(classes))),
        torch.zeros(len(open_world[1]), dtype=torch.bool),
    )  # fmt: skip
    runs_ = []
    for seed in range(config.seed, config.seed + runs):
        shares = []
        for number in range(5):
            task = data.Task(5, 20, seed * 100 + number)
            x, y = task.draw(pool, tuple(range(classes)), max_test=0).train
            shares.append(_large_gradients(ancestor, layers, x, y, seed))
        runs_.append(1 - np.mean(shares, 0))
    return Scores("gradient stability", tuple(names), np.array(runs_))


def _large_gradients(ancestor: Ancestor, layers, x: Tensor, y: Tensor, seed: int) -> np.ndarray:
    """Share of large weight-gradient entries of each layer over 10 SGD steps on one task."""
    model = models.copied(ancestor.model).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.reset_classifier(int(y.max()) + 1)
    params = dict(model.named_parameters())
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, counts = ancestor.card.normalize(x), []
    for _ in range(10):
        sgd.zero_grad()
        nn.functional.cross_entropy(model(images), y).backward()
        shares = []
        for layer in layers:
            tensors = [params[t] for t in layer.tensors if t in params and params[t].ndim > 1]
            large = [growing.large_entries(p).flatten() for p in tensors]
            shares.append(float(torch.cat(large).float().mean()))
        counts.append(shares)
        sgd.step()
    return np.mean(counts, 0)


def _by_position(name: str, values: Callable[[int, int], np.ndarray]):
    def criterion(
        ancestor: Ancestor, open_world: Images, config: CondenseConfig, runs: int = 1, **_
    ) -> Scores:
        layers = tuple(block_names(ancestor.model))
        table = [values(len(layers), config.seed + r) for r in range(runs)]
        return Scores(name, layers, np.array(table, dtype=float))

    criterion.__doc__ = f"Control: {name} layers, whatever they hold."
    return criterion


random = _by_position("random", lambda n, seed: np.random.default_rng([seed, 7]).random(n))
first = _by_position("first", lambda n, seed: -np.arange(n))
last = _by_position("last", lambda n, seed: np.arange(n))

CRITERIA: dict[str, Callable[..., Scores]] = {
    "lambda": lambda_,
    "cka": cka,
    "gradient-stability": gradient_stability,
    "random": random,
    "first": first,
    "last": last,
}


def score(
    criterion: str, ancestor: Ancestor, open_world: Images, config: CondenseConfig, runs: int = 1,
    **options,
) -> Scores:  # fmt: skip
    """Score an ancestor's blocks by the named criterion (see `CRITERIA`); unknown: `UserError`."""
    if criterion not in CRITERIA:
        raise unknown("criterion", criterion, CRITERIA)
    check(ancestor, open_world)
    expect(config, CondenseConfig, "config", "Make one, such as CondenseConfig.preset('cnn').")
    runs = checked("runs", runs, Count)
    return CRITERIA[criterion](ancestor, open_world, config, runs, **options)
