"""The processes that train one model together: one, or those of `torchrun` or `accelerate launch`.

Each process (rank) computes the gradients of its share of every batch, then all gradients are summed: one
exchange a step, after the backward pass. DistributedDataParallel would exchange during that pass. It is not
used, because an exchange that begins inside the pass hangs if one rank runs out of memory there and starts
again, or if its share of a small batch is empty, and it would not see an objective that calls more than the
model's forward.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed, nn

from lgutils import reading
from lgutils.errors import UserError, missing


def device(name: str | None = None) -> torch.device:
    """The device to use: the one named, else a GPU where there is one, else the CPU.

    Raises:
        UserError: torch does not know it, or cannot compute on it here.
    """
    found = _named(name)
    try:
        (torch.ones(1, device=found) + 1).item()
    except Exception as error:  # each backend has its own kind: absent, no such number, no data
        why = "is there" if name is None else "was asked for"
        raise UserError(
            f"Device {str(found)!r} {why}, but torch cannot compute on it here ({reading.reason(error)}). "
            "Use 'cpu', or another device."
        ) from error
    return found


def _named(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name if isinstance(name, str | torch.device) else repr(name))
    except RuntimeError as error:
        raise UserError(f"Unknown device {name!r}. Use 'cpu', 'cuda' or 'cuda:1'.") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"Device {name!r} was asked for, but torch sees no GPU. Use 'cpu'.")
    return found


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone by default, and then nothing is exchanged.

    Methods that exchange must be called by all ranks, in the same order.

    Attributes:
        device: where this process computes.
        rank: its number, 0 to size - 1; rank 0 is the main process, which writes files and bars.
        size: number of processes, on all machines.
        state: accelerate's `PartialState`; None alone.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    state: Any = field(default=None, repr=False)

    @property
    def main(self) -> bool:
        return self.rank == 0

    def span(self, count: int) -> slice:
        """This rank's part of `count` things: neighbours, sizes differ by at most one, maybe none."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def share(self, rows: Tensor) -> Tensor:
        """This rank's part of some rows; alone, what was given."""
        return rows if self.size == 1 else rows[self.span(len(rows))]

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a contiguous tensor over all ranks, in place; returns it."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, model: nn.Module) -> None:
        """Sum the gradients of all ranks; a missing one counts as zero."""
        if self.size > 1:
            trained = [p for p in model.parameters() if p.requires_grad]
            for p in trained:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
            _in_one((p.grad for p in trained), self.sum)

    def start_alike(self, model: nn.Module) -> None:
        """Give all ranks the weights and buffers of the main process."""
        if self.size > 1:
            for tensor in [*model.parameters(), *model.buffers()]:
                _in_one([tensor.detach()], lambda flat: distributed.broadcast(flat, 0))

    def mean_buffers(self, model: nn.Module) -> None:
        """Give all ranks the mean of their buffers: what BatchNorm saw differs with the share."""
        if self.size > 1:  # in float64 the mean of equal float32 or small whole numbers is exact
            buffers = [b for b in model.buffers() if b.numel()]
            if buffers:
                _in_one(buffers, lambda flat: self.sum(flat).div_(self.size), torch.float64)

    def agree(self, number: int) -> bool:
        """Whether all ranks gave the same whole number."""
        ends = torch.tensor([number, -number], device=self.device)
        if self.size > 1:
            distributed.all_reduce(ends, distributed.ReduceOp.MAX)
        return bool(ends.sum() == 0)

    def all(self, fact: bool) -> bool:
        """Whether it is so on every rank."""
        found = torch.tensor(int(fact), device=self.device)
        if self.size > 1:
            distributed.all_reduce(found, distributed.ReduceOp.MIN)
        return bool(found)

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.size > 1:
            self.state.wait_for_everyone()

    def main_first(self) -> AbstractContextManager:
        """What the block puts into the cache is made by one process of each machine; others wait."""
        return self.state.local_main_process_first() if self.size > 1 else nullcontext()


def _in_one(
    tensors: Iterable[Tensor], change: Callable[[Tensor], Any], dtype: torch.dtype | None = None
) -> None:
    """Change tensors in place as one vector: one exchange instead of hundreds."""
    tensors = list(tensors)
    flat = torch.cat([t.flatten().to(dtype or t.dtype) for t in tensors])
    change(flat)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors])):
        tensor.copy_(part.view(tensor.shape))


def launched() -> bool:
    """Whether a launcher started several processes, and this is one of them.

    Worker processes that such a process starts by itself (a fleet's) inherit its environment, but not its
    place among the ranks: they are alone.
    """
    size = os.environ.get("WORLD_SIZE") or "1"
    if not size.isdecimal() or int(size) < 1:
        raise UserError(
            f"WORLD_SIZE is {size!r}; a number of processes is expected. Unset it to work alone."
        )
    if int(size) == 1:
        return False
    if multiprocessing.parent_process() is not None and not distributed.is_initialized():
        return False
    if not os.environ.get("RANK"):
        raise UserError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but RANK is not set. Start the processes with "
            "`torchrun` or `accelerate launch`, or unset WORLD_SIZE to work alone."
        )
    return True


def is_main() -> bool:
    """Whether this process writes files and talks: yes, unless it is another rank than 0 of a launch."""
    return not launched() or os.environ["RANK"] == "0"


def join(device_name: str | None = None) -> Ranks:
    """Join the processes that were launched together; alone if this one was started by itself.

    The launcher and accelerate decide which GPU is whose (LOCAL_RANK), and NCCL or, on CPUs, gloo carries
    what is exchanged.

    Args:
        device_name: see `device`; with several processes "cpu", "cuda" or None.
    Raises:
        UserError: accelerate is missing; one GPU was named for all; another device than before.
    """
    if not launched():
        return Ranks(device(device_name))
    where = _named(device_name)
    if where.index is not None:
        raise UserError(
            f"{os.environ['WORLD_SIZE']} processes cannot share {device_name!r}. Leave out the device: "
            "each takes the GPU of its number."
        )
    try:
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env
    except ImportError as error:
        what = f"{os.environ['WORLD_SIZE']} processes were launched, which needs accelerate"
        raise missing(what, "cluster") from error
    state = PartialState(cpu=where.type == "cpu" or parse_flag_from_env("ACCELERATE_USE_CPU"))
    if device_name is not None and state.device.type != where.type:
        raise UserError(
            f"These processes work together on {state.device.type}, so {device_name!r} cannot be used "
            f"beside it. Leave out the device."
        )
    return Ranks(state.device, state.process_index, state.num_processes, state)
