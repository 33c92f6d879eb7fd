"""The base classes as a sequence of disjoint tasks, and how a life goes through them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from torch import Tensor, nn

from lgutils import data, models
from lgutils.ancestry import growing
from lgutils.ancestry.model import AncestryConfig
from lgutils.checks import Count, NotNegative, Seed, typed
from lgutils.data import ImageSet, Normalize
from lgutils.errors import UserError, unknown
from lgutils.train import FitConfig

METHODS = ("joint", "fine-tuning", "replay", "ewc", "growing")


@dataclass(frozen=True)
class LifeConfig:
    """How an ancestry model goes through its classes.

    Attributes:
        method: "joint" learns all tasks at once, as `pretrain` does, with as many images seen;
            "fine-tuning" one after another, "replay" with a memory, "ewc" with elastic weight
            consolidation, "growing" with the growing network of AAAI 2022.
        tasks: how many; the classes are dealt out evenly.
        order: seed that deals the classes.
        memory: replay: images kept of each class; they make up half of every batch.
        strength: ewc: the factor of its penalty.
        noise: growing: see `growing.widen`.
    """

    method: str = "fine-tuning"
    tasks: Count = 8
    order: Seed = 0
    memory: Count = 20
    strength: NotNegative = 100.0
    noise: NotNegative = 0.05

    def __post_init__(self):
        typed(self)
        if self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        if self.tasks < 2:
            raise UserError(f"tasks {self.tasks} was given, but a life has 2 or more.")

    def key(self, config: AncestryConfig) -> str:
        """Hex digest of everything that decides the weights."""
        text = json.dumps([config.key, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def deal(classes: Sequence[int], tasks: int, order: int) -> list[tuple[int, ...]]:
    """Deal classes out to tasks by a seed, as evenly as can be, at least two a task."""
    if not 1 <= tasks <= len(classes) // 2:
        raise UserError(
            f"{len(classes)} classes cannot be dealt to {tasks} tasks of 2 or more. Use fewer tasks."
        )
    mixed = np.random.default_rng([order, 31]).permutation(np.asarray(classes))
    return [tuple(part.tolist()) for part in np.array_split(mixed, tasks)]


@dataclass(frozen=True)
class World:
    """The base classes as tasks; labels run through the tasks, so that a task is a range of them.

    Attributes:
        config, life: what is trained, and how it goes through the tasks.
        classes: names of the base classes in the order of the tasks.
        ends: for each task the label behind its last one.
        training, held: (images uint8 (N, C, H, W), labels int64 (N,)) of all tasks.
        normalize: measured on what is learned first: a life does not know its later tasks.
    """

    config: AncestryConfig
    life: LifeConfig
    classes: tuple[str, ...]
    ends: tuple[int, ...]
    training: tuple[Tensor, Tensor]
    held: tuple[Tensor, Tensor]
    normalize: Normalize

    @classmethod
    def of(cls, config: AncestryConfig, life: LifeConfig, images: ImageSet) -> "World":
        base = data.split(config.dataset, config.split_seed).base
        if not base:
            raise UserError(f"{config.dataset!r} has no base classes to learn. Use 'glyphs'.")
        if config.weights:
            raise UserError("A life begins with random weights. Leave weights= empty.")
        tasks = deal(base, life.tasks, life.order)
        order = tuple(c for task in tasks for c in task)
        ends = np.cumsum([len(task) for task in tasks]).tolist()
        training, held = (images.of(order, held_out=part) for part in (False, True))
        first = len(order) if life.method == "joint" else ends[0]
        return cls(
            config, life, tuple(images.classes[c] for c in order), tuple(ends), training, held,
            Normalize.measured(training[0][training[1] < first]),
        )  # fmt: skip

    @property
    def stages(self) -> list[tuple[int, int]]:
        """First and last task of what is learned at once."""
        last = len(self.ends) - 1
        return [(0, last)] if self.life.method == "joint" else [(t, t) for t in range(last + 1)]

    def bounds(self, first: int, last: int) -> tuple[int, int]:
        """Labels of the tasks first to last (included): from, and the one behind."""
        return (self.ends[first - 1] if first else 0), self.ends[last]

    def rows(self, part: tuple[Tensor, Tensor], first: int, last: int) -> tuple[Tensor, Tensor]:
        """Images and labels of the tasks first to last (included)."""
        low, high = self.bounds(first, last)
        kept = (part[1] >= low) & (part[1] < high)
        return part[0][kept], part[1][kept]

    def fit(self, stage: int) -> FitConfig:
        """The same schedule for every task, with images drawn in another order."""
        return replace(self.config.fit, seed=self.config.fit.seed + 1000 * stage)

    @property
    def growth(self) -> growing.Growth:
        if self.config.arch != "learngene_vgg":
            raise UserError(
                f"Only 'learngene_vgg' can grow; {self.config.arch!r} was given. Use the preset 'cnn', "
                "or another method."
            )
        shape = {"stages": models.VGG_STAGES, "widths": models.VGG_WIDTHS} | self.config.arch_kwargs
        return growing.growth_to(shape["stages"], shape["widths"])

    def born(self, grown: int) -> nn.Module:
        """The model after so many steps of growth; of its full shape unless it grows."""
        arch, kwargs = self.config.arch, self.config.arch_kwargs
        if self.life.method == "growing":
            kwargs = {k: v for k, v in kwargs.items() if k not in ("stages", "widths")}
            arch, kwargs["widths"] = "learngene_netwider", self.growth.widths(grown)
        return models.create(arch, len(self.classes), seed=self.config.seed, **kwargs)
