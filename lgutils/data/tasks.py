"""Few-shot tasks: nested shots and fixed test images, from a seed alone."""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from lgutils.checks import MOST, Count, Seed, Whole, checked, expect, typed
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

    n_way: Annotated[
        int, Meta(ge=2, le=MOST, description="must be a whole number; 2 ways are the least")
    ] = 5
    k_shot: Count = 10
    seed: Seed = 0

    def __post_init__(self):
        typed(self)

    def draw(self, data: ImageSet, classes: tuple[int, ...], *, max_test: int = 40) -> Episode:
        """Pick the task's images.

        Args:
            data: where to draw from: training images for shots, held-out images for the test.
            classes: the novel classes to choose from.
            max_test: test images of each class, at most; 0 for a task without a test.
        Raises:
            UserError: too few classes, a class that is not there or stands there twice, or too few images.
        """
        expect(data, ImageSet, "data", "Draw from what data.load gives.")
        data.check_classes(classes)
        max_test = checked("max_test", max_test, Whole)
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
            if self.k_shot > len(pool):
                raise UserError(
                    f"Class {data.classes[c]!r} of {data.name} has {len(pool)} training images, too "
                    f"few for {self.k_shot} shots. Choose k_shot between 1 and {len(pool)}."
                )
            train.append(rng.permutation(pool)[: self.k_shot])
            rest = ((data.labels == c) & data.held_out).nonzero()[:, 0].numpy()
            if max_test and not len(rest):
                raise UserError(
                    f"Class {data.classes[c]!r} of {data.name} has no held-out images to test on. Leave the "
                    "class out, hold some of its images out, or draw without a test (max_test=0)."
                )
            test.append(rng.permutation(rest)[:max_test])
        shots, tests = (self._gather(data, rows) for rows in (train, test))
        text = json.dumps([data.name, chosen, [r.tolist() for r in train + test]])
        return Episode(chosen, shots, tests, hashlib.sha256(text.encode()).hexdigest())

    @staticmethod
    def _gather(data: ImageSet, rows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        labels = torch.cat([torch.full((len(r),), i) for i, r in enumerate(rows)])
        return decoded(data.images[torch.from_numpy(np.concatenate(rows))]), labels
