"""Facts about the small architectures and the one way to build models."""

import pytest
import torch
from torch import nn

from lgutils import models, scale
from lgutils.errors import UserError

IMAGES = torch.zeros(2, 3, 32, 32)


@pytest.mark.parametrize("arch", ["learngene_vgg", "learngene_vit"])
def test_it_maps_images_to_logits(arch):
    assert models.create(arch, 7).eval()(IMAGES).shape == (2, 7)


def test_vgg_has_the_convolutions_asked_for():
    model = models.create("learngene_vgg", 5, stages=(1, 3), widths=(4, 8))
    widths = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [4, 8, 8, 8]


def test_vit_has_the_depth_asked_for():
    assert len(models.create("learngene_vit", 5, depth=3, embed_dim=12).blocks) == 3


@pytest.mark.parametrize("arch", ["learngene_vgg", "learngene_vit", "resnet18"])
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


@pytest.mark.parametrize("arch", ["learngene_vgg", "learngene_vit", "resnet18"])
def test_a_misspelt_option_is_refused(arch):
    with pytest.raises(UserError, match=f"timm cannot build '{arch}'.*depht"):
        models.create(arch, 5, depht=3)


def test_an_option_that_timm_refuses_is_a_user_error():
    with pytest.raises(UserError, match="dim should be divisible by num_heads"):
        models.create("learngene_vit", 5, embed_dim=10, num_heads=3)


def test_an_unknown_pretrained_tag_is_a_user_error():
    with pytest.raises(UserError, match="tag"):
        models.create("resnet18.nonsense", 5)


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


def test_a_scale_given_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("LGUTILS_SCALE", "paper")
    assert scale.current("quick") == "quick"


@pytest.mark.parametrize(
    ("call", "name", "near"), [(scale.current, "papr", "paper"), (scale.family, "vitt", "vit")]
)
def test_unknown_scales_and_families_list_the_nearest(call, name, near):
    with pytest.raises(UserError, match=f"{name!r}. Nearest: {near!r}"):
        call(name)
