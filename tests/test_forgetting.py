"""Measures of forgetting by hand, and the parts of replay and elastic weight consolidation."""

import numpy as np
import pytest
import torch
from torch import nn

from lgutils.ancestry import forgetting
from lgutils.data import Batches, Normalize
from lgutils.errors import UserError

GAP = np.nan
MATRIX = [[0.8, GAP, GAP], [0.9, 0.6, GAP], [0.5, 0.7, 1.0]]
PLAIN = Normalize((0.0,), (1 / 255,))  # bytes as they are


def test_average_accuracy_is_the_mean_of_the_last_row():
    assert forgetting.average_accuracy(MATRIX) == pytest.approx((0.5 + 0.7 + 1.0) / 3)


def test_forgetting_counts_from_the_best_earlier_row():
    # Task 0 fell from 0.9 (not from 0.8) to 0.5; task 1 rose from 0.6 to 0.7.
    assert forgetting.forgetting(MATRIX) == pytest.approx((0.4 - 0.1) / 2)


def test_backward_transfer_counts_from_the_diagonal():
    assert forgetting.backward_transfer(MATRIX) == pytest.approx((-0.3 + 0.1) / 2)


def test_learning_accuracy_is_the_mean_of_the_diagonal():
    assert forgetting.learning_accuracy(MATRIX) == pytest.approx((0.8 + 0.6 + 1.0) / 3)


def test_what_lies_above_the_diagonal_does_not_count():
    filled = np.where(np.isnan(MATRIX), 0.99, MATRIX)
    for of in forgetting.MEASURES.values():
        assert of(filled) == of(MATRIX)


def test_average_accuracy_needs_the_last_row_only():
    joint = np.full((3, 3), GAP)
    joint[-1] = [0.1, 0.2, 0.6]
    assert forgetting.average_accuracy(joint) == pytest.approx(0.3)
    with pytest.raises(UserError, match="gaps"):
        forgetting.forgetting(joint)


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        ([[0.5, 0.5]], "square"),
        ([[0.5]], "2 tasks"),
        ([[50.0, GAP], [40.0, 60.0]], "outside"),
        ([[0.5, GAP], [GAP, 0.5]], "gaps"),
    ],
)
def test_a_matrix_that_is_none_is_refused(matrix, reason):
    with pytest.raises(UserError, match=reason):
        forgetting.forgetting(matrix)


def test_a_summary_has_an_interval_over_lives():
    lower = np.array(MATRIX) - 0.1
    found = forgetting.summary([MATRIX, lower])["average accuracy"]
    half = 12.7062 * 0.05  # t quantile of one degree of freedom times the standard error
    assert found.n == 2
    assert found.mean == pytest.approx(0.68333, abs=1e-4)
    assert found.high - found.mean == pytest.approx(half, rel=1e-4)


# --- replay ---------------------------------------------------------------------------------------


def test_a_memory_keeps_as_many_images_of_each_class():
    labels = torch.tensor([0] * 10 + [1] * 30 + [2] * 2)
    kept = labels[forgetting.memorised(labels, 5, seed=0)]
    assert kept.bincount().tolist() == [5, 5, 2]


def test_another_seed_remembers_other_images():
    labels = torch.zeros(50, dtype=torch.int64)
    first, second = (set(forgetting.memorised(labels, 10, seed=s).tolist()) for s in (0, 1))
    assert first != second


def test_a_growing_memory_keeps_what_it_had():
    labels = torch.arange(12).repeat(30).sort().values
    few = set(forgetting.memorised(labels[labels < 4], 5, seed=0).tolist())
    many = set(forgetting.memorised(labels, 5, seed=0).tolist())
    assert few < many


def memory(n=6, batch=4):
    images = torch.arange(100, 100 + n, dtype=torch.uint8).view(n, 1, 1, 1)
    return Batches(images, torch.arange(100, 100 + n), PLAIN, batch)


def test_a_rehearsed_batch_keeps_its_size_and_its_labels():
    x, y = torch.arange(8.0).view(8, 1, 1, 1), torch.arange(8)
    mixed_x, mixed_y = forgetting.rehearsed(memory())(x, y)
    assert torch.equal(mixed_x.flatten().round().long(), mixed_y)
    assert mixed_y[:4].tolist() == [0, 1, 2, 3]
    assert (mixed_y[4:] >= 100).all()


def test_every_remembered_image_comes_equally_often():
    mixed = forgetting.rehearsed(memory())
    x, y = torch.zeros(8, 1, 1, 1), torch.zeros(8, dtype=torch.int64)
    drawn = torch.cat([mixed(x, y)[1] for _ in range(6)])
    old = drawn[drawn >= 100] - 100
    assert old.bincount().tolist() == [3] * 6


def test_a_small_batch_is_not_replaced_whole():
    x, y = torch.zeros(3, 1, 1, 1), torch.tensor([1, 2, 3])
    assert forgetting.rehearsed(memory())(x, y)[1].tolist()[:2] == [1, 2]


# --- elastic weight consolidation -----------------------------------------------------------------


@pytest.fixture
def grey():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (4000, 1, 1, 2), dtype=torch.uint8, generator=generator)


def linear(outputs=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(2, outputs)).double()


def test_the_fisher_of_a_logistic_model_is_the_textbooks(grey):
    model, unit = linear(), Normalize((0.5,), (0.3,))
    found = forgetting.fisher(model, grey, unit, 2)
    with torch.no_grad():
        x = unit(grey).double()
        p = model(x).softmax(1)
    variance = (p * (1 - p))[:, :, None]  # of class c's indicator
    expected = (variance * x.flatten(1).square()[:, None]).mean(0)
    assert torch.allclose(found["1.weight"], expected, rtol=0.1)
    assert torch.allclose(found["1.bias"], variance.mean((0, 2)), rtol=0.1)


def test_the_fisher_is_the_mean_of_squared_gradients_of_drawn_labels(grey):
    images, unit = grey[:30], Normalize((0.5,), (0.3,))
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(6, 4))
    model = model.double().eval()
    found = forgetting.fisher(model, images, unit, 3, seed=5, chunk=30)
    x = unit(images).double()
    chances = model(x)[:, :3].softmax(1).detach()
    y = torch.multinomial(chances, 1, generator=torch.Generator().manual_seed(5))[:, 0]
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for one, label in zip(x, y):
        model.zero_grad()
        model(one[None])[:, :3].log_softmax(1)[0, label].backward()
        for name, p in model.named_parameters():
            total[name] += p.grad.square() / len(x)
    for name, value in total.items():
        torch.testing.assert_close(found[name], value)


def test_classes_that_were_not_seen_have_no_fisher(grey):
    found = forgetting.fisher(linear(3), grey[:50], PLAIN, 2)
    assert (found["1.weight"][2] == 0).all()


def test_the_fisher_leaves_the_model_alone(grey):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten()).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    forgetting.fisher(model, grey[:50], PLAIN, 2)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_the_penalty_is_half_the_weighted_squared_distance():
    model = linear()
    anchor = {name: p.detach() - 2 for name, p in model.named_parameters()}
    importance = {name: torch.full_like(p, 3.0) for name, p in model.named_parameters()}
    penalty = forgetting.anchored(importance, anchor, strength=10.0)(model).detach()
    assert float(penalty) == pytest.approx(10 / 2 * 3 * 4 * 6)


def test_the_anchor_does_not_move_with_the_model():
    model = linear()
    importance = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    penalty = forgetting.anchored(importance, dict(model.named_parameters()), 2.0)
    with torch.no_grad():
        model[1].bias += 1
    assert float(penalty(model).detach()) == pytest.approx(2.0)
