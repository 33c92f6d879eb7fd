"""The learngene: the few integral layers that are kept, chosen from scores, and their file.

This is the step that the reference code lacks: there the layers are written into the program.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from scipy.stats import kendalltau
from torch import Tensor

import lgutils
from lgutils import blocks, files, models, reading
from lgutils.ancestry import Ancestor, AncestryCard, shipped_path
from lgutils.blocks import Layer
from lgutils.checks import Name, Names, Share, Whole, checked, expect, once, plain
from lgutils.condense.criteria import Scores
from lgutils.data import Normalize
from lgutils.errors import UserError

Roles = Annotated[tuple[str, ...], Meta(description="must be a tuple of roles, such as ('stem',)")]
TRAVEL = ("stem", "position")  # roles that go with the chosen blocks unless told otherwise


@dataclass(frozen=True)
class Learngene:
    """Layers condensed out of an ancestry model.

    Attributes:
        arch, arch_kwargs: the ancestor's architecture.
        layers: the inheritable layers in network order (stem and position first, if they travel).
        depths: relative position of each layer among the ancestor's blocks, 0 (first) to 1 (last).
        tensors: float tensors by their name in the ancestor.
        normalize: the input normalisation the layers grew up with.
        travels: the roles besides "block" that travel along.
        card: the ancestor's card as plain values; empty for a learngene of unknown origin.
        scores: how the layers were chosen (method, mean, spread, layers, matrix; open_world where it was
            another dataset than the ancestor's), plain values.
    """

    arch: str
    arch_kwargs: dict[str, Any]
    layers: tuple[Layer, ...]
    depths: tuple[float, ...]
    tensors: Mapping[str, Tensor]
    normalize: Normalize
    travels: tuple[str, ...] = TRAVEL
    card: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the chosen blocks, in network order."""
        return tuple(layer.name for layer in self.layers if layer.role == "block")

    @property
    def num_params(self) -> int:
        """Parameters in all layers, stem and position included."""
        return sum(layer.num_params for layer in self.layers)

    def save(self, path: Path | str) -> Path:
        """Write the learngene as safetensors with JSON metadata, atomically."""
        meta = {
            "arch": self.arch,
            "arch_kwargs": self.arch_kwargs,
            "layers": [asdict(layer) for layer in self.layers],
            "depths": self.depths,
            "normalize": asdict(self.normalize),
            "travels": self.travels,
            "card": self.card,
            "scores": self.scores,
            "lgutils": lgutils.__version__,
        }
        return files.save_tensors(path, "learngene", dict(self.tensors), meta)

    @classmethod
    def load(cls, path: Path | str) -> "Learngene":
        """Read a learngene file and check that it is whole.

        Raises:
            UserError: damaged or foreign file, or a layer whose tensors are not there.
        """
        tensors, meta = files.load_tensors(path, "learngene")
        told = reading.checked(meta, _Stored, path)
        models.check_kwargs(told.arch_kwargs)
        if told.card:
            reading.checked(told.card, AncestryCard, f"The card in {path}")
        if told.scores:
            reading.checked(told.scores, _Summary, f"What {path} tells of its scores")
        fields = {name: getattr(told, name) for name in told.__struct_fields__}
        gene = cls(tensors=tensors, **fields)
        if wrong := _unsound(gene):
            raise UserError(f"{path} {wrong}. Make it again.")
        return gene

    def __str__(self) -> str:
        knows = f", which knows {len(self.card['classes'])} classes" if self.card else ""
        lines = [f"learngene from {self.arch}{knows}: {self.num_params:,} parameters"]
        for layer in self.layers:
            score = ""
            if layer.name in self.scores.get("layers", ()):
                i = self.scores["layers"].index(layer.name)
                score = f"  score {self.scores['mean'][i]:.3f}"
            lines.append(f"  {layer.role:>8}  {layer.name:<20} {layer.num_params:>10,}{score}")
        if self.scores:
            world = f" on {self.scores['open_world']}" if "open_world" in self.scores else ""
            lines.append(
                f"chosen by {self.scores['method']}{world} over {self.scores['seeds']} seed(s)"
            )
        return "\n".join(lines)


def _unsound(gene: Learngene) -> str:
    """Why layers and tensors do not belong together; "" if they do."""
    if len(gene.depths) != len(gene.layers):
        return f"has {len(gene.depths)} depths of {len(gene.layers)} layers"
    seen: set[str] = set()
    for layer in gene.layers:
        if layer.role not in blocks.ROLES:
            return f"has a layer {layer.name!r} of the role {layer.role!r}, which none has"
        for name in (f"the layer {layer.name}", *layer.tensors):
            if name in seen:
                return f"names {name!r} twice"
            seen.add(name)
        if missing := [name for name in layer.tensors if name not in gene.tensors]:
            return f"lacks {missing[0]!r} of layer {layer.name!r}"
        if layer.num_params > sum(gene.tensors[name].numel() for name in layer.tensors):
            return f"counts {layer.num_params} parameters in {layer.name!r}, more than are there"
    return ""


class _Stored(msgspec.Struct):
    """What a learngene's file holds besides the tensors."""

    arch: Name
    arch_kwargs: dict[str, Any]
    layers: tuple[Layer, ...]
    depths: tuple[Share, ...]
    normalize: Normalize
    travels: tuple[Literal["stem", "position", "norm"], ...]
    card: dict[str, Any]
    scores: dict[str, Any]


class _Scores(msgspec.Struct, kw_only=True):
    """Scores as files hold them; NaN stands for a layer that was not compared."""

    method: str
    layers: Annotated[tuple[str, ...], Meta(min_length=1)]
    runs: Annotated[tuple[tuple[float, ...], ...], Meta(min_length=1)]
    matrix: tuple[tuple[float, ...], ...] | None = None
    slots: tuple[str, ...] = ()

    def __post_init__(self):
        if len(set(self.layers)) != len(self.layers):
            raise ValueError("a layer stands twice among the scores")
        if {len(run) for run in self.runs} != {len(self.layers)}:
            raise ValueError(f"a run does not score the {len(self.layers)} layers")
        if self.matrix is not None and [len(line) for line in self.matrix] != (
            [len(self.slots)] * len(self.layers)
        ):
            raise ValueError(
                f"the matrix is not one of {len(self.layers)} layers and {len(self.slots)} slots"
            )
        if any(math.isinf(v) for line in (*self.runs, *(self.matrix or ())) for v in line):
            raise ValueError("a score is infinite")


class _Summary(_Scores, kw_only=True):
    """The scores that a learngene keeps of its choice."""

    mean: tuple[float, ...]
    seeds: Whole

    def __post_init__(self):
        super().__post_init__()
        if len(self.mean) != len(self.layers) or self.seeds != len(self.runs):
            raise ValueError("mean or seeds do not fit the runs")


def save_scores(scores: Scores, path: Path | str, **about: Any) -> Path:
    """Write scores as JSON, with anything else worth knowing about how they were made."""
    fields = {
        "method": scores.method,
        "layers": list(scores.layers),
        "runs": scores.runs.round(4).tolist(),
        "matrix": None if scores.matrix is None else scores.matrix.round(4).tolist(),
        "slots": list(scores.slots),
    }
    text = json.dumps({"scores": fields, **about}, ensure_ascii=False)
    return files.write_text(path, text + "\n")


def load_scores(path: Path | str) -> tuple[Scores, dict[str, Any]]:
    """Read scores and what was said about them.

    Raises:
        UserError: missing or foreign file, or scores that do not fit their layers.
    """
    about = reading.json_file(path, dict[str, Any])
    told = reading.checked(about.pop("scores", None), _Scores, path)
    matrix = None if told.matrix is None else np.array(told.matrix)
    scores = Scores(told.method, told.layers, np.array(told.runs), matrix, told.slots)
    return scores, about


def shipped_scores(family: str) -> tuple[Scores, dict[str, Any]]:
    """The lambda scores of the shipped ancestor of a family, over several seeds; made by `ship`."""
    return load_scores(shipped_path(family).with_name(f"scores-{family}.json"))


def choose(scores: Scores, sizes: Sequence[int], budget: int | float) -> tuple[str, ...]:
    """Choose layers: the highest scores within a budget, returned in network order.

    Args:
        scores: of the ancestor's blocks.
        sizes: parameters of each of these blocks.
        budget: a number of layers (int), or a share of all the blocks' parameters (float in (0, 1]);
            with a share, layers are taken by score as long as they fit.
    Raises:
        UserError: sizes of other layers, or a budget that is neither, or that no layer fits into.
    """
    expect(scores, Scores, "scores", "Take what condense.score gives.")
    budget = plain(budget)
    if type(budget) not in (int, float):
        raise UserError(
            f"The budget {budget!r} was given; a number of layers such as 3, or a share of the parameters such "
            "as 0.25, is expected."
        )
    if len(sizes) != len(scores.layers):
        raise UserError(f"{len(sizes)} sizes were given for scores of {len(scores.layers)} layers.")
    compared = np.flatnonzero(np.isfinite(scores.mean))
    order = compared[np.argsort(-scores.mean[compared], kind="stable")]
    if isinstance(budget, int):
        if not 1 <= budget <= len(order):
            raise UserError(
                f"A budget of {budget} layers was given; 1 to {len(order)} are there to choose from."
            )
        taken = order[:budget].tolist()
    else:
        if not 0 < budget <= 1:
            raise UserError(f"A budget of {budget} was given; a share lies between 0 and 1.")
        taken, left = [], budget * sum(sizes)
        for i in order.tolist():
            if sizes[i] <= left:
                taken.append(i)
                left -= sizes[i]
        if not taken:
            raise UserError(
                f"No layer fits into {budget:.1%} of the parameters; the smallest takes "
                f"{min(sizes) / sum(sizes):.1%}. Raise the budget."
            )
    return tuple(scores.layers[i] for i in sorted(taken))


def agreement(scores: Scores, k: int) -> dict[str, float]:
    """Do the seeds agree on the ranking?

    Args:
        k: size of the top set compared.
    Returns:
        "kendall tau": mean over pairs of seeds, -1 to 1; "jaccard": mean overlap of the top k, 0 to 1.
        NaN for a single seed.
    """
    k = checked("k", k, int)
    if not 1 <= k <= len(scores.layers):
        raise UserError(f"A top set of {k} layers was given; 1 to {len(scores.layers)} are there.")
    pairs = list(combinations(scores.runs, 2))
    if not pairs:
        return {"kendall tau": float("nan"), "jaccard": float("nan")}
    tops = [(set(np.argsort(-a)[:k]), set(np.argsort(-b)[:k])) for a, b in pairs]
    return {
        "kendall tau": float(np.mean([kendalltau(a, b).statistic for a, b in pairs])),
        "jaccard": float(np.mean([len(a & b) / len(a | b) for a, b in tops])),
    }


def extract(
    ancestor: Ancestor,
    names: Sequence[str],
    *,
    travels: Sequence[str] = TRAVEL,
    scores: Scores | None = None,
) -> Learngene:
    """Copy layers out of an ancestry model.

    Args:
        ancestor: not modified.
        names: blocks of the ancestor, by name, in any order; () for what travels alone.
        travels: other roles that come along: "stem", "position", "norm". Blocks without the stem they
            grew up with were worth nothing in our trials, so stem and position are on by default.
        scores: kept in the learngene as its provenance.
    Raises:
        UserError: unknown layer name (with the nearest ones), one that is given twice, or
            a role that cannot travel.
    """
    expect(ancestor, Ancestor, "ancestor", "Take what ancestry.accumulate gives, not its model.")
    names, travels = checked("names", names, Names), checked("travels", travels, Roles)
    once("names", names)
    every = blocks.layers(ancestor.model)
    found = [blocks.find(every, name) for name in names]
    if heads := [layer.name for layer in found if layer.role == "head"]:
        raise UserError(
            f"{heads[0]!r} is the head, which belongs to the old classes. Leave it out."
        )
    wanted = {layer.name for layer in found}
    if bad := set(travels) - {"stem", "position", "norm"}:
        raise UserError(
            f"Role {min(bad)!r} cannot travel. Choose from 'stem', 'position', 'norm'; blocks are "
            "named one by one, and the head belongs to the old classes."
        )
    candidates = [layer for layer in every if layer.role == "block"]
    place = {layer.name: i / max(len(candidates) - 1, 1) for i, layer in enumerate(candidates)}
    kept = [layer for layer in every if layer.name in wanted or layer.role in travels]
    tensors = {}
    for layer in kept:
        tensors |= blocks.layer_state(ancestor.model, layer)
    summary = {}
    if scores is not None:
        summary = {
            "method": scores.method,
            "layers": list(scores.layers),
            "mean": scores.mean.tolist(),
            "runs": scores.runs.tolist(),
            "seeds": len(scores.runs),
        }
        if scores.matrix is not None:
            summary |= {"matrix": scores.matrix.tolist(), "slots": list(scores.slots)}
    return Learngene(
        ancestor.card.arch,
        ancestor.card.arch_kwargs,
        tuple(kept),
        tuple(place.get(layer.name, 1.0 if layer.role == "norm" else 0.0) for layer in kept),
        tensors,
        ancestor.card.normalize,
        tuple(travels),
        asdict(ancestor.card),
        summary,
    )


def condense_to(ancestor: Ancestor, scores: Scores, budget: int | float, **options) -> Learngene:
    """Choose by score within a budget, then extract: scores -> learngene in one call."""
    expect(ancestor, Ancestor, "ancestor", "Take what ancestry.accumulate gives, not its model.")
    expect(scores, Scores, "scores", "Take what condense.score gives.")
    sizes = {layer.name: layer.num_params for layer in blocks.layers(ancestor.model)}
    if strange := [name for name in scores.layers if name not in sizes]:
        raise UserError(
            f"The scores are about other layers ({strange[0]!r} is not in {ancestor.card.arch}). "
            "Use scores of this ancestor."
        )
    names = choose(scores, [sizes[name] for name in scores.layers], budget)
    return extract(ancestor, names, scores=scores, **options)
