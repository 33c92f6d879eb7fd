"""Forgetting: how much of it there is, and two remedies, replay and elastic weight consolidation.

The measures take an accuracy matrix (T, T): row i is the accuracy on every task after learning task i,
in [0, 1]; what lies above the diagonal is not used.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from lgutils import models
from lgutils.data import Batches, Normalize
from lgutils.errors import UserError
from lgutils.report.stats import Interval, mean

Sample = tuple[Tensor, Tensor]


def _matrix(matrix: ArrayLike, *, learned: bool = True) -> np.ndarray:
    """A checked (T, T) matrix; `learned` asks for the whole lower triangle, else for the last row."""
    found = np.asarray(matrix, dtype=float)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not len(found):
        raise UserError(f"An accuracy matrix is square, (T, T); the shape is {found.shape}.")
    if learned and len(found) < 2:
        raise UserError("One task was given; forgetting and transfer need 2 tasks or more.")
    used = found[np.tril_indices(len(found))] if learned else found[-1]
    if not ((used >= 0) & (used <= 1)).all():
        raise UserError(
            "The accuracy matrix has values outside [0, 1] or gaps on or below its diagonal. Measure "
            "every task that was learned after each task."
        )
    return found


def average_accuracy(matrix: ArrayLike) -> float:
    """Mean accuracy over all tasks after the last one: the last row alone is used."""
    return float(_matrix(matrix, learned=False)[-1].mean())


def forgetting(matrix: ArrayLike) -> float:
    """How far tasks fell from their best: max over earlier rows minus the last row, mean over tasks.

    The last task, which nothing came after, is left out. Negative where tasks got better.

    Source: Chaudhry et al. (2018), arXiv 1801.10112, section 3.
    """
    found = _matrix(matrix)
    best = [found[j:-1, j].max() for j in range(len(found) - 1)]
    return float(np.mean(best - found[-1, :-1]))


def backward_transfer(matrix: ArrayLike) -> float:
    """What later tasks did to earlier ones: last row minus diagonal, mean over all but the last task.

    Source: Lopez-Paz and Ranzato (2017), arXiv 1706.08840, equation 3.
    """
    found = _matrix(matrix)
    return float((found[-1] - found.diagonal())[:-1].mean())


def learning_accuracy(matrix: ArrayLike) -> float:
    """Mean accuracy on each task right after learning it: the diagonal.

    Source: Riemer et al. (2019), arXiv 1810.11910, section 5.
    """
    return float(_matrix(matrix).diagonal().mean())


MEASURES: dict[str, Callable[[ArrayLike], float]] = {
    "average accuracy": average_accuracy,
    "forgetting": forgetting,
    "backward transfer": backward_transfer,
    "learning accuracy": learning_accuracy,
}


def summary(matrices: Sequence[ArrayLike]) -> dict[str, Interval]:
    """Every measure over several lives, with its 95 % t interval; n counts the lives.

    Args:
        matrices: accuracy matrices of lives of one method that differ in the order of the classes.
    """
    return {name: mean([of(m) for m in matrices]) for name, of in MEASURES.items()}


def memorised(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Rows of a memory: so many images of each class, or all where a class has fewer.

    Which images of a class are kept depends on the class alone: a memory that grows by more classes
    keeps what it had.

    Args:
        labels: (N,) int64.
    Returns:
        (M,) int64 positions, sorted.
    """
    kept = []
    for c in labels.unique().tolist():
        rows = (labels == c).nonzero()[:, 0]
        generator = torch.Generator().manual_seed(seed * 1_000_003 + c)
        kept.append(rows[torch.randperm(len(rows), generator=generator)[:per_class]])
    return torch.cat(kept).sort().values


def rehearsed(memory: Batches) -> Callable[[Tensor, Tensor], Sample]:
    """A function that trades the end of each batch for remembered images.

    The batch keeps its size, so a life with replay sees as many images as one without. `memory` says
    how many are traded (its batch size); it is gone through in shuffled passes, so every image, and
    with equal numbers a class every class, is remembered equally often.

    Source: Chaudhry et al. (2019), arXiv 1902.10486; there they are added to the batch.
    """
    batches = _endless(memory)

    def mixed(x: Tensor, y: Tensor) -> Sample:
        old_x, old_y = next(batches)
        traded = min(len(old_y), len(y) // 2)  # the last batch of an epoch may be small
        kept = len(y) - traded
        old_x, old_y = old_x[:traded].to(x.device), old_y[:traded].to(y.device)
        return torch.cat([x[:kept], old_x]), torch.cat([y[:kept], old_y])

    return mixed


def _endless(batches: Batches) -> Iterator[Sample]:
    for number in count(1):
        yield from batches.epoch(number)


def fisher(
    model: nn.Module, images: Tensor, normalize: Normalize, outputs: int, *, seed: int = 0,
    chunk: int = 50,
) -> dict[str, Tensor]:  # fmt: skip
    """Diagonal of the Fisher information of a classifier, by parameter name.

    The true, expected Fisher: for every image one label is drawn from the model's own predictions
    (not the image's label), and the squared gradient of its log-probability is averaged over images.
    In evaluation mode and without augmentation.

    Args:
        images: (N, C, H, W) uint8, all of a task.
        outputs: how many of the first logits count as classes: those seen so far.
        seed: draws the labels.
        chunk: images at once; memory grows with it.
    Source: Kirkpatrick et al. (2017), arXiv 1612.00796. Kunstner et al. (2019), arXiv 1905.12558, say
    why the labels must be drawn. The reference takes a fixed batch.
    """
    model = models.copied(model).eval()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    buffers, where = dict(model.named_buffers()), next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)

    def log_probability(parameters: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(model, (parameters, buffers), (x[None],))[0, :outputs]
        return logits.log_softmax(0).gather(0, y[None])[0]

    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for part in images.split(chunk):
        x = normalize(part.to(where)).to(next(iter(parameters.values())).dtype)
        with torch.no_grad():
            chances = model(x)[:, :outputs].softmax(1).cpu()
        y = torch.multinomial(chances, 1, generator=generator)[:, 0].to(where)
        with sdpa_kernel(SDPBackend.MATH):  # fused attention cannot be mapped over images
            found = vmap(grad(log_probability), (None, 0, 0))(parameters, x, y)
        for name, each in found.items():
            total[name] += each.square().sum(0)
    return {name: value / len(images) for name, value in total.items()}


def anchored(
    importance: Mapping[str, Tensor], anchor: Mapping[str, Tensor], strength: float
) -> Callable[[nn.Module], Tensor]:
    """The penalty of elastic weight consolidation, strength / 2 * sum F (p - p*)^2, of a model.

    Args:
        importance: F by parameter name, summed over the tasks so far.
        anchor: p*, the parameters at the end of the last task.
    Source: Kirkpatrick et al. (2017), arXiv 1612.00796, equation 3, with one anchor and a running sum
    as in Schwarz et al. (2018), arXiv 1805.06370.
    """
    anchor = {name: tensor.detach().clone() for name, tensor in anchor.items()}

    def penalty(model: nn.Module) -> Tensor:
        total = 0.0
        for name, p in model.named_parameters():
            name = name.removeprefix("_orig_mod.")  # of torch.compile
            weight, before = importance[name].to(p.device), anchor[name].to(p.device)
            total = total + (weight * (p - before).square()).sum()
        return strength / 2 * total

    return penalty
