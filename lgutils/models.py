"""Small architectures for the quick scale, registered with timm like any other, and one `create`.

`learngene_vgg` is timm's VGG with a light head; `learngene_vit` is timm's ViT with timm's convolutional
stem. After importing this module ``timm.create_model("learngene_vit", depth=4)`` works, and every other
timm name is just as good.
"""

import copy

import torch
from timm.models import create_model, is_model, list_models, register_model
from timm.models.vgg import VGG
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed
from torch import nn

from lgutils.errors import UserError, unknown

VGG_STAGES = (1, 2, 2, 2)
VGG_WIDTHS = (24, 48, 96, 96)
VIT_STEM = (24, 48, 96)


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
    **options,
) -> VGG:
    """VGG-BN with global average pooling and one linear layer.

    Args:
        stages: 3x3 convolutions in each stage; a 2x2 max-pool ends a stage.
        widths: channels of each stage.
    """
    _only_timms(options)
    if len(stages) != len(widths):
        raise UserError(f"stages {stages} and widths {widths} must have the same length.")
    cfg = [item for n, width in zip(stages, widths, strict=True) for item in [width] * n + ["M"]]
    # mlp_ratio keeps timm's 4096-wide head, which is cut off in the next line, at next to nothing.
    model = VGG(
        cfg, in_chans=in_chans, norm_layer=nn.BatchNorm2d, mlp_ratio=1 / 4096, drop_rate=drop_rate
    )
    model.prune_intermediate_layers([len(stages)], prune_head=True)
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


def create(arch: str, num_classes: int, *, seed: int = 0, **kwargs) -> nn.Module:
    """Build a timm model with random weights.

    Args:
        arch: any timm architecture, or `learngene_vgg` / `learngene_vit`.
        num_classes: outputs of the head.
        seed: seeds the initial weights; the global generators are left as they were.
        kwargs: passed to timm (depth, stages, img_size, in_chans, ...).
    Returns:
        Model mapping (B, in_chans, H, W) -> (B, num_classes) logits, on the CPU, in training mode.
    Raises:
        UserError: unknown architecture (with the nearest names), arguments timm does not take, or one
            that would load weights: fresh layers must be fresh, and files must not name other files.
    """
    if bad := FORBIDDEN & kwargs.keys():
        raise UserError(f"{min(bad)!r} is not accepted: models start from random weights here.")
    if not is_model(arch.split(".")[0]):
        raise unknown("architecture", arch, list_models())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return create_model(arch, num_classes=num_classes, **kwargs)
        except UserError:
            raise
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            reason = str(error).rstrip(".")
            raise UserError(f"timm cannot build {arch!r} with {kwargs}: {reason}.") from error
