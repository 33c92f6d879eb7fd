"""Predictions and accuracies of a model, with their uncertainty."""

from dataclasses import dataclass

import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from lgutils.data import Normalize
from lgutils.reading import Count, Share
from lgutils.train.memory import Room
from lgutils.train.ranks import Ranks

BATCH = 500  # images a pass; no gradients are kept


@dataclass(frozen=True)
class Score:
    """Accuracy on n images with its 95 % Wilson interval, all in [0, 1]."""

    accuracy: Share
    low: Share
    high: Share
    n: Count

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
    """
    return _predict(model, images, normalize, Room(batch_size, "evaluation"))


@torch.no_grad()
def _predict(model: nn.Module, images: Tensor, normalize: Normalize, room: Room) -> Tensor:
    mode, where = model.training, next(model.parameters()).device

    def work(size: int) -> Tensor:
        parts = (normalize(part.to(where)) for part in images.split(size))
        return torch.cat([model(x).argmax(1) for x in parts]).cpu()

    model.eval()
    try:
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
    """Accuracy over (N, C, H, W) uint8 images and (N,) labels, in float32, by this process alone."""
    predicted = predict(model, images, normalize, batch_size=batch_size)
    return Score.counted(int((predicted == labels.cpu()).sum()), len(labels))


def shared_score(
    model: nn.Module,
    held: tuple[Tensor, Tensor],
    normalize: Normalize,
    room: Room,
    together: Ranks,
) -> Score:
    """Accuracy over the images of all ranks, the same on each; `held` is this rank's share of them."""
    images, labels = held
    right = torch.tensor(0)
    if len(labels):
        right = (_predict(model, images, normalize, room) == labels.cpu()).sum()
    counts = torch.stack([right, torch.tensor(len(labels))]).to(together.device)
    return Score.counted(*together.sum(counts).tolist())
