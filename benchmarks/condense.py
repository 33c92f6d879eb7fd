"""Time one meta-iteration of `lgutils` against the reference's `MetaSGD`, and against a floor.

    pip install --no-deps learngene==1.0.0
    python benchmarks/condense.py --shape cnn --rounds 7
    python benchmarks/condense.py --shape vgg16
    python benchmarks/condense.py --shape vit-s --batch 4

Shapes: "cnn" and "vit" are the quick presets on the shipped ancestors, all pairs of blocks. "vgg16" and
"vit-s" are the paper's (`lgutils.recipes`): VGG16-BN and VGG9 at 32 px, T = 5, the 25 pairs of the layers
before the pools; ViT-S/16 with 12 blocks and with 6, T = 2, `--px` 224, the 18 pairs of tokens that enter
every second block; both with batches of 64, which at 224 px are for a GPU. There the ancestor has random
weights, for arithmetic does not care, and the images are glyphs.

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
in float32 (where a rounding error that flips a max-pool shows): on the quick preset of the same family
with the same T, and for the large shapes once more on the shape itself with a batch of 4 (vit-s: at
64 px). Two things are set from outside for that: `zero_grad` keeps zeros instead of None, without
which MetaSGD fails under torch >= 2, and targets are shrunk by averaging areas, as ours are.

The floor counts passes by one convention: a forward pass is 1 unit, and differentiating a program
costs twice the program. So a gradient step is 1 + 2 = 3 units, and going back through it, if its
graph was kept, 2 * 3 = 6. With T matching steps, one CE step and J, the last in the order of
reversal needs only a derivative along one direction (2 units), for nothing lies before it:

    matching passes   lasting 3 + rollout 3 T + reversal 6 (T - 1) + 2   =  9 T - 1
    CE passes         lasting 3 + rollout 3 + J 3 + reversal 6           =  15

Units become seconds by the fastest of many forward passes of each kind, timed in the same run.
The convention is rough: where a pass waits for memory or for Python rather than for arithmetic, going
back through it costs less than twice as much, and then ours can come out below 1.

Memory is the growth above what stands before the first of two meta-iterations, each side in a fresh
process: of the resident set on a CPU (Linux), of what torch's allocator hands out on a GPU.
"""

import argparse
import statistics
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch
from common import growth, machine, ratios, seconds, spread, table, turns
from metasgd import Reference
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from lgutils import data, models, recipes, train
from lgutils.ancestry import Ancestor, shipped_path
from lgutils.condense import CondenseConfig, Condenser
from lgutils.data import Normalize
from lgutils.errors import UserError

TOLERANCE = 1e-6  # of the hypergradient, in float64
FAMILIES = {"cnn": "cnn", "vit": "vit", "vgg16": "cnn", "vit-s": "vit"}  # shape: its quick family
SIDES = ("ours", "reference", "MetaSGD alone")


@dataclass(frozen=True)
class Shape:
    """What to condense.

    Attributes:
        name: one of `FAMILIES`.
        px: pixels of a side, for "vit-s"; all others have 32.
        batch, inner_steps: images of a batch and T; None for those of the preset.
    """

    name: str
    px: int = 224
    batch: int | None = None
    inner_steps: int | None = None

    def __post_init__(self):
        if self.name not in FAMILIES:
            raise UserError(f"Shape {self.name!r} is none of {', '.join(FAMILIES)}.")

    @property
    def family(self) -> str:
        return FAMILIES[self.name]

    @property
    def large(self) -> bool:
        return self.name != self.family

    def _sized(self, kwargs: Mapping) -> dict:
        return {**kwargs, "img_size": self.px} if self.name == "vit-s" else dict(kwargs)

    @property
    def config(self) -> CondenseConfig:
        """The preset under the paper's protocol, with what was asked for instead."""
        scale = "paper" if self.large else "quick"
        config = CondenseConfig.preset(self.name, scale, "paper", dataset="glyphs")
        asked = {"batch_size": self.batch, "inner_steps": self.inner_steps}
        asked = {k: v for k, v in asked.items() if v is not None}
        return replace(config, arch_kwargs=self._sized(config.arch_kwargs), **asked)

    @property
    def small(self) -> "Shape":
        """The quick preset of the family, with the same T."""
        return Shape(self.family, inner_steps=self.config.inner_steps)

    def ancestor(self) -> tuple[nn.Module, Normalize]:
        """The shipped ancestor, or one of the paper's shape with random weights."""
        if not self.large:
            shipped = Ancestor.load(shipped_path(self.family))
            return shipped.model, shipped.card.normalize
        arch = recipes.find(self.name, "paper").ancestor
        model = models.create(arch.arch, 64, **self._sized(arch.kwargs))
        return model.eval(), Normalize((0.5,) * 3, (0.25,) * 3)

    def images(self) -> tuple[Tensor, Tensor]:
        """Glyphs of the open-world classes; at 224 px only so many as the batches need."""
        images, labels = data.load().of(data.split("glyphs").open_world, held_out=False)
        if self.name != "vit-s":
            return images, labels
        rows = torch.linspace(0, len(labels) - 1, max(16, 4 * self.config.batch_size)).long()
        large = interpolate(images[rows].float(), size=self.px, mode="bilinear")
        return large.round().byte(), labels[rows]


def start(shape: Shape, dtype: torch.dtype, where: torch.device) -> Condenser:
    """Our side, about to begin."""
    model, normalize = shape.ancestor()  # before the default changes: its hash is over float32
    card = SimpleNamespace(normalize=lambda x: normalize(x).to(dtype))
    ancestor, images = SimpleNamespace(model=model.to(dtype), card=card), shape.images()
    try:
        torch.set_default_dtype(dtype)  # of the pseudo-descendant, which is built there
        return Condenser(ancestor, images, images, shape.config, where)
    finally:
        torch.set_default_dtype(torch.float32)


def sides_of(run: Condenser) -> dict[str, Reference]:
    return {name: Reference(run, lean=name == "MetaSGD alone") for name in SIDES[1:]}


def difference(ours: nn.Module, theirs: nn.Module) -> float:
    """Largest difference of two gradients on phi, relative to the largest entry."""
    a, b = (torch.cat([p.grad.flatten() for p in w.parameters()]) for w in (ours, theirs))
    return float((a - b).abs().max() / b.abs().max())


def check(
    shape: Shape, where: torch.device, *, iterations: int = 2, tolerance: float = TOLERANCE
) -> dict[str, float]:
    """Compare the hypergradients on phi over some meta-iterations, in float64.

    Returns:
        The last relative difference by side.
    Raises:
        UserError: one above the tolerance, or not a number.
    """
    run = start(shape, torch.float64, where)
    sides, gaps = sides_of(run), {}
    for _ in range(iterations):
        run.step()
        for name, side in sides.items():
            side.step()
            gaps[name] = difference(run.weights, side.weights)
            if not gaps[name] < tolerance:
                raise UserError(f"{name} and ours differ by {gaps[name]:.1e}, above {tolerance}.")
    return gaps


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


def measured(shape: Shape, side: str, where: torch.device) -> int | None:
    """Bytes by which memory grows in two meta-iterations of one side; for a fresh process."""
    run = start(shape, torch.float32, where)
    run._meta_batch()
    step = (run if side == "ours" else Reference(run, lean=side == "MetaSGD alone")).step
    return growth(lambda: [step() for _ in range(2)], where)


def memory(shape: Shape, side: str, where: torch.device) -> str:
    """The same in MiB, measured by this file in a process of its own; "?" where nothing can tell."""
    given = {"shape": shape.name, "px": shape.px, "batch": shape.batch, "device": where}
    given |= {"inner-steps": shape.inner_steps, "alone": side}
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    done = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    found = done.stdout.split()[-1]
    return "?" if found == "None" else f"{int(found) / 2**20:.0f} MiB"


def report(run: Condenser, times: dict[str, list[float]], peaks: dict[str, str]) -> str:
    """The table, and what the floor says."""
    rows = [
        [name, spread(took, 3), spread(ratios(took, times["ours"])), peaks[name]]
        for name, took in times.items()
    ]
    match, match_units, ce, ce_units = floor(run, 3 * len(times["ours"]))
    least = match * match_units + ce * ce_units
    ratio = statistics.median(times["ours"]) / least
    return (
        table(["side", "seconds a meta-iteration", "over ours", "memory"], rows)
        + f"\n\nfloor: {least:.3f} s ({match_units} x {match * 1e3:.1f} ms matching + {ce_units} x "
        f"{ce * 1e3:.1f} ms CE); ours is {ratio:.2f} times the floor"
    )


def main(shape: Shape, rounds: int, where: torch.device) -> None:
    checks = [(shape.small, 2)]
    if shape.large:
        checks.append((replace(shape, batch=4, px=min(shape.px, 64)), 1))
    for checked, iterations in checks:
        for name, gap in check(checked, where, iterations=iterations).items():
            print(f"{checked.name}: hypergradients of ours and {name} differ by {gap:.1e}")
    peaks = {name: memory(shape, name, where) for name in SIDES}
    run = start(shape, torch.float32, where)
    every = {"ours": run.step, **{name: side.step for name, side in sides_of(run).items()}}
    config = run.config
    print(
        f"\n{shape.name}: T = {config.inner_steps}, batch {config.batch_size}, "
        f"{len(run.matching.pairs)} pairs, float32, {rounds} rounds; {machine(where)}\n"
    )
    print(report(run, turns(every, rounds), peaks))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", "--family", choices=FAMILIES, default="cnn")
    parser.add_argument("--rounds", "--pairs", type=int, default=5, help="timed rounds (5)")
    parser.add_argument("--inner-steps", type=int, help="T; default: the preset's")
    parser.add_argument("--batch", type=int, help="images of a batch; default: the preset's, 64")
    parser.add_argument("--px", type=int, default=224, help="pixels of a side, for vit-s (224)")
    parser.add_argument("--device", help="default: a GPU where there is one")
    parser.add_argument("--alone", choices=SIDES, help="only measure the memory of this side")
    given = parser.parse_args()
    asked = Shape(given.shape, given.px, given.batch, given.inner_steps)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This overload of add_")  # MetaSGD's, harmless
        if given.alone:
            print(measured(asked, given.alone, train.device(given.device)))
        else:
            main(asked, given.rounds, train.device(given.device))
