"""Inheriting: a descendant is a new model with the learngene in it and fresh layers around it.

Every baseline is another learngene, so all methods go through the same call: scratch inherits nothing,
a full fine-tune everything, the controls other layers of the same number or the same weights shuffled.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from lgutils import blocks, learngene, models
from lgutils.ancestry import Ancestor
from lgutils.blocks import Layer
from lgutils.checks import Name, Share, Whole, expect
from lgutils.data import Normalize
from lgutils.errors import UserError, unknown
from lgutils.learngene import Learngene


@dataclass(frozen=True)
class Origin:
    """Where one tensor of a descendant comes from: `source` is None for a fresh one."""

    tensor: str
    layer: str
    role: str
    source: str | None
    numel: int


@dataclass(frozen=True)
class Descendant:
    """A new model, its input normalisation, and the origin of each of its tensors."""

    model: nn.Module
    normalize: Normalize
    provenance: tuple[Origin, ...]

    @property
    def inherited_share(self) -> float:
        """Share of all tensor entries (BatchNorm statistics too) that were inherited, 0 to 1."""
        total = sum(o.numel for o in self.provenance)
        return sum(o.numel for o in self.provenance if o.source) / total

    @property
    def origins(self) -> dict[str, str]:
        """Every inherited layer -> the ancestor's layer that it is a copy of."""
        return {o.layer: o.source for o in self.provenance if o.source}

    def report(self) -> str:
        """One line a layer: inherited from where, or fresh."""
        lines, seen = [], set()
        for o in self.provenance:
            if o.layer not in seen:
                seen.add(o.layer)
                origin = f"inherited from {o.source}" if o.source else "fresh"
                lines.append(f"{o.role:>8}  {o.layer:<20} {origin}")
        return "\n".join([*lines, f"{self.inherited_share:.0%} of all entries inherited"])


class Kept(msgspec.Struct):
    """What the file of a trained descendant holds besides its weights; classes are ids of `dataset`."""

    arch: Name
    settings: dict[str, Any]
    classes: tuple[Whole, ...]
    dataset: str
    accuracy: Share
    task: str = ""


def _mismatch(gene: Learngene, layer: Layer, slot: Layer, state: dict[str, Tensor]) -> str:
    """Why a layer does not fit a slot; empty if it does."""
    if layer.role != slot.role or len(layer.tensors) != len(slot.tensors):
        return f"{len(layer.tensors)} tensors against {len(slot.tensors)} in {slot.name!r}"
    for a, b in zip(layer.tensors, slot.tensors, strict=True):
        here, there = tuple(gene.tensors[a].shape), tuple(state[b].shape)
        if here != there or a.rsplit(".", 1)[-1] != b.rsplit(".", 1)[-1]:
            return f"{a} {here} against {b} {there}"
    return ""


def assign(gene: Learngene, slots: Sequence[Layer], state: dict[str, Tensor]) -> dict[str, Layer]:
    """Give every block of the learngene a slot, in order, as near as can be to its old depth.

    Dynamic programming over (blocks, slots): the order of the ancestor is kept, a block only goes where
    every tensor has its shape, and the sum of squared differences in relative depth is least.

    Args:
        slots: the descendant's blocks, in order.
        state: the descendant's state_dict.
    Returns:
        The learngene's layer for each slot name that gets one.
    Raises:
        UserError: no such assignment; names the layer and both shapes.
    """
    layers = [layer for layer in gene.layers if layer.role == "block"]
    depth = [d for d, layer in zip(gene.depths, gene.layers, strict=True) if layer.role == "block"]
    places = [j / max(len(slots) - 1, 1) for j in range(len(slots))]
    why = [[_mismatch(gene, layer, slot, state) for slot in slots] for layer in layers]
    for layer, reasons in zip(layers, why, strict=True):
        if slots and all(reasons):
            nearest = min(
                range(len(slots)),
                key=lambda j: abs(places[j] - gene.depths[gene.layers.index(layer)]),
            )
            raise UserError(
                f"Layer {layer.name!r} of the learngene fits no layer of the descendant: "
                f"{reasons[nearest]}. Choose another architecture, depth or layer."
            )
    best = np.full((len(layers) + 1, len(slots) + 1), np.inf)
    best[0] = 0.0
    for i in range(1, len(layers) + 1):
        for j in range(1, len(slots) + 1):
            cost = np.inf if why[i - 1][j - 1] else (depth[i - 1] - places[j - 1]) ** 2
            best[i, j] = min(best[i, j - 1], best[i - 1, j - 1] + cost)
    if np.isinf(best[-1, -1]):
        raise UserError(
            f"The learngene's {len(layers)} layers ({', '.join(gene.names)}) do not fit in order into "
            f"the descendant's {len(slots)} ({', '.join(s.name for s in slots)}). Make it deeper, or "
            "choose fewer layers."
        )
    chosen, i, j = {}, len(layers), len(slots)
    while i:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            chosen[slots[j - 1].name] = layers[i - 1]
            i, j = i - 1, j - 1
    return chosen


def inherit(
    gene: Learngene, arch: str | None = None, *, num_classes: int, seed: int = 0, **kwargs: Any
) -> Descendant:
    """Build a descendant that carries the learngene; everything else is fresh.

    Args:
        gene: not modified; its tensors are copied.
        arch: any timm architecture whose layers have the learngene's shapes; None for the ancestor's.
        num_classes: classes of the new task.
        seed: seeds the fresh layers only.
        kwargs: for timm, e.g. depth=4 or stages=(1, 2, 1, 1); without `arch` they are laid over the
            ancestor's own.
    Returns:
        A `Descendant` whose model maps (B, C, H, W) to (B, num_classes) logits.
    Raises:
        UserError: a layer that does not fit (names the layer and both shapes), unknown architecture.
    Source: arXiv 2305.02279, inheriting. There the positions are written by hand for each architecture.
    """
    expect(gene, Learngene, "gene", "Take what learngene.extract or Learngene.load gives.")
    if arch is None or arch == gene.arch:
        arch, kwargs = gene.arch, {**gene.arch_kwargs, **kwargs}
    model = models.create(arch, num_classes, seed=seed, **kwargs)
    every, state = _layers_of(model, arch, num_classes, kwargs), model.state_dict()
    source = assign(gene, [layer for layer in every if layer.role == "block"], state)
    for layer in gene.layers:
        if layer.role != "block":
            source |= _same_role(gene, layer, every, state)
    tensors, provenance = dict(state), []
    for slot in every:
        layer = source.get(slot.name)
        for i, name in enumerate(slot.tensors):
            if layer is not None:
                tensors[name] = gene.tensors[layer.tensors[i]].clone()
            origin = layer.name if layer else None
            provenance.append(Origin(name, slot.name, slot.role, origin, state[name].numel()))
    model.load_state_dict(tensors)
    return Descendant(model, gene.normalize, tuple(provenance))


def _layers_of(model: nn.Module, arch: str, num_classes: int, kwargs: dict) -> tuple[Layer, ...]:
    """The model's integral layers; worked out once for an architecture, since it takes a while."""
    try:
        text = json.dumps(kwargs, sort_keys=True)
    except TypeError:  # something that JSON cannot hold, such as a class
        return blocks.layers(model)
    return _known_layers(arch, num_classes, text)


@lru_cache(maxsize=64)
def _known_layers(arch: str, num_classes: int, kwargs: str) -> tuple[Layer, ...]:
    return tuple(blocks.layers(models.create(arch, num_classes, **json.loads(kwargs))))


def _same_role(
    gene: Learngene, layer: Layer, every: Sequence[Layer], state: dict[str, Tensor]
) -> dict[str, Layer]:
    """Pair the learngene's stem, position or norm with the descendant's."""
    slots = [slot for slot in every if slot.role == layer.role and slot.name == layer.name]
    slots = slots or [slot for slot in every if slot.role == layer.role]
    if not slots:
        raise UserError(f"The descendant has no {layer.role} to take {layer.name!r}.")
    if reason := _mismatch(gene, layer, slots[0], state):
        raise UserError(
            f"Layer {layer.name!r} of the learngene does not fit: {reason}. Use a descendant with the "
            f"same {layer.role}, or a learngene without it."
        )
    return {slots[0].name: layer}


# --- baselines: other learngenes for the same call ---------------------------------------------


Fits = Callable[
    [Sequence[str]], bool
]  # do these blocks of the ancestor fit the descendant together?


def _always(names: Sequence[str]) -> bool:
    return True


def room(ancestor: Ancestor, arch: str | None = None, **kwargs: Any) -> Fits:
    """What tells whether some blocks of the ancestor fit, in order, into a descendant (see `inherit`)."""
    if arch is None or arch == ancestor.card.arch:
        arch, kwargs = ancestor.card.arch, {**ancestor.card.arch_kwargs, **kwargs}
    with torch.device("meta"):  # shapes without numbers
        model = models.create(arch, 2, **kwargs)
    slots = [layer for layer in _layers_of(model, arch, 2, kwargs) if layer.role == "block"]
    card, every, state = ancestor.card, blocks.layers(ancestor.model), ancestor.model.state_dict()

    def fits(names: Sequence[str]) -> bool:
        layers = tuple(layer for layer in every if layer.name in names)
        depths = (0.0,) * len(layers)
        gene = Learngene(card.arch, card.arch_kwargs, layers, depths, state, card.normalize)
        try:
            assign(gene, slots, model.state_dict())
        except UserError:
            return False
        return True

    return fits


def _like(ancestor: Ancestor, gene: Learngene, names: Sequence[str], fits: Fits) -> Learngene:
    """As many blocks as the learngene has, the first of `names` that fit together."""
    taken: list[str] = []
    for name in names:
        if len(taken) < len(gene.names) and fits([*taken, name]):
            taken.append(name)
    return learngene.extract(ancestor, taken, travels=gene.travels)


def scratch(
    ancestor: Ancestor | None, gene: Learngene, seed: int = 0, fits: Fits = _always
) -> Learngene:
    """Nothing is inherited."""
    return replace(gene, layers=(), depths=(), tensors={}, travels=(), scores={})


def stem_only(
    ancestor: Ancestor, gene: Learngene, seed: int = 0, fits: Fits = _always
) -> Learngene:
    """Only what travels along with the learngene: the control for the blocks themselves."""
    return _like(ancestor, gene, (), fits)


def first_layers(
    ancestor: Ancestor, gene: Learngene, seed: int = 0, fits: Fits = _always
) -> Learngene:
    """The ancestor's first blocks that fit, as many as the learngene has."""
    return _like(ancestor, gene, blocks.block_names(ancestor.model), fits)


def last_layers(
    ancestor: Ancestor, gene: Learngene, seed: int = 0, fits: Fits = _always
) -> Learngene:
    """The ancestor's last blocks that fit, as many as the learngene has."""
    return _like(ancestor, gene, blocks.block_names(ancestor.model)[::-1], fits)


def random_layers(
    ancestor: Ancestor, gene: Learngene, seed: int = 0, fits: Fits = _always
) -> Learngene:
    """As many random blocks that fit as the learngene has; the seed draws them."""
    names = blocks.block_names(ancestor.model)
    rows = np.random.default_rng([seed, 11]).permutation(len(names))
    return _like(ancestor, gene, [names[i] for i in rows], fits)


def shuffled(ancestor: Ancestor, gene: Learngene, seed: int = 0, fits: Fits = _always) -> Learngene:
    """The learngene's own blocks with the entries of each tensor permuted: same values, no structure.

    Stem and position stay whole, so the difference to the learngene is the blocks' structure alone.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = dict(gene.tensors)
    for layer in gene.layers:
        if layer.role == "block":
            for name in layer.tensors:
                flat = tensors[name].flatten()
                order = torch.randperm(len(flat), generator=generator)
                tensors[name] = flat[order].reshape(tensors[name].shape)
    return replace(gene, tensors=tensors, scores={})


def everything(
    ancestor: Ancestor, gene: Learngene, seed: int = 0, fits: Fits = _always
) -> Learngene:
    """Full fine-tune: all of the ancestor but its head."""
    return learngene.extract(
        ancestor, blocks.block_names(ancestor.model), travels=("stem", "position", "norm")
    )


METHODS: dict[
    str, Callable[..., Learngene]
] = {  # (ancestor, gene, seed, fits) -> what is inherited
    "learngene": lambda ancestor, gene, seed=0, fits=_always: gene,
    "scratch": scratch,
    "full fine-tune": everything,
    "random layers": random_layers,
    "first layers": first_layers,
    "last layers": last_layers,
    "stem only": stem_only,
    "shuffled": shuffled,
}
CONTROLS = ("random layers", "first layers", "last layers")  # other blocks of the ancestor


def descend(
    method: str, ancestor: Ancestor, gene: Learngene, arch: str | None = None, *, num_classes: int,
    seed: int = 0, **kwargs: Any,
) -> Descendant:  # fmt: skip
    """Build a descendant by the learngene or by a baseline (a name in `METHODS`), in one call shape.

    A full fine-tune keeps the ancestor's own architecture; every other method uses the one given.
    """
    return born(
        method, source(method, ancestor, gene, seed, arch, **kwargs), arch, num_classes=num_classes, seed=seed,
        **kwargs,
    )  # fmt: skip


def source(
    method: str, ancestor: Ancestor, gene: Learngene, seed: int = 0, arch: str | None = None,
    **kwargs: Any,
) -> Learngene:  # fmt: skip
    """What a method (a name in `METHODS`) inherits; the seed draws the controls.

    Args:
        arch, kwargs: the descendant's, as for `inherit`. Controls take layers that fit it; where too few do,
            they take fewer than the learngene has.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    expect(ancestor, Ancestor, "ancestor", "Take what ancestry.accumulate gives, not its model.")
    expect(gene, Learngene, "gene", "Take what learngene.extract or Learngene.load gives.")
    fits = room(ancestor, arch, **kwargs) if method in CONTROLS else _always
    return METHODS[method](ancestor, gene, seed, fits)


def born(
    method: str, inherited: Learngene, arch: str | None = None, *, num_classes: int, seed: int = 0,
    **kwargs: Any,
) -> Descendant:  # fmt: skip
    """The descendant of a method from what it inherits (see `source`), which several may share."""
    if method == "full fine-tune":
        arch, kwargs = None, {}
    return inherit(inherited, arch, num_classes=num_classes, seed=seed, **kwargs)
