"""The condensing loop: a pseudo-descendant (pd) learns the open-world classes while the pair
weights learn which ancestor layers help it (arXiv 2305.02279).
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import cos, isfinite, pi
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from lgutils import blocks, data, files, machine, models, recipes, train
from lgutils.ancestry import Ancestor
from lgutils.checks import (
    MOST,
    Count,
    Kwargs,
    Names,
    NotNegative,
    Positive,
    Seed,
    Share,
    Whole,
    checked,
    expect,
    once,
    typed,
)
from lgutils.condense import norm
from lgutils.condense.bilevel import MODES, SGD, Hypergradient, gradients, hypergradient
from lgutils.condense.matching import ADAPTERS, DISTANCES, Matching, PairWeights, Targets
from lgutils.errors import UserError, unknown

PROTOCOLS = ("clean", "paper")
LATER = {"taps": None, "slots": None, "shift": 0, "flip": False, "rotate": 0.0}  # not in old keys
Images = tuple[Tensor, Tensor]
Meta = tuple[Tensor, Targets]
Pairs = Annotated[
    tuple[tuple[int, int], ...],
    msgspec.Meta(description="must be a tuple of pairs (m, n) of layer numbers, or None for all"),
]
Batch = Annotated[
    int, msgspec.Meta(ge=2, le=MOST, description="must be a whole number; 2 images are the least")
]
Seeds = Annotated[
    tuple[Seed, ...],
    msgspec.Meta(min_length=1, description="must be whole numbers, such as (0, 1, 2) or range(3)"),
]
LEAST = 6  # images: "clean" sets every third aside, and a batch takes two


@dataclass(frozen=True)
class CondenseConfig:
    """How to condense.

    `protocol` "paper" follows the reference: one fixed meta batch (the run's first) for all
    matching, and the same batch for the inner classification step and for the objective J. "clean",
    the default, differs in this: the rollouts match on fresh meta batches of images that no lasting
    step ever trains on, and J is taken on yet another such batch; the lasting steps match on the
    training batch; features are standardised per channel, so that lambda does not confound
    similarity with scale; dead pairs of relu6 can come back; matching leaves the pd's head alone.
    Neither runs the pd on the training batch while matching, and neither lets the rollout touch its
    BatchNorm statistics (the reference does both). In both the learning rate falls on a cosine over
    iterations (reference: over epochs).

    Attributes:
        arch, arch_kwargs: the pseudo-descendant, any timm model.
        pairs: (m, n) positions among the compared layers of ancestor and pseudo-descendant; None for all.
        iterations: meta-iterations, one for each training batch.
        inner_steps: T, matching steps of a rollout (paper: 5 for CNNs, 2 for ViTs).
        gamma: weight of the matching loss in the lasting step (paper: 1.0 for CNNs, 0.1 for ViTs).
        lr, momentum, weight_decay: SGD of the pseudo-descendant and its adapters.
        meta_lr, meta_weight_decay: Adam of the pair weights (paper: 1e-4 and 1e-4).
        mode: "exact" or "first-order" hypergradient.
        weight: "relu6", a weight for each image; "constant", one for a pair.
        distance: "l2" or "l1" (the reference's choice for ViTs).
        adapter: "conv" or "identity" (the reference's choice for ViTs).
        keep: share of the last iterations over which lambda is averaged.
        seed: pseudo-descendant, adapters, pair weights and batches.
        taps, slots: names of the layers of ancestor and pseudo-descendant to compare; None for all blocks.
            A stem may be among them.
        shift, flip, rotate: augmentation of the lasting steps' training batches, see `data.Batches`. Meta
            batches, and those of J under "clean", stay as they are.
    """

    arch: str = "learngene_vgg"
    arch_kwargs: Kwargs = field(default_factory=dict)
    pairs: Pairs | None = None
    protocol: str = "clean"
    iterations: Count = 150
    batch_size: Batch = 64
    inner_steps: Whole = 2
    gamma: NotNegative = 1.0
    lr: Positive = 0.05
    momentum: Share = 0.9
    weight_decay: NotNegative = 1e-4
    meta_lr: Positive = 5e-3
    meta_weight_decay: NotNegative = 0.0
    mode: str = "exact"
    weight: str = "relu6"
    distance: str = "l2"
    adapter: str = "conv"
    keep: Share = 0.25
    seed: Seed = 0
    taps: Names | None = None
    slots: Names | None = None
    shift: Whole = 0
    flip: bool = False
    rotate: NotNegative = 0.0

    def __post_init__(self):
        typed(self)
        for name in ("taps", "slots"):
            once(name, getattr(self, name) or ())
        for name, legal in (("distance", DISTANCES), ("adapter", ADAPTERS)):
            if (given := getattr(self, name)) not in legal:
                raise unknown(name, given, legal)
        if self.protocol not in PROTOCOLS:
            raise unknown("protocol", self.protocol, PROTOCOLS)
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES)
        if self.weight not in ("relu6", "constant"):
            raise unknown("weight", self.weight, ("relu6", "constant"))
        if self.inner_steps < 1:
            raise UserError(
                f"inner_steps is {self.inner_steps}; without a matching step (1 or more) the "
                "objective does not depend on lambda."
            )

    @property
    def key(self) -> str:
        """Hex digest of the configuration; what came later is left out at its default."""
        told = {k: v for k, v in asdict(self).items() if k not in LATER or v != LATER[k]}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def preset(
        cls,
        family: str,
        scale_name: str | None = None,
        protocol: str = "clean",
        *,
        seed: int = 0,
        dataset: str | None = None,
    ) -> "CondenseConfig":
        """The pseudo-descendant and schedule of a family, as `recipes.find` has them.

        Args:
            family: "custom" gives a small model for an ancestor of any kind.
            dataset: the one condensed on, if it is not the recipe's.
        """
        recipe = recipes.find(family, scale_name, dataset)
        fields = {**recipe.condensing, **(recipe.reference if protocol == "paper" else {})}
        pseudo = recipe.pseudo
        return cls(pseudo.arch, dict(pseudo.kwargs), protocol=protocol, seed=seed, **fields)


@dataclass(frozen=True)
class Condensed:
    """What condensing found.

    Attributes:
        layers: the ancestor's compared layers, m = 0, 1, ...; a stem may be among them.
        slots: the pseudo-descendant's, n = 0, 1, ...
        pairs: (m, n) of each column of the traces.
        trace: (iterations, pairs) batch means of lambda.
        distances: (iterations, pairs) batch means of the distances.
        losses: (iterations,) J after each rollout.
        model: the trained pseudo-descendant, in evaluation mode.
        seconds: wall time.
    """

    config: CondenseConfig
    layers: tuple[str, ...]
    slots: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    trace: Tensor
    distances: Tensor
    losses: Tensor
    model: nn.Module
    seconds: float

    def matrix(self) -> Tensor:
        """(M, N) lambda, mean of the last `keep` share of iterations; NaN where not compared."""
        last = max(1, round(self.config.keep * len(self.trace)))
        table = torch.full((len(self.layers), len(self.slots)), torch.nan)
        for column, (m, n) in enumerate(self.pairs):
            table[m, n] = self.trace[-last:, column].mean()
        return table


class Condenser:
    """One condensing run, a meta-iteration at a time.

    Args:
        ancestor: the ancestry model; not modified. Its weights' type is that of the whole run.
        training, meta: images (uint8) and labels of the open-world classes. "clean" draws meta
            batches and J's batches from `meta`; "paper" ignores it.
        config: how.
        where: the device.
    """

    def __init__(
        self, ancestor: Ancestor, training: Images, meta: Images, config: CondenseConfig,
        where: torch.device,
    ):  # fmt: skip
        expect(config, CondenseConfig, "config", "Make one, such as CondenseConfig.preset('cnn').")
        models.check_kwargs(config.arch_kwargs)
        self.config, self.where = config, where
        self.clean = config.protocol == "clean"
        self.normalize = ancestor.card.normalize
        self.dtype = next(ancestor.model.parameters()).dtype
        self.training = tuple(t.to(where) for t in training)
        self.meta = tuple(t.to(where) for t in meta)
        shape = tuple(training[0].shape[1:])
        models.check_input(ancestor.model, shape)
        self.descendant = norm.cheapened(self._new_descendant()).to(where, self.dtype).train()
        models.check_input(self.descendant, shape)
        source = ancestor.model if where.type == "cpu" else models.copied(ancestor.model).to(where)
        taps = config.taps or blocks.block_names(source)
        slots = config.slots or blocks.block_names(self.descendant)
        self.matching = Matching(
            source, self.descendant, taps, slots,
            self._batch(self.training, 0)[0], pairs=config.pairs, standardise=self.clean,
            distance=config.distance, adapter=config.adapter,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed + 1)
            self.weights = PairWeights(
                self.matching.pairs, self.matching.widths, kind=config.weight, guard=self.clean
            ).to(where, self.dtype)
        self.adam = torch.optim.Adam(
            self.weights.parameters(), config.meta_lr, weight_decay=config.meta_weight_decay
        )
        named = {k: p.detach().clone() for k, p in self.descendant.named_parameters()}
        self.descendant_keys = tuple(named)
        self.params = named | self.matching.new_adapters(config.seed + 2)
        self.velocity = {k: torch.zeros_like(p) for k, p in self.params.items()}
        self.buffers = {k: b.detach().clone() for k, b in self.descendant.named_buffers()}
        self.fixed: Meta | None = None
        self.done = 0
        self.traces: list[Tensor] = []

    def _new_descendant(self) -> nn.Module:
        images, labels = self.training
        kwargs = {"in_chans": images.shape[1], **self.config.arch_kwargs}
        classes = int(labels.max()) + 1
        return models.create(self.config.arch, classes, seed=self.config.seed, **kwargs)

    def _batch(self, images: Images, number: int, augment: bool = False) -> Images:
        """Batch `number`: a function of the seed and the number alone, so a run can be resumed."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + number)
        rows = torch.randperm(len(images[1]), generator=generator)[: self.config.batch_size]
        rows = rows.to(self.where)
        drawn = images[0][rows]
        if augment:
            drawn = self._augmented(drawn, generator)
        x = self.normalize(drawn).to(self.dtype)
        return x.contiguous(memory_format=train.layout_on(self.where)), images[1][rows]

    def _augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        images = data.shifted(images, self.config.shift, generator)
        if self.config.flip:
            images = data.flipped(images, generator)
        if self.config.rotate:
            images = data.rotated(images, self.config.rotate, generator)
        return images

    def _meta_batch(self) -> Meta:
        """The rollout's matching batch with the ancestor's targets for it."""
        if self.clean:
            x = self._batch(self.meta, 2 * self.done)[0]
            return x, self.matching.targets(x)
        if self.fixed is None:
            x = self._batch(self.training, 0)[0]
            self.fixed = (x, self.matching.targets(x))
        return self.fixed

    def _run(self, params: dict, x: Tensor, lasting: bool = False) -> tuple[Tensor, list[Tensor]]:
        """The pd's logits and tapped maps; only a lasting run moves its BatchNorm statistics."""
        buffers = self.buffers if lasting else {k: b.clone() for k, b in self.buffers.items()}
        return self.matching.descendant(x, {k: params[k] for k in self.descendant_keys} | buffers)

    def _matched(self, params: dict, maps: list[Tensor], targets: Targets, lam: Tensor) -> Tensor:
        """L_match: the sum over pairs of the mean over images of lambda times distance."""
        distance = self.matching.distances(maps, params, targets)
        self.latest = distance.detach().mean(0)
        return (lam * distance).sum(1).mean()

    def _lasting_step(self, x: Tensor, y: Tensor, meta: Meta) -> None:
        """One SGD step on CE(x) + gamma * L_match, lambda held fixed; "clean" matches on x too."""
        params = {k: p.requires_grad_() for k, p in self.params.items()}
        logits, maps = self._run(params, x, lasting=True)
        if self.clean:
            targets = self.matching.targets(x)
        else:
            maps, targets = self._run(params, meta[0])[1], meta[1]
        with torch.no_grad():
            lam = self.weights(targets.pooled)
        loss = cross_entropy(logits, y)
        loss = loss + self.config.gamma * self._matched(params, maps, targets, lam)
        grads = gradients(loss, params)
        with torch.no_grad():
            params, self.velocity = self._sgd().step(params, self.velocity, grads)
        self.params = {k: p.detach() for k, p in params.items()}

    def _sgd(self) -> SGD:
        config = self.config
        lr = config.lr * 0.5 * (1 + cos(pi * self.done / config.iterations))
        return SGD(max(lr, 1e-8), config.momentum, config.weight_decay)

    def _hypergradient(self, lam: Tensor, meta: Meta, x: Tensor, y: Tensor) -> Hypergradient:
        """dJ/dlambda after T matching steps on the meta batch and one CE step on (x, y)."""
        x2, y2 = self._batch(self.meta, 2 * self.done + 1) if self.clean else (x, y)

        def match(params: dict) -> Tensor:
            return self._matched(params, self._run(params, meta[0])[1], meta[1], lam)

        def classify(params: dict) -> Tensor:
            return cross_entropy(self._run(params, x)[0], y)

        def objective(params: dict) -> Tensor:
            return cross_entropy(self._run(params, x2)[0], y2)

        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            return hypergradient(
                self.params, self.velocity, [lam], [match] * self.config.inner_steps + [classify],
                objective, self._sgd(), mode=self.config.mode, move_unused=not self.clean,
            )  # fmt: skip

    def step(self) -> float:
        """One meta-iteration of the schedule; returns J.

        1 a lasting SGD step on CE + gamma * L_match; 2 a rollout: T matching steps and one CE step;
        3 J after it; 4 dJ/dphi and an Adam step on phi; 5 the rollout is thrown away.
        """
        cuda = [self.where] if self.where.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):  # for pds with dropout
            torch.manual_seed(self.config.seed * 1_000_003 + self.done)
            return self._step()

    def _step(self) -> float:
        meta = self._meta_batch()
        x, y = self._batch(self.training, self.done + 1, augment=True)
        self._lasting_step(x, y, meta)

        lam = self.weights(meta[1].pooled)
        found = self._hypergradient(lam.detach().requires_grad_(), meta, x, y)
        self.adam.zero_grad()
        lam.backward(found.grads[0])
        self.adam.step()
        value = found.value.item()
        if not isfinite(value):
            raise UserError(
                f"J became {value} at meta-iteration {self.done + 1}. Try a smaller lr than "
                f"{self.config.lr} or a smaller gamma than {self.config.gamma}."
            )
        means = lam.detach().mean(0)
        self.traces.append(torch.stack([means, self.latest, torch.full_like(means, value)]).cpu())
        self.done += 1
        return value

    @cached_property
    def key(self) -> str:
        """Hex digest of the configuration, the ancestor and the images."""
        sums = [[len(y), data.checksum(x), int(y.sum())]
                for x, y in (self.training, self.meta)]  # fmt: skip
        text = json.dumps([self.config.key, train.weight_hash(self.matching.ancestor.model), sums])
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the whole state, for resuming."""
        state = {
            "done": self.done, "params": self.params,
            "velocity": self.velocity, "buffers": self.buffers, "traces": self.traces,
            "weights": self.weights.state_dict(), "adam": self.adam.state_dict(),
        }  # fmt: skip
        files.save_checkpoint(path, self.key, state)

    def load(self, path: Path) -> None:
        """Take up a state that `save` wrote; a `UserError` says if it belongs to another run."""
        with files.taken_up(path, self.key) as state:
            self.done, self.traces = state["done"], state["traces"]
            pairs = (3, len(self.matching.pairs))
            if [t.shape for t in self.traces] != [pairs] * self.done:
                raise ValueError(f"{self.done!r} iterations with as many traces are expected")
            for part in ("params", "velocity", "buffers"):
                models.check_state(state[part], getattr(self, part), part)
                setattr(self, part, {k: t.to(self.where) for k, t in state[part].items()})
            self.weights.load_state_dict(state["weights"])
            self.adam.load_state_dict(state["adam"])

    def result(self, seconds: float) -> Condensed:
        """What has been found so far."""
        model = self._new_descendant()
        own = {k: self.params[k].detach() for k in self.descendant_keys}
        model.load_state_dict(own | self.buffers, strict=False)
        trace = torch.stack(self.traces)
        matching = self.matching
        return Condensed(
            self.config, matching.taps, matching.slots, matching.pairs,
            trace[:, 0], trace[:, 1], trace[:, 2, 0], model.eval(), seconds,
        )  # fmt: skip


def check(ancestor: Ancestor, open_world: Images) -> None:
    """Refuse what is no ancestor, and images of which nothing can be learned.

    Raises:
        UserError: images that are not (N, C, H, W) uint8 or fewer than 6, labels that are not (N,) int64
            of two classes or more.
    """
    expect(ancestor, Ancestor, "ancestor", "Take what ancestry.accumulate gives, not its model.")
    data.check_pair(open_world, "open_world")
    images, labels = open_world
    classes = len(labels.unique())
    if classes < 2 or len(images) < LEAST:
        raise UserError(
            f"{len(images)} images of {classes} class{'es' * (classes != 1)} were given to condense on; at least "
            f"{LEAST} images of two classes are needed."
        )


def condense(
    ancestor: Ancestor,
    open_world: Images,
    config: CondenseConfig,
    *,
    device_name: str | None = None,
    checkpoint: Path | str | None = None,
    keep: bool = False,
    progress: bool = True,
) -> Condensed:
    """Run the bilevel schedule and report lambda.

    Args:
        ancestor: the ancestry model; not modified.
        open_world: training images (uint8) and labels of the open-world classes. "clean" sets every
            third image aside for the meta batches.
        config: how; see `CondenseConfig.preset`.
        checkpoint: file for resuming; written every 10 iterations, removed at the end.
        keep: leave the checkpoint there, with the finished run in it.
    Returns:
        `Condensed`, with the trace of lambda and the trained pseudo-descendant.
    Raises:
        UserError: see `check`; a J that is no longer a number; a checkpoint of another run.
    """
    check(ancestor, open_world)
    aside = torch.arange(len(open_world[1])) % 3 == 2
    parts = [tuple(t[rows] for t in open_world) for rows in (~aside, aside)]
    run = Condenser(ancestor, *parts, config, train.device(device_name))
    path = Path(checkpoint) if checkpoint else None
    if path and path.exists():
        run.load(path)
    began = time.perf_counter()
    bar = tqdm(
        total=config.iterations, initial=run.done, desc="condensing", unit="it", disable=not progress
    )  # fmt: skip
    with bar, machine.free_threads():
        while run.done < config.iterations:
            value = run.step()
            bar.update()
            bar.set_postfix(J=f"{value:.2f}", refresh=False)
            if path and (run.done % 10 == 0 or run.done == config.iterations):
                run.save(path)
    if path and not keep:
        path.unlink(missing_ok=True)
    return run.result(time.perf_counter() - began)


def condense_seeds(
    ancestor: Ancestor, open_world: Images, config: CondenseConfig, seeds: Sequence[int], **options
) -> list[Condensed]:
    """Repeat `condense` with other seeds, to see whether the choice is stable.

    With `checkpoint` each seed has a file of its own beside it, kept until all seeds are done.

    Raises:
        UserError: no seed, or one that stands there twice; see `condense`.
    """
    expect(config, CondenseConfig, "config", "Make one, such as CondenseConfig.preset('cnn').")
    seeds = checked("seeds", seeds, Seeds)
    once("seeds", seeds)
    given = options.pop("checkpoint", None)
    paths = {s: Path(f"{given}.{s}") if given else None for s in seeds}
    found = [
        condense(
            ancestor, open_world, replace(config, seed=s), checkpoint=paths[s], keep=True, **options
        )
        for s in seeds
    ]
    for path in filter(None, paths.values()):
        path.unlink(missing_ok=True)
    return found
