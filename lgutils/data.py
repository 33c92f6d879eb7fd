"""Images, class-disjoint splits, few-shot tasks, and batches that live on the device.

The base classes train the ancestry model, the open-world classes train the pseudo-descendant, and the
novel classes give the descendants' tasks (64 / 16 / 20, as in arXiv 2305.02279 and 2106.06788).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from lgutils import files, glyphs
from lgutils.errors import UserError, unknown

SIZES = {"quick": 240, "full": glyphs.IMAGES_PER_CLASS}  # glyphs of each class
DATASETS = ("glyphs", "digits")


@dataclass(frozen=True)
class ImageSet:
    """Labelled images, each marked as training or held out.

    Attributes:
        name: the dataset's name.
        images: (N, C, H, W) uint8, on the CPU.
        labels: (N,) int64, positions in `classes`.
        classes: class names.
        held_out: (N,) bool; held-out images are never trained on.
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    held_out: Tensor

    def of(self, classes: tuple[int, ...], *, held_out: bool) -> tuple[Tensor, Tensor]:
        """Images of some classes, relabelled 0..len(classes)-1 in the order given."""
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
    """Channel mean and standard deviation, in units of the [0, 1] intensity."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def measured(cls, images: Tensor) -> "Normalize":
        """Measure (N, C, H, W) uint8 images; rounded to four digits so that it can be written down."""
        n = images.numel() // images.shape[1]
        counts = [torch.bincount(c.reshape(-1).long(), minlength=256) for c in images.unbind(1)]
        level = torch.arange(256, dtype=torch.float64) / 255
        mean = [float((level * c).sum() / n) for c in counts]
        std = [float(((level - m) ** 2 * c).sum() / n) ** 0.5 for c, m in zip(counts, mean)]
        return cls(tuple(round(m, 4) for m in mean), tuple(round(max(s, 1e-3), 4) for s in std))

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> float32 with about zero mean and unit variance."""
        if images.shape[1] != len(self.mean):
            raise UserError(
                f"The images have {images.shape[1]} channels, the model expects {len(self.mean)}. "
                "Convert them (for grey images repeat the channel)."
            )
        shape = (1, -1, 1, 1)
        mean = torch.tensor(self.mean, device=images.device).view(shape)
        std = torch.tensor(self.std, device=images.device).view(shape)
        return (images.float() / 255 - mean) / std


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


@dataclass(frozen=True)
class Episode:
    """The images of one few-shot task.

    Attributes:
        classes: class ids of the dataset, in label order.
        train, test: (images uint8 (N, C, H, W), labels int64 (N,) in 0..n_way-1).
        key: hex digest of the dataset's name and of every image chosen.
    """

    classes: tuple[int, ...]
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    key: str


@dataclass(frozen=True)
class Task:
    """A few-shot task: which classes and which images, from a seed alone.

    Shots are nested: with the same seed the 5-shot images are among the 10-shot ones, and the test
    images are the same for every k_shot. (The reference code redraws the classes for every k.)
    """

    n_way: int = 5
    k_shot: int = 10
    seed: int = 0

    def draw(self, data: ImageSet, classes: tuple[int, ...], *, max_test: int = 40) -> Episode:
        """Pick the task's images.

        Args:
            data: where to draw from: training images for shots, held-out images for the test.
            classes: the novel classes to choose from.
            max_test: test images of each class, at most.
        Raises:
            UserError: too few classes, or too few images for k_shot.
        """
        if not 2 <= self.n_way <= len(classes):
            raise UserError(f"A {self.n_way}-way task needs 2 to {len(classes)} ways here.")
        rng = np.random.default_rng([self.seed, 20])
        chosen = tuple(int(c) for c in rng.permutation(classes)[: self.n_way])
        train, test = [], []
        for c in chosen:
            pool = ((data.labels == c) & ~data.held_out).nonzero()[:, 0].numpy()
            if not 1 <= self.k_shot <= len(pool):
                raise UserError(
                    f"Class {data.classes[c]!r} of {data.name} has {len(pool)} training images, too "
                    f"few for {self.k_shot} shots. Choose k_shot between 1 and {len(pool)}."
                )
            train.append(rng.permutation(pool)[: self.k_shot])
            rest = ((data.labels == c) & data.held_out).nonzero()[:, 0].numpy()
            test.append(rng.permutation(rest)[:max_test])
        shots, tests = (self._gather(data, rows) for rows in (train, test))
        text = json.dumps([data.name, chosen, [r.tolist() for r in train + test]])
        return Episode(chosen, shots, tests, hashlib.sha256(text.encode()).hexdigest())

    @staticmethod
    def _gather(data: ImageSet, rows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        labels = torch.cat([torch.full((len(r),), i) for i, r in enumerate(rows)])
        return data.images[torch.from_numpy(np.concatenate(rows))], labels


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
    moves = torch.randint(0, 2 * pixels + 1, (2, b), generator=generator).to(images.device)
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
    coin = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    return torch.where(coin[:, None, None, None], images.flip(3), images)


@dataclass(frozen=True)
class Batches:
    """Shuffled, augmented, normalised batches of images that stay on one device.

    An epoch is a function of (seed, epoch number) alone, so training resumes exactly.

    Attributes:
        images, labels: (N, C, H, W) uint8 and (N,) int64, on the training device.
        shift: pixels of random translation.
        flip: mirror at random; wrong for characters.
    """

    images: Tensor
    labels: Tensor
    normalize: Normalize
    batch_size: int = 64
    shift: int = 0
    flip: bool = False
    seed: int = 0

    def __post_init__(self):
        if len(self.images) == 0 or len(self.images) != len(self.labels):
            raise UserError(
                f"{len(self.images)} images and {len(self.labels)} labels were given; one label "
                "for each of at least one image is expected."
            )

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (float32 (B, C, H, W), int64 (B,)) batches; the last may be smaller."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        order = torch.randperm(len(self.images), generator=generator).to(self.images.device)
        for rows in order.split(self.batch_size):
            images = shifted(self.images[rows], self.shift, generator)
            if self.flip:
                images = flipped(images, generator)
            yield self.normalize(images), self.labels[rows]


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
    """Write some images as PNG, one folder a class (the layout of torchvision's ImageFolder)."""
    from PIL import Image

    folder = Path(folder)
    for c in classes:
        target = folder / f"{c:03d}_U+{ord(data.classes[c][0]):04X}"
        target.mkdir(parents=True, exist_ok=True)
        for i, row in enumerate((data.labels == c).nonzero()[:per_class, 0].tolist()):
            image = data.images[row].permute(1, 2, 0).numpy()
            with files.atomic(target / f"{i:03d}.png") as temporary:
                Image.fromarray(image).save(temporary, format="PNG")
    return folder
