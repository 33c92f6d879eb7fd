"""Shuffled, augmented, normalised batches of images that live on the training device."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lgutils.checks import Count, NotNegative, Seed, Whole, typed
from lgutils.data.entry import check_counts, check_images
from lgutils.data.pictures import Pictures
from lgutils.data.sets import Normalize
from lgutils.errors import UserError


def shifted(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Move each image by up to `pixels` in both directions, with reflection at the edges.

    Args:
        images: (B, C, H, W), any type, on any device.
        generator: a generator on the CPU.
    """
    if pixels == 0:
        return images
    b, c, h, w = images.shape
    if not 0 < pixels < min(h, w):
        raise UserError(
            f"A shift of {pixels} pixels was given; images of {h}x{w} allow 0 to {min(h, w) - 1}."
        )
    moves = torch.randint(0, 2 * pixels + 1, (2, b), generator=generator).to(
        images.device, non_blocking=True
    )
    # Reflection by index, so that uint8 images need no copy in float.
    rows = _reflect(torch.arange(h, device=images.device) + moves[0][:, None] - pixels, h)
    columns = _reflect(torch.arange(w, device=images.device) + moves[1][:, None] - pixels, w)
    images = images.gather(2, rows[:, None, :, None].expand(b, c, h, w))
    return images.gather(3, columns[:, None, None, :].expand(b, c, h, w))


def _reflect(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left-right with probability one half."""
    coin = torch.rand(len(images), generator=generator).to(images.device, non_blocking=True) < 0.5
    return torch.where(coin[:, None, None, None], images.flip(3), images)


def rotated(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Turn each image about its centre by up to `degrees` either way; corners fill with black.

    Args:
        images: (B, C, H, W) uint8, on any device; bilinear.
        generator: a generator on the CPU.
    """
    turn = torch.rand(len(images), generator=generator).to(images.device, non_blocking=True) * 2 - 1
    angle = turn * math.radians(degrees)
    cos, sin, ratio = angle.cos(), angle.sin(), images.shape[3] / images.shape[2]
    zero = torch.zeros_like(cos)
    rows = [torch.stack([cos, -sin / ratio, zero], 1), torch.stack([sin * ratio, cos, zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    turned = F.grid_sample(images.float(), grid, mode="bilinear", align_corners=False)
    return turned.round().to(images.dtype)


def placed(images: Tensor | Pictures, where: torch.device) -> Tensor | Pictures:
    """Images where training wants them: tensors live on the device, `Pictures` send batches there."""
    return images.to(where)


def checksum(images: Tensor | Pictures) -> int:
    """A cheap number that tells two sets of images apart, for keys of checkpoints.

    Of `Pictures` it is made from names and sizes of the files, not from pixels.
    """
    return int(images.sum(dtype=torch.int64)) if isinstance(images, Tensor) else images.checksum()


def _gathered(images: Tensor | Pictures, parts: tuple[Tensor, ...]) -> Iterator[Tensor]:
    if isinstance(images, Pictures):
        return images.batches(parts)
    return (images[rows] for rows in parts)


@dataclass(frozen=True)
class Batches:
    """Shuffled, augmented, normalised batches of images that stay on one device.

    An epoch is a function of (seed, epoch number) alone, so training resumes exactly. `Pictures` are
    decoded by worker processes and go to the device as bytes; order and augmentation are the same.

    Attributes:
        images, labels: (N, C, H, W) uint8 (or `Pictures`) and (N,) int64, on the training device.
        shift: pixels of random translation.
        flip: mirror at random; wrong for characters.
        rotate: largest random rotation, in degrees, either way.
    """

    images: Tensor | Pictures
    labels: Tensor
    normalize: Normalize
    batch_size: Count = 64
    shift: Whole = 0
    flip: bool = False
    seed: Seed = 0
    rotate: NotNegative = 0.0

    def __post_init__(self):
        typed(self, "batch_size", "shift", "flip", "seed", "rotate")
        check_images(self.images)
        check_counts(self.images, self.labels)

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    @property
    def device(self) -> torch.device:
        """Where the batches are."""
        return self.images.device

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (float32 (B, C, H, W), int64 (B,)) batches; the last may be smaller."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        order = torch.randperm(len(self.images), generator=generator).to(self.device)
        parts = order.split(self.batch_size)
        for rows, images in zip(parts, _gathered(self.images, parts), strict=True):
            images = shifted(images, self.shift, generator)
            if self.flip:
                images = flipped(images, generator)
            if self.rotate:
                images = rotated(images, self.rotate, generator)
            yield self.normalize(images), self.labels[rows]
