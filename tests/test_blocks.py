"""Facts about `lgutils.blocks`, on small random models of many timm families."""

from typing import NamedTuple

import pytest
import timm
import torch

from lgutils import blocks
from lgutils.errors import UserError

TOKENS = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3}
VIT = TOKENS | {"depth": 3}
SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 12}
SWIN |= {"depths": (1, 2, 1, 1), "num_heads": (1, 2, 2, 4)}
FAMILIES = {  # timm name -> options; "pixels" is the side of the input, 32 if not given
    "vgg11_bn": {"mlp_ratio": 0.002},
    "resnet18": {},
    "resnetv2_18": {},
    "swin_tiny_patch4_window7_224": SWIN,
    "vit_tiny_patch16_224": VIT,
    "vit_base_patch16_clip_224": VIT,
    "deit_tiny_distilled_patch16_224": VIT,
    "beit_base_patch16_224": VIT,
    "cait_xxs24_224": TOKENS | {"depth": 3},
    "eva02_tiny_patch14_224": VIT | {"embed_dim": 48},
    "xcit_nano_12_p8_224": TOKENS | {"depth": 2},
    "mixer_s32_224": {"img_size": 64, "pixels": 64},
    "convnext_atto": {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 32)},
    "edgenext_xx_small": {},
    "poolformer_s12": {},
    "mobilenetv3_small_050": {},
    "efficientnet_b0": {},
    "ghostnet_050": {},
    "regnetx_002": {},
    "densenet121": {"block_config": (2, 1, 2, 1), "growth_rate": 8},
    "repvgg_a0": {},
    "coatnet_pico_rw_224": {"img_size": 64, "pixels": 64},
    "pvt_v2_b0": {},
    "levit_128s": {"img_size": 64, "pixels": 64},
    "twins_svt_small": {"img_size": 64, "pixels": 64, "depths": [1, 2, 1, 1]},
    "fasternet_t0": {"depths": (1, 2, 1, 1)},
    "hrnet_w18_small": {},
    "inception_v3": {"pixels": 96},
    "nf_regnet_b0": {},
}


def build(family: str, seed: int = 0, num_classes: int = 5):
    """A random classifier in eval mode, with batch statistics that are not the defaults."""
    options = {key: value for key, value in FAMILIES[family].items() if key != "pixels"}
    torch.manual_seed(seed)
    model = timm.create_model(family, num_classes=num_classes, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # some start at zero and would silence their layer
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand_like(buffer), alpha=0.1)
    return model


class Case(NamedTuple):
    """A model, an input for it, the logits and the layers."""

    model: torch.nn.Module
    images: torch.Tensor
    logits: torch.Tensor
    layers: tuple[blocks.Layer, ...]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def case(family):
    model, pixels = build(family), FAMILIES[family].get("pixels", 32)
    images = torch.randn(2, 3, pixels, pixels)
    return Case(model, images, run(model, images), blocks.layers(model))


@torch.no_grad()
def run(model, images):
    return model(images)


def names(layers, role=None):
    return [layer.name for layer in layers if role in (None, layer.role)]


def tappable(layers):
    return [layer.name for layer in layers if layer.tap]


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def snapshot(model):
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# Every family


def test_every_state_dict_key_is_in_exactly_one_layer(case):
    keys = [key for layer in case.layers for key in layer.tensors]
    assert sorted(keys) == sorted(case.model.state_dict())


def test_every_parameter_is_counted_once(case):
    total = sum(p.numel() for p in case.model.parameters())
    assert sum(layer.num_params for layer in case.layers) == total


def test_names_are_unique(case):
    assert len(set(names(case.layers))) == len(case.layers)


def test_stem_is_first_and_position_is_second(case):
    roles = [layer.role for layer in case.layers]
    assert roles[0] == "stem"
    assert "position" not in roles[2:]


def test_head_follows_the_blocks_and_holds_the_classifier(case):
    roles = [layer.role for layer in case.layers]
    assert set(roles[roles.index("head") :]) <= {"head", "norm"}
    classifiers = case.model.get_classifier()
    classifiers = classifiers if isinstance(classifiers, tuple) else (classifiers,)
    heads = [case.model.get_submodule(name) for name in names(case.layers, "head")]
    assert all(any(head is classifier for head in heads) for classifier in classifiers)


def test_layers_fire_in_their_order(case):
    fired, handles = [], []
    for layer in case.layers:
        if layer.tap:
            module = case.model.get_submodule(layer.tap)
            handles.append(module.register_forward_hook(lambda *_, n=layer.name: fired.append(n)))
    run(case.model, case.images)
    for handle in handles:
        handle.remove()
    assert fired == tappable(case.layers)


def test_tapping_leaves_the_logits_alone(case):
    with blocks.tapped(case.model, tappable(case.layers)):
        assert torch.equal(run(case.model, case.images), case.logits)


def test_no_hook_stays_behind(case):
    with blocks.tapped(case.model, tappable(case.layers)):
        assert hooks(case.model) == len(tappable(case.layers))
    assert hooks(case.model) == 0


def test_every_block_output_turns_into_maps(case):
    chosen = [name for name in names(case.layers, "block") if name in tappable(case.layers)]
    with blocks.tapped(case.model, chosen) as outputs:
        run(case.model, case.images)
    outputs = {k: v for k, v in outputs.items() if isinstance(v, torch.Tensor)}  # not HRNet's lists
    shapes = [blocks.as_maps(output, case.model).shape for output in outputs.values()]
    assert all(len(shape) == 4 and shape[0] == 2 for shape in shapes)


# Names checked by hand


def test_names_of_vit():
    layers = blocks.layers(build("vit_tiny_patch16_224"))
    assert names(layers) == ["stem", "position", "blocks.0", "blocks.1", "blocks.2", "norm", "head"]
    assert [layer.role for layer in layers] == [*blocks.ROLES[:2], *["block"] * 3, "norm", "head"]
    assert blocks.find(layers, "position").tensors == ("cls_token", "pos_embed")
    assert blocks.find(layers, "position").tap is None
    assert blocks.find(layers, "stem").tap == "patch_embed"


def test_names_of_resnet18():
    layers = blocks.layers(build("resnet18"))
    expected = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert names(layers) == ["stem", *expected, "fc"]
    assert names(layers, "block") == expected
    assert blocks.find(layers, "stem").tap == "act1"
    assert "layer2.0.downsample.0.weight" in blocks.find(layers, "layer2.0").tensors


def test_names_of_swin_cut_every_stage_alike():
    layers = blocks.layers(build("swin_tiny_patch4_window7_224"))
    expected = ["layers.0.blocks.0"]
    expected += ["layers.1.downsample", "layers.1.blocks.0", "layers.1.blocks.1"]
    expected += ["layers.2.downsample", "layers.2.blocks.0"]
    expected += ["layers.3.downsample", "layers.3.blocks.0"]
    assert names(layers, "block") == expected
    assert names(layers) == ["stem", *expected, "norm", "head.fc"]


def test_names_of_vgg11_bn_pair_conv_and_norm():
    layers = blocks.layers(build("vgg11_bn"))
    convs = [4, 8, 11, 15, 18, 22, 25]
    assert names(layers, "block") == [f"features.{i}" for i in convs]
    assert names(layers, "head") == ["pre_logits", "head.fc"]
    assert blocks.find(layers, "stem").tap == "features.2"
    last = blocks.find(layers, "features.25")
    assert last.tap == "features.27"  # the ReLU, before pooling
    assert {key.rsplit(".", 1)[0] for key in last.tensors} == {"features.25", "features.26"}


def test_final_norm_of_densenet_is_a_norm():
    assert names(blocks.layers(build("densenet121")), "norm") == ["features.norm5"]


def test_conv_head_of_efficientnet_is_a_head():
    head = names(blocks.layers(build("efficientnet_b0")), "head")
    assert head == ["conv_head", "classifier"]


def test_both_heads_of_distilled_deit_are_heads():
    head = names(blocks.layers(build("deit_tiny_distilled_patch16_224")), "head")
    assert head == ["head", "head_dist"]


@pytest.mark.parametrize(
    "name", ["vgg11_bn", "resnet18", "vit_tiny_patch16_224", "efficientnet_b0"]
)
def test_a_model_without_classifier_has_the_same_blocks(name):
    bare, full = blocks.layers(build(name, num_classes=0)), blocks.layers(build(name))
    assert names(bare, "block") == names(full, "block")


# Order and purity


@pytest.mark.parametrize("name", ["vgg11_bn", "vit_tiny_patch16_224", "convnext_atto"])
def test_layers_changes_nothing(name):
    model = build(name).train()
    before, state = snapshot(model), torch.get_rng_state()
    with blocks.tapped(model, ["stem"]) as outputs:
        blocks.layers(model)
    assert same(before, model.state_dict())
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert outputs == {}


def test_order_without_a_forward_pass_follows_the_groups(monkeypatch):
    model = build("twins_svt_small")
    expected = names(blocks.layers(model))
    monkeypatch.setattr(blocks, "_fired", lambda *_: {})
    found = names(blocks.layers(model))
    assert found != sorted(found)
    assert found == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_order_is_found_for_any_number_of_channels(channels):
    model = timm.create_model("fasternet_t0", depths=(1, 2, 1, 1), in_chans=channels)
    found = names(blocks.layers(model))
    assert found.index("stages.1.downsample") < found.index("stages.1.blocks.0")


# Taps


def last_block(model, images):
    layers = blocks.layers(model)
    name = names(layers, "block")[-1]
    with blocks.tapped(model, [name]) as outputs:
        run(model, images)
    return blocks.as_maps(outputs[name], model)


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "resnet18",
        "swin_tiny_patch4_window7_224",
        "convnext_atto",
        "regnetx_002",
    ],
)
def test_last_block_equals_the_last_intermediate_of_timm(name):
    model, images = build(name), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.forward_intermediates(images, intermediates_only=True)[-1]
    assert torch.equal(last_block(model, images), expected)


def test_vgg_taps_equal_timm_before_pooling():
    model, images = build("vgg11_bn"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.forward_intermediates(images, intermediates_only=True)[-2]
    assert torch.equal(last_block(model, images), expected)


def test_outputs_stay_in_the_graph():
    model = build("resnet18")
    with blocks.tapped(model, ["layer4.1"]) as outputs:
        model(torch.randn(2, 3, 32, 32))
    outputs["layer4.1"].sum().backward()
    assert model.conv1.weight.grad is not None
    assert model.fc.weight.grad is None


def test_hooks_go_away_after_an_error():
    model = build("resnet18")
    with pytest.raises(ZeroDivisionError), blocks.tapped(model, ["stem"]):
        raise ZeroDivisionError
    assert hooks(model) == 0


def test_unknown_name_raises_with_the_nearest():
    model = build("vit_tiny_patch16_224")
    with pytest.raises(UserError, match=r"'block\.2'.*'blocks\.2'"):
        blocks.find(blocks.layers(model), "block.2")
    with pytest.raises(UserError, match=r"'blocks\.2'"), blocks.tapped(model, ["block.2"]):
        pass


def test_position_cannot_be_tapped():
    model = build("vit_tiny_patch16_224")
    with pytest.raises(UserError, match="position"), blocks.tapped(model, ["stem", "position"]):
        pass
    assert hooks(model) == 0


# Feature maps


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("resnet18", (2, 7, 5, 6), (2, 7, 5, 6)),
        ("resnet18", (2, 7), (2, 7, 1, 1)),
        ("swin_tiny_patch4_window7_224", (2, 5, 6, 7), (2, 7, 5, 6)),
        ("vit_tiny_patch16_224", (2, 17, 7), (2, 7, 4, 4)),
        ("vit_tiny_patch16_224", (2, 16, 7), (2, 7, 4, 4)),
        ("vit_tiny_patch16_224", (2, 26, 7), (2, 7, 5, 5)),
        ("vit_tiny_patch16_224", (2, 8, 7), (2, 7, 7, 1)),
        ("deit_tiny_distilled_patch16_224", (2, 18, 7), (2, 7, 4, 4)),
    ],
)
def test_shape_of_maps(name, shape, expected):
    assert blocks.as_maps(torch.zeros(shape), build(name)).shape == expected


def test_maps_of_tokens_keep_the_patches_in_reading_order():
    tokens = torch.arange(17.0).reshape(1, 17, 1)  # token 0 is the class token
    maps = blocks.as_maps(tokens, build("vit_tiny_patch16_224"))
    assert torch.equal(maps[0, 0], torch.arange(1.0, 17.0).reshape(4, 4))


def test_maps_use_the_patch_grid_of_oblong_images():
    options = VIT | {"img_size": (16, 64), "depth": 1}
    model = timm.create_model("vit_tiny_patch16_224", **options)
    assert blocks.as_maps(torch.zeros(2, 17, 24), model).shape == (2, 24, 2, 8)


def test_maps_of_something_else_are_refused():
    with pytest.raises(UserError, match=r"\(2, 3, 4, 5, 6\)"):
        blocks.as_maps(torch.zeros(2, 3, 4, 5, 6), build("resnet18"))


# State


def test_layer_state_is_a_detached_copy():
    model = build("resnet18")
    layer = blocks.find(blocks.layers(model), "layer1.0")
    state, before = blocks.layer_state(model, layer), snapshot(model)
    assert tuple(state) == layer.tensors
    assert not any(tensor.requires_grad for tensor in state.values())
    for tensor in state.values():
        tensor.zero_()
    assert same(before, model.state_dict())
