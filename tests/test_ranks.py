"""Facts about several processes that train one model: two of them do what one does, also after a kill.

Started by torchrun, this file is the program of one rank: see `facts` and `long`.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

import pytest
import torch
from PIL import Image
from torch import nn

from lgutils import data, machine, models, train
from lgutils.ancestry import Ancestor, AncestryConfig, accumulate
from lgutils.data import Batches, Normalize
from lgutils.data.decode import Files
from lgutils.data.pictures import Pictures
from lgutils.errors import UserError
from lgutils.train import FitConfig, Ranks, fit, loop
from lgutils.train.ranks import launched
from lgutils.train.shared import training_images

NORMALIZE = Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
# 64 images in batches of 9: shares of 4 and 5, in the last batch of none and one.
CONFIG = FitConfig(epochs=3, batch_size=9, lr=1e-2, shift=1, label_smoothing=0.1)
LONG = FitConfig(epochs=5, batch_size=24, lr=1e-2, shift=1, seed=3)
SEEDS = range(6)
BATCH_NORM = FitConfig(epochs=20, batch_size=48, lr=2e-2)
ALONE = torch.device("cpu")


def images(n=64, seed=0, size=8):
    """Random images of four classes; a class has its own brightness, so that it can be learned."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    noise = torch.randint(0, 64, (n, 3, size, size), generator=random)
    return (noise + 64 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


class Plain(nn.Module):
    """No BatchNorm, no dropout; float64, so that only rounding can differ."""

    def __init__(self, seed=0, room=10**9):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Tanh(), nn.Linear(8, 4))
        self.double().room = room

    def forward(self, x):
        if self.training and len(x) > self.room:
            raise torch.OutOfMemoryError
        return self.layers(x.double())


class Lost(Plain):
    """Learns numbers, and answers with none."""

    def forward(self, x):
        return super().forward(x) * (1 if self.training else torch.nan)


def network(seed=0, drop_rate=0.0):
    shape = {"stages": (1, 1), "widths": (4, 8)}
    return models.create("learngene_vgg", 4, seed=seed, drop_rate=drop_rate, **shape)


def squares(model, x, y):
    """An objective that never calls the model itself, as that of distillation."""
    return (model.layers(x.double()) - y[:, None]).square().mean()


def trained(model, config=CONFIG, given=None, **options):
    return fit(model, given or images(), NORMALIZE, config, **options)


def faint(n, seed=0):
    """The classes' brightness can hardly be told from the noise: nobody is right always."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    noise = torch.randint(0, 200, (n, 3, 8, 8), generator=random)
    return (noise + 14 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


def normed(seed):
    """A network with BatchNorm, trained; an accuracy of 0.88 or so is reached."""
    config = replace(BATCH_NORM, seed=seed)
    return trained(network(seed), config, faint(256), test=faint(400, 1), log_at=())


def weights(fitted):
    return [number for p in fitted.model.parameters() for number in p.flatten().tolist()]


# --- what a rank does -----------------------------------------------------------------------------


def facts(folder):
    """Train this and that among two ranks; what came out goes to a file for each rank."""
    rank, seen, kept = int(os.environ["RANK"]), [], folder / "kept.ckpt"

    def counting(model, x, y):
        seen.append(len(y))
        return nn.functional.cross_entropy(model(x), y)

    plain = trained(Plain(), test=images(41, 1))
    found = {
        "main": train.is_main(),
        "weights": weights(plain),
        "losses": plain.losses,
        "curve": plain.curve,
        "score": str(plain.score),
        "objective": weights(trained(Plain(), objective=squares)),
        "other start": weights(trained(Plain(seed=rank))),
        "one full": weights(trained(Plain(room=2 if rank else 10**9))),
        "one image": weights(trained(Plain(), given=images(1))),
        "bfloat16": weights(trained(network(), replace(LONG, precision="bfloat16"))),
        "long": train.weight_hash(long_run().model),
        "arithmetic": unlike(fast=rank == 0),
        "nan": refused(trained, Lost(), test=images(1)),
    }
    trained(Plain(), objective=counting)
    normal = [normed(seed) for seed in SEEDS]
    found |= {
        "seen": sum(seen),
        "accuracies": [f.score.accuracy for f in normal],
        "hashes": [train.weight_hash(f.model) for f in normal],
        "diverged": diverged(),
    }
    with pytest.MonkeyPatch.context() as patch:  # a device that works, but is not the group's
        patch.setattr(sys.modules["lgutils.train.ranks"], "device", torch.device)
        found["device"] = refused(trained, Plain(), device_name="meta")
    if rank == 0:  # the other sees no such file
        loop.join = lambda name: Ranks(ALONE)
        stopped_after(2, kept)
        loop.join = train.join
    found["checkpoint"] = refused(
        trained, Plain(), checkpoint=kept if rank == 0 else folder / "none"
    )
    kept.unlink(missing_ok=True)
    torch.compile = partial(torch.compile, backend="aot_eager")
    found["compiled"] = weights(trained(Plain(), replace(CONFIG, compile=True)))
    found |= ancestors(folder)
    (folder / f"{rank}.json").write_text(json.dumps(found))


def refused(call, *args, **options):
    """The sentence with which something is refused."""
    try:
        call(*args, **options)
    except UserError as error:
        return str(error)
    return ""


def unlike(fast):
    """What "auto" computes in where only one of the machines is fast at bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "arithmetic", lambda kind: machine.Arithmetic(fast, True))
        return trained(network(), replace(CONFIG, precision="auto")).arithmetic


def diverged():
    steep = FitConfig(epochs=9, optimizer="sgd", lr=1e30, schedule="constant", warmup=0, clip=None)
    return refused(trained, network(), steep)


def long_run(**options):
    return trained(network(drop_rate=0.5), LONG, images(96), **options)


def stopped_after(epochs, path):
    """Train until so many epochs are done, and break off."""
    epoch = loop._epoch

    def until(run, *rest):
        if len(run.losses) == epochs:
            raise UserError("enough")
        return epoch(run, *rest)

    loop._epoch = until
    refused(trained, Plain(), checkpoint=path)
    loop._epoch = epoch


def ancestors(folder):
    """A small ancestor is accumulated, and the command writes one that ships."""
    from lgutils import cli

    drawn, whole = [], data.load

    def little(*args, **options):
        drawn.append(time.monotonic())
        time.sleep(0.2 if train.is_main() else 0)
        x, _ = images(600)
        held = (torch.arange(6) == 5).repeat(100)
        labels = torch.arange(100).repeat_interleave(6)
        return data.ImageSet("glyphs", x, labels, tuple(map(str, range(100))), held)

    os.environ["LGUTILS_CACHE"] = str(folder / "cache")
    data.load = little
    fit_config = FitConfig(epochs=2, batch_size=64)
    shape = {"stages": (1,), "widths": (4,)}
    config = AncestryConfig("mine", "learngene_vgg", shape, fit=fit_config)
    ancestor = accumulate(config, progress=True)
    data.load = whole
    cli.app(["accumulate", "cnn", "--out", str(folder / "ancestor")], standalone_mode=False)
    return {"drawn": drawn, "weight_hash": ancestor.card.weight_hash, "on": ancestor.card.device}


def long(folder, waits):
    """The long run with a checkpoint; `waits` seconds before each later epoch."""
    epoch, rank = loop._epoch, os.environ["RANK"]
    (folder / f"{rank}.pid").write_text(str(os.getpid()))

    def slowly(run, *rest):
        time.sleep(waits if run.losses else 0)
        return epoch(run, *rest)

    loop._epoch = slowly
    fitted = long_run(checkpoint=folder / "checkpoints" / "run.ckpt")
    (folder / f"{rank}.hash").write_text(train.weight_hash(fitted.model))


# --- launching ------------------------------------------------------------------------------------


@contextlib.contextmanager
def two_ranks(folder, *arguments):
    """torchrun with two processes of this file; all of them are gone afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [
        *[sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"],
        *["--master_addr", "127.0.0.1", "--master_port", port, __file__],
        *[str(folder), *map(str, arguments)],
    ]
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    out = (folder / "out").open("w")
    child = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield child
    finally:
        child.terminate()  # torchrun then ends its ranks
        try:
            child.wait(15)
        finally:
            child.kill()
            child.wait()
            out.close()


def ended(child, folder, seconds=90):
    """Exit code and output."""
    code = child.wait(seconds)
    return code, (folder / "out").read_text()


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What both ranks wrote, the output, and the folder."""
    folder = tmp_path_factory.mktemp("ranks")
    with two_ranks(folder, "facts") as child:
        code, out = ended(child, folder)
    assert code == 0, out
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)], out, folder


@pytest.fixture(scope="module")
def found(told):
    return told[0]


several = pytest.mark.multiprocess


def close(found, model, config=CONFIG, given=None, **options):
    assert found == pytest.approx(weights(trained(model, config, given, **options)), abs=1e-9)


# --- two do what one does -------------------------------------------------------------------------


@several
def test_two_ranks_see_as_many_images_as_one(found):
    assert sum(f["seen"] for f in found) == CONFIG.epochs * 64


@several
def test_without_batchnorm_the_weights_are_those_of_one_process(found):
    close(found[0]["weights"], Plain())


@several
def test_both_ranks_end_with_the_same_weights(found):
    assert found[0]["weights"] == found[1]["weights"]
    assert found[0]["hashes"] == found[1]["hashes"]  # buffers of BatchNorm too
    assert found[0]["bfloat16"] == found[1]["bfloat16"]


@several
def test_losses_and_scores_are_those_of_one_process(found):
    alone = trained(Plain(), test=images(41, 1))
    for f in found:
        assert f["losses"] == pytest.approx(alone.losses, rel=1e-5)
        assert (f["score"], f["curve"]) == (str(alone.score), [list(p) for p in alone.curve])


@several
def test_ranks_on_unlike_machines_compute_alike(found):
    assert [one["arithmetic"] for one in found] == ["float32, channels last"] * 2


@several
def test_answers_of_nan_end_the_rank_without_a_test_image_too(found):
    assert all("answers with nan" in one["nan"] for one in found)


@several
def test_an_objective_that_does_not_call_the_model_is_shared_too(found):
    close(found[0]["objective"], Plain(), objective=squares)


@several
def test_all_ranks_start_from_the_weights_of_the_main_process(found):
    assert found[1]["other start"] == found[0]["weights"]


@several
def test_one_rank_alone_may_run_out_of_memory(found):
    assert found[0]["one full"] == pytest.approx(found[0]["weights"], abs=1e-9)


@several
def test_fewer_images_than_ranks_do_not_hang(found):
    close(found[1]["one image"], Plain(), given=images(1))


@several
def test_a_compiled_model_is_shared_too(found):
    assert found[1]["compiled"] == pytest.approx(found[0]["weights"], abs=1e-9)


@several
def test_with_batchnorm_the_accuracy_is_that_of_one_process(found):
    # Six seeds vary by 0.012 around 0.884; chance is 0.25.
    alone = [normed(seed).score.accuracy for seed in SEEDS]
    assert mean(found[0]["accuracies"]) == pytest.approx(mean(alone), abs=0.02)


@several
def test_a_diverging_loss_ends_both_ranks(found):
    assert ["loss became" in f["diverged"] for f in found] == [True, True]


@several
def test_a_checkpoint_that_only_one_rank_sees_is_refused_by_both(found):
    for f in found:
        assert "Not all processes see the same checkpoint" in f["checkpoint"]


@several
def test_another_device_than_that_of_the_group_is_refused(found):
    assert "work together on cpu, so 'meta' cannot be used" in found[0]["device"]


@several
def test_only_rank_0_is_the_main_process(found):
    assert [f["main"] for f in found] == [True, False]


# --- accumulating ---------------------------------------------------------------------------------


@several
def test_the_main_process_makes_the_images_and_the_other_waits(found):
    assert found[1]["drawn"][0] - found[0]["drawn"][0] > 0.2


@several
def test_both_ranks_get_the_ancestor_that_was_written(told):
    found, _, folder = told
    (path,) = (folder / "cache").iterdir()
    assert {f["weight_hash"] for f in found} == {Ancestor.load(path).card.weight_hash}


@several
def test_the_card_tells_the_number_of_processes(found):
    assert found[0]["on"] == "2 x 1 CPU thread"


@several
def test_the_command_speaks_once(told):
    _, out, folder = told
    assert out.count("Written to") == out.count("held-out accuracy") == 1
    assert Ancestor.load(folder / "ancestor").card.family == "cnn"


# --- a kill ---------------------------------------------------------------------------------------


@several
def test_a_killed_rank_ends_all_and_the_same_command_goes_on(told, tmp_path):
    checkpoint = tmp_path / "checkpoints" / "run.ckpt"
    with two_ranks(tmp_path, "long", 60) as child:
        until = time.monotonic() + 60
        while not checkpoint.exists():
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        os.kill(int((tmp_path / "1.pid").read_text()), signal.SIGKILL)
        code, _ = ended(child, tmp_path, 60)
    assert code != 0
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
    with two_ranks(tmp_path, "long", 0) as child:
        code, out = ended(child, tmp_path)
    assert code == 0, out
    hashes = {(tmp_path / f"{rank}.hash").read_text() for rank in (0, 1)}
    assert hashes == {told[0][0]["long"]}
    assert list(checkpoint.parent.iterdir()) == []


# --- without a launch -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 7, 64])
def test_shares_cover_every_image_once(size, count):
    shares = [Ranks(ALONE, rank, size).share(torch.arange(count)) for rank in range(size)]
    assert torch.cat(shares).tolist() == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_a_share_is_what_was_given():
    rows = torch.arange(3)
    assert Ranks(ALONE).share(rows) is rows


def as_rank(monkeypatch, rank="1", size="2"):
    for name, value in {"RANK": rank, "WORLD_SIZE": size}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("rank", "main"), [("0", True), ("1", False), ("10", False)])
def test_rank_0_is_the_main_process(monkeypatch, rank, main):
    as_rank(monkeypatch, rank)
    assert train.is_main() is main


def test_a_process_by_itself_is_the_main_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert train.is_main()


def test_a_group_of_one_is_alone(monkeypatch):
    as_rank(monkeypatch, "0", "1")
    assert train.join().size == 1


def test_a_worker_that_a_rank_starts_is_alone(monkeypatch):
    as_rank(monkeypatch)
    monkeypatch.setattr("multiprocessing.parent_process", lambda: "a rank")
    assert not launched()


def test_a_size_without_a_rank_is_refused(monkeypatch):
    as_rank(monkeypatch, rank="")
    with pytest.raises(UserError, match=r"WORLD_SIZE is 2, but RANK is not set.*torchrun"):
        train.join()


def test_without_accelerate_the_message_says_what_to_install(monkeypatch):
    as_rank(monkeypatch)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(UserError, match=r'pip install "lgutils\[cluster\]"'):
        train.join("cpu")


def test_one_gpu_for_all_is_refused(monkeypatch):
    as_rank(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match="2 processes cannot share 'cuda:1'"):
        train.join("cuda:1")


@pytest.fixture
def pictures(tmp_path):
    """Twenty PNG files that stand where a tensor would."""
    x, _ = images(20)
    for i, image in enumerate(x):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    return Pictures.of(Files(str(tmp_path), tuple(f"{i}.png" for i in range(20)), (8, 8))), x


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_of_pictures_a_rank_decodes_its_share(pictures, rank, monkeypatch):
    read, decode = [], Files.read
    monkeypatch.setattr(Files, "read", lambda self, row: read.append(row) or decode(self, row))
    lazy, x = pictures
    together = Ranks(ALONE, rank, 3)
    options = {"batch_size": 8, "shift": 2, "flip": True, "rotate": 20.0}
    shared = Batches(training_images(lazy, together), torch.arange(20), NORMALIZE, **options)
    whole = Batches(x, torch.arange(20), NORMALIZE, **options)
    for (found, _), (wanted, _) in zip(shared.epoch(1), whole.epoch(1), strict=True):
        assert torch.equal(together.share(found), together.share(wanted))
    assert (
        len(read) == len(set(read)) == sum(len(together.share(torch.arange(n))) for n in (8, 8, 4))
    )


def test_alone_all_pictures_are_decoded_as_ever(pictures):
    assert training_images(pictures[0], Ranks(ALONE)) is pictures[0]


if __name__ == "__main__":
    where, what, *more = sys.argv[1:]
    if what == "facts":
        facts(Path(where))
    else:
        long(Path(where), *map(float, more))
