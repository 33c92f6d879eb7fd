"""Passes over images in pieces that fit into memory."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from tqdm import tqdm

from lgutils.errors import UserError

T = TypeVar("T")


@dataclass
class Room:
    """How many images one pass may hold: halved whenever memory runs out, never raised again.

    Attributes:
        size: images a pass.
        task: what the passes are for, in the message to the user.
    """

    size: int
    task: str

    def use(self, count: int, work: Callable[[int], T]) -> T:
        """Call `work(size)` until it ends without running out of memory.

        Args:
            count: images at hand; a piece is never larger.
            work: begins anew with each call, and handles pieces of at most `size` images.
        Raises:
            UserError: not even one image at a time fits.
        """
        while True:
            try:
                return work(self.size)
            except torch.OutOfMemoryError as error:
                self._halve(min(count, self.size), error)
            torch.cuda.empty_cache()  # here, where the error no longer holds the failed pass

    def _halve(self, tried: int, error: Exception) -> None:
        if tried <= 1:
            raise UserError(
                f"Out of memory: {self.task} does not fit even with one image at a time. Take a smaller "
                "model or smaller images, or a device with more memory."
            ) from error
        self.size = tried // 2
        tqdm.write(
            f"Out of memory: {self.task} goes on with {self.size} images at a time instead of {tried}.",
            file=sys.stderr,
        )
