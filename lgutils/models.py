"""Architectures that timm lacks, registered with timm like any other, and one `create`.

`learngene_vgg` is timm's VGG with a light head or the reference's; `learngene_vit` is timm's ViT with
timm's convolutional stem; `learngene_resnet12` is the few-shot literature's ResNet-12 in timm's layers.
After importing this module ``timm.create_model("learngene_vit", depth=4)`` works, and every other timm
name is just as good.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

import torch
from timm.layers import ClassifierHead, ConvNormAct
from timm.models import create_model, is_model, list_models, register_model
from timm.models.vgg import VGG, ConvMlp
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed
from torch import Tensor, nn

from lgutils import reading
from lgutils.checks import Count, Seed, checked, expect, plain
from lgutils.errors import UserError, unknown

VGG_STAGES = (1, 2, 2, 2)
VGG_WIDTHS = (24, 48, 96, 96)
VIT_STEM = (24, 48, 96)
RESNET12_WIDTHS = (64, 128, 256, 512)
LARGEST = 2**14  # of any number among the arguments: a damaged file must not fill the memory


def _only_timms(options: dict) -> None:
    """Refuse what is neither ours nor passed by timm to every model: a misspelt option would be lost."""
    ours = options.keys() - {"pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
    if ours:
        raise TypeError(f"unexpected argument {min(ours)!r}")


@register_model
def learngene_vgg(
    pretrained: bool = False,
    stages: tuple[int, ...] = VGG_STAGES,
    widths: tuple[int, ...] = VGG_WIDTHS,
    num_classes: int = 100,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    hidden: tuple[int, ...] = (),
    **options,
) -> VGG:
    """VGG-BN with global average pooling and one linear layer, or more.

    Args:
        stages: 3x3 convolutions in each stage; a 2x2 max-pool ends a stage.
        widths: channels of each stage.
        hidden: widths of the two fully connected layers before the last one, e.g. (4096, 4096); () for
            none. They are 1x1 convolutions before the pooling; where the last pool leaves one pixel, as
            five stages do at 32 pixels, that is what the reference computes.
    """
    _only_timms(options)
    if len(hidden) not in (0, 2):
        raise UserError(
            f"hidden {tuple(hidden)} was given; two widths, or () for none, are expected."
        )
    if len(stages) != len(widths):
        raise UserError(f"stages {stages} and widths {widths} must have the same length.")
    cfg = [item for n, width in zip(stages, widths, strict=True) for item in [width] * n + ["M"]]
    # mlp_ratio keeps timm's 4096-wide head, which is cut off in the next line, at next to nothing.
    model = VGG(
        cfg, in_chans=in_chans, norm_layer=nn.BatchNorm2d, mlp_ratio=1 / 4096, drop_rate=drop_rate
    )
    model.prune_intermediate_layers([len(stages)], prune_head=True)
    if hidden:
        first, last = hidden
        ratio = (first + 0.5) / last  # timm cuts ratio * last down to a whole number
        model.pre_logits = ConvMlp(widths[-1], last, 1, mlp_ratio=ratio, drop_rate=drop_rate)
        model.head = ClassifierHead(last, num_classes, drop_rate=drop_rate)
    model.reset_classifier(num_classes, global_pool="avg")
    return model


def _conv_stem(img_size, patch_size, in_chans: int, embed_dim: int, **_) -> HybridEmbed:
    backbone = ConvStem(
        in_chans=in_chans,
        depth=len(VIT_STEM),
        channels=VIT_STEM,
        kernel_size=3,
        stride=(2,) * len(VIT_STEM),
        padding=1,
        norm_layer=nn.BatchNorm2d,
    )
    return HybridEmbed(
        backbone, img_size=img_size, patch_size=1, in_chans=in_chans, embed_dim=embed_dim
    )


@register_model
def learngene_vit(
    pretrained: bool = False,
    depth: int = 8,
    embed_dim: int = 96,
    num_heads: int = 3,
    img_size: int = 32,
    num_classes: int = 100,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    **options,
) -> VisionTransformer:
    """ViT over the 4x4 grid (at 32 pixels) of a three-convolution stem, mean-pooled, no class token."""
    _only_timms(options)
    return VisionTransformer(
        img_size=img_size,
        patch_size=8,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        num_classes=num_classes,
        in_chans=in_chans,
        global_pool="avg",
        class_token=False,
        embed_layer=_conv_stem,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
    )


def _conv_bn(width: int, out: int, size: int = 3, act: bool = True) -> ConvNormAct:
    slope = {"act_layer": nn.LeakyReLU, "act_kwargs": {"negative_slope": 0.1}}
    return ConvNormAct(width, out, size, apply_act=act, **slope)


class _Body(nn.Module):
    """What a ResNet-12 stage does after its first convolution: two more, the sum, the pool.

    Its tensors stand in the order of a timm `BasicBlock` (conv1, bn1, conv2, bn2), so that the one can
    inherit from the other.
    """

    def __init__(self, width: int, drop_rate: float):
        super().__init__()
        self.conv1, self.conv2 = _conv_bn(width, width), _conv_bn(width, width, act=False)
        self.act, self.pool, self.drop = nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Dropout(drop_rate)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        return self.drop(self.pool(self.act(self.conv2(self.conv1(x)) + shortcut)))


class _Stage(nn.Module):
    """One residual block of three convolutions, which halves the size."""

    def __init__(self, width: int, out: int, drop_rate: float):
        super().__init__()
        self.entry, self.shortcut = _conv_bn(width, out), _conv_bn(width, out, 1, act=False)
        self.body = _Body(out, drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.entry(x), self.shortcut(x))


class ResNet12(nn.Module):
    """Four stages of one residual block each, and a linear layer, with the methods that timm models have."""

    def __init__(
        self, widths: Sequence[int], num_classes: int, in_chans: int, drop_rate: float
    ) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, widths[-1]
        pairs = pairwise((in_chans, *widths))
        self.stages = nn.Sequential(*(_Stage(a, b, drop_rate) for a, b in pairs))
        self.head = ClassifierHead(widths[-1], num_classes)
        self.head_hidden_size = widths[-1]

    def group_matcher(self, coarse: bool = False) -> dict:
        """timm's grouping: what sees the image is the stem, then stage by stage."""
        enters = r"\.(?:entry|shortcut)"
        fine = [(rf"^stages\.(\d+){enters}", (0,)), (r"^stages\.(\d+)\.body", (1,))]
        return {"stem": rf"^stages\.0{enters}", "blocks": r"^stages\.(\d+)" if coarse else fine}

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh last layer in, in place, as timm does."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, widths[-1], H / 16, W / 16)."""
        return self.stages(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify; with `pre_logits` only pool."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes) logits."""
        return self.forward_head(self.forward_features(x))


@register_model
def learngene_resnet12(
    pretrained: bool = False,
    widths: tuple[int, ...] = RESNET12_WIDTHS,
    num_classes: int = 100,
    in_chans: int = 3,
    drop_rate: float = 0.1,
    **options,
) -> ResNet12:
    """ResNet-12: 3x3, 3x3, 3x3 and a 1x1 shortcut a stage, LeakyReLU 0.1, max-pool 2, dropout.

    `stages.k.body` is one integral layer: second and third convolution of a stage with their norms.
    """
    _only_timms(options)
    return ResNet12(widths, num_classes, in_chans, drop_rate)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, sharing nothing with the model given."""
    return copy.deepcopy(model)


FORBIDDEN = {
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "cache_dir",
}
SIZES = {
    "depth", "depths", "embed_dim", "embed_dims", "hidden", "img_size", "in_chans", "num_heads", "patch_size",
    "stages", "widths",
}  # fmt: skip
OWN = {
    "arch": "named beside the arguments",
    "num_classes": "set by the task",
    "seed": "set by the configuration",
}


def check_kwargs(kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments for timm that are not the caller's to give.

    Args:
        kwargs: what is to be passed to `create`. Call this before ``create(arch, n, **kwargs)``, where
            a second `num_classes` would be Python's TypeError.
    Raises:
        UserError: one that `create` sets itself, or that would load weights: fresh layers must be fresh,
            and files must not name other files.
    """
    if bad := FORBIDDEN & kwargs.keys():
        raise UserError(f"{min(bad)!r} is not accepted: models start from random weights here.")
    if bad := OWN.keys() & kwargs.keys():
        raise UserError(f"{min(bad)} is {OWN[min(bad)]}; leave it out.")
    for name in SIZES & kwargs.keys():
        value = kwargs[name]
        parts = value if isinstance(value, list | tuple) else (value,)
        numbers = [part for part in parts if isinstance(part, int | float)]
        if isinstance(value, str | bool) or any(part <= 0 for part in numbers):
            raise UserError(f"{name} {value!r} was given, but sizes are positive numbers.")
    for name, value in kwargs.items():
        if (largest := _largest(value)) > LARGEST:
            raise UserError(f"{name} {largest} is not built: sizes up to {LARGEST} are.")


def _largest(value: Any) -> int:
    """The largest whole number in plain values; 0 if there is none."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int) else 0


def check_state(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Hold tensors against a model's state, and name the first that is missing, foreign, or of another shape.

    Args:
        tensors, wanted: by name.
        what: begins the sentence, as in "x.pth does not fit 'resnet18'".
    """
    for name, tensor in wanted.items():
        if name not in tensors:
            raise UserError(f"{what}: it lacks {name!r}. Check architecture and arguments.")
        here, there = tuple(tensors[name].shape), tuple(tensor.shape)
        if here != there:
            raise UserError(f"{what}: {name!r} is {here}, expected is {there}.")
    if foreign := [name for name in tensors if name not in wanted]:
        raise UserError(
            f"{what}: {foreign[0]!r} is foreign to it. Check architecture and arguments."
        )


def filled(
    arch: str, num_classes: int, kwargs: Mapping[str, Any], tensors: Mapping, path: object
) -> nn.Module:
    """A model with the weights of a file, which says what model it is.

    Args:
        tensors: the whole state, by name; shapes are compared before any memory is taken.
        path: the file, for the message.
    Raises:
        UserError: as `create`, or the tensors are not those of the model.
    """
    check_kwargs(kwargs)
    what, sketch = f"{path} does not fit {arch}", None
    with suppress(UserError), torch.device("meta"):  # a few architectures cannot be sketched
        sketch = create(arch, num_classes, **kwargs)
    if sketch is not None:
        check_state(tensors, sketch.state_dict(), what)
    model = create(arch, num_classes, **kwargs)
    check_state(tensors, model.state_dict(), what)
    model.load_state_dict(tensors)
    return model


def check_module(model: Any) -> None:
    """Refuse what is not a torch.nn.Module; a `UserError` points to the `.model` of what has one."""
    if not isinstance(model, nn.Module):
        has_one = isinstance(getattr(model, "model", None), nn.Module)
        raise UserError(
            f"The model given is of type {type(model).__name__}. "
            + (
                "Pass its .model."
                if has_one
                else "Pass a torch.nn.Module, such as models.create gives."
            )
        )


def check_weights(model: Any, *, learns: bool = False) -> None:
    """Refuse a model that cannot compute on images, or learn from them.

    Raises:
        UserError: no module, no weights or only their shapes (meta), or, if it shall learn, half precision
            or nothing but frozen weights.
    """
    check_module(model)
    name, weights = type(model).__name__, list(model.parameters())
    if not weights:
        raise UserError(f"The model ({name}) has no weights. Pass one that has.")
    if any(t.is_meta for t in (*weights, *model.buffers())):
        raise UserError(
            f"The model ({name}) is on the device 'meta', where weights have shapes but no values. Build it "
            "anew on 'cpu'."
        )
    if not learns:
        return
    _check_precision(model)
    if not any(p.requires_grad for p in weights):
        raise UserError(
            f"The model ({name}) is frozen: no weight requires a gradient. Call "
            "model.requires_grad_(True) for those that shall learn."
        )


def _check_precision(model: nn.Module) -> None:
    half = (torch.float16, torch.bfloat16)
    if short := [p.dtype for p in model.parameters() if p.dtype in half]:
        raise UserError(
            f"The model ({type(model).__name__}) has weights of {str(short[0])[6:]}; float32 is expected. "
            "Pass model.float(); precision= says how it computes."
        )


@contextmanager
def explained(model: nn.Module, shape: Sequence[int]) -> Iterator[None]:
    """Where a pass of images fails in the block, look whether the model takes such images at all.

    Args:
        shape: (C, H, W) of the images.
    Raises:
        UserError: half precision, or see `check_input`; other errors pass.
    """
    try:
        yield
    except (UserError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # after the last of them the device answers every pass with an error
    except (AssertionError, RuntimeError, ValueError):
        _check_precision(model)
        check_input(model, shape)
        raise


def classes_of(answer: Any, images: Tensor) -> int:
    """How many classes a model's answer tells apart.

    Args:
        answer: what the model gave for images (B, C, H, W).
    Raises:
        UserError: it is not (B, classes).
    """
    shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[0] != len(images):
        raise UserError(
            f"The model's answer to {len(images)} images is {shape}; logits (B, classes) are expected. Pass a "
            "classifier."
        )
    return shape[1]


def check_input(model: nn.Module, shape: Sequence[int]) -> None:
    """Pass one black image through a model, to see early whether it takes images of this shape.

    Args:
        model: in any mode; its modes and weights are left as they were.
        shape: (C, H, W).
    Raises:
        UserError: it does not, with the reason that it gave.
    """
    check_weights(model)
    modes = [(module, module.training) for module in model.modules()]
    weight = next(model.parameters())
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape, dtype=weight.dtype, device=weight.device))
    except (AssertionError, RuntimeError, ValueError) as error:
        told = getattr(model, "pretrained_cfg", None) or {}
        name = told.get("architecture") or type(model).__name__
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UserError(
            f"{name} does not take images of {'x'.join(map(str, shape))} ({reason}). Add @PIXELS to the "
            "dataset, or give the model another img_size."
        ) from error
    finally:
        for module, training in modes:
            module.training = training


def create(arch: str, num_classes: int, *, seed: int = 0, **kwargs) -> nn.Module:
    """Build a timm model with random weights.

    Args:
        arch: any timm architecture, those of this module among them.
        num_classes: outputs of the head.
        seed: seeds the initial weights; the global generators are left as they were.
        kwargs: passed to timm (depth, stages, img_size, in_chans, ...).
    Returns:
        Model mapping (B, in_chans, H, W) -> (B, num_classes) logits, on the CPU, in training mode.
    Raises:
        UserError: unknown architecture (with the nearest names), arguments timm does not take, or one
            that `check_kwargs` refuses.
    """
    kwargs = plain(kwargs)
    check_kwargs(kwargs)
    expect(arch, str, "arch", "Name an architecture of timm, such as 'resnet18'.")
    num_classes = checked("num_classes", num_classes, Count)
    seed = checked("seed", seed, Seed)
    if not is_model(arch.split(".")[0]):
        raise unknown("architecture", arch, list_models())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return create_model(arch, num_classes=num_classes, **kwargs)
        except UserError:
            raise
        except Exception as error:  # every architecture trusts its arguments
            reason = reading.reason(error)
            raise UserError(
                f"timm cannot build {arch!r} with {reading.reason(kwargs)}: {reason}. Check the arguments."
            ) from error
