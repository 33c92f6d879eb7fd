"""Time one meta-iteration of `lgutils` against the reference's `MetaSGD`, and against a floor.

    pip install --no-deps learngene==1.0.0
    python benchmarks/condense.py --family cnn --pairs 7

Same ancestor, pseudo-descendant (pd), batches, number T of matching steps and fixed meta batch (the
"paper" protocol), same process, the sides taking turns:

- ours: `Condenser.step`.
- reference: `MetaSGD` of the package `learngene` 1.0.0, driven by the schedule of its
  `train_learngene.py`. Its closures run the pd on the training batch and the ancestor on the meta
  batch in every matching step and once more in every replay, and compare pair by pair; so they do
  here, on torch's own BatchNorm and memory layout, because that is what the reference does.
- MetaSGD alone: the same class with our closures (no needless runs, the ancestor's answer kept, all
  pairs of a layer at once, our BatchNorm), to show what the hypergradient itself contributes.

All three compute the same hypergradient on phi; this is checked in float64 before anything is timed
in float32 (where a rounding error that flips a max-pool shows). Two things are set from outside for
that: `zero_grad` keeps zeros instead of None, without which MetaSGD fails under torch >= 2, and
targets are shrunk by averaging areas, as ours are.

The floor counts passes by one convention: a forward pass is 1 unit, and differentiating a program
costs twice the program. So a gradient step is 1 + 2 = 3 units, and going back through it, if its
graph was kept, 2 * 3 = 6. With T matching steps, one CE step and J, the last in the order of
reversal needs only a derivative along one direction (2 units), for nothing lies before it:

    matching passes   lasting 3 + rollout 3 T + reversal 6 (T - 1) + 2   =  9 T - 1
    CE passes         lasting 3 + rollout 3 + J 3 + reversal 6           =  15

Units become seconds by the fastest of many forward passes of each kind, timed in the same run.
The convention is rough: where a pass waits for memory or for Python rather than for arithmetic, going
back through it costs less than twice as much, and then ours can come out below 1.
"""

import argparse
import copy
import math
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import torch
from learngene.auto_learngene.utils.meta_optimizers import MetaSGD
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from lgutils import data
from lgutils.ancestry import Ancestor, shipped_path
from lgutils.condense import CondenseConfig, Condenser, resized
from lgutils.condense.norm import BatchNorm2d

TOLERANCE = 1e-6  # of the hypergradient, in float64


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
        lam = self.weights([f.mean((2, 3)) for f in theirs])
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
        x, y = self.run._batch(self.run.training, self.done + 1)
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


def difference(ours: nn.Module, theirs: nn.Module) -> float:
    """Largest difference of two gradients on phi, relative to the largest entry."""
    a, b = (torch.cat([p.grad.flatten() for p in w.parameters()]) for w in (ours, theirs))
    return float((a - b).abs().max() / b.abs().max())


def seconds(call: Callable) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def floor(run: Condenser, repeats: int) -> tuple[float, int, float, int]:
    """Seconds of one matching and one CE forward pass, each with the number of units it counts."""
    x, y = run._batch(run.training, 1)
    meta, targets = run._meta_batch()
    lam = run.weights(targets.pooled).detach()

    def match() -> Tensor:
        return run._matched(run.params, run._run(run.params, meta)[1], targets, lam)

    def classify() -> Tensor:
        return cross_entropy(run._run(run.params, x)[0], y)

    with torch.no_grad():
        fastest = [min(seconds(call) for _ in range(repeats)) for call in (match, classify)]
    return fastest[0], 9 * run.config.inner_steps - 1, fastest[1], 15


def start(family: str, inner_steps: int | None, dtype: torch.dtype) -> Condenser:
    """The quick preset of a family under the paper's protocol, on the shipped ancestor."""
    torch.set_default_dtype(torch.float32)  # the file's hash is over float32 weights
    shipped = Ancestor.load(shipped_path(family))
    torch.set_default_dtype(dtype)
    config = CondenseConfig.preset(family, "quick", "paper")
    if inner_steps:
        config = replace(config, inner_steps=inner_steps)
    images = data.load().of(data.split("glyphs").open_world, held_out=False)
    card = SimpleNamespace(normalize=lambda x: shipped.card.normalize(x).to(dtype))
    ancestor = SimpleNamespace(model=shipped.model.to(dtype), card=card)
    return Condenser(ancestor, images, images, config, torch.device("cpu"))


def sides_of(run: Condenser) -> dict[str, Reference]:
    return {"reference": Reference(run, lean=False), "MetaSGD alone": Reference(run, lean=True)}


def check(family: str, inner_steps: int | None) -> None:
    """Compare the hypergradients on phi over two meta-iterations, in float64."""
    run = start(family, inner_steps, torch.float64)
    sides = sides_of(run)
    for _ in range(2):
        run.step()
        for side in sides.values():
            side.step()
    for name, side in sides.items():
        gap = difference(run.weights, side.weights)
        print(f"hypergradient on phi, ours against {name}: relative difference {gap:.1e} at most")
        assert gap < TOLERANCE, f"{name} and ours differ by {gap:.1e}; above {TOLERANCE}"


def report(name: str, times: list[float], ours: list[float] | None = None) -> None:
    line = f"{name:<16}{statistics.median(times):8.3f} s"
    if ours:
        ratios = [t / o for t, o in zip(times, ours, strict=True)]
        line += f"   {statistics.median(ratios):5.2f} times ours"
        line += f" ({min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)})"
    print(line)


def main(family: str, pairs: int, inner_steps: int | None) -> None:
    check(family, inner_steps)
    run = start(family, inner_steps, torch.float32)
    sides = sides_of(run)
    print(f"{family}: T = {run.config.inner_steps}, batch {run.config.batch_size}, float32")
    for side in (run, *sides.values()):
        side.step()  # warm-up
    times: dict[str, list[float]] = {"ours": [], **{name: [] for name in sides}}
    for _ in range(pairs):
        for name, side in {"ours": run, **sides}.items():
            times[name].append(seconds(side.step))
    report("ours", times["ours"])
    for name in sides:
        report(name, times[name], times["ours"])
    match, match_units, ce, ce_units = floor(run, 10 * pairs)
    least = match * match_units + ce * ce_units
    ratio = statistics.median(times["ours"]) / least
    print(
        f"{'floor':<16}{least:8.3f} s   ({match_units} x {match * 1e3:.1f} ms matching + "
        f"{ce_units} x {ce * 1e3:.1f} ms CE); ours is {ratio:.2f} times the floor"
    )
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--family", choices=("cnn", "vit"), default="cnn")
    parser.add_argument("--pairs", type=int, default=7, help="timed rounds of every side (7)")
    parser.add_argument("--inner-steps", type=int, help="T; default: the preset's")
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This overload of add_")  # MetaSGD's, harmless
        main(options.family, options.pairs, options.inner_steps)
