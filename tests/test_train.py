"""Facts about training: by hand, from a seed, through a kill."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from lgutils import models, train
from lgutils.data import Normalize
from lgutils.errors import UserError
from lgutils.train import FitConfig, fit, loop

NORMALIZE = Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
TINY = {"stages": (1, 1), "widths": (4, 8)}
QUICK = FitConfig(epochs=2, batch_size=8, shift=1, lr=1e-2)
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def images(n=32, seed=0, size=12):
    """Random images of four classes; a class has its own brightness, so that it can be learned."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    noise = torch.randint(0, 64, (n, 3, size, size), generator=random)
    return (noise + 64 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


def network(seed=0, drop_rate=0.0):
    return models.create("learngene_vgg", 4, seed=seed, drop_rate=drop_rate, **TINY)


def linear():
    """One linear layer over 3x2x2 images."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))


def trained(config=QUICK, model=None, **options):
    return fit(model or network(), images(), NORMALIZE, config, **options)


def hash_of(*args, **kwargs):
    return train.weight_hash(trained(*args, **kwargs).model)


# --- against torch, by hand -----------------------------------------------------------------------


def by_hand(optimizer, x, y, steps):
    model = linear()
    layer = model[1]
    groups = [{"params": [layer.weight]}, {"params": [layer.bias], "weight_decay": 0.0}]
    optimizer = optimizer(groups)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(NORMALIZE(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


RECIPES = {
    "adamw": (
        {"lr": 0.01, "weight_decay": 0.3},
        lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.3),
    ),
    "sgd": (
        {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.8},
        lambda groups: torch.optim.SGD(groups, lr=0.1, weight_decay=0.3, momentum=0.8),
    ),
    "sgd, no momentum": (
        {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.0},
        lambda groups: torch.optim.SGD(groups, lr=0.1),
    ),
}


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("recipe", RECIPES)
def test_steps_on_a_linear_model_equal_torchs(recipe, steps):
    options, optimizer = RECIPES[recipe]
    plain = {"schedule": "constant", "warmup": 0.0, "clip": None, "batch_size": 32}
    config = FitConfig(epochs=steps, optimizer=recipe.split(",")[0], **plain, **options)
    x, y = images(size=2)
    found = fit(linear(), (x, y), NORMALIZE, config).model
    wanted = by_hand(optimizer, x, y, steps)
    for a, b in zip(found.parameters(), wanted.parameters()):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_clipping_bounds_the_step():
    sgd = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 1.0, "batch_size": 32}
    config = FitConfig(epochs=1, schedule="constant", warmup=0.0, clip=0.01, **sgd)
    found = fit(linear(), images(size=2), NORMALIZE, config).model
    vectors = [nn.utils.parameters_to_vector(m.parameters()) for m in (found, linear())]
    assert float((vectors[0] - vectors[1]).detach().norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_mean_loss_of_the_first_epoch_is_the_loss_of_the_given_model():
    x, y = images(size=2)
    fitted = fit(linear(), (x, y), NORMALIZE, FitConfig(epochs=1, batch_size=32))
    wanted = nn.functional.cross_entropy(linear()(NORMALIZE(x)), y)
    assert fitted.losses[0] == pytest.approx(wanted.item(), rel=1e-5)


@pytest.fixture
def rates(monkeypatch):
    """Learning rates of all steps of the next fit."""
    seen = []
    finite = loop._finite

    def spy(loss, step, lr):
        seen.append(lr)
        finite(loss, step, lr)

    monkeypatch.setattr(loop, "_finite", spy)
    return seen


def test_a_constant_schedule_keeps_the_learning_rate(rates):
    trained(replace(QUICK, schedule="constant", warmup=0.0))
    assert set(rates) == {QUICK.lr}


def test_a_constant_schedule_keeps_the_learning_rate_after_warmup(rates):
    trained(replace(QUICK, epochs=4, schedule="constant", warmup=0.25))
    assert rates[0] == pytest.approx(QUICK.lr / 25)
    assert rates[6:] == pytest.approx([QUICK.lr] * len(rates[6:]))


def test_a_cosine_schedule_falls_to_about_a_hundredth(rates):
    trained(replace(QUICK, epochs=25, warmup=0.0))
    assert rates[0] == pytest.approx(QUICK.lr)
    assert QUICK.lr / 100 <= rates[-1] < QUICK.lr / 95


# --- what fit gives -------------------------------------------------------------------------------


def test_it_learns_what_can_be_learned():
    fitted = trained(replace(QUICK, epochs=40), test=images(seed=1))
    assert fitted.score.accuracy > 0.9


def test_the_model_given_is_not_touched():
    model = network()
    before = train.weight_hash(model)
    trained(model=model)
    assert train.weight_hash(model) == before


def test_the_model_given_keeps_its_mode():
    assert trained(model=(model := network().eval())).model is not model
    assert not model.training


def test_the_model_given_gets_no_gradients():
    model = network()
    trained(model=model)
    assert all(p.grad is None for p in model.parameters())


def test_the_images_given_are_not_touched():
    x, y = images()
    fit(network(), (x, y), NORMALIZE, QUICK)
    assert torch.equal(x, images()[0])


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    trained(model=network(drop_rate=0.5))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_trained_model_is_in_evaluation_mode():
    assert not any(m.training for m in trained().model.modules())


def test_the_same_seed_gives_the_same_weights():
    assert hash_of(model=network(drop_rate=0.5)) == hash_of(model=network(drop_rate=0.5))


def test_another_seed_gives_other_weights():
    assert hash_of() != hash_of(replace(QUICK, seed=1))


def test_the_seed_of_the_process_has_no_say():
    found = set()
    for seed in (0, 1):
        model = network(drop_rate=0.5)
        torch.manual_seed(seed)
        found.add(hash_of(model=model))
    assert len(found) == 1


def test_measuring_does_not_change_the_weights():
    assert hash_of() == hash_of(test=images(seed=1))


def test_there_is_a_loss_for_every_epoch():
    assert len(trained(replace(QUICK, epochs=3)).losses) == 3


def test_there_is_no_score_without_a_test_set():
    assert (trained().score, trained().curve) == (None, ())


@pytest.mark.parametrize(("every", "measured"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_it_is_measured_every_so_many_epochs_and_at_the_end(every, measured):
    fitted = trained(replace(QUICK, epochs=5, log_every=every), test=images(seed=1))
    assert [epoch for epoch, _ in fitted.curve] == measured


def test_the_score_is_the_last_point_of_the_curve():
    fitted = trained(test=images(seed=1))
    assert fitted.curve[-1][1] == fitted.score.accuracy


def test_bfloat16_learns_too():
    fitted = trained(replace(QUICK, epochs=40, precision="bfloat16"), test=images(seed=1))
    assert fitted.score.accuracy > 0.9


def test_bfloat16_keeps_the_weights_in_float32():
    model = trained(replace(QUICK, precision="bfloat16")).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_bfloat16_computes_something_else():
    assert hash_of() != hash_of(replace(QUICK, precision="bfloat16"))


# --- evaluation -----------------------------------------------------------------------------------


class Brightest(nn.Module):
    """The class is the value of the first pixel; no training needed."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return -(x[:, 0, 0, :1] - torch.arange(4.0)).abs()


def counted(right, n):
    labels = torch.arange(n) % 4
    pixels = torch.where(torch.arange(n) < right, labels, (labels + 1) % 4)
    x = pixels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return x, labels, Normalize((0.0,), (1 / 255,))


def test_the_accuracy_is_the_share_of_right_answers():
    score = train.evaluate(Brightest(), *counted(8, 10))
    assert (score.accuracy, score.n) == (0.8, 10)


def test_the_interval_is_wilsons():
    # z = 1.959964; centre (0.8 + z^2/20) / (1 + z^2/10) = 0.716740, half width
    # z sqrt(0.8 * 0.2 / 10 + z^2/400) / (1 + z^2/10) = 0.226577.
    score = train.evaluate(Brightest(), *counted(8, 10))
    assert (score.low, score.high) == pytest.approx((0.490162, 0.943318), abs=2e-6)


def test_the_interval_of_all_right_answers_is_wilsons():
    # low = n / (n + z^2) with z^2 = 3.841459
    score = train.evaluate(Brightest(), *counted(20, 20))
    assert (score.low, score.high) == pytest.approx((20 / 23.841459, 1.0), abs=1e-6)


def test_a_score_reads_well():
    score = train.evaluate(Brightest(), *counted(8, 10))
    assert str(score) == "80.0% [49.0%, 94.3%], n = 10"


@pytest.mark.parametrize("batch_size", [1, 3, 10, 500])
def test_predictions_do_not_depend_on_the_batch_size(batch_size):
    x, y, normalize = counted(10, 10)
    assert train.predict(Brightest(), x, normalize, batch_size=batch_size).tolist() == y.tolist()


@pytest.mark.parametrize("mode", [True, False])
def test_predicting_restores_the_mode(mode):
    model = network().train(mode)
    train.predict(model, images()[0], NORMALIZE)
    assert {m.training for m in model.modules()} == {mode}


def test_predicting_restores_the_mode_after_an_error():
    model = network().train()
    with pytest.raises(UserError):
        train.predict(model, images()[0][:, :1], NORMALIZE)
    assert model.training


def test_predicting_uses_evaluation_mode():
    model = network().train()
    before = train.weight_hash(model)  # running statistics too
    train.predict(model, images()[0], NORMALIZE)
    assert train.weight_hash(model) == before


# --- hashes ---------------------------------------------------------------------------------------


def test_the_weight_hash_sees_parameters_and_buffers():
    hashes = {train.weight_hash(network())}
    for name in ("features.0.weight", "features.1.running_mean"):
        model = network()
        model.state_dict()[name].flatten()[0] += 1
        hashes.add(train.weight_hash(model))
    assert len(hashes) == 3


def test_the_weight_hash_does_not_depend_on_the_memory_format():
    model = network()
    before = train.weight_hash(model)
    assert train.weight_hash(model.to(memory_format=torch.channels_last)) == before


# --- bad input ------------------------------------------------------------------------------------


def test_a_diverging_loss_names_the_step_and_the_learning_rate():
    config = FitConfig(
        epochs=50, optimizer="sgd", lr=1e30, schedule="constant", warmup=0, clip=None
    )
    with pytest.raises(UserError, match=r"loss became (nan|inf) at step \d+.*rate was 1e\+30"):
        fit(linear(), images(size=2), NORMALIZE, config)


@pytest.mark.parametrize(
    ("field", "value", "near"),
    [
        ("precision", "float23", "float32"),
        ("precision", "bfloat61", "bfloat16"),
        ("schedule", "cosin", "cosine"),
    ],
)
def test_an_unknown_setting_lists_the_nearest(field, value, near):
    with pytest.raises(UserError, match=f"Unknown {field} {value!r}. Nearest: {near!r}"):
        FitConfig(**{field: value})


def test_an_unknown_optimizer_lists_the_nearest():
    with pytest.raises(UserError, match=r"Unknown optimizer 'adamv'.*'adam'"):
        trained(replace(QUICK, optimizer="adamv"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch_size", 0), ("lr", 0.0), ("lr", -1.0), ("log_every", 0)],
)
def test_what_must_be_positive_is_checked(field, value):
    with pytest.raises(UserError, match=f"{field} {value}.* must be positive"):
        FitConfig(**{field: value})


@pytest.mark.parametrize("field", ["warmup", "label_smoothing"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_shares_lie_between_0_and_1(field, value):
    with pytest.raises(UserError, match=f"{field} {value}.*between 0 and 1"):
        FitConfig(**{field: value})


def test_no_images_are_refused():
    with pytest.raises(UserError, match="0 images"):
        fit(network(), tuple(part[:0] for part in images()), NORMALIZE, QUICK)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", ""])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(UserError, match="Unknown device"):
        train.device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_refused(name):
    with pytest.raises(UserError, match=f"Device '{name}' was asked for, but torch sees no GPU"):
        trained(device_name=name)


@pytest.mark.parametrize("name", ["mps", "xpu", "meta"])
def test_a_device_that_cannot_compute_here_is_refused(name):
    if name != "meta" and getattr(torch, name).is_available():
        pytest.skip(f"there is a device {name} here")
    with pytest.raises(UserError, match=f"Device '{name}' .* torch cannot compute on it here"):
        train.device(name)


def test_a_gpu_that_is_full_is_told_as_full(monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", full)
    with pytest.raises(UserError, match=r"Device 'cuda' is there.*\(CUDA out of memory\)"):
        train.device()


def test_the_device_is_a_gpu_where_there_is_one():
    assert train.device().type == ("cuda" if torch.cuda.is_available() else "cpu")


# --- resuming -------------------------------------------------------------------------------------

LONG = FitConfig(epochs=6, batch_size=8, shift=1, lr=1e-2)
CHILD = """
import sys, time
sys.path[:0] = {path!r}
import test_train as t
from lgutils.train import loop

epoch = loop._epoch

def slowly(run, *rest):
    time.sleep(0.3 if run.losses else 0)
    return epoch(run, *rest)

loop._epoch = slowly
t.trained(t.LONG, t.network(drop_rate=0.5), checkpoint=sys.argv[1])
"""


class Killed(Exception):
    """Stands for the end of a process."""


@pytest.fixture
def broken_off(monkeypatch):
    """Train until `epochs` are done, then stop as if killed; gives the checkpoint's path."""

    def run(path, epochs, config=LONG, **options):
        epoch = loop._epoch

        def until(run, *rest):
            if len(run.losses) == epochs:
                raise Killed
            return epoch(run, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "_epoch", until)
            with pytest.raises(Killed):
                trained(config, network(drop_rate=0.5), checkpoint=path, **options)
        return path

    return run


def test_a_killed_process_is_resumed_to_the_weights_of_an_unbroken_run(tmp_path):
    path = tmp_path / "run.ckpt"
    code = textwrap.dedent(CHILD).format(path=[os.path.dirname(__file__), *sys.path])
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, env=os.environ | threads) as child:
        while not path.exists():
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert path.exists()
    unbroken = hash_of(LONG, network(drop_rate=0.5))
    assert hash_of(LONG, network(drop_rate=0.5), checkpoint=path) == unbroken


@pytest.mark.parametrize("epochs", [1, 5])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "nadam", "lamb", "adafactor", "muon"])
def test_a_run_that_broke_off_ends_like_an_unbroken_one(tmp_path, broken_off, epochs, optimizer):
    config = replace(LONG, optimizer=optimizer)
    path = broken_off(tmp_path / "run.ckpt", epochs, config)
    resumed = trained(config, network(drop_rate=0.5), checkpoint=path, test=images(seed=1))
    unbroken = trained(config, network(drop_rate=0.5), test=images(seed=1))
    assert train.weight_hash(resumed.model) == train.weight_hash(unbroken.model)
    assert (resumed.losses, resumed.score) == (unbroken.losses, unbroken.score)


def test_a_resumed_run_does_only_the_epochs_that_are_left(tmp_path, broken_off, monkeypatch):
    path, done = broken_off(tmp_path / "run.ckpt", 4), []
    epoch = loop._epoch

    def count(run, batches, number, *rest):
        done.append(number)
        return epoch(run, batches, number, *rest)

    monkeypatch.setattr(loop, "_epoch", count)
    trained(LONG, network(drop_rate=0.5), checkpoint=path)
    assert done == [5, 6]


def test_a_resumed_run_keeps_the_learning_curve(tmp_path, broken_off):
    path = broken_off(tmp_path / "run.ckpt", 4, test=images(seed=1))
    fitted = trained(LONG, network(drop_rate=0.5), checkpoint=path, test=images(seed=1))
    assert fitted.curve == trained(LONG, network(drop_rate=0.5), test=images(seed=1)).curve


def test_no_checkpoint_is_left_at_the_end(tmp_path):
    trained(checkpoint=tmp_path / "run.ckpt")
    assert list(tmp_path.iterdir()) == []


OTHERS = {
    "configuration": {"config": replace(LONG, lr=0.02)},
    "number of epochs": {"config": replace(LONG, epochs=7)},
    "seed": {"config": replace(LONG, seed=1)},
    "model": {"model": network(seed=1)},
    "images": {"train": images(seed=9)},
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, broken_off, other):
    path = broken_off(tmp_path / "run.ckpt", 2)
    run = {"model": network(drop_rate=0.5), "train": images(), "config": LONG} | OTHERS[other]
    with pytest.raises(UserError, match="belongs to another model, other images or another conf"):
        fit(run["model"], run["train"], NORMALIZE, run["config"], checkpoint=path)


def test_another_log_every_is_not_something_else(tmp_path, broken_off):
    path = broken_off(tmp_path / "run.ckpt", 2)
    trained(replace(LONG, log_every=3), network(drop_rate=0.5), checkpoint=path)


@pytest.mark.parametrize("size", [0, 100, -50])
def test_a_damaged_checkpoint_is_refused(tmp_path, broken_off, size):
    path = broken_off(tmp_path / "run.ckpt", 2)
    os.truncate(path, size % path.stat().st_size)
    with pytest.raises(UserError, match=r"not a readable checkpoint.*Delete it"):
        trained(LONG, network(drop_rate=0.5), checkpoint=path)


# --- on a GPU -------------------------------------------------------------------------------------


@CUDA
def test_a_gpu_reaches_the_accuracy_of_the_cpu():
    config, test = replace(QUICK, epochs=40), images(400, seed=1)
    scores = [trained(config, test=test, device_name=name).score for name in ("cpu", "cuda")]
    assert abs(scores[0].accuracy - scores[1].accuracy) < 0.05


@CUDA
def test_a_gpu_takes_up_its_checkpoint(tmp_path, broken_off):
    path = broken_off(tmp_path / "run.ckpt", 3, device_name="cuda")
    fitted = trained(LONG, network(drop_rate=0.5), checkpoint=path, device_name="cuda")
    assert len(fitted.losses) == LONG.epochs


@pytest.mark.parametrize("warmup", [0.0, 1 / 200, 0.1])
def test_steps_follow_the_reference_schedule(warmup):
    """0.1, a fifth of it from epoch 60 of 200 on, a twenty-fifth from 180 on, whatever the warm-up."""
    each = 39  # steps an epoch, as for 5,000 images in batches of 128
    config = FitConfig(epochs=200, optimizer="sgd", lr=0.1, schedule="steps", warmup=warmup)
    optimizer, scheduler = train.optimizer_for(torch.nn.Linear(2, 2), config, 200 * each)
    rates = []
    for step in (20 * each, 60 * each - 1, 60 * each, 180 * each - 1, 180 * each, 200 * each - 1):
        scheduler.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004])


@pytest.mark.parametrize(
    "bad",
    [{"momentum": 5}, {"weight_decay": -1}, {"shift": -1}, {"rotate": -3}, {"clip": -1},
     {"epochs": 2.5}, {"shift": 1.5}],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_refused(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        FitConfig(**bad)


def test_a_checkpoint_of_another_normalisation_is_refused(tmp_path):
    x, y = torch.randint(0, 256, (8, 3, 4, 4), dtype=torch.uint8), torch.arange(8) % 2
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))
    keys = {
        train.keys.fit_key(model, x, y, Normalize((m,) * 3, (0.5,) * 3), FitConfig())
        for m in (0.4, 0.5)
    }
    assert len(keys) == 2


# --- compiling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 4])
def test_each_size_of_batch_is_compiled_once(monkeypatch, epochs):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch.compiler.reset()
    trained(replace(QUICK, epochs=epochs, batch_size=12, compile=True))  # 12 + 12 + 8 images
    assert len(graphs) == 2


def test_a_compiled_model_is_trained_to_the_same_weights(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch.compiler.reset()
    found, wanted = trained(replace(QUICK, compile=True)).model, trained().model
    for a, b in zip(found.parameters(), wanted.parameters()):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
