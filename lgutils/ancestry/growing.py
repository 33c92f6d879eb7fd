"""A network that grows while it learns, and the gradients that say which of its layers are calm.

Both come from the first learngene paper (AAAI 2022, arXiv 2106.06788). Faults of its released code
that are mended here: no softmax before the cross-entropy; batch norm is copied for every new channel,
not only for the last one; one optimiser a task instead of one an epoch; gradients are read right after
the backward pass and count by their size, not by their sign.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from timm.models import register_model
from timm.models.vgg import VGG
from torch import Tensor, nn

from lgutils import models
from lgutils.blocks import Layer
from lgutils.errors import UserError
from lgutils.train import Objective

Widths = tuple[int | str, ...]  # channels of each convolution, "M" for a 2x2 max-pool
LARGE = 1e-3  # of the root mean square of the layer's weights


@register_model
def learngene_netwider(
    pretrained: bool = False,
    widths: Widths = (24, "M", 24, 24, "M", 48, 48, "M", 48, 48, "M"),
    num_classes: int = 100,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    pretrained_cfg: None = None,
    pretrained_cfg_overlay: None = None,
    cache_dir: None = None,
) -> VGG:
    """`learngene_vgg` with a width for each convolution instead of one a stage.

    Args:
        widths: channels of each 3x3 convolution, "M" for a max-pool, as in timm's VGG.
        pretrained, pretrained_cfg, pretrained_cfg_overlay, cache_dir: what timm passes; unused.
    """
    model = VGG(
        list(widths), in_chans=in_chans, norm_layer=nn.BatchNorm2d, mlp_ratio=1 / 4096,
        drop_rate=drop_rate,
    )  # fmt: skip
    model.prune_intermediate_layers([list(widths).count("M")], prune_head=True)
    model.reset_classifier(num_classes, global_pool="avg")
    return model


def widths_of(model: nn.Module) -> Widths:
    """The widths of a VGG with batch norm and one linear layer behind global pooling.

    Raises:
        UserError: another model.
    """
    if not isinstance(model, VGG) or not model.use_norm or model.num_features != _inputs(model):
        raise UserError(
            f"Only timm's VGG with batch norm and one linear layer as its head can grow; "
            f"{type(model).__name__} was given. Use 'learngene_vgg' or 'learngene_netwider'."
        )
    kept = (m for m in model.features if isinstance(m, nn.Conv2d | nn.MaxPool2d))
    return tuple(m.out_channels if isinstance(m, nn.Conv2d) else "M" for m in kept)


def _inputs(model: VGG) -> int | None:
    plain = isinstance(model.pre_logits, nn.Identity) and isinstance(model.head.fc, nn.Linear)
    return model.head.fc.in_features if plain else None


def _grown(widths: Widths, conv: int, extra: int) -> Widths:
    """The widths after one convolution got some more channels."""
    at = [i for i, width in enumerate(widths) if width != "M"][conv]
    return (*widths[:at], widths[at] + extra, *widths[at + 1 :])


def _sources(old: int, extra: int, generator: torch.Generator) -> Tensor:
    """For each new channel the old one that it doubles; no channel again before all had a turn."""
    rounds = [torch.randperm(old, generator=generator) for _ in range(-(-extra // old))]
    return torch.cat([torch.arange(old), torch.cat(rounds)[:extra]])


def widen(
    model: nn.Module, conv_index: int, extra: int, *, noise: float = 0.0, seed: int = 0
) -> VGG:
    """Give a convolution more channels without changing what the network computes (Net2WiderNet).

    New channels double old ones, with their batch norm (weights and running statistics); what reads
    a doubled channel divides its weights by the number of copies. Without noise the logits stay the same in
    training and in evaluation mode, but twins also get equal gradients and would never part: a
    little noise on the new channels' incoming weights lets them.

    Args:
        model: timm's VGG with batch norm, see `widths_of`; not modified.
        conv_index: which convolution, 0 for the first.
        extra: channels to add, at least 1.
        noise: standard deviation of the noise, as a share of the root mean square of the weights.
        seed: draws the doubled channels and the noise.
    Returns:
        A `learngene_netwider` in the model's mode and on its device.
    Raises:
        UserError: another model, no such convolution, nothing to add.
    Source: Chen et al., arXiv 1511.05641, section 2.3. There channels are drawn with replacement.
    """
    widths = widths_of(model)
    convs = [i for i, module in enumerate(model.features) if isinstance(module, nn.Conv2d)]
    if not 0 <= conv_index < len(convs):
        raise UserError(f"Convolution {conv_index} was named; 0 to {len(convs) - 1} are there.")
    if extra < 1 or noise < 0:
        raise UserError(f"extra {extra} must be at least 1, and noise {noise} at least 0.")
    generator, at = torch.Generator().manual_seed(seed), convs[conv_index]
    old = model.features[at].out_channels
    source = _sources(old, extra, generator)
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if name.startswith((f"features.{at}.", f"features.{at + 1}.")) and tensor.ndim:
            state[name] = tensor[source]
    weight = state[f"features.{at}.weight"]
    weight[old:] += (
        noise * weight.square().mean().sqrt() * torch.randn(weight[old:].shape, generator=generator)
    )
    last = conv_index + 1 == len(convs)
    reader = "head.fc.weight" if last else f"features.{convs[conv_index + 1]}.weight"
    copies = torch.bincount(source)[source].view(1, -1, *[1] * (state[reader].ndim - 2))
    state[reader] = state[reader][:, source] / copies
    wider = models.create(
        "learngene_netwider", model.num_classes, widths=_grown(widths, conv_index, extra),
        in_chans=model.features[0].in_channels, drop_rate=model.drop_rate,
    )  # fmt: skip
    wider.load_state_dict(state)
    return wider.to(next(model.parameters())).train(model.training)


@dataclass(frozen=True)
class Growth:
    """How a network grows over a sequence of tasks.

    Attributes:
        start: widths before the first task.
        steps: (convolution, channels added), in the order in which they happen.
    """

    start: Widths
    steps: tuple[tuple[int, int], ...]

    def widths(self, steps: int) -> Widths:
        """The widths after the first so many steps."""
        widths = self.start
        for conv, extra in self.steps[:steps]:
            widths = _grown(widths, conv, extra)
        return widths

    def until(self, task: int, tasks: int) -> int:
        """Steps that are done when a task (from 0) of so many begins.

        One step before each task but the first while there are enough tasks, else several at once; all
        are done when the last task begins.
        """
        if tasks < 2:
            raise UserError(f"A network grows between tasks; {tasks} task was asked for. Use 2.")
        parts = np.array_split(np.arange(len(self.steps)), tasks - 1)
        return sum(map(len, parts[:task]))


def paper_growth() -> Growth:
    """The paper's plan: from 13 convolutions of widths 64 x 4, 128 x 3, 256 x 6 to VGG16 in 20 steps.

    Source: methods of the released code (Netwider(13), before tasks 1 to 20).
    """
    start = (64, 64, "M", 64, 64, "M", 128, 128, 128, "M", *(256, 256, 256, "M") * 2)
    early = [(conv, 64) for conv in (2, 3, 4, 4, 5, 5, 6, 6)]
    late = [(conv, 128) for conv in range(7, 13) for _ in range(2)]
    return Growth(start, (*early, *late))


def halved_growth(stages: Sequence[int], widths: Sequence[int]) -> Growth:
    """The paper's plan in small: every convolution behind the first stage starts at half its width.

    One step doubles one convolution, from the input to the output.

    Args:
        stages, widths: of the `learngene_vgg` that the growth ends as.
    """
    start, steps, conv = [], [], 0
    for stage, (depth, width) in enumerate(zip(stages, widths, strict=True)):
        less = 0 if stage == 0 else -(-width // 2)
        start += [width - less] * depth + ["M"]
        steps += [(conv + i, less) for i in range(depth) if less]
        conv += depth
    return Growth(tuple(start), tuple(steps))


def growth_to(stages: Sequence[int], widths: Sequence[int]) -> Growth:
    """The plan that ends as this `learngene_vgg`: the paper's for VGG16, else the halved one."""
    paper = paper_growth()
    flat = tuple(x for n, w in zip(stages, widths, strict=True) for x in [w] * n + ["M"])
    return paper if flat == paper.widths(len(paper.steps)) else halved_growth(stages, widths)


def large_entries(parameter: Tensor) -> Tensor:
    """Which gradient entries are large: above 1e-3 of the root mean square of the tensor's own weights.

    Returns:
        A boolean mask of the parameter's shape.
    """
    return parameter.grad.abs() > LARGE * parameter.detach().square().mean().sqrt()


@contextmanager
def watched(
    objective: Objective, layers: Sequence[Layer], after: int
) -> Iterator[tuple[Objective, Callable[[], np.ndarray]]]:
    """Count large weight-gradient entries of layers while `train.fit` trains with an objective.

    See `large_entries`; gradients are read as soon as they are there, before they are clipped. `fit` trains a copy of its model, and a copy takes no hooks along: so the objective,
    which is handed that copy, hooks on to it in its first call. The hooks are gone when the context ends.
    Where `fit` runs out of memory and passes a batch in pieces, each piece counts.

    Args:
        layers: whose tensors of two or more axes to watch.
        after: how many images to leave out at the beginning.
    Returns:
        Context with (the objective for `fit`, a function that gives the mean share of each layer
        (layers,) in [0, 1], NaN before any gradient counted).
    """
    home = {name: i for i, layer in enumerate(layers) for name in layer.tensors}
    large: dict[int, Tensor] = {}
    hooks, counts = [], {"images": 0, **{i: 0 for i in range(len(layers))}}

    def look(i: int, parameter: Tensor) -> None:
        if counts["images"] > after:
            large[i] = large.get(i, 0) + large_entries(parameter).sum()
            counts[i] += parameter.numel()

    def watching(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if not hooks:
            for name, parameter in model.named_parameters():
                i = home.get(name.removeprefix("_orig_mod."))  # of torch.compile
                if i is not None and parameter.ndim > 1:
                    hook = parameter.register_post_accumulate_grad_hook(
                        lambda tensor, i=i: look(i, tensor)
                    )
                    hooks.append(hook)
        counts["images"] += len(y)
        return objective(model, x, y)

    def shares() -> np.ndarray:
        ratios = [float(large[i]) / counts[i] if i in large else np.nan for i in range(len(layers))]
        return np.array(ratios)

    try:
        yield watching, shares
    finally:
        for hook in hooks:
            hook.remove()
