"""Facts about too little memory: passes become smaller, what is computed stays the same."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lgutils import models, train
from lgutils.data import Normalize
from lgutils.errors import UserError
from lgutils.train import FitConfig, fit

NORMALIZE = Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CONFIG = FitConfig(epochs=3, batch_size=32, lr=1e-2, label_smoothing=0.1, shift=1)
ALL = 10**9


def images(n=50, seed=0, size=4):
    """Random images of four classes; a class has its own brightness, so that it can be learned."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    noise = torch.randint(0, 64, (n, 3, size, size), generator=random)
    return (noise + 64 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


class Cramped(nn.Module):
    """Two layers in float64 that hold a few images at most; running out of memory is acted."""

    def __init__(self, room, evaluation_room=ALL):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 4))
        self.double().room, self.evaluation_room = room, evaluation_room

    def forward(self, x):
        if len(x) > (self.room if self.training else self.evaluation_room):
            raise torch.OutOfMemoryError(f"{len(x)} images do not fit")
        return self.layers(x.double())


class LateLoss(torch.autograd.Function):
    """Hands its input on; in the backward pass memory is out for more than 8 images."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        if len(gradient) > 8:
            raise torch.OutOfMemoryError("no room for gradients")
        return gradient


class LateCramped(Cramped):
    """Runs out of memory when half of the gradients are already there."""

    def forward(self, x):
        hidden = LateLoss.apply(self.layers[:3](x.double()))
        return self.layers[3](hidden)


def trained(model, config=CONFIG, n=50, **options):
    return fit(model, images(n), NORMALIZE, config, **options)


def same(a, b):
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-12, rtol=1e-10)


# --- the same step --------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("room", [31, 16, 8, 1])
def test_smaller_passes_give_the_same_weights(room, optimizer):
    config = replace(CONFIG, optimizer=optimizer)
    same(trained(Cramped(room), config).model, trained(Cramped(ALL), config).model)


def test_smaller_passes_give_the_same_losses():
    assert trained(Cramped(8)).losses == pytest.approx(trained(Cramped(ALL)).losses, rel=1e-5)


def test_gradients_of_a_pass_that_failed_half_way_are_dropped():
    same(trained(LateCramped(ALL)).model, trained(Cramped(ALL)).model)


def test_smaller_passes_are_no_further_steps():
    state = trained(Cramped(4)).optimizer_state["state"]
    assert {float(memory["step"]) for memory in state.values()} == {3 * 2}


def test_an_objective_is_cut_up_too():
    def objective(model, x, y):
        return (model(x) - y[:, None]).square().mean()

    found, wanted = (trained(Cramped(room), objective=objective).model for room in (5, ALL))
    same(found, wanted)


def test_with_batch_statistics_it_still_learns():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = models.create("learngene_vgg", 4, seed=0, stages=(1, 1), widths=(4, 8))

        def forward(self, x):
            if self.training and len(x) > 4:
                raise torch.OutOfMemoryError
            return self.net(x)

    config = FitConfig(epochs=30, batch_size=16, lr=2e-2)
    data, test = images(64, size=12), images(100, seed=1, size=12)
    assert fit(Network(), data, NORMALIZE, config, test=test).score.accuracy > 0.9


# --- what is said ---------------------------------------------------------------------------------


def told(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if "Out of memory" in line]


def test_each_halving_is_said_once(capsys):
    trained(Cramped(8))
    first, second = told(capsys)
    assert "training goes on with 16 images at a time instead of 32" in first
    assert "8 images at a time instead of 16" in second


def test_nothing_is_said_where_memory_suffices(capsys):
    trained(Cramped(ALL), test=images(20, 1))
    assert told(capsys) == []


def test_halving_starts_from_the_images_at_hand(capsys):
    trained(Cramped(6), n=10)
    assert "5 images at a time instead of 10" in told(capsys)[0]


def test_the_room_for_evaluation_is_found_once(capsys):
    trained(Cramped(ALL, evaluation_room=50), test=images(100, 1))
    assert ["evaluation goes on with 50" in line for line in told(capsys)] == [True]


def test_no_room_for_one_image_is_an_error():
    with pytest.raises(UserError, match="training does not fit even with one image at a time"):
        trained(Cramped(0))


def test_another_error_is_not_mistaken_for_full_memory():
    class Broken(Cramped):
        def forward(self, x):
            raise RuntimeError("shapes differ")

    with pytest.raises(UserError, match=r"does not take images of 3x4x4 \(shapes differ\)"):
        trained(Broken(ALL))


# --- evaluation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [49, 7, 1])
def test_predictions_do_not_depend_on_the_room(room):
    wanted = train.predict(Cramped(ALL), images()[0], NORMALIZE)
    assert torch.equal(train.predict(Cramped(ALL, room), images()[0], NORMALIZE), wanted)


def test_the_score_does_not_depend_on_the_room():
    wanted = train.evaluate(Cramped(ALL), *images(), NORMALIZE)
    assert train.evaluate(Cramped(ALL, 3), *images(), NORMALIZE) == wanted


def test_the_mode_is_restored_when_nothing_fits():
    model = Cramped(ALL, 0).train()
    with pytest.raises(UserError, match="evaluation does not fit"):
        train.predict(model, images()[0], NORMALIZE)
    assert model.training
