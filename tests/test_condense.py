"""Facts about `lgutils.condense`, on networks of a few hundred parameters."""

from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from lgutils import blocks, models
from lgutils import condense as lc
from lgutils.ancestry import Ancestor
from lgutils.condense import norm
from lgutils.condense.bilevel import SGD, gradients, hypergradient
from lgutils.condense.matching import Matching, PairWeights, resized, standardised
from lgutils.data import Normalize
from lgutils.errors import UserError

CNN = ("learngene_vgg", {"stages": [1, 2, 1], "widths": [3, 4, 6]})
SMALL_CNN = ("learngene_vgg", {"stages": [1, 1, 1], "widths": [3, 4, 18]})
VIT = ("learngene_vit", {"depth": 3, "embed_dim": 12, "img_size": 16})
SMALL_VIT = ("learngene_vit", {"depth": 2, "embed_dim": 12, "img_size": 16})
SETTINGS = {  # name -> (ancestor, pseudo-descendant, options of Matching)
    "cnn": (CNN, SMALL_CNN, {}),
    "cnn, raw": (CNN, SMALL_CNN, {"standardise": False}),
    "cnn, some pairs": (CNN, SMALL_CNN, {"pairs": [(0, 1), (2, 1), (1, 1)]}),
    "cnn, l1": (CNN, SMALL_CNN, {"distance": "l1"}),
    "vit": (VIT, SMALL_VIT, {}),
    "vit, l1": (VIT, SMALL_VIT, {"distance": "l1", "adapter": "identity"}),
}
STEPS = SGD(0.05, 0.9, 0.02)


# --- the hypergradient ----------------------------------------------------------------------------


class Problem(NamedTuple):
    """A rollout of three matching steps and a CE step, from a start that has momentum already."""

    matching: Matching
    weights: PairWeights
    targets: lc.Targets
    params: dict
    velocity: dict
    buffers: dict
    losses: list  # f_t(params, lambda); a class for each kind of step
    objective: object  # J(params)

    def lam(self):
        return self.weights(self.targets.pooled)


def problem(setting: str, dtype=torch.float64) -> Problem:
    (arch, kwargs), (small, small_kwargs), options = SETTINGS[setting]
    ancestor = models.create(arch, 7, seed=1, **kwargs).to(dtype)
    descendant = norm.cheapened(models.create(small, 4, seed=2, **small_kwargs)).to(dtype).train()
    generator = torch.Generator().manual_seed(3)
    x, meta, x2 = torch.randn(3, 6, 3, 16, 16, dtype=dtype, generator=generator)
    y, y2 = torch.randint(0, 4, (2, 6), generator=generator)
    names = blocks.block_names(ancestor), blocks.block_names(descendant)
    matching = Matching(ancestor, descendant, *names, x, **options)
    targets = matching.targets(meta)
    torch.manual_seed(4)
    weights = PairWeights(matching.pairs, matching.widths).to(dtype)
    own = {k: p.detach().clone() for k, p in descendant.named_parameters()}
    params = own | matching.new_adapters(5)
    velocity = {k: 0.1 * torch.randn(p.shape, dtype=dtype) for k, p in params.items()}
    buffers = {k: b.clone() for k, b in descendant.named_buffers()}

    def run(p, images):
        copies = {k: b.clone() for k, b in buffers.items()}
        return matching.descendant(images, {k: p[k] for k in own} | copies)

    def match(p, lam):
        return (lam * matching.distances(run(p, meta)[1], p, targets)).sum(1).mean()

    def classify(p, lam):
        return F.cross_entropy(run(p, x)[0], y)

    def objective(p):
        return F.cross_entropy(run(p, x2)[0], y2)

    losses = [match, match, match, classify]
    return Problem(matching, weights, targets, params, velocity, buffers, losses, objective)


def to_phi(p: Problem, lam, grads) -> torch.Tensor:
    """A hypergradient on lambda, carried on to phi and flattened."""
    found = torch.autograd.grad(lam, list(p.weights.parameters()), grads)
    return torch.cat([g.flatten() for g in found])


def package_phi(p: Problem, mode="exact", **options) -> torch.Tensor:
    lam = p.lam()
    leaf = lam.detach().requires_grad_()
    steps = [lambda q, f=f: f(q, leaf) for f in p.losses]
    found = hypergradient(
        p.params, p.velocity, [leaf], steps, p.objective, STEPS, mode=mode, **options
    )
    return to_phi(p, lam, found.grads[0])


def unrolled(p: Problem, lam, move_unused=False):
    """J after the rollout, written without the package's `SGD`, `gradients` and `hypergradient`."""
    theta = {k: v.detach().requires_grad_() for k, v in p.params.items()}
    v = dict(p.velocity)
    for f in p.losses:
        loss = f(theta, lam)
        for k in list(theta):
            (g,) = torch.autograd.grad(loss, theta[k], create_graph=True, allow_unused=True)
            if g is None and move_unused:
                g = torch.zeros_like(theta[k])
            if g is not None:
                v[k] = STEPS.momentum * v[k] + g + STEPS.weight_decay * theta[k]
        old, theta = theta, dict(theta)
        for k in theta:
            (g,) = torch.autograd.grad(loss, old[k], allow_unused=True, retain_graph=True)
            if g is not None or move_unused:
                theta[k] = old[k] - STEPS.lr * v[k]
    return p.objective(theta)


def recursion_phi(p: Problem, hessian=True) -> torch.Tensor:
    """dJ/dphi by going backwards over stored states; there never is an unrolled graph."""
    lam = p.lam()
    states, theta, v = [], dict(p.params), dict(p.velocity)
    for f in p.losses:
        states.append(theta)
        leaves = {k: t.detach().requires_grad_() for k, t in theta.items()}
        grads = gradients(f(leaves, lam.detach()), leaves)
        theta, v = STEPS.step({k: t.detach() for k, t in theta.items()}, v, grads)
    leaves = {k: t.detach().requires_grad_() for k, t in theta.items()}
    alpha = {k: torch.zeros_like(t) for k, t in theta.items()}
    alpha |= gradients(p.objective(leaves), leaves)
    beta = {k: torch.zeros_like(t) for k, t in theta.items()}
    total = torch.zeros_like(lam)
    for f, theta in zip(reversed(p.losses), reversed(states)):
        leaf = lam.detach().requires_grad_()
        leaves = {k: t.detach().requires_grad_() for k, t in theta.items()}
        grads = gradients(f(leaves, leaf), leaves, create_graph=True)
        u = {k: beta[k] - STEPS.lr * alpha[k] for k in grads}
        inner = sum((grads[k] * u[k]).sum() for k in grads)
        towards = torch.autograd.grad(
            inner, [leaf, *leaves.values()], allow_unused=True, materialize_grads=True
        )
        total += towards[0]
        for k, h in zip(leaves, towards[1:]):
            if k in grads:  # anything else was left alone by the step
                alpha[k] = alpha[k] + STEPS.weight_decay * u[k] + (h if hessian else 0)
                beta[k] = STEPS.momentum * u[k]
    return to_phi(p, lam, total)


def relative(a, b) -> float:
    return float((a - b).norm() / b.norm())


@pytest.fixture(params=SETTINGS)
def any_problem(request):
    with sdpa_kernel(SDPBackend.MATH):
        yield problem(request.param)


def test_sgd_step_equals_torch_with_a_grad_that_is_none():
    torch.manual_seed(0)
    params = {"a": torch.randn(3), "b": torch.randn(2, 2)}
    twins = {k: torch.nn.Parameter(p.clone()) for k, p in params.items()}
    sgd = SGD(0.1, 0.9, 0.05)
    theirs = torch.optim.SGD(twins.values(), sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay)
    velocity = {k: torch.zeros_like(p) for k, p in params.items()}
    for i in range(5):
        grads = {k: torch.randn(p.shape) for k, p in params.items() if k == "a" or i in (1, 3)}
        for k, twin in twins.items():
            twin.grad = grads.get(k)
        theirs.step()
        params, velocity = sgd.step(params, velocity, grads)
    torch.testing.assert_close(params, {k: t.detach() for k, t in twins.items()})


def test_hypergradient_equals_an_unrolled_reference(any_problem):
    lam = any_problem.lam()
    value = unrolled(any_problem, lam)
    (wanted,) = torch.autograd.grad(value, lam, retain_graph=True)
    assert relative(package_phi(any_problem), to_phi(any_problem, lam, wanted)) < 1e-6


def test_hypergradient_equals_the_recursion_without_an_unrolled_graph(any_problem):
    assert relative(package_phi(any_problem), recursion_phi(any_problem)) < 1e-6


def test_hypergradient_equals_finite_differences_on_phi(any_problem):
    found, phi = package_phi(any_problem), list(any_problem.weights.parameters())
    flat = torch.nn.utils.parameters_to_vector(phi).detach()
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(len(flat), dtype=flat.dtype, generator=generator)
    for direction in (found / found.norm(), random / random.norm()):
        values = []
        for sign in (1, -1):
            moved = flat + sign * 1e-4 * direction
            torch.nn.utils.vector_to_parameters(moved, phi)
            values.append(unrolled(any_problem, any_problem.lam()).item())
        torch.nn.utils.vector_to_parameters(flat, phi)
        slope = (values[0] - values[1]) / 2e-4
        assert float(found @ direction) == pytest.approx(slope, rel=1e-4)


def test_first_order_is_the_recursion_without_hessian_terms(any_problem):
    found = package_phi(any_problem, "first-order")
    assert relative(found, recursion_phi(any_problem, hessian=False)) < 1e-6
    assert relative(found, package_phi(any_problem)) > 1e-3


def test_move_unused_lets_momentum_move_parameters_outside_the_graph():
    p = problem("cnn")
    lam = p.lam()
    (wanted,) = torch.autograd.grad(unrolled(p, lam, move_unused=True), lam, retain_graph=True)
    found = package_phi(p, move_unused=True)
    assert relative(found, to_phi(p, lam, wanted)) < 1e-6
    assert relative(found, package_phi(p)) > 1e-3


def test_the_rollout_touches_nothing():
    p = problem("cnn")
    before = [{k: t.clone() for k, t in part.items()} for part in (p.params, p.velocity, p.buffers)]
    package_phi(p)
    for part, copy in zip((p.params, p.velocity, p.buffers), before):
        assert all(torch.equal(part[k], copy[k]) for k in part)
        assert not any(t.requires_grad for t in part.values())


def test_an_unknown_mode_is_refused():
    with pytest.raises(UserError, match=r"Unknown mode 'exakt'.*'exact'"):
        hypergradient({}, {}, [], [], lambda p: None, STEPS, mode="exakt")


# --- what is compared -----------------------------------------------------------------------------


def naive_distances(matching, ancestor, descendant, x, adapters) -> torch.Tensor:
    """Pair by pair, with the difference built in full."""
    columns = []
    for m, n in matching.pairs:
        found = {}
        for model, name in ((ancestor.eval(), matching.taps[m]), (descendant, matching.slots[n])):
            with blocks.tapped(model, [name]) as outputs:
                state = {k: b.clone() for k, b in model.named_buffers()}
                functional_call(model, state, (x,))
                found[model] = blocks.as_maps(outputs[name], model)
        s, t = found[ancestor], found[descendant]
        s = resized(standardised(s) if matching.standardise else s, t.shape[2:])
        if matching.adapter == "conv":
            before = [k for k, j in matching.pairs if j == n and k < m]
            start = sum(matching.widths[k] for k in before)
            rows = slice(start, start + s.shape[1])
            weight, bias = (adapters[f"adapter.{n}.{kind}"][rows] for kind in ("weight", "bias"))
            t = F.conv2d(t, weight, bias)
        gap = (t - s).abs() if matching.distance == "l1" else (t - s) ** 2
        columns.append(gap.mean((1, 2, 3)))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("swap", [False, True], ids=["", "smaller ancestor maps"])
def test_distances_equal_a_loop_over_pairs(setting, swap):
    (arch, kwargs), (small, small_kwargs), options = SETTINGS[setting]
    ancestor = models.create(arch, 7, seed=1, **kwargs).double()
    descendant = models.create(small, 4, seed=2, **small_kwargs).double()
    if swap and options.get("pairs") is None:
        ancestor, descendant = descendant, ancestor
    torch.manual_seed(0)
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    names = blocks.block_names(ancestor), blocks.block_names(descendant)
    matching = Matching(ancestor, descendant, *names, x, **options)
    adapters = matching.new_adapters(1)
    maps = matching.descendant(x)[1]
    found = matching.distances(maps, adapters, matching.targets(x))
    torch.testing.assert_close(found, naive_distances(matching, ancestor, descendant, x, adapters))


def test_batch_norm_equals_torch_and_has_the_right_second_derivative():
    theirs, ours = torch.nn.BatchNorm2d(3).double(), norm.BatchNorm2d(3).double()
    torch.manual_seed(0)
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    assert torch.autograd.gradcheck(ours.train(), x)
    weights = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def call(x, weight, bias):
        return functional_call(ours, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradgradcheck(call, (x, *weights))


def test_both_forms_of_the_squared_distance_are_under_test():
    assert problem("cnn").matching.expanded == [True, False]


def test_building_a_matching_leaves_the_descendant_alone():
    model = models.create("learngene_vgg", 4, stages=[1, 1], widths=[3, 4])
    before = {k: t.clone() for k, t in model.state_dict().items()}
    Matching(model, model, *[blocks.block_names(model)] * 2, torch.randn(4, 3, 8, 8))
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_standardised_features_have_zero_mean_and_unit_variance():
    maps = 3 + 50 * torch.rand(8, 5, 4, 4)
    maps[:, 2] = 7
    found = standardised(maps)
    alive = found[:, [0, 1, 3, 4]]
    assert alive.mean((0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(alive.var((0, 2, 3), correction=0), torch.ones(4))
    assert (found[:, 2] == 0).all()


def test_resized_averages_areas_when_shrinking():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert resized(maps, torch.Size((1, 1))).item() == 7.5
    assert resized(maps, torch.Size((8, 8))).mean().item() == pytest.approx(7.5)


def test_guarded_relu6_is_relu6_and_its_gradient_leads_back_but_not_out():
    weights = PairWeights([(0, 0)], [1])
    torch.nn.init.ones_(weights.nets[0].weight)
    torch.nn.init.zeros_(weights.nets[0].bias)
    z = torch.tensor([[-2.0], [0.0], [3.0], [6.0], [8.0]], requires_grad=True)
    lam = weights([z])
    torch.testing.assert_close(lam, F.relu6(z))
    (down,) = torch.autograd.grad(lam.sum(), z, retain_graph=True)  # descent lowers z
    (up,) = torch.autograd.grad(-lam.sum(), z)  # descent raises z
    assert down.flatten().tolist() == [0, 0, 1, 1, 1]
    assert up.flatten().tolist() == [-1, -1, -1, 0, 0]


@pytest.mark.parametrize("setting", ["cnn", "vit", "vit, l1"])
def test_lambda_starts_near_one(setting):
    lam = problem(setting).lam()
    assert lam.shape == (6, len(problem(setting).matching.pairs))
    assert (lam.mean(0) - 1).abs().max() < 0.25
    assert lam.min() > 0


def test_constant_lambda_is_one_number_for_a_pair():
    lam = PairWeights([(0, 0), (1, 0)], [3, 4], kind="constant")([torch.randn(5, 3)] * 2)
    assert lam.shape == (5, 2)
    torch.testing.assert_close(lam, torch.full((5, 2), float(np.log(2))))


def test_matching_refuses_what_it_cannot_compare():
    ancestor = models.create(*CNN[:1], 7, **CNN[1])
    names, x = blocks.block_names(ancestor), torch.randn(2, 3, 16, 16)

    def build(**options):
        return Matching(ancestor, ancestor, names, names, x, **options)

    with pytest.raises(UserError, match=r"Pair \(3, 0\) does not exist: there are 3 ancestor"):
        build(pairs=[(0, 0), (3, 0)])
    with pytest.raises(UserError, match="no pairs"):
        build(pairs=[])
    with pytest.raises(UserError, match=r"Identity adapters need equal widths.*adapter='conv'"):
        build(adapter="identity")
    with pytest.raises(UserError, match="Unknown distance 'l3'"):
        build(distance="l3")
    with pytest.raises(UserError, match=r"Unknown adapter 'cnv'.*'conv'"):
        build(adapter="cnv")


# --- the loop -------------------------------------------------------------------------------------

TINY = lc.CondenseConfig(*SMALL_CNN, iterations=6, batch_size=16, lr=0.05, meta_lr=0.05)


def fake_ancestor(arch=CNN, seed=1):
    """An ancestry model that knows nothing; it only has to answer."""
    model = models.create(arch[0], 7, seed=seed, **arch[1]).eval()
    card = SimpleNamespace(normalize=Normalize((0.5,) * 3, (0.25,) * 3))
    return Ancestor(model, card)


def open_world(n=90, seed=0):
    """Three classes of bars. Pixel (0, 0) is bright on every third image: those set aside."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) // 5 % 3
    images = torch.randint(0, 100, (n, 3, 16, 16), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels):
        images[i, :, 5 * label : 5 * label + 5] += 100
    images[:, :, 0, 0] = torch.where(torch.arange(n) % 3 == 2, 255, 0)[:, None]
    return images, labels


def condenser(config=TINY, ancestor=None) -> lc.Condenser:
    images, labels = open_world()
    ancestor = ancestor or fake_ancestor()
    aside = torch.arange(len(labels)) % 3 == 2
    parts = [(images[rows], labels[rows]) for rows in (~aside, aside)]
    return lc.Condenser(ancestor, *parts, config, torch.device("cpu"))


def bright(x) -> list[bool]:
    """Which images of a normalised batch had been set aside for meta batches."""
    return (x[:, 0, 0, 0] > 0).tolist()


@pytest.mark.parametrize("protocol", ["clean", "paper"])
def test_lasting_steps_equal_torch_sgd_on_the_same_loss(protocol):
    config = replace(TINY, protocol=protocol, gamma=0.7)
    run, start = condenser(config), condenser(config)
    twin = start.matching.descendant  # runs its own model where no state is given
    adapters = {k: torch.nn.Parameter(p) for k, p in start.params.items() if "adapter" in k}
    params = dict(twin.model.named_parameters())
    theirs = torch.optim.SGD([*params.values(), *adapters.values()], 1, 0.9, weight_decay=1e-4)
    for i in range(3):
        theirs.param_groups[0]["lr"] = run._sgd().lr
        x, y = run._batch(run.training, i + 1)
        logits, maps = twin(x)
        if protocol == "paper":
            x = run._batch(run.training, 0)[0]
            maps = twin(x, params | {k: b.clone() for k, b in twin.model.named_buffers()})[1]
        targets = run.matching.targets(x)
        lam = run.weights(targets.pooled).detach()
        distances = run.matching.distances(maps, adapters, targets)
        loss = F.cross_entropy(logits, y) + 0.7 * (lam * distances).sum(1).mean()
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        run.step()
    wanted = {k: p.detach() for k, p in (params | adapters).items()}
    torch.testing.assert_close(run.params, wanted)
    torch.testing.assert_close(run.buffers, dict(twin.model.named_buffers()))


def test_the_paper_protocol_matches_on_one_batch_for_good():
    run = condenser(replace(TINY, protocol="paper"))
    batches = []
    for _ in range(3):
        batches.append(run._meta_batch()[0])
        run.step()
    assert all(b is batches[0] for b in batches)
    assert torch.equal(batches[0], run._batch(run.training, 0)[0])


def test_the_clean_protocol_draws_new_meta_batches():
    run, batches = condenser(), []
    for _ in range(3):
        batches.append(run._meta_batch()[0])
        run.step()
    assert not torch.equal(batches[0], batches[1])
    assert all(all(bright(b)) for b in batches)


def test_no_lasting_step_of_the_clean_protocol_meets_a_meta_image(monkeypatch):
    run, seen = condenser(), []
    run.descendant.register_forward_pre_hook(lambda m, args: seen.extend(bright(args[0])))
    monkeypatch.setattr(run, "_hypergradient", no_hypergradient)
    for _ in range(5):
        run.step()
    assert len(seen) == 5 * TINY.batch_size
    assert not any(seen)


def no_hypergradient(lam, *_):
    return lc.Hypergradient((torch.zeros_like(lam),), torch.tensor(0.0))


def test_the_objective_of_the_clean_protocol_is_on_meta_images(monkeypatch):
    run, seen = condenser(), []
    run.descendant.register_forward_pre_hook(lambda m, args: seen.append(bright(args[0])))
    run.step()
    lasting, match1, match2, classify, objective = seen
    assert not any(lasting + classify)
    assert all(match1 + match2 + objective)


def test_descent_on_phi_follows_the_hypergradient():
    run = condenser(replace(TINY, meta_lr=1e-3))
    before = {k: p.detach().clone() for k, p in run.weights.named_parameters()}
    run.step()
    for k, p in run.weights.named_parameters():
        assert ((p - before[k]).abs() <= 1.01e-3).all()  # Adam's first step is lr * sign
        assert torch.equal((p - before[k]).sign(), -p.grad.sign())


def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
    whole, first, second = condenser(), condenser(), condenser()
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    first.save(tmp_path / "run.ckpt")
    second.load(tmp_path / "run.ckpt")
    for _ in range(3):
        second.step()
    a, b = whole.result(0), second.result(0)
    assert torch.equal(a.trace, b.trace)
    assert torch.equal(a.distances, b.distances)
    for key, tensor in a.model.state_dict().items():
        assert torch.equal(tensor, b.model.state_dict()[key])


def test_a_checkpoint_of_another_ancestor_is_refused(tmp_path):
    run = condenser()
    run.step()
    run.save(tmp_path / "run.ckpt")
    with pytest.raises(UserError, match="belongs to another model"):
        condenser(ancestor=fake_ancestor(seed=5)).load(tmp_path / "run.ckpt")


def test_condense_resumes_after_an_interruption(tmp_path, monkeypatch):
    ancestor, config = fake_ancestor(), replace(TINY, iterations=12)
    whole = lc.condense(ancestor, open_world(), config, progress=False, device_name="cpu")
    path, step = tmp_path / "run.ckpt", lc.Condenser.step

    def killed(run):
        if run.done == 11:
            raise KeyboardInterrupt
        return step(run)

    monkeypatch.setattr(lc.Condenser, "step", killed)
    options = {"progress": False, "device_name": "cpu", "checkpoint": path}
    with pytest.raises(KeyboardInterrupt):
        lc.condense(ancestor, open_world(), config, **options)
    monkeypatch.setattr(lc.Condenser, "step", step)
    again = lc.condense(ancestor, open_world(), config, **options)
    assert torch.equal(whole.trace, again.trace)
    assert not path.exists()


def test_several_seeds_resume_without_repeating_a_finished_one(tmp_path, monkeypatch):
    ancestor, config = fake_ancestor(), replace(TINY, iterations=3)
    options = {"progress": False, "device_name": "cpu"}
    whole = lc.condense_seeds(ancestor, open_world(), config, (0, 1), **options)
    step, taken = lc.Condenser.step, []

    def killed(run):
        if run.config.seed == 1:
            raise KeyboardInterrupt
        return step(run)

    monkeypatch.setattr(lc.Condenser, "step", killed)
    options["checkpoint"] = tmp_path / "run.ckpt"
    with pytest.raises(KeyboardInterrupt):
        lc.condense_seeds(ancestor, open_world(), config, (0, 1), **options)
    monkeypatch.setattr(
        lc.Condenser, "step", lambda run: taken.append(run.config.seed) or step(run)
    )
    again = lc.condense_seeds(ancestor, open_world(), config, (0, 1), **options)
    assert taken == [1, 1, 1]
    for a, b in zip(whole, again, strict=True):
        assert torch.equal(a.trace, b.trace)
    assert list(tmp_path.iterdir()) == []


def test_condense_reports_what_it_compared():
    ancestor, config = fake_ancestor(), replace(TINY, pairs=((0, 0), (2, 1)), iterations=2)
    before = {k: t.clone() for k, t in ancestor.model.state_dict().items()}
    found = lc.condense(ancestor, open_world(), config, progress=False, device_name="cpu")
    assert found.layers == tuple(blocks.block_names(ancestor.model))
    assert found.trace.shape == found.distances.shape == (2, 2)
    assert found.losses.shape == (2,)
    assert torch.isfinite(found.trace).all()
    matrix = found.matrix()
    assert matrix.shape == (len(found.layers), len(found.slots)) == (3, 2)
    assert matrix.isnan().sum() == 4
    assert not matrix[[0, 2], [0, 1]].isnan().any()
    assert not found.model.training
    assert all(torch.equal(t, before[k]) for k, t in ancestor.model.state_dict().items())


def test_condensing_runs_in_the_precision_of_the_ancestors_weights():
    double = fake_ancestor()
    double.model.double()
    config = replace(TINY, iterations=1)
    single, found = (
        lc.condense(a, open_world(), config, progress=False, device_name="cpu")
        for a in (fake_ancestor(), double)
    )
    assert found.trace.dtype == found.losses.dtype == torch.float64
    torch.testing.assert_close(found.trace.float(), single.trace, rtol=1e-5, atol=0)


def planted_lambda(planted: int, seed: int) -> np.ndarray:
    """Lambda of three layers of equal shape: one knows the class of each image, two are noise."""
    images, labels = open_world(300)
    images = images - images // 100 * 100  # no bars; faint ones instead
    for i, label in enumerate(labels):
        images[i, :, 5 * label : 5 * label + 5] += 25
    parts = [(images[rows], labels[rows]) for rows in (slice(200), slice(200, None))]
    config = replace(TINY, arch=SMALL_VIT[0], arch_kwargs=SMALL_VIT[1], iterations=40, seed=seed)
    run = lc.Condenser(fake_ancestor(VIT), *parts, config, torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(3, 12, generator=generator)

    def maps(x):
        bands = torch.stack([x[:, :, 5 * k : 5 * k + 5].mean((1, 2, 3)) for k in range(3)], 1)
        found = [torch.randn(len(x), 12, 2, 2, generator=generator) for _ in range(3)]
        found[planted] = codes[bands.argmax(1)][:, :, None, None] + 0.3 * found[planted]
        return found

    run.matching._ancestor_maps = maps
    while run.done < config.iterations:
        run.step()
    return run.result(0).matrix().amax(1).numpy()


def test_a_layer_that_knows_the_classes_gets_more_lambda_than_one_of_noise():
    grid = np.mean([[planted_lambda(m, seed) for m in range(3)] for seed in range(2)], 0)
    knows, noise = np.diag(grid), grid[~np.eye(3, dtype=bool)]
    assert knows.mean() > noise.mean() + 0.25
    assert (grid.argmax(0) == np.arange(3)).all()  # each layer, when it is the one that knows


def test_a_diverging_run_says_what_to_change():
    run = condenser(replace(TINY, lr=1e30))
    with pytest.raises(UserError, match=r"J became .* at meta-iteration 1.*smaller lr"):
        run.step()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("protocol", "papre", "Unknown protocol 'papre'.*'paper'"),
        ("mode", "first", "Unknown mode 'first'.*'first-order'"),
        ("weight", "relu", "Unknown weight 'relu'.*'relu6'"),
        ("inner_steps", 0, "inner_steps is 0"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused(field, value, message):
    with pytest.raises(UserError, match=message):
        replace(TINY, **{field: value})


@pytest.mark.parametrize("family", ["cnn", "vit"])
@pytest.mark.parametrize("scale", ["quick", "paper"])
@pytest.mark.parametrize("protocol", ["clean", "paper"])
def test_every_preset_builds_a_pseudo_descendant(family, scale, protocol):
    config = lc.CondenseConfig.preset(family, scale, protocol)
    with torch.device("meta"):
        model = models.create(config.arch, 16, **config.arch_kwargs)
    assert len(blocks.block_names(model)) >= 3
    assert config.protocol == protocol


# --- the criteria ---------------------------------------------------------------------------------


def test_linear_cka_by_hand():
    x = torch.tensor([[1.0], [-1.0], [0.0], [0.0]])
    y = torch.tensor([[1.0], [0.0], [-1.0], [0.0]])
    # Both are centred: (x.y)^2 / (|x|^2 |y|^2) = 1 / (2 * 2).
    assert lc.linear_cka(x, y) == pytest.approx(0.25)
    assert lc.linear_cka(x, 3 * x + 5) == pytest.approx(1)


def test_linear_cka_does_not_see_rotations():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 20, 6, generator=generator)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    assert lc.linear_cka(x @ rotation, y) == pytest.approx(lc.linear_cka(x, y), abs=1e-6)
    stretch = torch.diag(torch.tensor([9.0, 1, 1, 1, 1, 1]))
    assert lc.linear_cka(x @ stretch, y) != pytest.approx(lc.linear_cka(x, y), abs=1e-2)


@pytest.mark.parametrize("name", lc.CRITERIA)
def test_every_criterion_scores_every_block(name):
    ancestor = fake_ancestor()
    options = {"progress": False, "device_name": "cpu"} if name == "lambda" else {}
    images = open_world(120)[0]
    world = (images, torch.arange(120) % 5)
    config = replace(TINY, iterations=2)
    scores = lc.score(name, ancestor, world, config, runs=2, **options)
    assert scores.layers == tuple(blocks.block_names(ancestor.model))
    assert scores.runs.shape == (2, 3)
    assert scores.mean.shape == scores.spread.shape == (3,)
    assert np.isfinite(scores.runs).all()
    if scores.matrix is not None:
        assert scores.matrix.shape == (3, len(scores.slots)) == (3, 2)


def test_an_unknown_criterion_is_refused():
    with pytest.raises(UserError, match=r"Unknown criterion 'cca'.*'cka'"):
        lc.score("cca", fake_ancestor(), open_world(), TINY)


def test_first_and_last_rank_by_position():
    first, last = (lc.score(k, fake_ancestor(), open_world(), TINY) for k in ("first", "last"))
    assert np.argmax(first.mean) == 0
    assert np.argmax(last.mean) == 2
    assert np.isnan(first.spread).all()


def test_a_layer_in_no_pair_has_no_score():
    trace = torch.tensor([[2.0, 3.0]])
    config = replace(TINY, pairs=((0, 0), (0, 1)))
    one = lc.Condensed(
        config, ("a", "b"), ("x", "y"), config.pairs, trace, trace, trace[:, 0], None, 0.0
    )
    scores = lc.from_condensed([one, one])
    assert scores.mean[0] == 3
    assert np.isnan(scores.mean[1])
