"""Adopting: a timm model that was trained elsewhere becomes the ancestry model."""

import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import create_model, is_model_pretrained, list_models, model_entrypoint
from torch import Tensor, nn

from lgutils import data, files, models, recipes
from lgutils.ancestry.model import Ancestor, AncestryCard, AncestryConfig
from lgutils.ancestry.weights import Weights, completed, in_order
from lgutils.data import Normalize
from lgutils.errors import UserError

FILTERS = ("checkpoint_filter_fn", "_filter_fn")  # what timm's modules call theirs
PROBED = 2  # outputs of the model that is built to look at its head
# Parts of timm's names in which models with the same tensors differ: padding, activation, blurred strides,
# whose weights they were. Of timm's 1,371 models it finds every such twin that has weights but three.
SPELLINGS = re.compile(r"^tf_|_quickgelu|_jx$|(?<=^beit)v2|_?(?:aa|blur)(?=_|\d)|_pruned$")


def adopt(config: AncestryConfig) -> Ancestor:
    """Make an ancestor of weights that exist already; nothing is trained or measured.

    Args:
        config: `weights` is "timm" (the weights of the tag in `arch`, or the architecture's first, from
            the hub or its local cache) or a file, see `weights.Weights.read`. `match` "order" pairs its
            tensors with the model's by order, shapes and kinds, whatever their names, and lists the pairs
            on standard error.
            `dataset` and `split_seed` say on what it will be condensed.
    Returns:
        An `Ancestor` in evaluation mode. It keeps its own head if there is one; else it gets a fresh one
        for the base classes of `dataset`, and the card says so. The card's classes are the outputs'
        numbers. Input is normalised as the configuration says, else by mean and deviation of `config.json`
        beside the file, else the model's own (ImageNet's if it tells none); the card says whose.
        Checkpoints of the original authors, and positional embeddings of another image size, are
        converted as timm does it.
    Raises:
        UserError: no such file or weights, no network, a tensor that is missing, foreign, or of another
            shape (the first is named), or a model that does not take the dataset's images, as far as
            the dataset's name tells their size.
    """
    probe = _probe(config)
    wanted, heads = probe.state_dict(), _heads(probe)
    found = _from_timm(config) if config.weights == "timm" else _from_file(config)
    told: list[str] = []
    if config.match == "order" and found.tensors.keys() - wanted.keys():
        found = _renamed(found, wanted, heads, config)
        told.append(f"its {len(found.tensors)} tensors were matched by order, not by name")
    tensors, more = completed(_converted(probe, config, found.tensors), wanted)
    learned = _outputs(probe, tensors, heads, config)
    if learned is None and tensors.keys() - wanted.keys():
        _check(tensors, wanted, found, heads, config)  # perhaps a head by another name
    count = len(data.split(config.dataset, config.split_seed).base) if learned is None else learned
    if not count:
        raise UserError(
            f"{_origin(config)} has no head, and {config.dataset!r} has no base classes to make one for. "
            "Choose a dataset that has."
        )
    model = models.create(config.arch, count, seed=config.seed, **config.arch_kwargs)
    wanted = model.state_dict()
    if learned is None:
        tensors |= {name: t for name, t in wanted.items() if _under(heads, name)}
    _check(tensors, wanted, found, heads, config)
    model.load_state_dict(tensors)
    normalize, whose = _normalize(config, model, found, count)
    notes = (*told, *more, f"mean and deviation are {whose}", *_twins(config, probe, found))
    return Ancestor(model.eval(), _card(config, model, count, learned is None, normalize, notes))


def _origin(config: AncestryConfig) -> str:
    return f"{config.arch} of timm" if config.weights == "timm" else Path(config.weights).name


def _probe(config: AncestryConfig) -> nn.Module:
    """The model with random weights, before anything is fetched or read: does it suit?"""
    if config.weights == "timm" and not is_model_pretrained(config.arch):
        raise UserError(
            f"timm has no weights for {config.arch!r}. See timm.list_pretrained(), or give a local file."
        )
    models.check_kwargs(config.arch_kwargs)
    probe = models.create(config.arch, PROBED, **config.arch_kwargs)
    if side := recipes.side(config.dataset):
        models.check_input(probe, (3, side, side))
    return probe


def _from_timm(config: AncestryConfig) -> Weights:
    try:
        model = create_model(config.arch, pretrained=True, **config.arch_kwargs)
        return Weights(model.state_dict(), arch=config.arch, said="timm")
    except Exception as error:  # the hub, the network, the cache and timm each raise their own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"timm could not get the weights of {config.arch!r} ({type(error).__name__}: {reason}). "
            "Check the network, or give a local file as weights."
        ) from error


def _from_file(config: AncestryConfig) -> Weights:
    if not os.path.isfile(config.weights):
        raise UserError(
            f"Weights {config.weights!r} are neither 'timm' nor a file. Check the name."
        )
    return Weights.read(Path(config.weights))


def _renamed(
    found: Weights, wanted: Mapping[str, Tensor], heads: list[str], config: AncestryConfig
) -> Weights:
    """The tensors under the model's names; tells which module became which."""
    try:
        names = in_order(found, wanted, partial(_under, heads))
    except UserError as error:
        raise UserError(
            f"{_origin(config)} is not {config.arch!r} by other names: {error}."
        ) from error
    pairs = {old.rpartition(".")[0]: new.rpartition(".")[0] for old, new in names.items()}
    lines = "".join(f"  {old} -> {new}\n" for old, new in pairs.items())
    print(
        f"Matched by order, {_origin(config)} -> {config.arch}:\n{lines}", end="", file=sys.stderr
    )
    return replace(found, tensors={new: found.tensors[old] for old, new in names.items()})


def _converted(model: nn.Module, config: AncestryConfig, raw: Mapping) -> dict[str, Tensor]:
    """The tensors by timm's names and at this model's sizes, by timm's own filter for the family."""
    module = sys.modules[model_entrypoint(config.arch.split(".")[0]).__module__]
    convert = next((getattr(module, name) for name in FILTERS if hasattr(module, name)), None)
    try:
        if convert is None:
            return dict(raw)
        taken = len(inspect.signature(convert).parameters)  # VGG's and RegNet's want no model
        return dict(convert(*(dict(raw), model)[:taken]))
    except Exception as error:  # a filter trusts its input
        raise UserError(
            f"{_origin(config)} is not a checkpoint of {config.arch!r} ({type(error).__name__}: {error})."
        ) from error


def _heads(model: nn.Module) -> list[str]:
    """Names of the classifiers; a distilled model has two."""
    found = model.get_classifier()
    found = found if isinstance(found, tuple | list | nn.ModuleList) else (found,)
    return [name for name, m in model.named_modules() if any(m is f for f in found)]


def _under(heads: list[str], name: str) -> bool:
    return name.startswith(tuple(f"{head}." for head in heads))


def _outputs(
    probe: nn.Module, tensors: dict[str, Tensor], heads: list[str], config: AncestryConfig
) -> int | None:
    """Outputs of the head that the tensors have; None if they have none.

    A head may be more than a linear layer (LeViT's has a norm, MetaFormer's two layers): the weight that
    counts is the one whose rows follow the number of classes.
    """
    present = [name for name in tensors if _under(heads, name)]
    if not present:
        return None
    last = next(
        name for name, t in probe.state_dict().items()
        if _under(heads, name) and t.ndim > 1 and len(t) == PROBED
    )  # fmt: skip
    if last not in tensors:
        raise UserError(
            f"{_origin(config)} has {present[0]!r} of a head, but not its weight {last!r}. Remove what is "
            "left of the head, or check architecture and arguments."
        )
    shape = tuple(tensors[last].shape)
    if not shape or not shape[0]:
        raise UserError(f"{_origin(config)} has a head {last!r} of {shape}, so without outputs.")
    return shape[0]


def _check(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], found: Weights, heads: list[str],
    config: AncestryConfig,
) -> None:  # fmt: skip
    """Name the first tensor that is missing, foreign, of another shape, or no sound weight."""
    what, advice = f"{_origin(config)} does not fit {config.arch!r}:", _advice(found, wanted, heads)
    foreign = next((name for name in tensors if name not in wanted), None)
    for name, tensor in wanted.items():
        if name not in tensors:
            instead = f", and has {foreign!r} {tuple(tensors[foreign].shape)}" if foreign else ""
            raise UserError(f"{what} it lacks {name!r}{instead}. {advice}")
        here, there = tuple(tensors[name].shape), tuple(tensor.shape)
        if here != there:
            raise UserError(f"{what} {name!r} is {here}, expected is {there}.")
        given, kind = tensors[name].dtype, tensor.dtype
        if given.is_floating_point != kind.is_floating_point and not given.is_complex:
            raise UserError(f"{what} {name!r} holds {given}, expected is {kind}.")
    if foreign:
        raise UserError(f"{what} {foreign!r} is foreign to it. {advice}")
    if wrong := files.unsound(tensors):
        raise UserError(f"{_origin(config)} cannot be adopted: {wrong}.")


def _advice(found: Weights, wanted: Mapping[str, Tensor], heads: list[str]) -> str:
    try:
        in_order(found, wanted, partial(_under, heads))
    except UserError:
        return "Check architecture and arguments."
    return (
        "Its tensors fit by order, shape and kind: take them so with --match order (match='order')."
    )


def _normalize(
    config: AncestryConfig, model: nn.Module, found: Weights, count: int
) -> tuple[Normalize, str]:
    """Mean and deviation of the input, and whose they are."""
    own = getattr(model, "pretrained_cfg", None) or {}
    mean, std, whose = own.get("mean"), own.get("std"), f"timm's for {config.arch}"
    if not (mean and std):
        mean, std, whose = (
            IMAGENET_DEFAULT_MEAN,
            IMAGENET_DEFAULT_STD,
            "ImageNet's: nothing tells others",
        )
    if found.mean and found.std:
        mean, std, whose = found.mean, found.std, "those of config.json beside the weights"
        if found.classes not in (None, count):
            whose += f", which tells {found.classes} classes and so may belong to other weights"
    if config.normalize is not None:
        mean, std, whose = config.normalize.mean, config.normalize.std, "those that were given"
    channels = config.arch_kwargs.get("in_chans", 3)
    if not len(mean) == len(std) == channels:
        raise UserError(
            f"Mean and deviation ({whose}) are {len(mean)} and {len(std)} numbers, but the model's input has "
            f"{channels} channels. Give them: --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 (normalize=)."
        )
    return Normalize(tuple(mean), tuple(std)), whose


def _twins(config: AncestryConfig, probe: nn.Module, found: Weights) -> Iterator[str]:
    """Other architectures that the weights fit, though the predictions differ."""
    arch, known = config.arch.split(".")[0], found.arch.split(".")[0]
    if known == arch:
        return
    if known:
        yield f"{found.said} says that they are weights of {known}, not of {arch}: adopt them as that"
    plain, wanted = _plain(arch), probe.state_dict()
    for other in list_models():
        if other in (arch, known) or _plain(other) != plain:
            continue
        try:
            with torch.device("meta"):
                twin = models.create(other, PROBED, **config.arch_kwargs)
        except Exception:  # with these arguments it cannot be built: no twin
            continue
        state = twin.state_dict()
        if [(k, t.shape) for k, t in state.items()] == [(k, t.shape) for k, t in wanted.items()]:
            differ = [] if str(twin) == str(probe) else ["layers"]
            differ += ["mean or deviation"] if _inputs(twin) != _inputs(probe) else []
            if differ:
                yield (
                    f"the weights fit {other} too, which differs in {' and '.join(differ)}: take what "
                    "they were trained as"
                )


def _plain(arch: str) -> str:
    return SPELLINGS.sub("", re.sub("^deit_", "vit_", arch))


def _inputs(model: nn.Module) -> tuple:
    told = getattr(model, "pretrained_cfg", None) or {}
    return tuple(told.get("mean") or ()), tuple(told.get("std") or ())


def _card(
    config: AncestryConfig, model: nn.Module, count: int, fresh: bool, normalize: Normalize,
    notes: tuple[str, ...],
) -> AncestryCard:  # fmt: skip
    return AncestryCard.of(
        config,
        model,
        classes=tuple(map(str, range(count))),
        normalize=normalize,
        images_seen=0,
        accuracy=None,
        seconds=0.0,
        device="elsewhere",
        origin=_origin(config),
        fresh_head=fresh,
        notes=notes,
    )
