"""Facts about the small architectures and the one way to build models."""

import pytest
import torch
from timm.models import group_parameters
from torch import nn

from lgutils import blocks, models, scale
from lgutils.errors import UserError

IMAGES = torch.zeros(2, 3, 32, 32)


@pytest.mark.parametrize("arch", ["learngene_vgg", "learngene_vit", "learngene_resnet12"])
def test_it_maps_images_to_logits(arch):
    assert models.create(arch, 7).eval()(IMAGES).shape == (2, 7)


def test_vgg_has_the_convolutions_asked_for():
    model = models.create("learngene_vgg", 5, stages=(1, 3), widths=(4, 8))
    widths = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [4, 8, 8, 8]


def test_vit_has_the_depth_asked_for():
    assert len(models.create("learngene_vit", 5, depth=3, embed_dim=12).blocks) == 3


HEADED = {"stages": [1, 1], "widths": [4, 6], "hidden": [10, 7]}


@pytest.mark.parametrize("pair", [(10, 7), (7, 10), (1000, 3), (4096, 4096)])
def test_vgg_has_the_hidden_layers_asked_for(pair):
    with torch.device("meta"):
        model = models.create("learngene_vgg", 5, **{**HEADED, "hidden": pair})
    shapes = [tuple(p.shape) for n, p in model.named_parameters() if n.endswith("weight")][-3:]
    assert shapes == [(pair[0], 6, 1, 1), (*pair[::-1], 1, 1), (5, pair[1])]


def test_vggs_hidden_layers_are_fully_connected_where_one_pixel_is_left():
    model = models.create("learngene_vgg", 5, **HEADED).eval()
    images = torch.rand(2, 3, 4, 4)
    features, mlp = model.forward_features(images).flatten(1), model.pre_logits
    for conv in (mlp.fc1, mlp.fc2):
        features = (features @ conv.weight.flatten(1).T + conv.bias).relu()
    wanted = features @ model.head.fc.weight.T + model.head.fc.bias
    torch.testing.assert_close(model(images), wanted)


def test_vggs_hidden_layers_stay_behind_as_its_head():
    roles = {x.name: x.role for x in blocks.layers(models.create("learngene_vgg", 5, **HEADED))}
    assert (roles["pre_logits"], roles["head.fc"]) == ("head", "head")


def test_another_number_of_hidden_layers_is_refused():
    with pytest.raises(UserError, match=r"hidden \(4,\) was given; two widths"):
        models.create("learngene_vgg", 5, hidden=(4,))


def test_a_resnet12_stage_is_worked_out_by_hand():
    model = models.create("learngene_resnet12", 5, widths=(4, 6), drop_rate=0).eval()
    stage, x = model.stages[0], torch.randn(2, 3, 8, 8)

    def part(unit, x):
        return (
            unit.bn.bias[:, None, None]
            + nn.functional.conv2d(x, unit.conv.weight, padding=unit.conv.kernel_size[0] // 2)
            / (1 + unit.bn.eps) ** 0.5
        )

    def leaky(x):
        return torch.where(x > 0, x, 0.1 * x)

    body = part(stage.body.conv2, leaky(part(stage.body.conv1, leaky(part(stage.entry, x)))))
    wanted = leaky(body + part(stage.shortcut, x)).unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    torch.testing.assert_close(stage(x), wanted)


def test_resnet12_does_what_timms_models_do():
    model = models.create("learngene_resnet12", 5, widths=(4, 6, 8, 10)).eval()
    features = model.forward_features(IMAGES)
    assert features.shape == (2, 10, 2, 2)
    assert torch.equal(model.forward_head(features), model(IMAGES))
    assert model.forward_head(features, pre_logits=True).shape == (2, 10)
    model.reset_classifier(3)
    assert model.get_classifier().out_features == model(IMAGES).shape[1] == 3


def test_resnet12s_groups_follow_the_data():
    model = models.create("learngene_resnet12", 5)
    groups = group_parameters(model, model.group_matcher(), reverse=True)
    order = ["stages.0.entry", "stages.0.body", "stages.1.entry", "stages.1.body", "head.fc"]
    numbers = [next(g for name, g in groups.items() if name.startswith(part)) for part in order]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0


def test_the_tensors_of_a_resnet12_body_line_up_with_a_basic_blocks():
    ours, theirs = (
        blocks.find(blocks.layers(model), name)
        for model, name in (
            (models.create("learngene_resnet12", 5), "stages.2.body"),
            (models.create("resnet18", 5), "layer3.1"),
        )
    )
    assert ours.num_params == theirs.num_params
    assert [t.split(".")[-1] for t in ours.tensors] == [t.split(".")[-1] for t in theirs.tensors]


@pytest.mark.parametrize(
    "arch", ["learngene_vgg", "learngene_vit", "learngene_resnet12", "resnet18"]
)
def test_the_seed_decides_the_weights(arch):
    one, same, other = (models.create(arch, 5, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)


def test_building_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    models.create("learngene_vgg", 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_architecture_lists_the_nearest():
    with pytest.raises(UserError, match=r"Unknown architecture 'learngene_vgh'.*'learngene_vgg'"):
        models.create("learngene_vgh", 5)


@pytest.mark.parametrize(
    "arch", ["learngene_vgg", "learngene_vit", "learngene_resnet12", "resnet18"]
)
def test_a_misspelt_option_is_refused(arch):
    with pytest.raises(UserError, match=f"timm cannot build '{arch}'.*depht"):
        models.create(arch, 5, depht=3)


def test_an_option_that_timm_refuses_is_a_user_error():
    with pytest.raises(UserError, match="dim should be divisible by num_heads"):
        models.create("learngene_vit", 5, embed_dim=10, num_heads=3)


def test_an_unknown_pretrained_tag_is_a_user_error():
    with pytest.raises(UserError, match="tag"):
        models.create("resnet18.nonsense", 5)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("num_classes", "num_classes is set by the task; leave it out"),
        ("seed", "seed is set by the configuration; leave it out"),
        ("pretrained", "'pretrained' is not accepted"),
    ],
)
def test_arguments_that_are_not_the_callers_are_refused(name, told):
    with pytest.raises(UserError, match=told):
        models.check_kwargs({"depth": 3, name: 1})


# --- what a model takes -----------------------------------------------------------------------------


def test_images_of_a_size_that_the_model_takes_pass():
    models.check_input(models.create("learngene_vit", 5), (3, 32, 32))
    models.check_input(models.create("learngene_vgg", 5).double(), (3, 16, 24))


@pytest.mark.parametrize(
    ("arch", "shape", "told"),
    [
        (
            "vit_tiny_patch16_224",
            (3, 32, 32),
            r"images of 3x32x32 \(Input height",
        ),  # AssertionError
        (
            "learngene_vgg",
            (3, 8, 8),
            r"images of 3x8x8 \(",
        ),  # RuntimeError: nothing is left to pool
        ("learngene_vgg", (1, 32, 32), r"images of 1x32x32 \("),
    ],
)
def test_images_that_the_model_does_not_take_are_refused(arch, shape, told):
    with pytest.raises(UserError, match=told + ".*Add @PIXELS to the dataset, or give the model"):
        models.check_input(models.create(arch, 2), shape)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 32)])
def test_looking_at_what_a_model_takes_changes_nothing(shape):
    model = models.create("learngene_vgg", 5).train()
    model.features[1].eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    try:
        models.check_input(model, shape)
    except UserError:
        assert shape[0] == 1
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_stages_and_widths_must_match():
    with pytest.raises(UserError, match="must have the same length"):
        models.create("learngene_vgg", 5, stages=(1, 2))


def test_a_copy_shares_nothing():
    model = models.create("learngene_vgg", 5, stages=(1,), widths=(4,))
    storages = {t.data_ptr() for t in model.state_dict().values()}
    assert not storages & {t.data_ptr() for t in models.copied(model).state_dict().values()}


def test_the_scale_is_quick_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv("LGUTILS_SCALE", raising=False)
    assert scale.current() == "quick"
    monkeypatch.setenv("LGUTILS_SCALE", "paper")
    assert scale.current() == "paper"


def test_every_family_of_the_course_has_a_title():
    assert set(scale.FAMILIES) <= set(scale.TITLES)


def test_a_scale_given_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("LGUTILS_SCALE", "paper")
    assert scale.current("quick") == "quick"


@pytest.mark.parametrize(
    ("call", "name", "near"), [(scale.current, "papr", "paper"), (scale.family, "vitt", "vit")]
)
def test_unknown_scales_and_families_list_the_nearest(call, name, near):
    with pytest.raises(UserError, match=f"{name!r}. Nearest: {near!r}"):
        call(name)
