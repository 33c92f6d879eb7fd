"""Lives: classes are dealt once, every method sees as many images, and what was stopped goes on."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from lgutils import data, inherit, learngene, train
from lgutils.ancestry import (
    Ancestor,
    AncestryConfig,
    forgetting,
    growing,
    pretrain,
    sequence,
    world,
)
from lgutils.ancestry.sequence import calm_layers, lifelong
from lgutils.ancestry.world import METHODS, LifeConfig, World, deal
from lgutils.errors import UserError
from lgutils.train import FitConfig

TINY = AncestryConfig(
    "cnn",
    "learngene_vgg",
    {"stages": [1, 1, 2], "widths": [4, 6, 8]},
    fit=FitConfig(epochs=2, batch_size=16, lr=1e-2, shift=1, label_smoothing=0.1),
)
BASE = data.split("glyphs").base


@pytest.fixture(autouse=True)
def tiny_world(little, monkeypatch):
    """Small random images instead of the glyphs: 64 base classes of 5 images, one more held out."""
    monkeypatch.setattr(data, "load", lambda *_, **__: little)
    return little


def live(method, checkpoint=None, config=TINY, tasks=4, **options):
    life = LifeConfig(method, tasks=tasks, memory=2, **options)
    return lifelong(config, life, device_name="cpu", progress=False, checkpoint=checkpoint)


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture
def lived(kept):
    """A life by each method, lived once."""

    def of(method):
        if method not in kept:
            kept[method] = live(method)
        return kept[method]

    return of


@pytest.fixture
def fits(monkeypatch):
    """What `train.fit` was asked and gave."""
    calls, whole = [], train.fit

    def fit(*args, **options):
        calls.append((args, options, whole(*args, **options)))
        return calls[-1][2]

    monkeypatch.setattr(train, "fit", fit)
    return calls


class Logits(nn.Module):
    """The same logits for every image; keeps the images of the last call."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(64))

    def forward(self, x):
        self.last = x
        return self.bias.expand(len(x), 64)


# --- the deal -------------------------------------------------------------------------------------


def test_every_class_is_in_one_task():
    tasks = deal(BASE, 8, order=3)
    assert [len(task) for task in tasks] == [8] * 8
    assert sorted(c for task in tasks for c in task) == sorted(BASE)


def test_another_order_deals_other_tasks():
    assert deal(BASE, 8, 0) == deal(BASE, 8, 0) != deal(BASE, 8, 1)


def test_too_many_tasks_are_refused():
    with pytest.raises(UserError, match="fewer tasks"):
        deal(range(6), 4, 0)


def test_labels_run_through_the_tasks(tiny_world):
    life = LifeConfig(tasks=4, order=2)
    tasks = deal(BASE, 4, 2)
    made = World.of(TINY, life, tiny_world)
    x, y = made.rows(made.training, 1, 1)
    ours = torch.isin(tiny_world.labels, torch.tensor(tasks[1])) & ~tiny_world.held_out
    assert sorted(y.unique().tolist()) == list(range(16, 32))
    assert torch.equal(x, tiny_world.images[ours])
    assert made.classes[16:32] == tuple(tiny_world.classes[c] for c in tasks[1])


def test_a_life_is_normalised_by_its_first_task_alone(tiny_world):
    made = World.of(TINY, LifeConfig(tasks=4), tiny_world)
    first, _ = made.rows(made.training, 0, 0)
    assert made.normalize == data.Normalize.measured(first)
    joint = World.of(TINY, LifeConfig("joint", tasks=4), tiny_world)
    assert joint.normalize == data.Normalize.measured(joint.training[0])


# --- every method ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_as_many_images(method, fits):
    life = live(method)
    seen = sum(len(args[1][1]) * args[3].epochs for args, _, _ in fits)
    assert seen == life.ancestor.card.images_seen == 64 * 5 * 2


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fills_its_matrices(method, lived):
    life = lived(method)
    for matrix in (life.seen, life.own):
        filled = np.isfinite(matrix)
        expected = np.tril(np.ones((4, 4), bool))
        if method == "joint":
            expected[:-1] = False
        assert (filled == expected).all()
        assert ((matrix[filled] >= 0) & (matrix[filled] <= 1)).all()
    assert (life.own[filled] >= life.seen[filled]).all()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_an_ordinary_ancestor(method, lived, tmp_path):
    life = lived(method)
    again = Ancestor.load(life.ancestor.save(tmp_path / "a.safetensors"))
    assert again.card == life.ancestor.card
    assert again.card.arch == "learngene_vgg"
    heir = inherit.inherit(learngene.extract(again, life.layers[:2]), num_classes=3)
    assert heir.model(torch.zeros(1, 3, 16, 16)).shape == (1, 3)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seeds_give_the_same_weights(method, lived):
    again = live(method).ancestor
    assert again.card.weight_hash == lived(method).ancestor.card.weight_hash


@pytest.mark.parametrize("method", METHODS)
def test_calm_is_a_share_for_every_stage_and_block(method, lived):
    life = lived(method)
    assert life.calm.shape == (1 if method == "joint" else 4, len(life.layers))
    assert ((life.calm >= 0) & (life.calm <= 1)).all()


def test_the_last_row_is_what_the_ancestor_scores(lived):
    life = lived("replay")
    assert life.ancestor.card.accuracy.accuracy == pytest.approx(life.seen[-1].mean())
    assert life.ancestor.card.accuracy.n == 64


def test_a_joint_life_is_pretraining(monkeypatch):
    monkeypatch.setattr(world, "deal", lambda classes, tasks, order: [classes[:32], classes[32:]])
    joint = live("joint", tasks=2).ancestor
    plain = pretrain(TINY, device_name="cpu", progress=False)
    assert joint.card.normalize == plain.card.normalize
    for name, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(joint.model.state_dict()[name], tensor)


def test_the_loss_is_over_the_classes_seen_so_far(fits):
    live("fine-tuning")
    for stage, (_, options, _) in enumerate(fits):
        model = Logits()
        options["objective"](model, torch.zeros(2, 3, 4, 4), torch.tensor([0, 1])).backward()
        assert (model.bias.grad != 0).tolist() == [i < 16 * (stage + 1) for i in range(64)]


def test_every_task_begins_with_the_model_of_the_last(fits):
    live("fine-tuning")
    for (_, _, before), (args, _, _) in pairwise(fits):
        assert train.weight_hash(args[0]) == train.weight_hash(before.model)


def test_every_task_has_the_same_schedule_and_a_fresh_optimiser(fits):
    live("ewc")
    assert len({replace(args[3], seed=0) for args, _, _ in fits}) == 1
    assert len({args[3].seed for args, _, _ in fits}) == 4
    assert all("optimizer_state" not in options for _, options, _ in fits)


def test_replay_remembers_earlier_tasks_only(fits):
    live("replay")
    for stage, (_, options, _) in enumerate(fits):
        model, x = Logits(), torch.full((16, 3, 16, 16), 99.0)
        options["objective"](model, x, torch.full((16,), 16 * stage))
        new = (model.last == 99).flatten(1).all(1)
        assert len(new) == 16
        assert int(new.sum()) == (16 if stage == 0 else 8)


def given(monkeypatch, module, name):
    """What a function of a module is called with from now on."""
    calls, whole = [], getattr(module, name)

    def noting(*args, **options):
        calls.append((args, options))
        return whole(*args, **options)

    monkeypatch.setattr(module, name, noting)
    return calls


def test_the_memory_holds_as_many_images_of_every_earlier_class(monkeypatch):
    calls = given(monkeypatch, forgetting, "rehearsed")
    live("replay")
    counts = [args[0].labels.bincount().tolist() for args, _ in calls]
    assert counts == [[2] * 16, [2] * 32, [2] * 48]


def test_importance_adds_up_and_the_anchor_is_the_last_model(monkeypatch, fits):
    def ones(model, *_, **__):
        return {name: torch.ones_like(p) for name, p in model.named_parameters()}

    monkeypatch.setattr(forgetting, "fisher", ones)
    calls = given(monkeypatch, forgetting, "anchored")
    live("ewc")
    assert [float(args[0]["head.fc.bias"][0]) for args, _ in calls] == [1, 2, 3]
    for (args, _), (trained, _, _) in zip(calls, fits[1:], strict=True):
        last = dict(trained[0].named_parameters())
        assert all(torch.equal(args[1][name], p) for name, p in last.items())


def test_new_channels_get_the_noise_that_was_asked_for(monkeypatch):
    calls = given(monkeypatch, growing, "widen")
    live("growing", noise=0.25)
    assert [options["noise"] for _, options in calls] == [0.25] * 3


def test_without_strength_ewc_is_fine_tuning():
    weights = [
        live(method, tasks=2, strength=0.0).ancestor.model.state_dict()
        for method in ("ewc", "fine-tuning")
    ]
    torch.testing.assert_close(*weights)


def test_a_strong_penalty_holds_the_weights(fits):
    distances = []
    for strength in (0.0, 1e5):
        live("ewc", tasks=2, strength=strength)
        (before, *_), _, fitted = fits[-1]
        pairs = zip(before.parameters(), fitted.model.parameters(), strict=True)
        distances.append(sum(float((a - b).detach().square().sum()) for a, b in pairs))
    assert distances[1] < 0.7 * distances[0]


def test_a_growing_network_has_its_full_shape_at_the_last_task(fits):
    live("growing")
    widths = [growing.widths_of(args[0]) for args, _, _ in fits]
    assert widths[0] == (4, "M", 3, "M", 4, 4, "M")
    assert widths[-1] == (4, "M", 6, "M", 8, 8, "M")
    assert len(set(widths)) == 4


def test_the_key_changes_with_every_setting_and_is_not_that_of_pretraining():
    settings = ({}, {"method": "ewc"}, {"tasks": 4}, {"order": 1}, {"memory": 3}, {"noise": 0.1})
    keys = {LifeConfig(**s).key(TINY) for s in settings}
    assert len(keys) == len(settings)
    assert TINY.key not in keys


# --- stopping and going on ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["replay", "ewc", "growing"])
def test_a_life_that_was_stopped_ends_like_an_unbroken_one(method, lived, tmp_path, monkeypatch):
    path, whole, calls = tmp_path / "life.ckpt", lived(method), []
    fit = train.fit

    def stopped(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr(train, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        live(method, checkpoint=path)
    assert path.is_file()
    again = live(method, checkpoint=path)
    assert len(calls) == 5
    assert again.ancestor.card.weight_hash == whole.ancestor.card.weight_hash
    for name in ("seen", "own", "calm"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    assert not path.exists()


def test_a_checkpoint_of_another_life_is_refused(tmp_path, monkeypatch):
    path, fit = tmp_path / "life.ckpt", train.fit

    def once(*args, **options):
        if path.exists():
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr(train, "fit", once)
    with pytest.raises(KeyboardInterrupt):
        live("fine-tuning", checkpoint=path)
    with pytest.raises(UserError, match="another"):
        live("fine-tuning", checkpoint=path, order=1)


# --- calm layers ----------------------------------------------------------------------------------


def test_calm_layers_are_those_with_the_fewest_large_gradients_late_in_life(lived):
    life = lived("fine-tuning")
    late = np.array([[0.0] * 3, [0.0] * 3, [0.9, 0.2, 0.4], [0.7, 0.4, 0.1]])
    life = replace(life, calm=late, layers=("a", "b", "c"))
    assert calm_layers(life, 1) == ("c",)
    assert calm_layers(life, 2) == ("b", "c")
    with pytest.raises(UserError, match="1 to 3"):
        calm_layers(life, 4)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [{"method": "dreaming"}, {"tasks": 1}, {"memory": 0}, {"strength": -1}, {"noise": -1}]
)
def test_a_bad_life_is_refused(bad):
    with pytest.raises(UserError):
        LifeConfig(**bad)


def test_a_transformer_cannot_grow_but_can_live():
    vit = AncestryConfig(
        "vit", "learngene_vit", {"depth": 1, "embed_dim": 12, "num_heads": 2, "img_size": 16},
        fit=FitConfig(epochs=1, batch_size=32),
    )  # fmt: skip
    with pytest.raises(UserError, match="can grow"):
        live("growing", config=vit)
    assert live("ewc", config=vit, tasks=2).ancestor.card.arch == "learngene_vit"


def test_a_dataset_without_base_classes_is_refused():
    with pytest.raises(UserError, match="no base classes"):
        live("replay", config=replace(TINY, dataset="digits"))


def test_adopted_weights_are_refused():
    with pytest.raises(UserError, match="random weights"):
        live("replay", config=replace(TINY, weights="timm"))


def test_sequence_offers_what_the_package_exports():
    assert sequence.LifeConfig is LifeConfig
