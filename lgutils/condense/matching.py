"""What is compared with what: taps, 1x1 adapters, targets, distances, and the pair weights lambda.

Index m counts ancestor layers, n counts pseudo-descendant layers, a pair is (m, n).
Source: arXiv 2305.02279; form of the matching loss from arXiv 1905.05901, Eq. 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from lgutils import blocks
from lgutils.errors import UserError, unknown

Pair = tuple[int, int]
DISTANCES = ("l2", "l1")
ADAPTERS = ("conv", "identity")


@dataclass(frozen=True)
class Target:
    """The ancestor's side of one pd layer n: the maps of every ancestor layer in a pair with it.

    Attributes:
        maps: side by side, (B, sum of C_m, H_n, W_n); or, for `Matching.expanded` layers, one
            (B, C, h, w) for each run of ancestor layers of equal size, h <= H_n.
        squares: for expanded layers, (B, pairs) mean squares at the size H_n x W_n.
    """

    maps: tuple[Tensor, ...]
    squares: Tensor | None = None


@dataclass(frozen=True)
class Targets:
    """The ancestor's side of one batch.

    Attributes:
        slots: for each tapped pd layer its `Target`; None for one that is in no pair.
        pooled: for each ancestor layer m, (B, C_m): channel means, the weight nets' input.
    """

    slots: tuple[Target | None, ...]
    pooled: tuple[Tensor, ...]


def standardised(maps: Tensor) -> Tensor:
    """Zero mean, unit variance for each channel over batch and space; a dead channel gives 0."""
    centred = maps - maps.mean((0, 2, 3), keepdim=True)
    return centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()


def resized(maps: Tensor, size: torch.Size) -> Tensor:
    """Bring (B, C, H, W) to another height and width, by averaging areas when shrinking.

    The reference resizes bilinearly, which at 7x7 -> 1x1 reads the centre pixel alone.
    """
    if maps.shape[2:] == size:
        return maps
    if maps.shape[2] >= size[0] and maps.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(maps, size)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def enlarger(old: int, new: int, like: Tensor) -> Tensor:
    """(new, old) matrix of `resized` along one axis when it enlarges: rows mix neighbours."""
    line = torch.eye(old, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(line, size=new, mode="linear", align_corners=False)[0].T


def _tap_modules(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    layers = blocks.layers(model)
    taps = [blocks.find(layers, name).tap for name in names]
    if None in taps:
        silent = names[taps.index(None)]
        raise UserError(f"Layer {silent!r} has no output to compare. Leave it out.")
    return [model.get_submodule(tap) for tap in taps]


class _Recorder:
    """Runs a model and returns its tapped feature maps; finds the taps once, not at every run."""

    def __init__(self, model: nn.Module, names: Sequence[str]):
        self.model, self.modules = model, _tap_modules(model, names)

    def __call__(self, x: Tensor, state: dict | None = None) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, K) and maps (B, C, H, W); `state` replaces parameters and buffers."""
        found: dict[int, Tensor] = {}

        def note(i: int, *call) -> None:
            found[i] = call[-1]

        hooks = [m.register_forward_hook(partial(note, i)) for i, m in enumerate(self.modules)]
        try:
            logits = self.model(x) if state is None else functional_call(self.model, state, (x,))
        finally:
            for hook in hooks:
                hook.remove()
        return logits, [blocks.as_maps(found[i], self.model) for i in range(len(hooks))]


class Matching:
    """The matching loss between an ancestry model and a pseudo-descendant.

    Args:
        ancestor: the ancestry model, used without gradients and in evaluation mode.
        descendant: the pseudo-descendant; its own parameters and buffers stay as they are.
        taps: layer names of the ancestor, in order (m indexes these).
        slots: layer names of the pseudo-descendant, in order (n indexes these).
        example: (B, C, H, W) floating-point input, to learn shapes, type and device from.
        pairs: which (m, n) to compare; None for all.
        standardise: compare standardised features, so that a pair weight does not confound
            similarity with scale. The reference compares raw features.
        distance: "l2" (mean squared difference) or "l1".
        adapter: "conv", a 1x1 convolution on the pd side, or "identity" (equal widths only).
    Raises:
        UserError: a pair that does not exist, an unknown distance or adapter, identity adapters
            between layers of unequal widths.

    Attribute `expanded` marks the pd layers whose squared distance is computed as |s|^2 - 2 s.t +
    |t|^2, without ever building the difference: exact, and many times cheaper where a layer has
    more pixels than channels.
    """

    def __init__(
        self,
        ancestor: nn.Module,
        descendant: nn.Module,
        taps: Sequence[str],
        slots: Sequence[str],
        example: Tensor,
        *,
        pairs: Sequence[Pair] | None = None,
        standardise: bool = True,
        distance: str = "l2",
        adapter: str = "conv",
    ):
        if distance not in DISTANCES:
            raise unknown("distance", distance, DISTANCES)
        if adapter not in ADAPTERS:
            raise unknown("adapter", adapter, ADAPTERS)
        self.taps, self.slots, self.example = tuple(taps), tuple(slots), example[:2]
        self.standardise, self.distance, self.adapter = standardise, distance, adapter
        self.pairs = self._checked(pairs)
        self.ancestor, self.descendant = _Recorder(ancestor, taps), _Recorder(descendant, slots)
        self.widths = [f.shape[1] for f in self._ancestor_maps(self.example)]
        own = dict(descendant.named_parameters())
        buffers = {k: b.clone() for k, b in descendant.named_buffers()}
        with torch.no_grad():
            maps = self.descendant(self.example, own | buffers)[1]
        self.sizes = [f.shape[2:] for f in maps]
        self._columns([f.shape[1] for f in maps])

    def _checked(self, pairs: Sequence[Pair] | None) -> tuple[Pair, ...]:
        """The pairs, grouped by pd layer."""
        every = [(m, n) for m in range(len(self.taps)) for n in range(len(self.slots))]
        chosen = set(every if pairs is None else map(tuple, pairs))
        if bad := chosen - set(every):
            raise UserError(
                f"Pair {min(bad)} does not exist: there are {len(self.taps)} ancestor layers and "
                f"{len(self.slots)} pseudo-descendant layers, counted from 0."
            )
        if not chosen:
            raise UserError("There are no pairs to compare. Give some, or None for all.")
        return tuple(sorted(chosen, key=lambda pair: (pair[1], pair[0])))

    def _columns(self, slot_widths: list[int]) -> None:
        """For each slot: its ancestor layers, and a matrix that averages each one's channels."""
        self.sources, self.averages, self.adapter_shapes, self.expanded = [], [], [], []
        for n, width in enumerate(slot_widths):
            sources = [m for m, k in self.pairs if k == n]
            widths = [self.widths[m] for m in sources]
            means = [self.example.new_full((w, 1), 1 / w) for w in widths]
            self.sources.append(sources)
            self.averages.append(torch.block_diag(*means) if means else None)
            self.adapter_shapes.append((sum(widths), width))
            conv_l2 = (self.adapter, self.distance) == ("conv", "l2")
            self.expanded.append(conv_l2 and self.sizes[n].numel() > width)
            if self.adapter == "identity" and any(w != width for w in widths):
                raise UserError(
                    f"Identity adapters need equal widths, but {self.slots[n]!r} has "
                    f"{width} channels and its ancestor layers have {widths}. "
                    "Use adapter='conv'."
                )

    def _ancestor_maps(self, x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            self.ancestor.model.eval()
            return self.ancestor(x)[1]

    def targets(self, x: Tensor) -> Targets:
        """Run the ancestor once on a batch; for a fixed meta batch once is enough for good."""
        maps = self._ancestor_maps(x)
        if self.standardise:
            maps = [standardised(f) for f in maps]
        slots = tuple(
            self._target(n, [maps[m] for m in sources]) if sources else None
            for n, sources in enumerate(self.sources)
        )
        return Targets(slots, tuple(f.mean((2, 3)) for f in maps))

    def _target(self, n: int, maps: list[Tensor]) -> Target:
        size = self.sizes[n]
        if not self.expanded[n]:
            return Target((torch.cat([resized(f, size) for f in maps], 1),))
        # A map smaller than the slot stays small; the slot's features come down to it instead.
        fits = [f.shape[2] >= size[0] and f.shape[3] >= size[1] for f in maps]
        small = [resized(f, size) if fit else f for f, fit in zip(maps, fits)]
        runs = [torch.cat(list(run), 1) for _, run in groupby(small, key=lambda f: f.shape[2:])]
        squares = []
        for f in runs:
            rows, columns = (enlarger(f.shape[i + 2], size[i], f) for i in (0, 1))
            squares.append((f * (rows.T @ rows @ f @ (columns.T @ columns))).sum((2, 3)))
        return Target(tuple(runs), torch.cat(squares, 1) @ self.averages[n] / size.numel())

    def new_adapters(self, seed: int) -> dict[str, Tensor]:
        """Adapter parameters by name, initialised as torch initialises a convolution."""
        if self.adapter == "identity":
            return {}
        params = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for n, (out, width) in enumerate(self.adapter_shapes):
                if out:
                    conv = nn.Conv2d(width, out, 1)
                    params[f"adapter.{n}.weight"] = conv.weight.detach().to(self.example)
                    params[f"adapter.{n}.bias"] = conv.bias.detach().to(self.example)
        return params

    def distances(self, maps: Sequence[Tensor], params: dict, targets: Targets) -> Tensor:
        """Distance of every pair for every image: (B, pairs), in the order of `self.pairs`.

        One adapter a slot serves all its pairs: their convolutions stand side by side in its rows.
        """
        columns = []
        for n, target in enumerate(targets.slots):
            if target is None:
                continue
            form = self._expanded if self.expanded[n] else self._direct
            columns.append(form(n, maps[n], params, target))
        return torch.cat(columns, 1)

    def _direct(self, n: int, maps: Tensor, params: dict, target: Target) -> Tensor:
        """(B, pairs of slot n): the difference is built, squared or made absolute, and averaged."""
        if self.adapter == "identity":
            moved = maps.repeat(1, len(self.sources[n]), 1, 1)
        else:
            moved = F.conv2d(maps, params[f"adapter.{n}.weight"], params[f"adapter.{n}.bias"])
        gap = moved - target.maps[0]
        gap = gap.abs() if self.distance == "l1" else gap.square()
        return gap.mean((2, 3)) @ self.averages[n]

    def _expanded(self, n: int, maps: Tensor, params: dict, target: Target) -> Tensor:
        """The same for "l2", as the mean of |s|^2 - 2 w.(t s) + w.(t t')w over the rows w.

        With U the (linear) enlarging of s, (U s).t = s.(U' t), so that s is never enlarged.
        """
        size = maps.shape[2:]
        t = torch.cat([maps, torch.ones_like(maps[:, :1])], 1)  # the last channel is for the bias
        cross = []
        for s in target.maps:
            down = t
            if s.shape[2:] != size:
                rows, columns = (enlarger(s.shape[i + 2], size[i], s) for i in (0, 1))
                down = rows.T @ (t @ columns)
            cross.append(s.flatten(2) @ down.flatten(2).mT)
        weight = params[f"adapter.{n}.weight"].flatten(1)
        w = torch.cat([weight, params[f"adapter.{n}.bias"][:, None]], 1)  # (sum of C_m, C_n + 1)
        crossed = (w * torch.cat(cross, 1)).sum(2) @ self.averages[n]
        gram = t.flatten(2) @ t.flatten(2).mT  # (B, C_n + 1, C_n + 1)
        parts = w.split([self.widths[m] for m in self.sources[n]])
        grams = [(part.T @ part / len(part)).flatten() for part in parts]
        squared = gram.flatten(1) @ torch.stack(grams, 1)
        return target.squares + (squared - 2 * crossed) / size.numel()


class _GuardedRelu6(torch.autograd.Function):
    """relu6 whose gradient may lead back from where it is flat, but never further out."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.clamp(0, 6)

    @staticmethod
    def backward(ctx, grad):
        (z,) = ctx.saved_tensors
        flat = ((z <= 0) & (grad > 0)) | ((z >= 6) & (grad < 0))
        return grad.masked_fill(flat, 0)


class PairWeights(nn.Module):
    """The weight net phi: lambda^{m,n}_b = relu6(a^{mn} . pooled^m_b + c^{mn}), c = 1 at the start.

    Args:
        pairs: the pairs, in the order of `Matching.pairs`.
        widths: C_m of each ancestor layer.
        kind: "relu6", or "constant": one softplus(10 w) for a pair, w = 0, whatever the image.
        guard: let the gradient lead back from relu6's flat parts (where the reference's pairs die).
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        widths: Sequence[int],
        *,
        kind: str = "relu6",
        guard: bool = True,
    ):
        super().__init__()
        self.kind, self.guard = kind, guard
        self.order = [m for m, _ in pairs]
        if kind == "constant":
            self.constant = nn.Parameter(torch.zeros(len(pairs)))
        else:
            self.nets = nn.ModuleList(nn.Linear(widths[m], 1) for m in self.order)
            for net in self.nets:
                nn.init.ones_(net.bias)

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """pooled: (B, C_m) of each ancestor layer -> lambda (B, pairs), in [0, 6] for relu6."""
        if self.kind == "constant":
            return F.softplus(10 * self.constant).expand(len(pooled[0]), -1)
        z = torch.cat([net(pooled[m]) for m, net in zip(self.order, self.nets, strict=True)], 1)
        return _GuardedRelu6.apply(z) if self.guard else F.relu6(z)
