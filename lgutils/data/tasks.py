"""Few-shot tasks: nested shots and fixed test images, from a seed alone."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lgutils.data.pictures import decoded
from lgutils.data.sets import ImageSet
from lgutils.errors import UserError


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
        if self.n_way < 2:
            raise UserError(f"A {self.n_way}-way task was asked for; 2 ways are the least.")
        if self.n_way > len(classes):
            raise UserError(
                f"A {self.n_way}-way task was asked for, but there are {len(classes)} classes to draw "
                "from. Use fewer ways, or bring more classes."
            )
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
        return decoded(data.images[torch.from_numpy(np.concatenate(rows))]), labels
