"""Last steps of loading: fewer images, one size, memory or files, and what cannot be read."""

import contextlib
import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from tqdm import tqdm

from lgutils import files, reading
from lgutils.data.decode import Decoder, Files, Scaled, common_size, quiet
from lgutils.data.names import shown
from lgutils.data.pictures import Pictures, cores
from lgutils.data.sets import ImageSet
from lgutils.errors import UserError

LIMIT = 2 * 2**30  # bytes: larger sets stay files; this is what a laptop can spare
Row = Annotated[str, Meta(pattern="^[0-9]{1,12}$")]  # a number, as JSON has it for a name
BAD = 0.01  # the share of pictures that may be unreadable


def _some(found: ImageSet, rows: Tensor) -> ImageSet:
    return replace(
        found, images=found.images[rows], labels=found.labels[rows], held_out=found.held_out[rows]
    )


def thinned(found: ImageSet, most: int) -> ImageSet:
    """The first images of each class, held-out ones in their proportion."""
    keep = torch.zeros(len(found.labels), dtype=torch.bool)
    for c in range(len(found.classes)):
        mine = found.labels == c
        held, trained = (
            (mine & part).nonzero()[:, 0] for part in (found.held_out, ~found.held_out)
        )
        share = min(1.0, most / max(1, len(held) + len(trained)))
        kept = round(share * len(held))
        keep[held[:kept]] = True
        keep[trained[: most - kept]] = True
    return _some(found, keep)


def settled(found: ImageSet, pixels: int | None, progress: bool) -> ImageSet:
    """Scale the images, decode them if they fit into memory, and leave out what cannot be read."""
    images = found.images
    if isinstance(images, Tensor):
        if pixels in (None, images.shape[-1]):
            return found
        return replace(found, images=_in_memory(Pictures.of(Scaled(images, pixels)), progress)[0])
    root, names = images.source.root, tuple(images.source.names[i] for i in images.rows.tolist())
    size = (pixels, pixels) if pixels else common_size(root, names)
    pictures = Pictures.of(Files(root, names, size, pixels))
    images, failed = _in_memory(pictures, progress)
    return _without(replace(found, images=images), names, failed)


def _in_memory(pictures: Pictures, progress: bool) -> tuple[Tensor | Pictures, dict[int, str]]:
    """Decode every picture; keep the pixels if they are no more than `LIMIT` bytes.

    Returns:
        (images, why by row of those that failed).
    """
    if pictures.numel() <= LIMIT:
        whole = torch.empty(pictures.shape, dtype=torch.uint8)
        return whole, _decode(pictures, whole, progress)
    if isinstance(pictures.source, Scaled):
        return pictures, {}
    memory = _memory(pictures.source)
    with contextlib.suppress(UserError):  # absent or damaged: read again
        kept = reading.json_file(memory, dict[Row, str])
        if all(int(row) < len(pictures) for row in kept):
            return pictures, {int(row): why for row, why in kept.items()}
    failed = _decode(pictures, None, progress)
    files.write_text(memory, json.dumps(failed))
    return pictures, failed


def _decode(pictures: Pictures, whole: Tensor | None, progress: bool) -> dict[int, str]:
    """Decode all pictures, into `whole` if it is given; returns why some rows failed.

    Threads do it: Pillow lets go of Python's lock, and unlike processes they need no main guard.
    """
    failed: dict[int, str] = {}
    parts = pictures.rows.split(64)
    pool, decoder = ThreadPoolExecutor(cores()), Decoder(pictures.source)
    bar = tqdm(total=len(pictures), desc="reading pictures", unit=" pictures", disable=not progress)
    try:
        with bar, quiet():
            done = pool.map(lambda part: decoder.read(part.tolist()), parts)
            for part, batch in zip(parts, done, strict=True):
                if whole is not None:
                    whole[part] = batch.images
                failed |= {int(part[i]): why for i, why in batch.failed.items()}
                bar.update(len(part))
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def _memory(source: Files) -> Path:
    """Where it is kept which files of a large set could not be read; other files, another place."""
    digest = hashlib.sha256(repr((source.root, source.size, source.pixels)).encode())
    for name in source.names:
        try:
            told = os.stat(os.path.join(source.root, name))
            digest.update(os.fsencode(f"{name} {told.st_size} {told.st_mtime_ns}"))
        except OSError:
            digest.update(os.fsencode(f"{name} absent"))
    return files.cache_dir() / f"unreadable-{digest.hexdigest()[:16]}.json"


def _without(found: ImageSet, names: tuple[str, ...], failed: dict[int, str]) -> ImageSet:
    """Leave out pictures that cannot be read, and say so once."""
    if not failed:
        return found
    some = [f"{shown(names[row])} ({why})" for row, why in list(failed.items())[:3]]
    first = ", ".join(map(reading.reason, some))
    told = f"{len(failed)} of {len(names)} pictures of {found.name} cannot be read: {first}"
    told += ", ..." if len(failed) > 3 else ""
    if len(failed) > BAD * len(names):
        raise UserError(
            f"{told}. That is more than {BAD:.0%}: copy or fetch the dataset again, or remove the files."
        )
    tqdm.write(f"{told}. They are left out.", file=sys.stderr)
    keep = torch.ones(len(names), dtype=torch.bool)
    keep[list(failed)] = False
    return replace(_some(found, keep), skipped=tuple(names[row] for row in failed))
