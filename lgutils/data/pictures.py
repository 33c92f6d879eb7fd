"""Pictures that are decoded when they are used: too many to keep in memory."""

import hashlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lgutils import machine
from lgutils.data.decode import Decoded, Decoder, Files, Scaled
from lgutils.data.names import shown
from lgutils.errors import UserError

FEW = 1000  # pictures that are decoded sooner than worker processes start
MOST_WORKERS = 8


def _same(batch: Decoded) -> Decoded:
    return batch


class _Reader:
    """A DataLoader whose workers live as long as this object, with another plan for every pass."""

    def __init__(self, source: Files | Scaled, workers: int, pin: bool):
        self.decoder, self.busy = Decoder(source), False
        self.plan: list[list[int]] = []
        options = {}
        if workers:  # spawned as the fleet's: forking a process with threads or CUDA can hang
            options = {"persistent_workers": True, "multiprocessing_context": "spawn"}
        self.loader = DataLoader(
            self.decoder, batch_sampler=self.plan, collate_fn=_same, num_workers=workers,
            pin_memory=pin, generator=torch.Generator(), **options,
        )  # fmt: skip

    def read(self, plan: list[list[int]]) -> Iterator[Decoded]:
        """Decode batch after batch; a second pass beside a running one decodes in this process."""
        if self.busy:
            yield from map(self.decoder.__getitems__, plan)
            return
        self.plan[:], self.busy = plan, True
        unguarded = machine.unguarded() if self.loader.num_workers else ""
        try:
            yield from self.loader
        except RuntimeError as error:  # a worker died
            if unguarded:
                raise UserError(unguarded) from error
            raise
        finally:
            self.busy = False


def cores() -> int:
    """CPU cores that this process may use, at most `MOST_WORKERS`."""
    return min(machine.cores(), MOST_WORKERS)


def _workers(source: Files | Scaled, pictures: int) -> int:
    """Processes for decoding: none where they cost more than they bring, or cannot be."""
    alone = isinstance(source, Scaled) or multiprocessing.current_process().daemon
    return 0 if alone or pictures < FEW else cores()


@dataclass(frozen=True, eq=False)
class Pictures:
    """A lazy stack of pictures that stands where a (N, C, H, W) uint8 tensor would.

    A mask, a slice or row numbers give another lazy stack; one row number gives the picture, a
    (C, H, W) tensor. Batches are decoded by worker processes that live as long as this object, and
    come as uint8 tensors on `device`.

    Attributes:
        source: where the pictures come from.
        rows: (N,) int64, on the CPU; rows of the source.
        device: where batches go.
    """

    source: Files | Scaled
    rows: Tensor
    device: torch.device = torch.device("cpu")
    dtype: ClassVar[torch.dtype] = torch.uint8

    @classmethod
    def of(cls, source: Files | Scaled) -> "Pictures":
        """All pictures of a source."""
        names = source.names if isinstance(source, Files) else source.images
        return cls(source, torch.arange(len(names)))

    def __getstate__(self) -> dict:
        return {k: v for k, v in vars(self).items() if k != "_reader"}  # copies start their own

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.rows), 3, *self.source.size))

    def numel(self) -> int:
        """Number of bytes when decoded."""
        return self.shape.numel()

    def __getitem__(self, index: int | slice | Tensor) -> "Pictures | Tensor":
        if isinstance(index, Tensor):
            index = index.cpu()
        rows = self.rows[index]
        return replace(self, rows=rows) if rows.ndim else decoded(replace(self, rows=rows[None]))[0]

    def to(self, device: torch.device | str) -> "Pictures":
        """The same pictures, with batches on `device`."""
        device = torch.device(device)
        return self if device == self.device else replace(self, device=device)

    @cached_property
    def _reader(self) -> _Reader:
        return _Reader(self.source, _workers(self.source, len(self)), self.device.type == "cuda")

    def batches(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """Decode some parts, each given as positions in this stack: (B, C, H, W) uint8 on `device`.

        Raises:
            UserError: a file that was whole when the set was loaded is damaged or gone.
        """
        plan = [self.rows[part.cpu()].tolist() for part in parts]
        for rows, batch in zip(plan, self._reader.read(plan), strict=True):
            for i, why in batch.failed.items():
                raise UserError(
                    f"The picture {shown(self.source.name(rows[i]))} cannot be read any more ({why}). It could "
                    "when the dataset was loaded: bring it back, or load the dataset again."
                )
            yield batch.images.to(self.device, non_blocking=True)

    def split(self, size: int) -> Iterator[Tensor]:
        """All pictures in order, `size` at a time: (B, C, H, W) uint8 on `device`."""
        return self.batches(torch.arange(len(self)).split(size))

    def checksum(self) -> int:
        """A number from names and sizes of the files: no picture is decoded for it.

        Raises:
            UserError: a file is gone.
        """
        digest = hashlib.sha256(repr(self.source.size).encode())
        for row in self.rows.tolist():
            try:
                digest.update(os.fsencode(self.source.told(row)))
            except OSError as error:
                raise UserError(
                    f"The picture {shown(self.source.name(row))} is gone ({error.strerror}). Bring it back, or "
                    "load the dataset again."
                ) from error
        return int.from_bytes(digest.digest()[:7], "big")


def decoded(images: Tensor | Pictures) -> Tensor:
    """Images as one (N, C, H, W) uint8 tensor, on their device."""
    if isinstance(images, Tensor):
        return images
    if not len(images):
        return torch.empty(images.shape, dtype=torch.uint8, device=images.device)
    return torch.cat(list(images.split(256)))
