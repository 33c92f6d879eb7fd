"""Datasets that come as arrays: CIFAR-100 and Fashion-MNIST, as torchvision lays them out."""

import gzip
import hashlib
import io
import math
import pickle
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lgutils import reading
from lgutils.data.names import Dataset
from lgutils.data.sets import ImageSet, Split
from lgutils.errors import UserError

LIMIT = 2**29  # bytes of a file, packed or unpacked; the largest official one has 155 million
CIFAR_FOLDER = "cifar-100-python"
CIFAR_MD5 = {  # as in torchvision.datasets.CIFAR100
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
FASHION_SHARED = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist

# The classes of arXiv 2106.06788 (appendix, table 1), which arXiv 2305.02279 shares. "cattle" stands
# in its table twice; it is an open-world class here.
OPEN_WORLD, NOVEL, BASE = (
    tuple(names.split())
    for names in (
        "beetle beaver butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter sea "
        "shark television tractor",
        "baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail "
        "sweet_pepper table telephone wardrobe whale woman worm",
        "apple aquarium_fish bear bee bottle bowl boy bridge bus can castle caterpillar chair clock cloud "
        "cockroach couch cup dinosaur dolphin elephant forest girl hamster house kangaroo keyboard "
        "lawn_mower lion lizard lobster mountain mouse mushroom oak_tree orange orchid palm_tree pear "
        "pine_tree plate porcupine possum rabbit raccoon ray road seal shrew skunk skyscraper snake spider "
        "squirrel streetcar sunflower tank tiger train trout tulip turtle willow_tree wolf",
    )
)
CIFAR_CLASSES = tuple(sorted(BASE + OPEN_WORLD + NOVEL))  # the order of the dataset's labels


class _Plain(pickle.Unpickler):
    """Unpickles numpy arrays and plain values, and nothing else."""

    _reconstruct = staticmethod(np.zeros(0).__reduce__()[0])

    def find_class(self, module: str, name: str) -> object:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return self._reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_pickle(path: Path, md5: str) -> dict:
    """Read one of CIFAR's files: first its checksum, then only arrays and plain values.

    Raises:
        UserError: another checksum, or something that is not an array or a plain value.
    """
    content = reading.content(path, LIMIT)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise UserError(
            f"{path} is damaged or not the original: its md5 is {found}, {md5} is expected. Delete it "
            "and fetch it again."
        )
    try:
        return _Plain(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a pickle can fail in many ways
        raise UserError(
            f"{path} was not read: {reading.reason(error)}. Only arrays and plain values are."
        ) from error


def cifar_split() -> Split:
    """64 / 16 / 20 classes, as in the paper."""
    return Split(*(tuple(map(CIFAR_CLASSES.index, part)) for part in (BASE, OPEN_WORLD, NOVEL)))


def cifar100(dataset: Dataset) -> ImageSet:
    """CIFAR-100 (A. Krizhevsky, 2009): the official test images are held out."""
    folder = dataset.root / CIFAR_FOLDER
    if not all((folder / name).is_file() for name in CIFAR_MD5):
        raise dataset.missing(folder)
    train, test, meta = (
        read_pickle(folder / name, CIFAR_MD5[name]) for name in ("train", "test", "meta")
    )
    if tuple(meta["fine_label_names"]) != CIFAR_CLASSES:
        raise UserError(f"{folder / 'meta'} names other classes than CIFAR-100 has.")
    parts = [torch.from_numpy(part["data"].reshape(-1, 3, 32, 32)) for part in (train, test)]
    labels = torch.tensor(train["fine_labels"] + test["fine_labels"])
    return _joined(dataset, parts, labels, CIFAR_CLASSES)


def fashion_mnist(dataset: Dataset) -> ImageSet:
    """Fashion-MNIST (H. Xiao et al., arXiv 1708.07747), padded to 32x32 and repeated to three channels.

    The official test images are held out.
    """
    from torchvision.datasets import FashionMNIST  # slow to import, as all of torchvision

    root = dataset.root
    places = [root / "FashionMNIST" / "raw", root / "fashion-mnist", root]
    if dataset.path is None:
        places.append(FASHION_SHARED)
    for place in places:
        files = [_found(place, f"{part}-{what}") for part in ("train", "t10k")
                 for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]  # fmt: skip
        if all(files):
            break
    else:
        raise dataset.missing(*places)
    train, train_labels, test, test_labels = map(read_idx, files)
    for images, of, names in ((train, train_labels, files[:2]), (test, test_labels, files[2:])):
        if images.shape != (len(of), 28, 28) or of.ndim != 1 or not len(of):
            raise UserError(
                f"{names[0]} and {names[1]} hold {tuple(images.shape)} and {tuple(of.shape)} bytes; as "
                "many images of 28x28 as labels are expected. Fetch them again."
            )
    parts = [F.pad(x, (2, 2, 2, 2))[:, None].repeat(1, 3, 1, 1) for x in (train, test)]
    labels = torch.cat([train_labels, test_labels]).long()
    classes = tuple(FashionMNIST.classes)
    return _joined(dataset, parts, labels, classes)


def _joined(
    dataset: Dataset, parts: list[Tensor], labels: Tensor, classes: tuple[str, ...]
) -> ImageSet:
    images = torch.cat(parts)
    if len(images) != len(labels) or not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise UserError(
            f"The labels of {dataset} do not fit its {len(images)} images. Fetch it again."
        )
    held_out = torch.arange(len(images)) >= len(parts[0])
    return ImageSet(str(dataset), images, labels, classes, held_out)


def _found(place: Path, name: str) -> Path | None:
    return next((p for p in (place / name, place / f"{name}.gz") if p.is_file()), None)


def read_idx(path: Path) -> Tensor:
    """Read an idx file of bytes, gzipped or not (format: http://yann.lecun.com/exdb/mnist).

    Raises:
        UserError: truncated, damaged, another format, or more than `LIMIT` bytes, packed or unpacked.
    """
    content = reading.content(path, LIMIT)
    if path.suffix == ".gz":
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(LIMIT + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path} cannot be read ({error}). Fetch it again.") from error
    dimensions = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    if not 1 <= dimensions <= 3 or not 0 < math.prod(shape) == len(content) - start:
        raise UserError(f"{path} is damaged or no idx file of bytes. Fetch it again.")
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).view(shape)
