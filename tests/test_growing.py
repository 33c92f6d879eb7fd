"""The growing network keeps its function, follows the paper's plan, and its gradients can be watched."""

import copy

import numpy as np
import pytest
import torch
from timm.models.vgg import VGG
from torch import nn

from lgutils import blocks, models, train
from lgutils.ancestry import growing
from lgutils.data import Normalize
from lgutils.errors import UserError
from lgutils.train import FitConfig

WIDTHS = (4, "M", 5, 6, "M", 7, "M")


def random_net(widths=WIDTHS, seed=0, **options):
    """A net whose batch norm has random weights and statistics."""
    model = models.create("learngene_netwider", 5, widths=widths, seed=seed, **options)
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.ndim == 1:  # biases, weights and statistics of the norms
            tensor += torch.rand(tensor.shape, generator=generator)
    return model


@pytest.fixture
def x():
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


# --- widening -------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("extra", [1, 4, 13])
@pytest.mark.parametrize("conv", range(4))
def test_a_wider_network_computes_the_same(x, conv, extra, training):
    model = random_net().train(training)
    wider = growing.widen(model, conv, extra, seed=3)
    assert wider.training == training
    with torch.no_grad():
        torch.testing.assert_close(wider(x), model(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("conv", [0, 3])
def test_running_statistics_stay_the_same_function_after_a_training_pass(x, conv):
    model = random_net().train()
    wider = growing.widen(model, conv, 3)
    with torch.no_grad():
        model(x), wider(x)
        torch.testing.assert_close(wider.eval()(x), model.eval()(x), atol=1e-5, rtol=0)


def test_a_learngene_vgg_can_be_widened_too(x):
    model = models.create("learngene_vgg", 5, stages=(1, 2), widths=(4, 6)).eval()
    wider = growing.widen(model, 2, 6)
    assert growing.widths_of(wider) == (4, "M", 6, 12, "M")
    torch.testing.assert_close(wider(x), model(x), atol=1e-5, rtol=0)


def test_the_last_convolution_widens_the_head():
    wider = growing.widen(random_net(), 3, 2)
    assert wider.head.fc.in_features == wider.num_features == 9


def test_every_new_channel_is_a_double_batch_norm_included():
    model = random_net()
    wider = growing.widen(model, 1, 3)
    rows = wider.features[4].weight.flatten(1)
    for new in range(5, 8):
        old = next(i for i in range(5) if torch.equal(rows[i], rows[new]))
        for tensor in wider.features[5].state_dict().values():
            assert tensor.ndim == 0 or tensor[old] == tensor[new]


def test_no_channel_is_doubled_twice_before_all_were_doubled_once():
    wider = growing.widen(random_net(), 0, 4)
    rows = wider.features[0].weight.flatten(1)
    assert sorted(map(tuple, rows[:4].tolist())) == sorted(map(tuple, rows[4:].tolist()))


def test_the_model_given_is_not_edited():
    model = random_net()
    before = copy.deepcopy(model.state_dict())
    wider = growing.widen(model, 1, 2, noise=0.1)
    with torch.no_grad():
        for p in wider.parameters():
            p.add_(1)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_noise_parts_the_twins_and_touches_no_old_channel():
    model = random_net()
    still, noisy = (growing.widen(model, 1, 2, noise=n) for n in (0.0, 0.1))
    changed = (still.features[4].weight != noisy.features[4].weight).flatten(1).all(1)
    assert changed.tolist() == [False] * 5 + [True] * 2


def test_without_noise_twins_get_equal_gradients_and_with_noise_they_part(x):
    equal = []
    for noise in (0.0, 0.1):
        wider = growing.widen(random_net(), 0, 4, noise=noise).train()
        wider(x).square().sum().backward()
        grad, rows = wider.features[0].weight.grad, wider.features[0].weight
        old = [int((rows[4:5] - rows[:4]).abs().sum((1, 2, 3)).argmin())]
        equal.append(torch.allclose(grad[4], grad[old[0]], rtol=1e-3))
    assert equal == [True, False]


def test_the_same_seed_draws_the_same_channels():
    one, two, other = (growing.widen(random_net(), 2, 3, seed=s) for s in (1, 1, 2))
    assert train.weight_hash(one) == train.weight_hash(two) != train.weight_hash(other)


def test_a_wider_network_is_built_again_from_its_widths(x):
    wider = growing.widen(random_net(in_chans=3, drop_rate=0.1), 1, 2).eval()
    again = models.create("learngene_netwider", 5, widths=list(growing.widths_of(wider)))
    again.load_state_dict(wider.state_dict())
    assert torch.equal(again.eval()(x), wider(x))


def test_learngene_netwider_is_learngene_vgg_with_widths_of_its_own():
    plain = models.create("learngene_vgg", 5, stages=(1, 2), widths=(4, 6), seed=3)
    own = models.create("learngene_netwider", 5, widths=(4, "M", 6, 6, "M"), seed=3)
    assert train.weight_hash(plain) == train.weight_hash(own)
    assert blocks.layers(plain) == blocks.layers(own)


def test_a_misspelt_option_is_refused():
    with pytest.raises(UserError, match="width"):
        models.create("learngene_netwider", 5, width=(4, "M"))


@pytest.mark.parametrize(
    "other",
    [
        lambda: models.create("learngene_vit", 5, depth=1),
        lambda: models.create("learngene_vgg", 5, stages=(1,), widths=(4,), hidden=(8, 8)),
        lambda: VGG([4, "M"], mlp_ratio=1 / 4096),
    ],
    ids=["vit", "hidden head", "no batch norm"],
)
def test_another_model_cannot_grow(other):
    with pytest.raises(UserError, match="can grow"):
        growing.widen(other(), 0, 1)


@pytest.mark.parametrize(("conv", "extra", "reason"), [(4, 1, "0 to 3"), (-1, 1, "0 to 3"), (0, 0, "at least 1")])  # fmt: skip
def test_widening_what_is_not_there_is_refused(conv, extra, reason):
    with pytest.raises(UserError, match=reason):
        growing.widen(random_net(), conv, extra)


# --- the plan of growth ---------------------------------------------------------------------------


def test_the_papers_network_starts_as_netwider_13():
    start = growing.paper_growth().start
    assert [w for w in start if w != "M"] == [64] * 4 + [128] * 3 + [256] * 6
    pools = [sum(w != "M" for w in start[:i]) for i, w in enumerate(start) if w == "M"]
    assert pools == [2, 4, 7, 10, 13]


def test_the_papers_network_grows_in_the_papers_order():
    steps = growing.paper_growth().steps
    assert [conv for conv, _ in steps] == [2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12]  # fmt: skip
    assert [extra for _, extra in steps] == [64] * 8 + [128] * 12


def test_the_papers_network_ends_as_vgg16():
    growth = growing.paper_growth()
    ended = [w for w in growth.widths(20) if w != "M"]
    assert ended == [64, 64, 128, 128, 256, 256, 256] + [512] * 6


def test_the_papers_network_grows_once_before_each_of_the_tasks_1_to_20():
    growth = growing.paper_growth()
    assert [growth.until(task, 50) for task in range(23)] == [*range(21), 20, 20]


def test_the_quick_network_ends_as_the_quick_cnn():
    growth = growing.growth_to(models.VGG_STAGES, models.VGG_WIDTHS)
    assert growth.start == (24, "M", 24, 24, "M", 48, 48, "M", 48, 48, "M")
    assert growth.widths(len(growth.steps)) == (24, "M", 48, 48, "M", 96, 96, "M", 96, 96, "M")
    assert [growth.until(task, 8) for task in range(8)] == [0, 1, 2, 3, 4, 5, 6, 6]


def test_all_growth_is_done_when_the_last_task_begins():
    growth = growing.halved_growth((1, 2, 2), (4, 7, 8))
    for tasks in (2, 3, 9):
        assert growth.until(0, tasks) == 0
        assert growth.until(tasks - 1, tasks) == len(growth.steps)
    assert growth.widths(4) == (4, "M", 7, 7, "M", 8, 8, "M")


def test_vgg16_grows_as_in_the_paper():
    assert growing.growth_to((2, 2, 3, 3, 3), (64, 128, 256, 512, 512)) == growing.paper_growth()


def test_one_task_leaves_no_time_to_grow():
    with pytest.raises(UserError, match="Use 2"):
        growing.paper_growth().until(0, 1)


# --- gradients ------------------------------------------------------------------------------------

PLAIN = Normalize((0.5,), (0.3,))


class Two(nn.Module):
    """Logits from one pixel: `kept` learns, `dead` is multiplied by nothing."""

    def __init__(self):
        super().__init__()
        self.kept, self.dead = nn.Linear(1, 2), nn.Linear(1, 2)

    def forward(self, x):
        return self.kept(x.flatten(1)) + 0 * self.dead(x.flatten(1))


def layer(name, *tensors):
    return blocks.Layer(name, "block", tensors, 1, None)


LAYERS = [layer("kept", "kept.weight", "kept.bias"), layer("dead", "dead.weight"), layer("no", "x")]


def pixels(n=20):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 1, 1), dtype=torch.uint8, generator=generator)
    return images, (images.flatten() > 127).long()


def cross_entropy(model, x, y):
    return nn.functional.cross_entropy(model(x), y)


def watch(after, epochs=3):
    fit = FitConfig(epochs=epochs, batch_size=10)
    with growing.watched(cross_entropy, LAYERS, after) as (objective, shares):
        fitted = train.fit(Two(), pixels(), PLAIN, fit, objective=objective, device_name="cpu")
        return fitted, shares()


def test_calm_layers_have_a_share_of_zero_and_absent_ones_none():
    _, shares = watch(after=0)
    assert shares[:2].tolist() == [1.0, 0.0]
    assert np.isnan(shares[2])


def test_the_share_is_that_of_gradients_by_hand(monkeypatch):
    found = []

    def noting(model, x, y):
        loss = cross_entropy(model, x, y)
        (grad,) = torch.autograd.grad(loss, model.kept.weight, retain_graph=True)
        weight = model.kept.weight.detach()
        found.append((grad.abs() > 0.5 * weight.square().mean().sqrt()).float().mean())
        return loss

    monkeypatch.setattr(growing, "LARGE", 0.5)
    fit = FitConfig(epochs=4, batch_size=10, lr=0.1)
    with growing.watched(noting, LAYERS, 60) as (objective, shares):
        train.fit(Two(), pixels(), PLAIN, fit, objective=objective, device_name="cpu")
    assert shares()[0] == pytest.approx(float(torch.stack(found[6:]).mean()))


def test_nothing_is_counted_before_its_time():
    _, shares = watch(after=60)
    assert np.isnan(shares).all()


def test_watching_does_not_change_the_training():
    torch.manual_seed(0)
    fit, model = FitConfig(epochs=2, batch_size=10), Two()
    plain = train.fit(model, pixels(), PLAIN, fit, objective=cross_entropy, device_name="cpu")
    with growing.watched(cross_entropy, LAYERS, 0) as (objective, _):
        seen = train.fit(model, pixels(), PLAIN, fit, objective=objective, device_name="cpu")
    assert train.weight_hash(plain.model) == train.weight_hash(seen.model)


def test_no_hook_stays_behind():
    fitted, _ = watch(after=0)
    assert not any(p._post_accumulate_grad_hooks for p in fitted.model.parameters())


def test_the_share_equals_that_of_the_criterion_on_one_step(tiny_cnn):
    """The same relative threshold as `condense.criteria`."""
    from lgutils.condense import criteria

    layers = [x for x in blocks.layers(tiny_cnn.model) if x.role == "block"]
    x = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    y = torch.arange(8) % 4
    whole = criteria._large_gradients(tiny_cnn, layers, x, y, seed=0)
    model = models.copied(tiny_cnn.model).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.reset_classifier(4)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    with growing.watched(cross_entropy, layers, 0) as (objective, shares):
        for _ in range(10):
            sgd.zero_grad()
            objective(model, tiny_cnn.card.normalize(x), y).backward()
            sgd.step()
        np.testing.assert_allclose(shares(), whole, atol=1e-6)
