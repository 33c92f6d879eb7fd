"""The pieces of the benchmarks do what their tables say; no times are tested."""

import importlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

from lgutils import files, models
from lgutils.errors import UserError
from lgutils.fleet import Results

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
reads_files = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm's reader
posix = pytest.mark.skipif(os.name != "posix", reason="signals and groups of processes")
uses_metasgd = pytest.mark.filterwarnings("ignore:This overload of add_")


def bench(name):
    """A module of `benchmarks`, which import each other as scripts do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module(name)


common, recipe, utilisation = map(bench, ("common", "timm_recipe", "utilisation"))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """130 glyphs asked for in batches of 32: 128 of them, as tensors and as files."""
    found = recipe.Work.prepare(tmp_path_factory.mktemp("images"), 130, 32, CPU)
    return found.at("float32")


@pytest.fixture
def condense():
    """The benchmark of condensing, with the package that it compares with."""
    pytest.importorskip("learngene")
    return bench("condense")


# --- clock, ratios, tables ------------------------------------------------------------------------


def test_sides_take_turns_after_one_untimed_call_each():
    called = []
    sides = {"a": lambda: called.append("a"), "b": lambda: called.append("b")}
    times = common.turns(sides, 2)
    assert "".join(called) == "ab" + "abab"
    assert [len(took) for took in times.values()] == [2, 2]


def test_no_rounds_are_refused():
    with pytest.raises(UserError, match="1 or more"):
        common.turns({"a": list}, 0)


def test_ratios_are_taken_round_by_round():
    assert common.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_a_spread_is_median_and_range():
    assert common.spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0 to 3.0)"


def test_a_table_is_markdown():
    expected = "| side | s |\n| --- | ---: |\n| ours | 1 |"
    assert common.table(["side", "s"], [["ours", "1"]]) == expected


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells, others do not")
def test_growth_sees_what_was_allocated_and_freed():
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
        "import common, torch\n"
        "print(common.growth(lambda: torch.ones(2**20, 50), torch.device('cpu')) / 2**20)"
    )  # in a fresh process: this one may have 200 MiB that are free but still resident
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 190 < float(done.stdout) < 260  # 200 MiB of float32


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells, others do not")
def test_growth_forgets_earlier_peaks():
    torch.ones(2**20, 50)
    assert common.growth(list, CPU) < 2**24


# --- timm's recipe --------------------------------------------------------------------------------


def test_both_sides_get_whole_batches(work):
    assert len(work.labels) == 128


def test_images_that_fill_no_batch_are_refused(tmp_path):
    with pytest.raises(UserError, match="do not fill a batch"):
        recipe.Work.prepare(tmp_path, 31, 32, CPU)


def test_the_files_hold_the_images_of_the_tensors(work):
    files = sorted(work.folder.rglob("*.png"))
    read = {np.asarray(Image.open(path)).tobytes() for path in files}
    given = {image.permute(1, 2, 0).numpy().tobytes() for image in work.images}
    assert len(files) == len(given)
    assert read == given


@reads_files
def test_timms_loader_gives_our_numbers_where_nothing_is_augmented(work):
    x, y = map(torch.cat, zip(*recipe.from_disk(work, no_aug=True, workers=0)))
    ours = work.normalize(work.images)
    torch.testing.assert_close(
        torch.stack([x[y == c].sum() for c in range(64)]),
        torch.stack([ours[work.labels == c].sum() for c in range(64)]),
        rtol=1e-4,
        atol=1e-1,
    )


@reads_files
def test_timms_loader_augments_by_default(work):
    x, _ = map(torch.cat, zip(*recipe.from_disk(work, no_aug=False, workers=0)))
    assert x.shape == work.images.shape
    ours = work.normalize(work.images).flatten(1)
    assert float(torch.cdist(x.flatten(1), ours).min()) > 1


def test_both_sides_start_from_the_same_weights(work):
    theirs = recipe.Timm(work, ready=True).model.state_dict()
    for name, tensor in work.model().state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_timms_loop_trains_as_plain_torch_does(work):
    side, model = recipe.Timm(work, ready=True), work.model()
    rate = side.optimizer.param_groups[0]["lr"]
    flat, deep = ([p for p in model.parameters() if (p.ndim > 1) == d] for d in (False, True))
    decay = work.config.fit.weight_decay
    groups = [{"params": flat, "weight_decay": 0.0}, {"params": deep, "weight_decay": decay}]
    optimizer, losses = torch.optim.AdamW(groups, rate), []
    for x, y in recipe.in_memory(work):
        loss = cross_entropy(model(x), y, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert side.epoch() == pytest.approx(sum(losses) / 4, rel=1e-4)
    for ours, theirs in zip(model.parameters(), side.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5)


def test_channels_last_reaches_the_model(work):
    side = recipe.Timm(work, channels_last=True, workers=0)
    weights = [p for p in side.model.parameters() if p.ndim == 4 and p.shape[2] > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


@reads_files
def test_every_side_of_the_ladder_runs(work):
    train = bench("train")
    found = {name: call() for name, call in train.sides(work, workers=0).items()}
    assert list(found) == [*train.LADDER, "ours", "ours, no augmentation"]
    losses = [v if isinstance(v, float) else v.losses[-1] for v in found.values()]
    assert 2 < min(losses) < max(losses) < 10  # about log 64


def test_a_line_gives_images_a_second_and_the_ratio_to_ours():
    rows = bench("train").lines(100, {"timm": [4.0, 5.0], "ours": [2.0, 1.0]})
    assert rows[0] == ["timm", "22 (20 to 25)", "3.50 (2.00 to 5.00)"]


# --- utilisation ----------------------------------------------------------------------------------


def test_operations_of_a_linear_layer_are_four_for_each_weight():
    # forward 2, gradient of the weight 2; the input needs none
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    assert utilisation.train_flops(model, 4) == 4 * 48 * 5


def test_operations_of_attention_are_counted():
    # one block of width c on t tokens: 12 c^2 t for the projections and 2 t^2 c for attention, twice
    # that in multiply-adds, three times in training; and the patch embedding without its input
    c, t = 24, 4
    model = models.create(
        utilisation.ARCH, 2, img_size=32, embed_dim=c, num_heads=2, depth=1, class_token=False,
        global_pool="avg",
    )  # fmt: skip
    block, stem, head = 6 * (12 * c * c * t + 2 * t * t * c), 4 * 768 * c * t, 6 * 2 * c
    assert utilisation.train_flops(model, 32) == block + stem + head


def test_the_rate_is_images_between_two_looks_at_the_clock(monkeypatch):
    ticks = iter([10.0, 12.0])
    monkeypatch.setattr(utilisation, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    assert utilisation.steady_rate(model, 4, 3, CPU, warm=2, timed=10) == 3 * 10 / 2.0


def test_the_ceiling_is_a_speed():
    assert utilisation.matmul_ceiling(CPU, sizes=(16,)) > 0


# --- condensing -----------------------------------------------------------------------------------


def before_pools(model):
    """Layers of a VGG whose output is what a max-pool takes in."""
    pools = [i for i, module in enumerate(model.features) if isinstance(module, nn.MaxPool2d)]
    return tuple(f"features.{i - 3}" if i > 3 else "stem" for i in pools)


def test_vgg16_compares_what_enters_the_pools(condense):
    shape = condense.Shape("vgg16")
    config = shape.config
    assert config.taps == before_pools(shape.ancestor()[0])
    assert config.slots == before_pools(models.create(config.arch, 2, **config.arch_kwargs))
    assert config.pairs is None  # all 25


def test_vit_s_takes_the_pixels_asked_for(condense):
    shape = condense.Shape("vit-s", px=32, batch=2)
    assert shape.config.arch_kwargs["img_size"] == 32
    assert shape.images()[0].shape[2:] == (32, 32)
    assert shape.ancestor()[0](torch.zeros(1, 3, 32, 32)).shape == (1, 64)


@pytest.mark.parametrize(("name", "steps"), [("vgg16", 5), ("vit-s", 2)])
def test_the_papers_shapes_keep_its_settings(condense, name, steps):
    config = condense.Shape(name).config
    assert (config.protocol, config.inner_steps, config.batch_size) == ("paper", steps, 64)


def test_the_small_shape_has_the_same_rollout(condense):
    assert condense.Shape("vgg16").small.config.inner_steps == 5


def test_an_unknown_shape_is_refused(condense):
    with pytest.raises(UserError, match="none of"):
        condense.Shape("vgg11")


@uses_metasgd
def test_hypergradients_of_all_sides_agree(condense):
    gaps = condense.check(condense.Shape("cnn", batch=4, inner_steps=1), CPU, iterations=1)
    assert max(gaps.values()) < 1e-9


@uses_metasgd
def test_the_large_vit_agrees_too(condense):
    gaps = condense.check(condense.Shape("vit-s", px=32, batch=2), CPU, iterations=1)
    assert max(gaps.values()) < 1e-9


@uses_metasgd
def test_a_difference_above_the_tolerance_is_an_error(condense, monkeypatch):
    monkeypatch.setattr(condense, "difference", lambda *_: float("nan"))
    with pytest.raises(UserError, match="differ by nan"):
        condense.check(condense.Shape("vit", batch=4, inner_steps=1), CPU, iterations=1)


def test_memory_of_one_side_is_measured(condense):
    shape = condense.Shape("vit", batch=4, inner_steps=1)
    assert condense.measured(shape, "ours", CPU) is not None


# --- kills ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kills():
    return bench("kills")


@pytest.fixture
def run(tmp_path):
    """The folder of a run that left a text and a results file."""
    for top in ("out", "cache", "tmp"):
        (tmp_path / "run" / top).mkdir(parents=True)
    place = tmp_path / "run"
    (place / "out" / "rows.csv").write_text("key,accuracy,seconds\na,0.5,1.25\n")
    with Results(place / "out" / "runs.sqlite") as results:
        results._insert([("a", '{"accuracy": 0.5, "seconds": 1.25}')])
    return place


@pytest.fixture
def again(run, tmp_path):
    """The same from another run, which took longer."""
    place = shutil.copytree(run, tmp_path / "again")
    (place / "out" / "rows.csv").write_text("key,accuracy,seconds\na,0.5,7\n")
    return place


def test_runs_that_took_other_times_are_equal(kills, run, again):
    assert kills.differences(again, run) == []


def test_another_accuracy_is_a_difference(kills, run, again):
    (again / "out" / "rows.csv").write_text("key,accuracy,seconds\na,0.6,7\n")
    assert kills.differences(again, run) == ["out/rows.csv"]


def test_a_row_more_is_a_difference(kills, run, again):
    with Results(again / "out" / "runs.sqlite") as results:
        results._insert([("b", "{}")])
    assert kills.differences(again, run) == ["out/runs.sqlite"]


def test_a_missing_file_is_a_difference(kills, run, again):
    (again / "out" / "rows.csv").unlink()
    assert kills.differences(again, run) == ["out/rows.csv"]


def test_another_weight_is_a_difference(kills, run, again):
    for place, value in ((run, 0.0), (again, 1e-30)):
        files.save_tensors(
            place / "cache" / "a.safetensors", "descendant", {"w": torch.tensor(value)}, {}
        )
    assert kills.differences(again, run) == ["cache/a.safetensors"]


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("a.safetensors", b"\x10\0\0\0\0\0\0\0{"), ("a.ckpt", b"PK\x03\x04"), ("a.npy", b"\x93NUMPY"),
        ("a.csv", b"key,acc"), ("a.json", b'{"a": '), ("a.html", b"<html><body>"),
        ("a.png", b"\x89PNG\r\n\x1a\n"), ("a.sqlite", b"SQLite format 3\0" + b"\1" * 2000),
    ],
)  # fmt: skip
def test_half_a_file_is_seen(kills, run, name, half):
    (run / "out" / name).write_bytes(half)
    assert [told.partition(":")[0] for told in kills.broken(run)] == [f"out/{name}"]


def test_whole_files_are_not_told(kills, run):
    files.save_checkpoint(run / "cache" / "a.ckpt", "key", {"epoch": 3})
    files.write_text(run / "out" / "a.html", "<html></html>\n")
    (run / "out" / ".a.html.part").write_text("<htm")  # not visible
    assert kills.broken(run) == []


def test_a_hidden_file_is_litter(kills, run, again):
    (again / "out" / ".a.html.part").touch()
    (again / "tmp" / "ray").mkdir()
    (again / "tmp" / "ray" / "log").touch()  # Ray's own
    assert kills.paths(again) - kills.paths(run) == {"out/.a.html.part"}


@posix
@pytest.mark.multiprocess
def test_a_process_that_was_left_is_seen_and_ended(kills, run):
    place = {**os.environ, "TMPDIR": f"{run}/tmp"}
    with subprocess.Popen(["sleep", "600"], env=place, start_new_session=True) as left:
        try:
            while not psutil.Process(left.pid).environ():  # not there yet just after exec
                time.sleep(0.01)
            assert kills.left_alive(run, 0) == ["sleep 600"]
            assert left.wait(10) == -9
        finally:
            left.kill()
    assert kills.left_alive(run, 0) == []


def test_kills_are_shared_out_over_the_jobs(kills):
    counts = kills.shared_out(200, list(kills.JOBS.values()))
    assert sum(counts.values()) == 200
    assert min(counts.values()) > 0


def test_an_unknown_job_is_refused(kills):
    with pytest.raises(UserError, match="accumulate"):
        kills.chosen("accumulation")


def test_a_start_of_a_name_means_several_jobs(kills):
    assert {job.name for job in kills.chosen("replicate-s,replicate-v")} == {
        "replicate-serial",
        "replicate-vmap",
    }


@posix
@pytest.mark.multiprocess
def test_a_command_is_killed_started_again_and_compared(kills, tmp_path):
    campaign = kills.Campaign(tmp_path, seed=0)
    assert kills.together(campaign, [kills.JOBS["data"]], kills=2, workers=1)
    job, count, _, equal, *bad = campaign.line("data")
    assert (job, count, bad) == ("data", "2", ["0", "0", "0"])
    done, _, trials = equal.partition(" of ")
    assert done == trials
    assert not campaign.fell()


@posix
@pytest.mark.multiprocess
def test_a_command_that_fails_without_a_kill_is_told(kills, tmp_path, capsys):
    job = kills.Job("wrong", "data nothing")
    assert not kills.together(kills.Campaign(tmp_path), [job], kills=2, workers=1)
    assert "FELL wrong ended with 2" in capsys.readouterr().out


def test_a_campaign_goes_on_only_with_its_own_seed(kills, tmp_path):
    kills.Campaign(tmp_path, seed=0)
    assert kills.Campaign(tmp_path, seed=0).events("kill") == []
    with pytest.raises(UserError, match="another seed"):
        kills.Campaign(tmp_path, seed=1)
