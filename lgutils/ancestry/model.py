"""Accumulating: the ancestry model learns the base classes, and its card says what it knows."""

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

import lgutils
from lgutils import data, files, models, reading, recipes, train
from lgutils.checks import Finite, Kwargs, NotNegative, Seed, Share, Whole, typed
from lgutils.data import Normalize
from lgutils.errors import UserError, unknown
from lgutils.train import FitConfig, Score

MATCHES = ("names", "order")
LATER = {"weights": "", "match": "names", "normalize": None}  # not in old keys


@dataclass(frozen=True)
class AncestryConfig:
    """Which ancestry model to train, on what.

    Attributes:
        family: a name for the preset, see `recipes.find`; "custom" for an architecture of your own.
        arch: any timm architecture; with `weights` also with a tag, e.g. "vit_small_patch16_224.dino".
        arch_kwargs: arguments for timm.
        dataset, size, split_seed: see `data.load` and `data.split`; the base classes are used.
        fit: how to train.
        seed: seeds the initial weights.
        weights: "" to train; "timm" for the weights that timm knows; else a local file (see `adopt`),
            which the key knows by its name only.
        match: how the tensors of a file find their places: by "names", or by "order", see `adopt`.
        normalize: of an adopted model's input; None for what the weights were trained with, as far as it
            is known.
    Raises:
        UserError: an unknown `match`; `match` or `normalize` without `weights`.
    """

    family: str
    arch: str
    arch_kwargs: Kwargs = field(default_factory=dict)
    dataset: str = "glyphs"
    size: str = "quick"
    split_seed: Seed = 0
    fit: FitConfig = FitConfig()
    seed: Seed = 0
    weights: str = ""
    match: str = "names"
    normalize: Normalize | None = None

    def __post_init__(self):
        typed(self)
        if self.match not in MATCHES:
            raise unknown("way to match", self.match, MATCHES)
        if not self.weights and (self.match != "names" or self.normalize is not None):
            raise UserError(
                "match and normalize belong to weights that exist. Leave them out, or give weights."
            )

    @property
    def key(self) -> str:
        """Hex digest of everything that decides the weights."""
        fields = {**asdict(self), "fit": replace(self.fit, log_every=1).told()}
        for name, default in LATER.items():
            if fields[name] == default:
                del fields[name]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def preset(
        cls,
        family: str,
        scale_name: str | None = None,
        *,
        seed: int = 0,
        dataset: str | None = None,
    ) -> "AncestryConfig":
        """The ancestry model of a family at a scale, as `recipes.find` has it.

        Args:
            dataset: what to learn instead of the recipe's.
        Raises:
            UserError: unknown family or scale, or "custom", whose architecture only you know.
        """
        recipe = recipes.find(family, scale_name, dataset)
        if recipe.ancestor is None:
            raise UserError(
                f"Family {family!r} names no architecture. Use `lgutils accumulate --arch`, or AncestryConfig.custom('convnext_tiny', "
                "weights='timm') or the like."
            )
        return cls(
            family, recipe.ancestor.arch, dict(recipe.ancestor.kwargs), dataset=recipe.dataset,
            size=recipe.size, fit=replace(recipe.fit, seed=seed), seed=seed, weights=recipe.weights,
        )  # fmt: skip

    @classmethod
    def custom(
        cls, arch: str, arch_kwargs: dict[str, Any] | None = None, *, weights: Path | str = "",
        dataset: str | None = None, scale_name: str | None = None, seed: int = 0, **adopting: Any,
    ) -> "AncestryConfig":  # fmt: skip
        """Any timm model as the ancestor: adopted with `weights`, else trained as the course's CNN is.

        Args:
            arch, arch_kwargs, weights: see the class.
            adopting: `match` and `normalize`, see the class.
            dataset: what it learns, or what its learngene is condensed on; None for glyphs.
        """
        models.check_kwargs(arch_kwargs or {})
        recipe = recipes.find("custom", scale_name, dataset)
        return cls(
            "custom", arch, arch_kwargs or {}, dataset=recipe.dataset, size=recipe.size,
            fit=replace(recipe.fit, seed=seed), seed=seed, **adopting,
            weights=str(weights) if isinstance(weights, Path) else weights,
        )  # fmt: skip


@dataclass(frozen=True)
class AncestryCard:
    """What an ancestry model is and what it knows; travels in its file.

    Attributes:
        classes: names of the base classes, in the order of the head's outputs; of an adopted model the
            outputs' numbers.
        images_seen: training images times epochs; 0 of an adopted model.
        accuracy: on held-out images of the base classes, after the last epoch; None if not measured here.
        seconds: wall time of training, on `device`.
        weight_hash: SHA-256 of all weights (`train.weight_hash`).
        origin: where adopted weights are from; empty for those trained here.
        fresh_head: the head is random, since the adopted weights have none.
        images_key: `data.checksum` of the training images; empty where it was not taken.
        arithmetic: what it was trained in, such as "bfloat16, channels last"; empty where it is not known.
        notes: what is worth knowing about adopted weights: whose normalisation, twins, what was filled in.
    """

    family: str
    arch: str
    arch_kwargs: dict[str, Any]
    dataset: str
    size: str
    split_seed: int
    classes: Annotated[tuple[str, ...], Meta(min_length=1)]
    normalize: Normalize
    images_seen: Whole
    accuracy: Score | None
    seconds: NotNegative
    device: str
    versions: dict[str, str]
    weight_hash: str
    config_key: str
    seed: int
    origin: str = ""
    fresh_head: bool = False
    images_key: str = ""
    arithmetic: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = {"architecture": f"{self.arch} {self.arch_kwargs or ''}".strip()}
        if self.origin:
            head = "fresh head, random" if self.fresh_head else "head of its own"
            lines |= {
                "adopted from": self.origin,
                "knows": f"what it learned elsewhere; {head}: {len(self.classes)} outputs",
                "for": f"the split of {self.dataset}",
                "input": f"mean {_few(self.normalize.mean)}, deviation {_few(self.normalize.std)}",
                "held-out accuracy": "not measured here",
                "beware": "it may have seen the open-world and novel classes where it learned",
            }
        else:
            lines |= {
                "knows": f"{len(self.classes)} classes of {self.dataset}: {' '.join(self.classes)}",
                "images seen": f"{self.images_seen:,}",
                "held-out accuracy": str(self.accuracy or "not measured here"),
                "trained in": f"{self.seconds:.0f} s on {self.device}"
                + (f", in {self.arithmetic}" if self.arithmetic else ""),
            }
        lines["weights"] = self.weight_hash[:16]
        told = [*lines.items(), *(("note", note) for note in self.notes)]
        return "\n".join(f"{name:>18}: {text}" for name, text in told)

    @classmethod
    def of(cls, config: AncestryConfig, model: nn.Module, **told: Any) -> "AncestryCard":
        """The card of a model: what its configuration says, the digest of its weights, and what is told."""
        names = ("family", "arch", "arch_kwargs", "dataset", "size", "split_seed", "seed")
        known = {name: getattr(config, name) for name in names}
        known |= {"versions": versions(), "weight_hash": train.weight_hash(model)}
        return cls(**{**known, "config_key": config.key, **told})


def _few(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.4g}" for number in numbers)


@dataclass(frozen=True)
class Ancestor:
    """An ancestry model with its card. Nothing in this package edits the model."""

    model: nn.Module
    card: AncestryCard
    losses: tuple[float, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()

    def open_world(
        self, dataset: str | None = None, *, progress: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What it is condensed on: training images of its split's open-world classes.

        Args:
            dataset: another dataset whose open-world classes to take, at this ancestor's size of images
                unless its name tells a size.
        Returns:
            (images uint8 (N, C, H, W), labels int64 (N,)), of its own dataset and size; pictures on disk are
            decoded into memory, since every criterion draws from them again and again.
        Raises:
            UserError: the dataset has no open-world classes.
        """
        dataset = self.card.dataset if dataset is None else self.sized(dataset)
        classes = data.split(dataset, self.card.split_seed).open_world
        if not classes:
            raise UserError(
                f"{dataset!r} has no open-world classes to condense on. Take those of another dataset: "
                "--open-world glyphs (open_world('glyphs'))."
            )
        images = data.load(dataset, self.card.size, progress=progress)
        found, labels = images.of(classes, held_out=False)
        return data.decoded(found), labels

    def sized(self, dataset: str) -> str:
        """A dataset's name with this ancestor's size of images, unless it tells one: ``glyphs@64``."""
        wanted, own = data.Dataset.parse(dataset), self.card.dataset
        if wanted.pixels or own == dataset:
            return dataset
        side = recipes.side(own) or data.load(own, self.card.size).images.shape[-1]
        return dataset if side == recipes.side(dataset) else str(replace(wanted, pixels=side))

    def save(self, path: Path | str) -> Path:
        """Write weights, card and learning curve to one safetensors file."""
        meta = {"card": asdict(self.card), "losses": self.losses, "curve": self.curve}
        return files.save_tensors(path, "ancestor", self.model.state_dict(), meta)

    @classmethod
    def load(cls, path: Path | str) -> "Ancestor":
        """Read an ancestor file; the weights are checked against the card's hash.

        Raises:
            UserError: damaged or foreign file, a card of another shape, weights that are not its own.
        """
        tensors, meta = files.load_tensors(path, "ancestor")
        told = reading.checked(meta, _Stored, path)
        card = told.card
        model = models.filled(card.arch, len(card.classes), card.arch_kwargs, tensors, path)
        if train.weight_hash(model) != card.weight_hash:
            raise UserError(f"{path}: the weights are not those of its card. Make it again.")
        return cls(model.eval(), card, told.losses, told.curve)


class _Stored(msgspec.Struct):
    """What an ancestor's file holds besides the weights."""

    card: AncestryCard
    losses: tuple[Finite, ...]
    curve: tuple[tuple[Whole, Share], ...]


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    import timm

    return {
        "lgutils": lgutils.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


def device_title(where: torch.device) -> str:
    """A device's name for people, e.g. "2 CPU threads"."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'s' * (threads > 1)}"


def shipped_path(family: str) -> Path:
    """Where the quick ancestor of a family stands inside the package."""
    return Path(str(resources.files("lgutils") / "assets" / f"ancestor-{family}.safetensors"))
