"""Labelled images, the roles of their classes, and how bytes become the model's input."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from lgutils import files
from lgutils.checks import Finite, Positive, once, plain, typed
from lgutils.data.entry import check_counts, check_images, check_labels
from lgutils.data.pictures import Pictures, decoded
from lgutils.errors import UserError


@dataclass(frozen=True)
class ImageSet:
    """Labelled images, each marked as training or held out.

    Attributes:
        name: the dataset's name.
        images: (N, C, H, W) uint8, on the CPU; `Pictures` if they are too many for memory.
        labels: (N,) int64, positions in `classes`.
        classes: class names.
        held_out: (N,) bool; held-out images are never trained on.
        skipped: files that were left out, since they cannot be read.

    Raises:
        UserError: images, labels or marks of another type, number or range.
    """

    name: str
    images: Tensor | Pictures
    labels: Tensor
    classes: tuple[str, ...]
    held_out: Tensor
    skipped: tuple[str, ...] = ()

    def __post_init__(self):
        check_images(self.images)
        check_labels(self.labels, len(self.classes))
        check_counts(self.images, self.labels)
        marks = self.held_out
        if not isinstance(marks, Tensor) or (marks.dtype, len(marks)) != (
            torch.bool,
            len(self.labels),
        ):
            raise UserError(
                f"held_out must be a bool tensor with one mark for each of {len(self.labels)} images."
            )

    def check_classes(self, classes: Sequence[int]) -> None:
        """Refuse class ids that are not there, or that stand there twice."""
        classes = plain(classes)
        if isinstance(classes, str) or not isinstance(classes, Sequence):
            raise UserError(
                f"classes {classes!r} were given; class ids are expected, such as (0, 3)."
            )
        here = range(len(self.classes))
        if bad := [c for c in classes if type(c) is not int or c not in here]:
            raise UserError(
                f"{self.name} has no class {bad[0]!r}: its classes are 0 to {here[-1]}."
            )
        once("The class", classes)

    def of(self, classes: tuple[int, ...], *, held_out: bool) -> tuple[Tensor | Pictures, Tensor]:
        """Images of some classes, relabelled 0..len(classes)-1 in the order given.

        Raises:
            UserError: a class that is not there, or stands there twice.
        """
        self.check_classes(classes)
        lookup = torch.full((len(self.classes),), -1)
        lookup[list(classes)] = torch.arange(len(classes))
        labels = lookup[self.labels]
        rows = (labels >= 0) & (self.held_out == held_out)
        return self.images[rows], labels[rows]


@dataclass(frozen=True)
class Split:
    """Class ids by role. No class is in two of them.

    Raises:
        UserError: a class stands in two parts.
    """

    base: tuple[int, ...] = ()
    open_world: tuple[int, ...] = ()
    novel: tuple[int, ...] = ()

    def __post_init__(self):
        parts = {"base": self.base, "open-world": self.open_world, "novel": self.novel}
        owner: dict[int, str] = {}
        for part, classes in parts.items():
            for c in classes:
                if c in owner:
                    raise UserError(
                        f"Class {c} is in the split twice ({owner[c]} and {part}). Keep each class "
                        "in one part, or knowledge leaks between the roles."
                    )
                owner[c] = part


@dataclass(frozen=True)
class Normalize:
    """Channel mean and standard deviation, in units of the [0, 1] intensity.

    Raises:
        UserError: unequal numbers of both, one that is not finite, a deviation that is not above 0.
    """

    mean: Annotated[tuple[Finite, ...], Meta(description="must be a tuple of one number a channel")]
    std: Annotated[
        tuple[Positive, ...], Meta(description="must be a tuple of one positive number a channel")
    ]

    def __post_init__(self):
        typed(self)
        if len(self.mean) != len(self.std):
            raise UserError(
                f"A mean of {len(self.mean)} and a std of {len(self.std)} channels were given; give one of "
                "each for every channel."
            )

    @classmethod
    def measured(cls, images: Tensor | Pictures) -> "Normalize":
        """Measure (N, C, H, W) uint8 images; rounded to four digits so that it can be written down."""
        check_images(images)
        check_counts(images, images)
        n = images.numel() // images.shape[1]
        counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
        for part in images.split(1000):
            flat = (channel.reshape(-1).long() for channel in part.cpu().unbind(1))
            counts += torch.stack([torch.bincount(c, minlength=256) for c in flat])
        level = torch.arange(256, dtype=torch.float64) / 255
        mean = [float((level * c).sum() / n) for c in counts]
        std = [float(((level - m) ** 2 * c).sum() / n) ** 0.5 for c, m in zip(counts, mean)]
        return cls(tuple(round(m, 4) for m in mean), tuple(round(max(s, 1e-3), 4) for s in std))

    def __call__(self, images: Tensor | Pictures) -> Tensor:
        """(B, C, H, W) uint8 -> float32 with about zero mean and unit variance."""
        check_images(images)
        if images.shape[1] != len(self.mean):
            last = images.shape[3] == len(self.mean)
            way = "use images.permute(0, 3, 1, 2)" if last else "for grey images repeat the channel"
            raise UserError(
                f"The images have {images.shape[1]} channels, the model expects {len(self.mean)}. "
                f"Convert them ({way})."
            )
        images, shape = decoded(images), (1, -1, 1, 1)
        mean = torch.tensor(self.mean).to(images.device, non_blocking=True).view(shape)
        std = torch.tensor(self.std).to(images.device, non_blocking=True).view(shape)
        return (images.float() / 255 - mean) / std


def describe(data: ImageSet, classes: Split) -> dict[str, int]:
    """Counts that a person wants to see first."""
    return {
        "images": len(data.labels),
        "held-out images": int(data.held_out.sum()),
        "base classes": len(classes.base),
        "open-world classes": len(classes.open_world),
        "novel classes": len(classes.novel),
    }


def export(
    data: ImageSet, folder: Path | str, classes: tuple[int, ...], per_class: int = 5
) -> Path:
    """Write some images as PNG, one folder a class (the layout of torchvision's ImageFolder).

    Folders are named by number and class; those of glyphs by the character's code, U+0041.

    Raises:
        UserError: the folder cannot be written, or holds something else.
    """
    from PIL import Image

    folder, glyphs = files.expand(folder), data.name.partition("@")[0] == "glyphs"
    targets = {}
    for c in classes:
        name = data.classes[c]
        name = f"U+{ord(name[0]):04X}" if glyphs else re.sub(r"[^\w.-]+", "_", name)[:60]
        targets[c] = folder / f"{c:03d}_{name}"
        files.target(targets[c] / "000.png", force=True)
    if found := sorted(set(folder.glob("[!.]*")) - set(targets.values())):
        raise UserError(
            f"{folder} holds {found[0].name}, which is not from this export. Choose an empty or new folder."
        )
    for c, target in targets.items():
        for i, row in enumerate((data.labels == c).nonzero()[:per_class, 0].tolist()):
            image = data.images[row].permute(1, 2, 0).numpy()
            with files.atomic(target / f"{i:03d}.png") as temporary:
                Image.fromarray(image).save(temporary, format="PNG")
    return folder
