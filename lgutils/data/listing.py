"""What folders of pictures hold, before any picture is decoded."""

import csv
import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from lgutils import reading
from lgutils.data import copies
from lgutils.data.names import Dataset, shown
from lgutils.data.sets import Split
from lgutils.errors import UserError

# Base, open-world and novel classes; the second is how the few-shot literature names them.
PARTS = (("base", "open-world", "novel"), ("train", "val", "test"))
# What systems and programs put between pictures; names that begin with a dot are hidden anyway.
LITTER = {"__MACOSX", "@eaDir", "@Recycle", "#recycle", "$RECYCLE.BIN", "System Volume Information"}
FLOWERS_FOLDER = "flowers-102"
FLOWERS_LABELS = "imagelabels.mat"
FLOWERS_MD5 = (
    "e0620be6f572b9609742df49c70aed4d"  # of the labels, as in torchvision.datasets.Flowers102
)


@dataclass(frozen=True)
class Listing:
    """Files of a dataset.

    Attributes:
        root: the folder.
        names: paths relative to it.
        labels: (N,) int64, positions in `classes`.
        classes: class names.
        firsts: (N,) int64, for a copy the row of the first picture like it; None: no copies.
    """

    root: Path
    names: tuple[str, ...]
    labels: Tensor
    classes: tuple[str, ...]
    firsts: Tensor | None = None

    @property
    def held_out(self) -> Tensor:
        """(N,) bool: every sixth picture of a class, in the order of the listing.

        Copies are not counted: they stand where the first picture like them does.

        Raises:
            UserError: a class has fewer than six different ones.
        """
        firsts = torch.arange(len(self.labels)) if self.firsts is None else self.firsts
        held_out = torch.zeros(len(self.labels), dtype=torch.bool)
        for c, name in enumerate(self.classes):
            mine = (self.labels == c).nonzero()[:, 0]
            rows = mine[np.sort(np.unique(firsts[mine], return_index=True)[1])]
            if len(rows) < 6:
                raise UserError(
                    f"Class {name!r} in {self.root} has {len(rows)} different pictures; at least 6 are "
                    "expected, since every sixth is held out. Add pictures or leave the class out."
                )
            held_out[rows[5::6]] = True
        return held_out[firsts]


def hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: hidden, or left by a system."""
    return name.startswith(".") or name in LITTER


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones.

    Raises:
        UserError: the folder may not be read.
    """
    try:
        with os.scandir(folder) as inside:
            return sorted(
                entry.name for entry in inside if entry.is_dir() and not hidden(entry.name)
            )
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> UserError:
    return UserError(
        f"{shown(str(error.filename))} cannot be read ({error.strerror}). Change its "
        "permissions, or move it away."
    )


def parts(dataset: Dataset) -> tuple[Path, ...]:
    """The folders or csv files that hold base, open-world and novel classes; or the one folder.

    Raises:
        UserError: nothing is there, or only some of the three parts.
    """
    root = dataset.root
    if not os.path.isdir(root):  # unlike Path's, it takes any name
        raise dataset.missing(*dataset.places)
    inside = subfolders(root)
    for names in PARTS:
        tables = [root / f"{name}.csv" for name in names]
        if all(path.is_file() for path in tables):
            return tuple(tables)
        if set(names) <= set(inside):
            return tuple(root / name for name in names)
    if not inside or dataset.name == "mini-imagenet":
        raise UserError(
            f"{root} has neither train.csv, val.csv and test.csv nor folders train, val and test"
            + (" nor a folder for each class." if dataset.name == "folder" else ".")
            + " Bring the dataset into one of these forms."
        )
    if any(set(inside) <= set(names) for names in PARTS):
        raise UserError(
            f"{root} has {' and '.join(inside)}, but a split of classes needs all three of train, val "
            f"and test. Name one of them instead: {dataset.name}:{root / inside[0]}."
        )
    return (root,)


def class_names(dataset: Dataset) -> tuple[tuple[str, ...], ...]:
    """Names of the classes in each part, sorted in each.

    Raises:
        UserError: a class stands in two parts.
    """
    found = tuple(
        tuple(sorted({label for _, label in _table(path)}) if path.suffix == ".csv" else map(shown, subfolders(path)))
        for path in parts(dataset)
    )  # fmt: skip
    owner: dict[str, int] = {}
    for part, names in enumerate(found):
        for name in names:
            if owner.setdefault(name, part) != part:
                raise UserError(
                    f"Class {name!r} of {dataset} is in more than one of its parts, but train, val and "
                    "test must hold different classes: they are the base, open-world and novel "
                    "classes. Name one part alone: its classes are then dealt out."
                )
    return found


def split(dataset: Dataset, seed: int) -> Split:
    """The parts of a folder or csv; else its classes dealt 64 : 16 : 20 by the seed.

    Raises:
        UserError: too few classes to deal.
    """
    found = class_names(dataset)
    if len(found) == 3:
        stops = np.cumsum([0, *map(len, found)]).tolist()
        return Split(*(tuple(range(a, b)) for a, b in pairwise(stops)))
    count = len(found[0])
    open_world, novel = (max(2, round(share * count)) for share in (0.16, 0.2))
    if count < 6:
        raise UserError(
            f"{dataset} has {count} classes; at least 6 are expected, two each for base, open-world and "
            "novel classes. Add classes."
        )
    return dealt(count, seed, count - open_world - novel, open_world)


def dealt(count: int, seed: int, base: int, open_world: int) -> Split:
    """Deal `count` classes by a seed; those that are left are novel."""
    order = np.random.default_rng(seed).permutation(count).tolist()
    stop = base + open_world
    return Split(*(tuple(sorted(part)) for part in (order[:base], order[base:stop], order[stop:])))


def listing(dataset: Dataset) -> Listing:
    """All pictures of a folder or of csv files, by class and name; of csv files in their order.

    Copies in a folder of the user's are told, see `copies.firsts`.

    Raises:
        UserError: no pictures, a class without any, a csv file of another form, an unreadable folder.
    """
    root, classes = dataset.root, sum(class_names(dataset), ())
    number = {name: i for i, name in enumerate(classes)}
    found: list[tuple[str, str]] = []
    for part in parts(dataset):
        if part.suffix == ".csv":
            found += [(f"images/{name}", label) for name, label in _table(part)]
        else:
            found += _pictures(part, root)
    if not found:
        raise UserError(f"{shown(str(root))} holds no class folders. Put one there for each class.")
    names = tuple(name for name, _ in found)
    labels = torch.tensor([number[label] for _, label in found], dtype=torch.int64)
    firsts = copies.firsts(root, names, labels) if dataset.name == "folder" else None
    return Listing(root, names, labels, classes, firsts)


def _pictures(part: Path, root: Path) -> Iterator[tuple[str, str]]:
    """(path below `root`, class) of each picture, as torchvision's ImageFolder finds them."""
    from torchvision.datasets.folder import IMG_EXTENSIONS  # slow to import

    def stop(error: OSError) -> None:
        raise _unreadable(error) from error

    for label in subfolders(part):
        found, seen = [], {os.path.realpath(part / label)}
        for here, folders, names in os.walk(part / label, onerror=stop, followlinks=True):
            ours = sorted((n for n in folders if not hidden(n)), reverse=True)
            inside = {os.path.realpath(os.path.join(here, n)): n for n in ours}  # a to z: a counts
            folders[:] = sorted(name for real, name in inside.items() if real not in seen)
            seen |= inside.keys()  # links may lead in circles
            found += [
                (here, name)
                for name in names
                if not hidden(name) and name.lower().endswith(IMG_EXTENSIONS)
            ]
        if not found:
            raise UserError(
                f"The class folder {shown(str(part / label))} holds no pictures. Put some there "
                f"({' '.join(IMG_EXTENSIONS)}), or remove the folder."
            )
        for here, name in sorted(found):
            yield Path(here, name).relative_to(root).as_posix(), shown(label)


def _table(path: Path) -> list[tuple[str, str]]:
    """(filename, label) of each line of a csv file."""
    text = reading.text(path, reading.TABLE_LIMIT, "utf-8-sig")
    try:
        lines = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"{path} is no csv file in UTF-8 ({error}).") from error
    if not lines or not all(line.get("filename") and line.get("label") for line in lines):
        raise UserError(
            f"{path} is expected to have lines 'filename,label' under a first line with these two words."
        )
    for line in lines:
        name = PurePosixPath(line["filename"].replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in "".join(name.parts[:1]):
            raise UserError(
                f"{path} names {line['filename']!r}, which lies outside of its images folder."
            )
    return [(line["filename"], line["label"]) for line in lines]


def flowers102(dataset: Dataset) -> Listing:
    """Oxford's 102 flowers (M.-E. Nilsback, A. Zisserman, 2008), in the order of their numbers.

    The official train, val and test images are not told apart: they split images, this library
    splits classes, and 20 training images of a class would leave the ancestor too few.

    Raises:
        UserError: files are missing, or their list of labels is not the original.
    """
    from scipy.io import loadmat
    from torchvision.datasets import Flowers102

    root = dataset.root / FLOWERS_FOLDER
    table = root / FLOWERS_LABELS
    if not ((root / "jpg").is_dir() and table.is_file()):
        raise dataset.missing(root)
    found = hashlib.md5(
        reading.content(table, reading.TABLE_LIMIT), usedforsecurity=False
    ).hexdigest()
    if found != FLOWERS_MD5:
        raise UserError(
            f"{table} is damaged or not the original: its md5 is {found}, {FLOWERS_MD5} is "
            "expected. Delete it and fetch it again."
        )
    labels = torch.from_numpy(loadmat(table)["labels"].astype(np.int64).flatten()) - 1
    names = tuple(f"jpg/image_{i:05d}.jpg" for i in range(1, len(labels) + 1))
    return Listing(root, names, labels, tuple(Flowers102.classes))
