"""Integral layers of any timm classifier: their names, order, tensors, and taps on their outputs.

timm says which parameters belong together (`model.group_matcher`), the module tree says where a
unit with its own forward begins. `layers` puts both together: no family needs a table of its own.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import torch
from timm.layers import to_2tuple
from timm.models import group_parameters
from torch import Tensor, nn

from lgutils.checks import Names, Whole, checked
from lgutils.errors import UserError, unknown
from lgutils.models import check_module

ROLES = ("stem", "position", "block", "norm", "head")


@dataclass(frozen=True)
class Layer:
    """One integral layer: a unit that is inherited whole or not at all."""

    name: str  # module path, e.g. "blocks.3", "layer1.0"; or "stem", "position"
    role: str  # one of ROLES
    tensors: tuple[str, ...]  # state_dict keys (parameters and persistent buffers), in order
    num_params: Whole  # parameter scalars, buffers not counted
    tap: str | None  # module whose forward output is this layer's output; None if there is none


class _Tree:
    """The module tree of a model, and the timm groups that each module's parameters belong to."""

    def __init__(self, model: nn.Module):
        _check_classifier(model)
        self.model = model
        self.modules = dict(model.named_modules(remove_duplicate=False))
        first: dict[
            int, str
        ] = {}  # a tensor that is used twice has two names and belongs to the first
        state = model.state_dict(keep_vars=True)
        self.owners = {key: first.setdefault(id(tensor), key) for key, tensor in state.items()}
        self.filled = {name for key in self.owners.values() for name in _above(key)}
        if hasattr(model, "group_matcher"):
            matcher = model.group_matcher(coarse=False)
        else:  # a few models lack one: make each child of the root a group, the first is the stem
            ordinal = {name: i for i, name in enumerate(self.children(""))}

            def matcher(key: str) -> int:
                return ordinal.get(key.split(".")[0], 0)

        self.groups = defaultdict(set)  # module name -> numbers of its groups; 0 is the stem
        for key, group in group_parameters(model, matcher, reverse=True).items():
            for name in _above(key):
                self.groups[name].add(group)
        found = model.get_classifier()
        found = found if isinstance(found, tuple | list | nn.ModuleList) else (found,)
        self.classifiers = [n for n, m in self.modules.items() if any(m is f for f in found)]

    def children(self, name: str) -> list[str]:
        """Paths of the direct children that hold tensors."""
        paths = (f"{name}.{child}".lstrip(".") for child in self.modules[name]._modules)
        return [path for path in paths if path in self.filled]

    def is_norm(self, name: str) -> bool:
        children = self.children(name)
        leaf = "norm" in type(self.modules[name]).__name__.lower()
        return all(map(self.is_norm, children)) if children else leaf

    def is_container(self, name: str) -> bool:
        """Whether a module only holds integral layers, rather than being (part of) one."""
        children, module = self.children(name), self.modules[name]
        if self.groups[name] == {0} or not children or not name:
            return not name or (bool(children) and isinstance(module, nn.ModuleList))
        if len(self.groups[name]) > 1 or f"{name}.blocks" in children:
            return True
        if any(found.startswith(f"{name}.") for found in self.classifiers):
            return True
        if isinstance(module, nn.Sequential):  # one with a bare conv or norm in it is a layer
            return all(map(self.children, children))
        return isinstance(module, nn.ModuleList | nn.ModuleDict)


def _check_classifier(model: nn.Module) -> None:
    """Refuse what is no timm classifier, or one inside another module."""
    check_module(model)
    name = type(model).__name__
    if not hasattr(type(model), "get_classifier"):  # torch.compile passes on what an object has
        for inner in ("_orig_mod", "module"):  # of torch.compile and DataParallel
            if isinstance(model._modules.get(inner), nn.Module):
                raise UserError(f"The model is inside a {name}. Pass its .{inner}.")
        raise UserError(
            f"The model ({name}) has no get_classifier, by which timm's models tell their head. Pass a "
            "classifier of timm, such as models.create gives."
        )


def _above(key: str) -> list[str]:
    """Paths of all modules around a tensor, the root "" first."""
    parts = key.split(".")
    return [".".join(parts[:i]) for i in range(len(parts))]


def _walk(tree: _Tree, stages: set[type], name: str = "") -> Iterator[tuple[str, bool]]:
    """Containers (True) and the integral modules in them (False); `stages` are containers too."""
    stage = type(tree.modules[name]) in stages and tree.groups[name] != {0}
    container = tree.is_container(name) or (stage and bool(tree.children(name)))
    yield name, container
    for child in tree.children(name) if container else ():
        yield from _walk(tree, stages, child)


def _pieces(tree: _Tree) -> list[list[str]]:
    """Integral modules as registered; a conv and the norm right after it make one piece."""
    stages = {type(tree.modules[name]) for name, container in _walk(tree, set()) if container}
    # A stage that is one block deep is cut like a deeper one of the same class.
    stages -= {nn.Sequential, nn.ModuleList, nn.ModuleDict}
    pieces = [[""]]
    for name in (name for name, container in _walk(tree, stages) if not container):
        last = pieces[-1][-1]
        conv = any(kind in type(tree.modules[last]).__name__ for kind in ("Conv1d", "Conv2d"))
        if conv and tree.is_norm(name) and last.rpartition(".")[0] == name.rpartition(".")[0]:
            pieces[-1].append(name)
        else:
            pieces.append([name])
    return pieces[1:]


def _note(ranks: dict[str, int], name: str, *_) -> None:
    ranks.setdefault(name, len(ranks))


def _fired(model: nn.Module, names: Sequence[str]) -> dict[str, int]:
    """Order in which modules first return when a copy runs on the meta device: shapes, no numbers.

    Returns:
        Module name -> rank; empty if the model accepts none of the input sizes that it declares.
    """
    memo = {id(p): nn.Parameter(p.detach().to("meta"), False) for p in model.parameters()}
    memo |= {id(b): b.detach().to("meta") for b in model.buffers()}
    config = getattr(model, "pretrained_cfg", None) or {}
    channels, *size = config.get("input_size", (3, 224, 224))
    first = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), channels)
    declared = to_2tuple(getattr(getattr(model, "patch_embed", None), "img_size", None) or size)
    for shape in ((first, *declared), (first, *size), (channels, *size)):
        ranks: dict[str, int] = {}
        with suppress(Exception):  # models refuse a size with all kinds of errors
            twin = copy.deepcopy(model, dict(memo)).eval()
            for module in twin.modules():
                module._forward_hooks.clear()
                module._forward_pre_hooks.clear()
            for name in names:
                hook = partial(_note, ranks, name)
                twin.get_submodule(name).register_forward_hook(hook)
            with torch.no_grad():
                twin(torch.zeros(1, *shape, device="meta"))
            return ranks
    return {}


def _ordered(tree: _Tree) -> tuple[list[list[str]], set[str]]:
    """Pieces in execution order, or else in timm's order of groups; modules that never return."""
    pieces = sorted(_pieces(tree), key=lambda piece: min(tree.groups[piece[0]], default=0))
    fired = _fired(tree.model, [piece[0] for piece in pieces])
    ranks = [-1]
    for piece in pieces:  # one that never returns stays behind its neighbour
        ranks.append(fired.get(piece[0], ranks[-1]))
    order = sorted(range(len(pieces)), key=ranks[1:].__getitem__)
    return [pieces[i] for i in order], {p[0] for p in pieces if fired and p[0] not in fired}


def _roles(tree: _Tree, pieces: list[list[str]]) -> list[str]:
    """The role of each piece; `pieces` are in execution order."""
    heads = {name.split(".")[0] for name in tree.classifiers}
    tail = {group for name in tree.classifiers for group in tree.groups[name]}
    inner = [i for i, (m, *_) in enumerate(pieces) if "." in m and m.split(".")[0] not in heads]
    if inner:  # conv_head and the like: in the group of the classifier or of the last inner block
        tail = tree.groups[pieces[inner[-1]][0]] | {max(tree.groups[""])}
    roles = []
    for i, (first, *rest) in enumerate(pieces):
        groups = tree.groups[first]
        if not groups or (groups == {0} and first.split(".")[-1].startswith("pos_embed")):
            roles.append("position")
        elif groups == {0}:
            roles.append("stem")
        elif not rest and tree.is_norm(first):
            roles.append("norm")
        else:
            roles.append("head" if groups & tail and i > max(inner, default=-1) else "block")
    return roles


def _tap(tree: _Tree, name: str) -> str:
    """The last activation right behind a conv or norm; else the module itself."""
    parent = name.rpartition(".")[0]
    siblings = [f"{parent}.{child}".lstrip(".") for child in tree.modules[parent]._modules]
    for after in siblings[siblings.index(name) + 1 :] if not tree.children(name) else ():
        if after in tree.filled or "activation" not in type(tree.modules.get(after)).__module__:
            break
        name = after
    return name


def layers(model: nn.Module) -> tuple[Layer, ...]:
    """Split a timm classifier into its integral layers; every `state_dict` key is in one of them.

    "stem" is what timm groups as the stem; "position" holds the tensors that belong to no unit
    (class token, positional embedding). Tensors that the model uses twice stand under all their names in
    the layer of the first use, and their parameters are counted once. The model is not modified.

    Returns:
        Stem, position, then the rest in execution order: blocks, norm, head. Norms stand between
        blocks only in models with one behind each stage (PVT).
    """
    tree = _Tree(model)
    pieces, silent = _ordered(tree)
    roles, taps, home = {"stem": "stem", "position": "position"}, {}, {}
    for role, piece in zip(_roles(tree, pieces), pieces, strict=True):
        name = role if role in ("stem", "position") else piece[0]
        roles[name] = role
        home |= dict.fromkeys(piece, name)
        taps[name] = None if role == "position" or piece[0] in silent else _tap(tree, piece[-1])
    tensors = {name: [] for name in roles}
    for key, owner in tree.owners.items():
        tensors[next((home[m] for m in _above(owner) if m in home), "position")].append(key)
    size = {key: p.numel() for key, p in model.named_parameters()}
    return tuple(
        Layer(name, roles[name], tuple(keys), sum(size.get(k, 0) for k in keys), taps.get(name))
        for name, keys in tensors.items()
        if keys
    )


def block_names(model: nn.Module) -> list[str]:
    """Names of a model's integral layers with role "block", in order."""
    return [layer.name for layer in layers(model) if layer.role == "block"]


def find(layers: Iterable[Layer], name: str) -> Layer:
    """Look a layer up by name; a `UserError` lists the nearest names if there is none."""
    named = {layer.name: layer for layer in layers}
    if name not in named:
        raise unknown("layer", name, named)
    return named[name]


@contextmanager
def tapped(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the named layers while the model runs.

    Returns:
        Context with a dict, layer name -> output of the latest forward pass, filled in execution
        order. Outputs keep the model's own format (see `as_maps`) and stay in the graph.
    Raises:
        UserError: unknown layer, or one without an output.
    """
    names = checked("names", list(names) if not isinstance(names, str) else names, Names)
    every, outputs, hooks = layers(model), {}, []
    try:
        for layer in [find(every, name) for name in names]:
            if layer.tap is None:
                raise UserError(f"Layer {layer.name!r} has no output to tap. Leave it out.")
            hook = partial(lambda name, *call: outputs.__setitem__(name, call[-1]), layer.name)
            hooks.append(model.get_submodule(layer.tap).register_forward_hook(hook))
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def as_maps(feature: Tensor, model: nn.Module) -> Tensor:
    """Turn a layer's native output into feature maps.

    Args:
        feature: (B, C, H, W), or (B, H, W, C) if `model.output_fmt` is NHWC; tokens (B, N, C),
            with or without the model's prefix tokens; vectors (B, C).
    Returns:
        (B, C, H, W). Tokens fill the patch grid, else a square, else (B, C, N, 1).
    """
    if not isinstance(feature, Tensor) or feature.ndim not in (2, 3, 4):
        found = tuple(feature.shape) if isinstance(feature, Tensor) else type(feature).__name__
        raise UserError(f"Expected a feature with 2 to 4 dimensions, found {found}.")
    if feature.ndim == 4:
        nhwc = "NHWC" in str(getattr(model, "output_fmt", "NCHW"))
        return feature.permute(0, 3, 1, 2) if nhwc else feature
    if feature.ndim == 2:
        return feature[:, :, None, None]
    tokens, prefix = feature.shape[1], getattr(model, "num_prefix_tokens", 0)
    counts = [tokens - prefix, tokens] if tokens > prefix else [tokens]
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    shapes = [tuple(grid)] if grid else []
    shapes += [(math.isqrt(count), math.isqrt(count)) for count in counts] + [(counts[0], 1)]
    height, width = next(shape for shape in shapes if math.prod(shape) in counts)
    return feature[:, tokens - height * width :].transpose(1, 2).unflatten(2, (height, width))


def layer_state(model: nn.Module, layer: Layer) -> dict[str, Tensor]:
    """Detached copies of a layer's tensors, by `state_dict` key."""
    state = model.state_dict()
    return {key: state[key].detach().clone() for key in layer.tensors}
