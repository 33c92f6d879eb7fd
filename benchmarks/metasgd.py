"""The reference's side of `condense.py`: `MetaSGD` of the package `learngene` 1.0.0, and its schedule."""

import copy
import math

import torch
from learngene.auto_learngene.utils.meta_optimizers import MetaSGD
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from lgutils.condense import Condenser, resized
from lgutils.condense.norm import BatchNorm2d


class Reference:
    """The reference's side, starting from the state of one of our runs.

    Args:
        run: the run whose networks, adapters and pair weights are copied.
        lean: use our closures around `MetaSGD`, instead of the reference's.
    """

    def __init__(self, run: Condenser, lean: bool):
        self.run, self.lean, config = run, lean, run.config
        self.matching, self.descendant = run.matching, copy.deepcopy(run.matching.descendant)
        for module in () if lean else self.descendant.model.modules():
            if type(module) is BatchNorm2d:
                module.__class__ = nn.BatchNorm2d  # torch's own, as in the reference
        self.weights = copy.deepcopy(run.weights)
        adapters = {k: p for k, p in run.params.items() if k.startswith("adapter")}
        self.branch = nn.ParameterList()
        self.adapters = {}
        for key, tensor in adapters.items() if lean else self._by_pair(adapters).items():
            self.branch.append(nn.Parameter(tensor.clone()))
            self.adapters[key] = self.branch[-1]
        modules = [self.descendant.model, self.branch]
        self.sgd = MetaSGD(
            [p for module in modules for p in module.parameters()], modules, lr=config.lr,
            momentum=config.momentum, weight_decay=config.weight_decay, rollback=True,
            cpu=config.inner_steps > 2,
        )  # fmt: skip
        zero_grad = self.sgd.zero_grad
        self.sgd.zero_grad = lambda: zero_grad(set_to_none=False)
        self.adam = torch.optim.Adam(
            self.weights.parameters(), config.meta_lr, weight_decay=config.meta_weight_decay
        )
        self.meta, self.kept = run._meta_batch()
        self.meta = self.laid_out(self.meta)
        self.done = 0

    def _by_pair(self, adapters: dict[str, Tensor]) -> dict[tuple, Tensor]:
        """Cut the stacked adapters of our run into one convolution for each pair."""
        found, start = {}, dict.fromkeys(range(len(self.matching.slots)), 0)
        for m, n in self.matching.pairs if adapters else ():
            rows = slice(start[n], start[n] + self.matching.widths[m])
            start[n] = rows.stop
            for kind in ("weight", "bias"):
                found[m, n, kind] = adapters[f"adapter.{n}.{kind}"][rows]
        return found

    def laid_out(self, x: Tensor) -> Tensor:
        return x if self.lean else x.contiguous()

    def lr(self) -> float:
        """The learning rate of our cosine; the reference lowers it once an epoch."""
        config = self.run.config
        return config.lr * 0.5 * (1 + math.cos(math.pi * self.done / config.iterations))

    def matching_loss(self) -> Tensor:
        maps = self.descendant(self.meta)[1]
        if self.lean:
            distances = self.matching.distances(maps, self.adapters, self.kept)
            return (self.weights(self.kept.pooled) * distances).sum(1).mean()
        with torch.no_grad():
            theirs = self.matching.ancestor(self.meta)[1]
        compared = {m for m, _ in self.matching.pairs}
        pooled = [f.mean((2, 3)) if m in compared else None for m, f in enumerate(theirs)]
        lam = self.weights(pooled)
        loss = 0.0
        for column, (m, n) in enumerate(self.matching.pairs):
            moved = maps[n]
            if self.adapters:
                weight, bias = (self.adapters[m, n, kind] for kind in ("weight", "bias"))
                moved = torch.nn.functional.conv2d(moved, weight, bias)
            gap = resized(theirs[m], maps[n].shape[2:]) - moved
            gap = gap.abs() if self.run.config.distance == "l1" else gap.pow(2)
            loss = loss + (gap.mean((1, 2, 3)) * lam[:, column]).mean()
        return loss

    def inner(self, x: Tensor, y: Tensor, matching_only: bool = False) -> Tensor:
        if matching_only and self.lean:
            return self.matching_loss()
        logits = self.descendant(x)[0]
        matching = self.matching_loss()
        return (
            matching
            if matching_only
            else cross_entropy(logits, y) + self.run.config.gamma * matching
        )

    def outer(self, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(self.descendant(x)[0], y)

    def step(self) -> None:
        """One meta-iteration, line by line after `train_learngene.py`."""
        x, y = self.run._batch(self.run.training, self.done + 1, augment=True)
        x = self.laid_out(x)
        self.sgd.param_groups[0]["lr"] = self.lr()
        self.sgd.zero_grad()
        self.inner(x, y).mean().backward()
        self.sgd.step(None)
        with sdpa_kernel(SDPBackend.MATH):
            for _ in range(self.run.config.inner_steps):
                self.sgd.zero_grad()
                self.sgd.step(self.inner, x, y, True)
            self.sgd.zero_grad()
            self.sgd.step(self.outer, x, y)
            self.sgd.zero_grad()
            self.adam.zero_grad()
            self.outer(x, y).mean().backward()
            self.sgd.meta_backward()
        self.adam.step()
        self.done += 1
