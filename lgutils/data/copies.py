"""The same picture twice: it must not be trained on and held out as well."""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from lgutils.data.names import shown

TAIL = 4096  # bytes of a file's end: those of two pictures of equal size hardly ever agree


def firsts(root: Path, names: Sequence[str], labels: Tensor) -> Tensor:
    """For each file the row of the first one with the same bytes, mostly its own; copies are told.

    The same picture saved anew, or scaled, has other bytes and is not noticed.

    Args:
        names: (N,) paths below `root`.
        labels: (N,) int64, their classes.
    Returns:
        (N,) int64.
    """
    first, copies, unclear = torch.arange(len(names)), [], []
    for group in alike([root / name for name in names]):
        first[group] = group[0]
        copies += group[1:]
        if len(labels[group].unique()) > 1:
            unclear += group
    _say(copies, names, "copies of others, byte for byte, and take their side of the split")
    _say(unclear, names, "the same as one of another class: one of the two labels is wrong")
    return first


def _say(rows: list[int], names: Sequence[str], what: str) -> None:
    if rows:
        some = ", ".join(shown(names[row]) for row in rows[:4]) + (", ..." if rows[4:] else "")
        tqdm.write(f"{len(rows)} of {len(names)} pictures are {what}: {some}", file=sys.stderr)


def alike(paths: Sequence[Path]) -> list[list[int]]:
    """Positions of files with the same bytes, in groups of two or more; empty files are passed over.

    Files of one size are told apart by their last `TAIL` bytes; only where these agree too are they read
    to the end. So a folder without copies costs little.
    """
    groups: Iterable[list[int]] = [list(range(len(paths)))]
    for told in (_size, _tail, _digest):
        groups = [finer for group in groups for finer in _parted(group, paths, told)]
    return list(groups)


def _parted(
    group: list[int], paths: Sequence[Path], told: Callable[[Path], object]
) -> Iterable[list[int]]:
    same = defaultdict(list)
    for row in group:
        try:
            same[told(paths[row])].append(row)
        except OSError:
            continue  # it is named where pictures are decoded
    return [rows for key, rows in same.items() if key and len(rows) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _tail(path: Path) -> bytes:
    with path.open("rb") as handle:
        handle.seek(max(0, path.stat().st_size - TAIL))
        return handle.read()


def _digest(path: Path) -> bytes:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").digest()
