"""Where images and labels enter: what they must be, and how to make them so."""

from typing import Any

import torch
from torch import Tensor

from lgutils.data.pictures import Pictures
from lgutils.errors import UserError

WANTED = "a uint8 tensor (N, C, H, W) of bytes 0 to 255"


def check_images(images: Any) -> None:
    """Refuse what is not a (N, C, H, W) uint8 tensor or `Pictures`; a `UserError` says how to convert it."""
    if isinstance(images, Pictures):
        return
    if not isinstance(images, Tensor):
        advice = "torch.stack(images)" if isinstance(images, list) else "torch.from_numpy(images)"
        raise UserError(
            f"Images of type {type(images).__name__} were given; expected is {WANTED}. Use {advice}."
        )
    if images.dtype != torch.uint8:
        way = "(255 * images).round()" if images.is_floating_point() else "images"
        raise UserError(
            f"Images of {str(images.dtype)[6:]} were given; expected is {WANTED}. Use "
            f"{way}.to(torch.uint8), if their values lie in 0..{1 if '255' in way else 255}."
        )
    if images.ndim != 4:
        raise UserError(
            f"Images of shape {tuple(images.shape)} were given; expected is {WANTED}, (N, C, H, W). A single "
            "image is images[None], grey images without a channel are images[:, None]."
        )


def check_labels(labels: Any, classes: int | None = None) -> int:
    """Refuse what are not (N,) int64 labels in 0..classes - 1 (None: of any number of classes).

    Returns:
        The largest label; -1 if there are none.
    Raises:
        UserError: says what was given and how to convert it.
    """
    if not isinstance(labels, Tensor):
        advice = "from_numpy" if hasattr(labels, "__array__") else "tensor"
        raise UserError(
            f"Labels of type {type(labels).__name__} were given; expected is an int64 tensor (N,). Use "
            f"torch.{advice}(labels)."
        )
    if labels.dtype != torch.int64:
        raise UserError(
            f"Labels of {str(labels.dtype)[6:]} were given; expected are class numbers of int64. Use "
            "labels.long()."
        )
    if labels.ndim != 1:
        raise UserError(
            f"Labels of shape {tuple(labels.shape)} were given; expected is one class number an image, (N,). "
            "One-hot labels become that by labels.argmax(1)."
        )
    if not len(labels):
        return -1
    least, most = map(int, labels.aminmax())
    check_range(least if least < 0 else most, classes)
    return most


def check_range(label: int, classes: int | None) -> None:
    """Refuse a label that is not one of so many classes (None: of any number)."""
    if label < 0 or (classes is not None and label >= classes):
        legal = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise UserError(
            f"The label {label} was given; labels count the classes from 0, so that {legal} is expected. "
            "Number them anew, or give the model as many outputs as there are classes."
        )


def check_counts(images: Any, labels: Any) -> None:
    """Refuse no images, and another number of labels than of images."""
    if len(images) == 0 or len(images) != len(labels):
        raise UserError(
            f"{len(images)} images and {len(labels)} labels were given; one label for each of at least one "
            "image is expected."
        )


def check_pair(pair: Any, name: str, classes: int | None = None) -> int:
    """Check (images, labels) that belong together, see `check_images` and `check_labels`.

    Args:
        pair: what was given as the argument `name`.
    Returns:
        The largest label.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UserError(
            f"{name} is of type {type(pair).__name__}; a pair (images, labels) is expected."
        )
    images, labels = pair
    check_images(images)
    most = check_labels(labels, classes)
    check_counts(images, labels)
    return most
