"""Adopting: a timm model that was trained elsewhere becomes the ancestry model."""

import inspect
import sys
from pathlib import Path

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import create_model, is_model_pretrained, load_state_dict, model_entrypoint
from torch import Tensor, nn

from lgutils import data, models, recipes
from lgutils.ancestry.model import Ancestor, AncestryCard, AncestryConfig
from lgutils.data import Normalize
from lgutils.errors import UserError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
FILTERS = ("checkpoint_filter_fn", "_filter_fn")  # what timm's modules call theirs
PROBED = 2  # outputs of the model that is built to look at its head


def adopt(config: AncestryConfig) -> Ancestor:
    """Make an ancestor of weights that exist already; nothing is trained or measured.

    Args:
        config: `weights` is "timm" (the weights of the tag in `arch`, or the architecture's first, from
            the hub or its local cache) or a file: .safetensors, or .pth, .pt, .bin as torch saves a
            state dict, alone or under "state_dict", "model" or their "_ema" forms. Never unpickled.
            `dataset` and `split_seed` say on what it will be condensed.
    Returns:
        An `Ancestor` in evaluation mode. It keeps its own head if there is one; else it gets a fresh one
        for the base classes of `dataset`, and the card says so. The card's classes are the outputs'
        numbers. Input is normalised by the model's own mean and deviation (ImageNet's if it tells none).
        Checkpoints of the original authors, and positional embeddings of another image size, are
        converted as timm does it.
    Raises:
        UserError: no such file or weights, no network, a tensor that is missing, foreign, or of another
            shape (the first is named), or a model that does not take the dataset's images, as far as
            the dataset's name tells their size.
    """
    probe = _probe(config)
    raw = _from_timm(config) if config.weights == "timm" else _from_file(Path(config.weights))
    tensors, heads = _converted(probe, config, raw), _heads(probe)
    learned = _outputs(probe, tensors, heads, config)
    count = len(data.split(config.dataset, config.split_seed).base) if learned is None else learned
    if not count:
        raise UserError(
            f"{_origin(config)} has no head, and {config.dataset!r} has no base classes to make one for. "
            "Choose a dataset that has."
        )
    model = models.create(config.arch, count, seed=config.seed, **config.arch_kwargs)
    wanted = model.state_dict()
    if learned is None:
        tensors |= {name: t for name, t in wanted.items() if _under(name, heads)}
    _check(tensors, wanted, config)
    model.load_state_dict(tensors)
    return Ancestor(model.eval(), _card(config, model, count, learned is None))


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


def _from_timm(config: AncestryConfig) -> dict[str, Tensor]:
    try:
        return create_model(config.arch, pretrained=True, **config.arch_kwargs).state_dict()
    except Exception as error:  # the hub, the network, the cache and timm each raise their own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"timm could not get the weights of {config.arch!r} ({type(error).__name__}: {reason}). "
            "Check the network, or give a local file as weights."
        ) from error


def _from_file(path: Path) -> dict[str, Tensor]:
    if path.suffix not in SUFFIXES or not path.is_file():
        raise UserError(
            f"Weights {str(path)!r} are neither 'timm' nor a file that ends in "
            f"{', '.join(SUFFIXES)}. Check the name."
        )
    try:
        tensors = load_state_dict(str(path), weights_only=True)
    except (
        Exception
    ) as error:  # safetensors and torch raise many kinds for a damaged or unsafe file
        raise UserError(
            f"{path.name} holds no weights that can be read without unpickling "
            f"({type(error).__name__}). Save the model's state dict."
        ) from error
    if strange := [k for k, t in tensors.items() if not isinstance(t, Tensor)]:
        raise UserError(f"{path.name} is no state dict: {strange[0]!r} is not a tensor.")
    return tensors


def _converted(model: nn.Module, config: AncestryConfig, raw: dict) -> dict[str, Tensor]:
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


def _under(name: str, heads: list[str]) -> bool:
    return name.startswith(tuple(f"{head}." for head in heads))


def _outputs(
    probe: nn.Module, tensors: dict[str, Tensor], heads: list[str], config: AncestryConfig
) -> int | None:
    """Outputs of the head that the tensors have; None if they have none.

    A head may be more than a linear layer (LeViT's has a norm, MetaFormer's two layers): the weight that
    counts is the one whose rows follow the number of classes.
    """
    present = [name for name in tensors if _under(name, heads)]
    if not present:
        return None
    last = next(
        name for name, t in probe.state_dict().items()
        if _under(name, heads) and t.ndim > 1 and len(t) == PROBED
    )  # fmt: skip
    if last not in tensors:
        raise UserError(
            f"{_origin(config)} has {present[0]!r} of a head, but not its weight {last!r}. Remove what is "
            "left of the head, or check architecture and arguments."
        )
    return len(tensors[last])


def _check(tensors: dict, wanted: dict, config: AncestryConfig) -> None:
    """Name the first tensor that is missing, foreign, or of another shape."""
    what = f"{_origin(config)} does not fit {config.arch!r}:"
    for name, tensor in wanted.items():
        if name not in tensors:
            raise UserError(f"{what} it lacks {name!r}. Check architecture and arguments.")
        here, there = tuple(tensors[name].shape), tuple(tensor.shape)
        if here != there:
            raise UserError(f"{what} {name!r} is {here}, expected is {there}.")
    if foreign := [name for name in tensors if name not in wanted]:
        raise UserError(
            f"{what} {foreign[0]!r} is foreign to it. Check architecture and arguments."
        )


def _card(config: AncestryConfig, model: nn.Module, count: int, fresh: bool) -> AncestryCard:
    told = getattr(model, "pretrained_cfg", None) or {}
    mean, std = told.get("mean", IMAGENET_DEFAULT_MEAN), told.get("std", IMAGENET_DEFAULT_STD)
    return AncestryCard.of(
        config,
        model,
        classes=tuple(map(str, range(count))),
        normalize=Normalize(tuple(mean), tuple(std)),
        images_seen=0,
        accuracy=None,
        seconds=0.0,
        device="elsewhere",
        origin=_origin(config),
        fresh_head=fresh,
    )
