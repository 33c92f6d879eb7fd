"""Where images come from: the embedded glyphs and digits, cached, never downloaded."""

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from lgutils import files, glyphs
from lgutils.data.sets import ImageSet, Split
from lgutils.errors import unknown

SIZES = {"quick": 240, "full": glyphs.IMAGES_PER_CLASS}  # glyphs of each class
DATASETS = ("glyphs", "digits")


def split(dataset: str, seed: int = 0) -> Split:
    """The class split of a dataset: 64 / 16 / 20 for glyphs; every digit class is novel.

    Args:
        dataset: "glyphs" or "digits".
        seed: another seed deals the classes out anew.
    """
    if dataset == "digits":
        return Split(novel=tuple(range(10)))
    if dataset != "glyphs":
        raise unknown("dataset", dataset, DATASETS)
    order = np.random.default_rng(seed).permutation(len(glyphs.CHARACTERS)).tolist()
    return Split(*(tuple(sorted(part)) for part in (order[:64], order[64:80], order[80:])))


def load(dataset: str = "glyphs", size: str = "quick", *, progress: bool = False) -> ImageSet:
    """Load a dataset, rendering and caching it if needed. Nothing is downloaded.

    Every sixth image of a class is held out. The quick images are the first ones of the full set, in
    the same roles, so nothing leaks from one size to the other.

    Args:
        dataset: "glyphs" (100 classes, 32x32 RGB) or "digits" (scikit-learn's 1,797 real handwritten
            digits, upscaled to 32x32 and repeated to three channels).
        size: glyphs only: "quick" (240 images a class) or "full" (600).
        progress: show a bar while rendering.
    """
    if dataset == "digits":
        return _digits()
    if dataset != "glyphs":
        raise unknown("dataset", dataset, DATASETS)
    if size not in SIZES:
        raise unknown("size", size, SIZES)
    n = SIZES[size]
    images = torch.from_numpy(_cached_glyphs(n, progress)).flatten(0, 1)
    labels = torch.arange(len(glyphs.CHARACTERS)).repeat_interleave(n)
    held_out = (torch.arange(n) % 6 == 5).repeat(len(glyphs.CHARACTERS))
    return ImageSet("glyphs", images, labels, glyphs.class_names(), held_out)


def _cached_glyphs(per_class: int, progress: bool) -> np.ndarray:
    """(100, per_class, 3, 32, 32) uint8 from the cache; a missing or damaged file is made again."""
    path = files.cache_dir() / f"glyphs-{per_class}-v1.npy"
    stamp = path.with_suffix(".sha256")
    if path.is_file() and stamp.is_file():
        try:
            images = np.load(path, allow_pickle=False)
            if files.sha256(images.data) == stamp.read_text().strip():
                return images
        except (ValueError, OSError, EOFError):
            pass  # damaged: drawn again below
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


def _digits() -> ImageSet:
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
    return ImageSet("digits", images, labels, tuple("0123456789"), held_out)
