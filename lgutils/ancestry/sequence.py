"""Lifelong learning: the ancestry model meets its base classes as a sequence of disjoint tasks.

Class-incremental: one head over all classes, and the loss is over all classes seen so far. This is the
harsh setting: nothing tells the model which task an image belongs to. What it learned is also measured
task by task, among the classes of the image's own task, which says more about the features that a
descendant may inherit; the loss stays the same.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lgutils import blocks, data, files, models, train
from lgutils.ancestry import forgetting, growing
from lgutils.ancestry.model import Ancestor, AncestryCard, AncestryConfig, device_title
from lgutils.ancestry.world import LifeConfig, World
from lgutils.data import Batches
from lgutils.errors import UserError
from lgutils.train import Objective


@dataclass(frozen=True)
class Life:
    """An ancestry model and what it went through.

    Attributes:
        ancestor: the finished model; its card's classes stand in the order of the tasks.
        config: how it was made.
        seen: (T, T) held-out accuracy of task j after task i among all classes seen so far; NaN above
            the diagonal. A joint life has its last row only.
        own: the same among the classes of task j only.
        layers: names of the blocks.
        calm: (stages, blocks) share of large weight-gradient entries in the last epoch of each task, 0
            to 1, see `growing.watched`; one stage for a joint life.
        seconds: wall time.
    """

    ancestor: Ancestor
    config: LifeConfig
    seen: np.ndarray
    own: np.ndarray
    layers: tuple[str, ...]
    calm: np.ndarray
    seconds: float


def calm_layers(life: Life, k: int) -> tuple[str, ...]:
    """The k blocks with the fewest large gradient entries over the second half of the tasks.

    In network order. The paper (AAAI 2022) reads the layers off a plot; k is fixed there too.
    """
    if not 1 <= k <= len(life.layers):
        raise UserError(f"{k} layers were asked for; 1 to {len(life.layers)} are there.")
    late = life.calm[len(life.calm) // 2 :].mean(0)
    return tuple(life.layers[i] for i in sorted(np.argsort(late, kind="stable")[:k].tolist()))


@dataclass
class _State:
    """What changes from task to task, so that a life can be taken up again."""

    model: nn.Module
    grown: int = 0
    seen: list[list[float]] = field(default_factory=list)
    own: list[list[float]] = field(default_factory=list)
    calm: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    importance: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    def save(self, path: Path, key: str) -> None:
        files.save_checkpoint(path, key, {**vars(self), "model": self.model.state_dict()})

    @classmethod
    def load(cls, path: Path, key: str, world: World) -> "_State":
        with files.taken_up(path, key) as stored:
            fields = {name: value for name, value in stored.items() if name != "key"}
            most = len(world.growth.steps) if world.life.method == "growing" else 0
            if fields["grown"] not in range(most + 1):
                raise ValueError(f"it grew {fields['grown']!r} times, {most} are there")
            model = world.born(fields["grown"])
            model.load_state_dict(fields["model"])
            return cls(**{**fields, "model": model.eval()})


def lifelong(
    config: AncestryConfig,
    life: LifeConfig,
    *,
    device_name: str | None = None,
    progress: bool = True,
    checkpoint: Path | str | None = None,
) -> Life:
    """Let an ancestry model learn the base classes of a dataset task by task.

    Every task has the schedule of `config.fit` and a fresh optimiser, so every method sees as many images
    as `pretrain` does with the same configuration (replay trades new images for remembered ones).

    Args:
        config: the model, the images, and how to train on EACH task.
        life: the tasks and the method.
        device_name: see `train.device`.
        progress: show a bar for each task.
        checkpoint: file for resuming, written after every task and removed at the end; the same call
            goes on from it.
    Returns:
        A `Life`; its ancestor is as good as any other for condensing and inheriting.
    Raises:
        UserError: no base classes, too many tasks, a checkpoint of another life, an architecture that
            cannot grow.
    Source: "growing" follows arXiv 2106.06788; see `growing` and `forgetting` for what differs.
    """
    if train.join(device_name).size > 1:
        raise UserError("A life is learned by one process. Start it without torchrun.")
    images = data.load(config.dataset, config.size, progress=progress)
    world, key = World.of(config, life, images), life.key(config)
    path = Path(checkpoint) if checkpoint else None
    resumed = path is not None and path.is_file()
    state = _State.load(path, key, world) if resumed else _State(world.born(0))
    for stage in range(len(state.calm), len(world.stages)):
        began = time.perf_counter()
        _learn(state, world, stage, device_name, progress)
        state.seconds += time.perf_counter() - began
        if path:
            state.save(path, key)
    if path:
        path.unlink(missing_ok=True)
    return _finished(state, world, train.device(device_name))


def _learn(
    state: _State, world: World, stage: int, device_name: str | None, progress: bool
) -> None:
    """One stage: grow, train, watch the gradients, measure, consolidate."""
    life, (first, last) = world.life, world.stages[stage]
    if life.method == "growing":
        _grow(state, world, last)
    x, y = world.rows(world.training, first, last)
    fit, layers = world.fit(stage), _blocks(state.model)
    before = (fit.epochs - 1) * len(y)
    with growing.watched(_objective(state, world, stage), layers, before) as (objective, shares):
        fitted = train.fit(
            state.model, (x, y), world.normalize, fit, objective=objective, device_name=device_name,
            progress=f"{life.method}, task {last + 1}" if progress else None,
        )  # fmt: skip
        state.calm.append(shares().tolist())
    state.losses += fitted.losses
    _measure(state, world, fitted.model, last)
    if life.method == "ewc" and last + 1 < life.tasks:
        found = forgetting.fisher(fitted.model, x, world.normalize, world.ends[last], seed=fit.seed)
        state.importance = {
            name: value.cpu() + state.importance.get(name, 0) for name, value in found.items()
        }
    state.model = fitted.model.cpu()


def _blocks(model: nn.Module) -> list[blocks.Layer]:
    return [layer for layer in blocks.layers(model) if layer.role == "block"]


def _grow(state: _State, world: World, task: int) -> None:
    growth, life = world.growth, world.life
    for step in range(state.grown, growth.until(task, life.tasks)):
        state.model = growing.widen(
            state.model, *growth.steps[step], noise=life.noise, seed=world.config.seed + 1000 * step
        )
        state.grown = step + 1


def _objective(state: _State, world: World, stage: int) -> Objective:
    """Cross-entropy over the classes seen so far, with what the method adds to it."""
    life, fit, (first, last) = world.life, world.fit(stage), world.stages[stage]
    seen = world.ends[last]
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=fit.label_smoothing)
    mixed, penalty = None, None
    if life.method == "replay" and first > 0:
        mixed = forgetting.rehearsed(_memory(world, stage))
    if state.importance:
        anchor = dict(state.model.named_parameters())
        penalty = forgetting.anchored(state.importance, anchor, life.strength)

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if mixed:
            x, y = mixed(x, y)
        loss = cross_entropy(model(x)[:, :seen], y)
        return loss + penalty(model) if penalty else loss

    return objective


def _memory(world: World, stage: int) -> Batches:
    """What is remembered of all earlier tasks, in batches of half the size, augmented like new images."""
    x, y = world.rows(world.training, 0, stage - 1)
    kept = forgetting.memorised(y, world.life.memory, world.config.fit.seed)
    fit = world.fit(stage)
    return Batches(
        x[kept], y[kept], world.normalize, max(1, fit.batch_size // 2), fit.shift, fit.flip,
        fit.seed + 500, fit.rotate,
    )  # fmt: skip


@torch.no_grad()
def _measure(state: _State, world: World, model: nn.Module, last: int) -> None:
    """Add the rows of both accuracy matrices: every task so far, after task `last`."""
    x, y = world.rows(world.held, 0, last)
    where = next(model.parameters()).device
    batches = (world.normalize(part.to(where)) for part in x.split(500))
    logits = torch.cat([model(batch).cpu() for batch in batches])[:, : world.ends[last]]
    seen, own = [], []
    for task in range(last + 1):
        low, high = world.bounds(task, task)
        rows = (y >= low) & (y < high)
        seen.append(float((logits[rows].argmax(1) == y[rows]).float().mean()))
        own.append(float((logits[rows, low:high].argmax(1) + low == y[rows]).float().mean()))
    state.seen.append(seen)
    state.own.append(own)


def _matrix(rows: list[list[float]], size: int) -> np.ndarray:
    """(T, T) with the last of these rows at the bottom and NaN where nothing was measured."""
    matrix = np.full((size, size), np.nan)
    for i, row in enumerate(rows, start=size - len(rows)):
        matrix[i, : len(row)] = row
    return matrix


def _finished(state: _State, world: World, where: torch.device) -> Life:
    """The life of a model that has learned every task; a grown one gets its plain architecture."""
    config, life = world.config, world.life
    model = models.create(config.arch, len(world.classes), **config.arch_kwargs)
    model.load_state_dict(state.model.state_dict())
    model.eval()
    epochs = [config.fit.epochs * (i + 1) for i in range(len(state.seen))]
    card = AncestryCard.of(
        config,
        model,
        classes=world.classes,
        normalize=world.normalize,
        images_seen=len(world.training[1]) * config.fit.epochs,
        accuracy=train.evaluate(model, *world.held, world.normalize),
        seconds=round(state.seconds, 1),
        device=device_title(where),
        config_key=life.key(config),
    )
    curve = tuple((epoch, float(np.mean(row))) for epoch, row in zip(epochs, state.seen))
    return Life(
        Ancestor(model, card, tuple(state.losses), curve),
        life,
        _matrix(state.seen, life.tasks),
        _matrix(state.own, life.tasks),
        tuple(layer.name for layer in _blocks(model)),
        np.array(state.calm),
        state.seconds,
    )
