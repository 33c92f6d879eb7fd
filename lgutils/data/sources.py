"""Where images come from: drawn, shipped, or found in the data folder; never downloaded here."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from lgutils import files, glyphs, reading
from lgutils.data import archives, listing, settle
from lgutils.data.decode import Files
from lgutils.data.names import Dataset
from lgutils.data.pictures import Pictures
from lgutils.data.sets import ImageSet, Split
from lgutils.errors import UserError, unknown

SIZES = {"rehearsal": 24, "quick": 240, "full": glyphs.IMAGES_PER_CLASS}  # glyphs of each class
HEADER = 4096  # bytes that an array file has before its values, at most
PIXELS = {"mini-imagenet": 84, "flowers102": 84}  # unless @PIXELS says something else


def split(dataset: str, seed: int = 0) -> Split:
    """The class split of a dataset: 64 / 16 / 20 for glyphs; every digit class is novel.

    cifar100 has the classes of arXiv 2106.06788, mini-imagenet and folders with three parts have those
    of the parts, whatever the seed. flowers102 is dealt 64 / 16 / 22, other folders 64 : 16 : 20 in
    proportion. Every class of fashion-mnist is novel.

    Args:
        dataset: see `Dataset.parse`.
        seed: another seed deals the classes out anew.
    """
    wanted = Dataset.parse(dataset)
    if wanted.name in ("digits", "fashion-mnist"):
        return Split(novel=tuple(range(10)))
    if wanted.name == "cifar100":
        return archives.cifar_split()
    if wanted.name in ("mini-imagenet", "folder"):
        return listing.split(wanted, seed)
    count = len(glyphs.CHARACTERS) if wanted.name == "glyphs" else 102
    return listing.dealt(count, seed, 64, 16)


def load(dataset: str = "glyphs", size: str = "quick", *, progress: bool = False) -> ImageSet:
    """Load a dataset; glyphs are drawn and cached if needed. Nothing is downloaded: see `download`.

    Every sixth image of a class is held out; of digits every second; of cifar100 and fashion-mnist
    the official test images. The quick images are the first ones of the full set, in the same roles
    and proportions, so nothing leaks from one size to the other.

    Sets of more than `settle.LIMIT` bytes come as `Pictures`, which are decoded when they are used; they
    are read once to the end before the first use, and what was found is kept in the cache folder.

    Args:
        dataset: see `Dataset.parse`. "glyphs" (100 classes, 32x32 RGB), "digits" (scikit-learn's 1,797
            real handwritten digits, upscaled to 32x32 and repeated to three channels), "cifar100",
            "fashion-mnist", "flowers102", "mini-imagenet", "folder:PATH"; with @84 scaled to 84x84.
        size: "rehearsal" (at most 24 images a class), "quick" (at most 240) or "full" (all; 600 of
            glyphs).
        progress: show a bar while drawing or decoding.
    Raises:
        UserError: unknown or missing dataset, damaged files, more than 1 % of unreadable pictures.
    """
    wanted = Dataset.parse(dataset)
    if size not in SIZES:
        raise unknown("size", size, SIZES)
    if wanted.name == "glyphs":
        found = replace(_glyphs(SIZES[size], progress), name=str(wanted))
    else:
        found = _READERS[wanted.name](wanted)
        if size != "full":
            found = settle.thinned(found, SIZES[size])
    pixels = wanted.pixels or PIXELS.get(wanted.name)
    return settle.settled(found, pixels, progress)


def _glyphs(n: int, progress: bool) -> ImageSet:
    images = torch.from_numpy(_cached_glyphs(n, progress)).flatten(0, 1)
    labels = torch.arange(len(glyphs.CHARACTERS)).repeat_interleave(n)
    held_out = (torch.arange(n) % 6 == 5).repeat(len(glyphs.CHARACTERS))
    return ImageSet("glyphs", images, labels, glyphs.class_names(), held_out)


def _cached_glyphs(per_class: int, progress: bool) -> np.ndarray:
    """(100, per_class, 3, 32, 32) uint8 from the cache; a missing or damaged file is made again."""
    path = files.cache_dir() / f"glyphs-{per_class}-v1.npy"
    stamp = path.with_suffix(".sha256")
    shape = (len(glyphs.CHARACTERS), per_class, 3, glyphs.SIZE, glyphs.SIZE)
    with suppress(UserError):  # absent or damaged: drawn again below
        size = math.prod(shape)
        pixels = bytearray(memoryview(reading.content(path, size + HEADER))[-size:])
        if len(pixels) == size and files.sha256(pixels) == reading.text(stamp, 100).strip():
            return np.frombuffer(pixels, np.uint8).reshape(shape)
    files.target(path, force=True)
    bar = tqdm(
        glyphs.render(per_class),
        total=100,
        desc="drawing glyphs",
        unit="class",
        disable=not progress,
    )
    images = np.ascontiguousarray(np.stack(list(bar)))
    with files.atomic(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, images, allow_pickle=False)
    files.write_text(stamp, files.sha256(images.data) + "\n")
    return images


def _digits(dataset: Dataset) -> ImageSet:
    """Source: E. Alpaydin, C. Kaynak, UCI ML repository, as shipped by scikit-learn (8x8, 0 to 16)."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    grey = torch.from_numpy(raw.images).float()[:, None] / 16
    grey = F.interpolate(grey, size=(28, 28), mode="bilinear", align_corners=False)
    grey = F.pad(grey, (2, 2, 2, 2))
    images = (grey * 255).round().to(torch.uint8).repeat(1, 3, 1, 1)
    labels = torch.from_numpy(raw.target).long()
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for c in range(10):  # every second image of a class: plenty of both for few-shot tasks
        held_out[(labels == c).nonzero()[1::2, 0]] = True
    return ImageSet(str(dataset), images, labels, tuple("0123456789"), held_out)


def _listed(found: listing.Listing, dataset: Dataset) -> ImageSet:
    """Pictures whose size is not yet known."""
    source = Files(str(found.root), found.names, (0, 0))
    return ImageSet(
        str(dataset), Pictures.of(source), found.labels, found.classes, found.held_out
    )  # fmt: skip


_READERS: dict[str, Callable[[Dataset], ImageSet]] = {
    "digits": _digits,
    "cifar100": archives.cifar100,
    "fashion-mnist": archives.fashion_mnist,
    "flowers102": lambda dataset: _listed(listing.flowers102(dataset), dataset),
    "mini-imagenet": lambda dataset: _listed(listing.listing(dataset), dataset),
    "folder": lambda dataset: _listed(listing.listing(dataset), dataset),
}
