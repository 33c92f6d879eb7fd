"""Predictions and accuracies of a model, with their uncertainty."""

from dataclasses import dataclass

import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from lgutils import models
from lgutils.checks import Count, Share, Whole, checked
from lgutils.data import Normalize, Pictures, check_images, check_pair, check_range
from lgutils.errors import UserError
from lgutils.train.memory import Room
from lgutils.train.ranks import Ranks

BATCH = 500  # images a pass; no gradients are kept
NAN = (
    "The model answers with nan, so its accuracy would mean nothing: its training diverged. Train it with a "
    "smaller learning rate."
)


class Diverged(UserError):
    """A loss, a weight or an answer of the model is no longer a number."""


@dataclass(frozen=True)
class Score:
    """Accuracy on n images with its 95 % Wilson interval, all in [0, 1]."""

    accuracy: Share
    low: Share
    high: Share
    n: Whole

    def __str__(self) -> str:
        return f"{self.accuracy:.1%} [{self.low:.1%}, {self.high:.1%}], n = {self.n}"

    @classmethod
    def counted(cls, right: int, n: int) -> "Score":
        """The score of so many right answers among n."""
        interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
        return cls(right / n, float(interval.low), float(interval.high), n)


def predict(
    model: nn.Module, images: Tensor, normalize: Normalize, *, batch_size: int = BATCH
) -> Tensor:
    """Class predictions in evaluation mode; the model's mode is restored.

    Args:
        images: (N, C, H, W) uint8, anywhere.
        batch_size: images a pass; halved as often as needed where memory runs out, which is said.
    Returns:
        (N,) int64 on the CPU.
    Raises:
        UserError: images that are not (N, C, H, W) uint8, or a model that does not answer them with (N, classes).
        Diverged: answers that are no numbers.
    """
    models.check_weights(model)
    check_images(images)
    if not len(images):
        raise UserError("0 images were given; at least one is expected.")
    return _predict(model, images, normalize, _room(batch_size))[0]


def _room(batch_size: int) -> Room:
    return Room(checked("batch_size", batch_size, Count), "evaluation")


@torch.no_grad()
def _predict(
    model: nn.Module, images: Tensor | Pictures, normalize: Normalize, room: Room
) -> tuple[Tensor, int]:
    """Predictions (N,) on the CPU, and how many classes the model tells apart."""
    mode, where = model.training, next(model.parameters()).device

    def work(size: int) -> tuple[Tensor, int]:
        found, lost = [], []
        for part in images.split(size):
            answer = model(normalize(part.to(where)))
            classes = models.classes_of(answer, part)
            lost.append(answer.isnan().any())
            found.append(answer.argmax(1))
        if torch.stack(lost).any():  # asked once, at the end: a GPU would wait for each batch
            raise Diverged(NAN)
        return torch.cat(found).cpu(), classes

    model.eval()
    try:
        with models.explained(model, images.shape[1:]):
            return room.use(len(images), work)
    finally:
        model.train(mode)


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalize: Normalize,
    *,
    batch_size: int = BATCH,
) -> Score:
    """Accuracy over (N, C, H, W) uint8 images and (N,) int64 labels, in float32, by this process alone.

    Raises:
        UserError: see `predict`; labels of another type or number, or outside the model's classes.
    """
    models.check_weights(model)
    most = check_pair((images, labels), "images and labels")
    predicted, classes = _predict(model, images, normalize, _room(batch_size))
    check_range(most, classes)
    return Score.counted(int((predicted == labels.cpu()).sum()), len(labels))


def shared_score(
    model: nn.Module,
    held: tuple[Tensor, Tensor],
    normalize: Normalize,
    room: Room,
    together: Ranks,
) -> Score:
    """Accuracy over the images of all ranks, the same on each; `held` is this rank's share of them.

    Raises:
        Diverged: the answers to some rank's share are no numbers; on all ranks, so that none waits.
    """
    images, labels = held
    right, lost = 0, False
    if len(labels):
        try:
            predicted, classes = _predict(model, images, normalize, room)
            check_range(int(labels.max()), classes)
            right = int((predicted == labels.cpu()).sum())
        except Diverged:
            lost = True
    counts = torch.tensor([right, len(labels), int(lost)], device=together.device)
    right, count, lost = together.sum(counts).tolist()
    if lost:
        raise Diverged(NAN)
    return Score.counted(right, count)
