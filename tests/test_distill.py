"""Facts about distillation: the loss by hand, a teacher that is left alone, a student that learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from timm.optim import create_optimizer_v2
from torch import nn

from lgutils import distill, models, train
from lgutils.data import Normalize
from lgutils.distill import DistillConfig, distilling, divergence
from lgutils.errors import UserError
from lgutils.train import FitConfig, fit

NORMALIZE = Normalize((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
QUICK = FitConfig(epochs=2, batch_size=8, shift=1, lr=1e-2)
STUDENTS = {
    "learngene_vgg": {"stages": (1, 1), "widths": (4, 8)},
    "learngene_vit": {"depth": 2, "embed_dim": 12, "num_heads": 2},
}
TIMMS = STUDENTS | {
    "vit_tiny_patch16_224": {
        "img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 12, "num_heads": 2,
    },
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (4, 4, 8, 8)},
    "resnet10t": {},
}  # fmt: skip


def images(n=16, seed=0):
    """Random images of three classes; a class has its own brightness, so that it can be learned."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    noise = torch.randint(0, 64, (n, 3, 32, 32), generator=random)
    return (noise + 64 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


def batch():
    x, y = images(6)
    return NORMALIZE(x), y


def student(arch="learngene_vgg", seed=0, **options):
    return models.create(arch, 3, seed=seed, **TIMMS[arch], **options)


def trained(model, config=QUICK, **options):
    return fit(model, images(), NORMALIZE, config, objective=distill.objective, **options)


@pytest.fixture(scope="module", params=STUDENTS)
def pair(request, tiny_cnn, tiny_vit):
    """A student and the ancestor of its family."""
    return student(request.param), tiny_cnn if request.param == "learngene_vgg" else tiny_vit


# --- the loss, by hand ----------------------------------------------------------------------------


def logits(seed, dtype=torch.float64):
    return 5 * torch.randn(7, 5, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def by_hand(z, v, temperature):
    """Mean over the batch of sum_c p_c (log p_c - log q_c), in float64."""
    log_q, log_p = (log_softmax(a.double().numpy() / temperature, axis=1) for a in (z, v))
    return float((np.exp(log_p) * (log_p - log_q)).sum(1).mean())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_the_divergence_is_that_by_hand(temperature):
    found = divergence(logits(0), logits(1), temperature)
    assert found.item() == pytest.approx(by_hand(logits(0), logits(1), temperature), rel=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_torchs(temperature):
    z, v = logits(0), logits(1)
    wanted = nn.KLDivLoss(reduction="batchmean")(
        (z / temperature).log_softmax(1), (v / temperature).softmax(1)
    )
    torch.testing.assert_close(divergence(z, v, temperature), wanted)


def test_the_divergence_of_short_logits_is_taken_in_float32():
    z, v = (logits(s, torch.float32).bfloat16() for s in (0, 1))
    found = divergence(z, v, 4.0)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(by_hand(z.float(), v.float(), 4.0), rel=1e-5)


def test_in_hot_softmaxes_the_gradient_is_the_papers():
    # arXiv 1503.02531, eq. 4 with zero-mean logits: T^2 dKL/dz = (z - v) / classes.
    z, v = (a - a.mean(1, keepdim=True) for a in (logits(0), logits(1)))
    z.requires_grad_()
    (1e4**2 * 7 * divergence(z, v, 1e4)).backward()
    torch.testing.assert_close(z.grad, (z.detach() - v) / 5, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("temperature", "weight"), [(4.0, 1.0), (1.0, 0.3), (2.0, 0.0)])
def test_the_total_is_the_labels_and_the_weighted_imitation(pair, temperature, weight):
    model = distilling(*pair, DistillConfig(temperature, weight)).eval()
    x, y = batch()
    with torch.no_grad():
        pooled = pair[0].eval().forward_head(pair[0].forward_features(x), pre_logits=True)
        answers = log_softmax(pair[0](x).double().numpy(), axis=1)
        wanted = -answers[np.arange(6), y].mean() + weight * temperature**2 * by_hand(
            model.aux(pooled), pair[1].model(x), temperature
        )
        found = model.losses(x, y)
    assert found.total.item() == pytest.approx(wanted, rel=1e-5)


def test_a_student_that_answers_like_the_teacher_has_nothing_to_imitate(pair):
    ancestor = pair[1]
    model = distilling(ancestor.model, ancestor).eval()
    model.aux.load_state_dict(ancestor.model.get_classifier().state_dict())
    assert model.losses(*batch()).imitation.item() == pytest.approx(0, abs=1e-7)


def test_the_objective_is_the_total(pair):
    model = distilling(*pair).eval()
    assert distill.objective(model, *batch()).item() == model.losses(*batch()).total.item()


def test_the_student_is_passed_once(pair, monkeypatch):
    model, calls = distilling(*pair), []
    whole = model.student.forward_features
    monkeypatch.setattr(model.student, "forward_features", lambda x: calls.append(1) or whole(x))
    model.losses(*batch())
    assert len(calls) == 1


# --- who gets gradients ---------------------------------------------------------------------------


def test_imitation_alone_teaches_the_body_and_not_the_tasks_head(pair):
    model = distilling(*pair)
    model.losses(*batch()).imitation.backward()
    head = model.student.get_classifier()
    body = set(model.student.parameters()) - set(head.parameters())
    assert all(p.grad is None for p in head.parameters())
    assert all(float(p.grad.abs().max()) > 0 for p in body if p.ndim > 1)


def test_the_teacher_gets_no_gradients(pair):
    model = distilling(*pair)
    model.losses(*batch()).total.backward()
    assert all(p.grad is None for p in model.teacher.parameters())


def test_the_teacher_is_the_same_after_training(pair):
    fitted = trained(distilling(*pair))
    assert train.weight_hash(fitted.model.teacher) == train.weight_hash(pair[1].model)


def test_training_mode_does_not_wake_the_teacher(pair):
    model = distilling(*pair).eval().train()
    assert model.student.training
    assert not any(m.training for m in model.teacher.modules())


def test_student_and_head_are_trained(pair):
    model = distilling(*pair)
    found = trained(model).model
    for part in ("student", "aux"):
        assert train.weight_hash(getattr(found, part)) != train.weight_hash(getattr(model, part))


def test_weight_decay_spares_what_it_spares_in_the_student_alone():
    def spared(model):
        groups = create_optimizer_v2(model, "adamw", 1e-3, 0.1).param_groups
        names = {id(p): name for name, p in model.named_parameters()}
        return {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"]}

    alone, ancestor = student("learngene_vit"), student("learngene_vit", seed=1)
    model = distill.Distilling(alone, ancestor, nn.Linear(12, 3), DistillConfig())
    assert spared(model) == {f"student.{name}" for name in spared(alone)} | {"aux.bias"}


# --- against plain training -----------------------------------------------------------------------


def test_without_weight_the_student_is_trained_plainly(pair):
    model = distilling(*pair, DistillConfig(weight=0.0))
    found = trained(model).model.student.state_dict()
    wanted = fit(pair[0], images(), NORMALIZE, QUICK).model.state_dict()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, msg=name)


def test_training_brings_the_student_nearer_to_the_teacher(pair):
    model = distilling(*pair)
    after = trained(model, replace(QUICK, epochs=10)).model
    before, after = (m.eval().losses(*batch()).imitation.item() for m in (model, after))
    assert after < before


def test_the_labels_are_learned(pair):
    config = replace(QUICK, epochs=30)
    assert trained(distilling(*pair), config, test=images(seed=1)).score.accuracy > 0.9


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_trains_in_each_precision(pair, precision):
    fitted = trained(distilling(*pair), replace(QUICK, precision=precision))
    assert np.isfinite(fitted.losses).all()


# --- as a model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("arch", TIMMS)
def test_the_loss_sees_the_students_own_logits(tiny_cnn, arch, mode):
    alone = student(arch, drop_rate=0.3)
    model = distilling(alone, tiny_cnn).train(mode)
    x, y = batch()
    torch.manual_seed(0)
    found = model.losses(x, y).labels
    torch.manual_seed(0)
    wanted = nn.functional.cross_entropy(alone.train(mode)(x), y)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_it_answers_like_its_student(pair):
    x, _ = batch()
    assert torch.equal(distilling(*pair).eval()(x), pair[0].eval()(x))


def test_the_head_has_a_place_for_each_class_of_the_teacher(pair):
    assert distilling(*pair).aux.out_features == 5


def test_the_head_follows_the_seed(pair):
    one, same, other = (distilling(*pair, seed=s).aux.weight for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_global_generator_is_left_alone(pair):
    before = torch.get_rng_state()
    distilling(*pair)
    assert torch.equal(torch.get_rng_state(), before)


def test_student_and_ancestor_given_are_not_touched(make_ancestor):
    ancestor = make_ancestor("learngene_vgg", **STUDENTS["learngene_vgg"])
    given = student(), ancestor.model

    def state(model):
        asked = [p.requires_grad for p in model.parameters()]
        return train.weight_hash(model), model.training, asked

    before = [state(model) for model in given]
    trained(distilling(given[0], ancestor).eval())
    assert [state(model) for model in given] == before


def test_student_and_ancestor_given_are_copied(pair):
    shared = {p.data_ptr() for model in (pair[0], pair[1].model) for p in model.parameters()}
    assert not shared & {p.data_ptr() for p in distilling(*pair).parameters()}


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [{"temperature": 0.0}, {"weight": -1.0}, {"temperature": float("nan")}]
)
def test_a_configuration_out_of_range_is_refused(bad):
    with pytest.raises(UserError, match=f"{next(iter(bad))} .* must be"):
        DistillConfig(**bad)


@pytest.mark.parametrize("model", [nn.Linear(4, 3), student().eval()])
def test_a_student_without_a_linear_classifier_is_refused(tiny_cnn, model):
    if hasattr(model, "reset_classifier"):
        model.reset_classifier(0)
    with pytest.raises(UserError, match=r"student \(\w+\) has no single linear classifier"):
        distilling(model, tiny_cnn)


def test_an_ancestor_without_a_linear_classifier_is_refused(tiny_cnn):
    with pytest.raises(UserError, match=r"ancestor \(Flatten\) has no single linear classifier"):
        distilling(student(), replace(tiny_cnn, model=nn.Flatten()))


def test_the_objective_refuses_a_model_without_a_teacher():
    with pytest.raises(UserError, match="VGG has no teacher to imitate"):
        distill.objective(student(), *batch())
