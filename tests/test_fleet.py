"""Facts about the fleet: what a job is, that every backend gives the same rows, that nothing gets lost."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny import FIT, job, jobs

from lgutils import fleet, train
from lgutils.data import Task
from lgutils.errors import UserError
from lgutils.fleet import Job, Results, Row, backends, stack, store, tuning
from lgutils.fleet import jobs as fleet_jobs
from lgutils.train import FitConfig

BASE = Job("cnn", "learngene", ("features.4", "features.7"), Task())


# --- jobs -----------------------------------------------------------------------------------------


def test_a_grid_is_the_product_of_its_axes_the_last_one_fastest():
    found = fleet.grid(BASE, method=("learngene", "scratch"), lr=(0.1, 0.2, 0.3))
    assert [(j.method, j.fit.lr) for j in found] == [
        ("learngene", 0.1), ("learngene", 0.2), ("learngene", 0.3),
        ("scratch", 0.1), ("scratch", 0.2), ("scratch", 0.3),
    ]  # fmt: skip


def test_an_axis_is_a_setting_of_the_job_its_training_or_its_task():
    (found,) = fleet.grid(BASE, dataset=("digits",), weight_decay=(0.5,), k_shot=(3,))
    assert (found.dataset, found.fit.weight_decay, found.task.k_shot) == ("digits", 0.5, 3)


def test_a_task_seeds_its_fresh_layers_too():
    assert [(j.task.seed, j.seed) for j in fleet.grid(BASE, task=(4, 7))] == [(4, 4), (7, 7)]


def test_with_seeds_of_their_own_tasks_and_descendants_are_crossed():
    found = fleet.grid(BASE, task=(4, 7), seed=(0, 1))
    assert [(j.task.seed, j.seed) for j in found] == [(4, 0), (4, 1), (7, 0), (7, 1)]


def test_an_unknown_axis_is_named_with_the_nearest_settings():
    with pytest.raises(UserError, match="'learning_rate'"):
        fleet.grid(BASE, learning_rate=(0.1,))


def test_without_axes_a_grid_is_its_base():
    assert fleet.grid(BASE) == [BASE]


@pytest.mark.parametrize(
    "change",
    [
        {"family": "vit"}, {"method": "scratch"}, {"layers": ("features.4",)}, {"seed": 1},
        {"dataset": "digits"}, {"pool": "open_world"}, {"arch_kwargs": {"stages": [1]}},
        {"task": Task(k_shot=5)}, {"fit": replace(BASE.fit, lr=0.1)}, {"ancestor_seed": 1},
        {"scale": "paper"}, {"log_at": (1,)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_setting_is_part_of_the_key(change):
    assert replace(BASE, **change).key != BASE.key


def test_equal_jobs_have_equal_keys():
    assert replace(BASE, layers=tuple(BASE.layers)).key == BASE.key


def test_a_new_setting_at_its_default_moves_no_key():
    @dataclass(frozen=True)
    class Longer(Job):
        brand_new: int = 0

    told = {name: getattr(BASE, name) for name in BASE.__dataclass_fields__}
    assert Longer(**told).key == BASE.key != Longer(**told, brand_new=1).key


def test_an_unknown_method_or_pool_is_refused():
    with pytest.raises(UserError, match="method 'prayer'"):
        replace(BASE, method="prayer")
    with pytest.raises(UserError, match="pool 'base'"):
        replace(BASE, pool="base")


def test_steps_of_an_epoch_count_the_last_small_batch():
    assert replace(BASE, task=Task(5, 11)).steps_per_epoch == 3  # 55 images in batches of 25


def test_a_row_says_what_made_it(tiny):
    about = fleet.run_job(job()).about
    assert set(about) >= {"device", "backend", "code", "lgutils", "torch", "timm", "python"}
    assert len(about["code"]) == 12


def test_a_curve_counts_optimiser_steps_and_ends_with_the_accuracy(tiny):
    row = fleet.run_job(replace(job(), log_at=(1,)))
    assert [step for step, _ in row.curve] == [2, 6]  # 12 images in batches of 8, three epochs
    assert row.curve[-1][1] == row.accuracy


def test_running_a_job_leaves_the_number_of_threads_alone(tiny):
    before = torch.get_num_threads()
    fleet.run_job(job())
    assert torch.get_num_threads() == before


# --- backends -------------------------------------------------------------------------------------


def test_rows_come_in_the_order_of_the_jobs(tiny):
    asked = jobs(3, method="scratch") + jobs(2)
    assert [row.job for row in fleet.run(asked, backend="serial")] == asked


def test_a_job_that_stands_twice_is_run_once(tiny):
    rows = fleet.run([job(), job()], backend="serial")
    assert len(rows) == 2
    assert len(tiny) == 1


def test_processes_give_the_rows_of_this_process_to_the_bit():
    short = replace(fleet.FEW_SHOT, epochs=2)
    base = Job("cnn", "scratch", ("features.4",), Task(), fit=short, log_at=(1,))
    asked = fleet.grid(base, task=range(3))
    alone, crowd = (fleet.run(asked, backend=b, workers=2) for b in ("serial", "processes"))
    assert [(r.curve, r.task_key) for r in alone] == [(r.curve, r.task_key) for r in crowd]


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_stacked_training_ends_with_the_weights_of_training_alone(tiny, family):
    # Not Adam: it blows up the rounding noise that is all a bias in front of BatchNorm has for gradient.
    steady = replace(FIT, optimizer="sgd", lr=0.05)
    asked = jobs(3, family=family, method="scratch", fit=steady)
    trained, _ = stack._train([fleet_jobs.prepare(j) for j in asked])
    fleet.run(asked, backend="serial")
    for i, alone in enumerate(tiny):
        for name, value in alone.model.state_dict().items():
            mine = (trained.params | trained.buffers)[name][i]
            torch.testing.assert_close(mine.to(value.dtype), value, rtol=1e-3, atol=1e-4)


VARIED = {  # every field of the few-shot configuration, at another value than `STEADY` has
    "epochs": 2, "batch_size": 5, "optimizer": "lamb", "lr": 0.02, "weight_decay": 0.5, "momentum": 0.5,
    "schedule": "steps", "warmup": 0.6, "label_smoothing": 0.3, "shift": 4, "flip": True, "clip": 0.02,
    "precision": "bfloat16", "compile": True, "log_every": 2, "seed": 5, "rotate": 60.0,
}  # fmt: skip
FIELDS = [field.name for field in fields(FitConfig)]
STILL = {"compile", "log_every"}  # move no weight
STEADY = replace(FIT, optimizer="sgd", lr=0.05, precision="float32")


@pytest.mark.parametrize("name", FIELDS)
def test_a_stack_trains_as_one_at_a_time_whatever_the_setting(tiny, name):
    config = replace(STEADY, **{name: VARIED[name]})
    asked = jobs(2, method="scratch", fit=config)
    if name == "optimizer":
        assert not stack.stackable(asked[0])  # norms would mix the jobs: they run one at a time
        return
    trained, _ = stack._train([fleet_jobs.prepare(j) for j in asked])
    fleet.run([replace(j, fit=replace(config, compile=False)) for j in asked], backend="serial")
    near = 0.02 if name == "precision" else 1e-4
    for i, alone in enumerate(tiny):
        for key, value in alone.model.state_dict().items():
            mine = (trained.params | trained.buffers)[key][i]
            torch.testing.assert_close(mine.to(value.dtype), value, rtol=10 * near, atol=near)


@pytest.mark.parametrize("name", sorted(set(FIELDS) - STILL))
def test_every_setting_of_training_moves_the_weights(tiny, name):
    for config in (STEADY, replace(STEADY, **{name: VARIED[name]})):
        fleet.run([job(method="scratch", fit=config)], backend="serial")
    one, other = (train.weight_hash(fitted.model) for fitted in tiny)
    assert one != other


def test_processes_train_as_this_process_does_whatever_the_setting():
    few = replace(fleet.FEW_SHOT, epochs=1, batch_size=2, precision="float32")
    base = Job("cnn", "scratch", ("features.4",), Task(2, 2), fit=few)
    changes = [
        {name: value} for name, value in VARIED.items() if name not in ("compile", "precision")
    ]
    asked = [replace(base, fit=replace(few, **change)) for change in changes]
    alone, crowd = (fleet.run(asked, backend=b, workers=2) for b in ("serial", "processes"))
    assert [row.curve for row in alone] == [row.curve for row in crowd]


def test_a_stacked_row_does_not_claim_a_layout():
    assert fleet_jobs.made_by("stacked", FitConfig())["arithmetic"] == "float32"


def test_a_stack_tells_which_model_answers_with_no_numbers(tiny):
    prepared = [fleet_jobs.prepare(j) for j in jobs(2)]
    stacked = stack._Stack([p.descendant.model for p in prepared], torch.device("cpu"))
    with torch.no_grad():
        next(iter(stacked.params.values()))[0] = torch.nan
    held = [torch.stack([p.episode.test[i] for p in prepared]) for i in (0, 1)]
    broken, whole = stack._accuracies(stacked, *held, prepared[0].descendant.normalize)
    assert broken != broken
    assert 0 <= whole <= 1


@pytest.mark.parametrize("method", ["learngene", "scratch", "full fine-tune", "distillation"])
def test_stacked_accuracies_are_those_of_training_alone(tiny, method):
    asked = [replace(j, log_at=(1, 2)) for j in jobs(3, method=method)]
    alone, stacked = (fleet.run(asked, backend=b) for b in ("serial", "vmap"))
    for a, b in zip(alone, stacked, strict=True):
        assert [step for step, _ in a.curve] == [step for step, _ in b.curve]
        assert [v for _, v in a.curve] == pytest.approx([v for _, v in b.curve], abs=0.07)
        assert (a.job, a.task_key, a.inherited) == (b.job, b.task_key, b.inherited)


def test_a_stack_forwards_every_model_and_moves_its_own_batch_statistics(tiny):
    models = [fleet_jobs.prepare(j).descendant.model.train() for j in jobs(2)]
    x = torch.randn(2, 4, 3, 32, 32)
    stacked = stack._Stack(models, torch.device("cpu"))
    stacked.base.train()
    logits = stacked(x)
    for i, model in enumerate(models):
        torch.testing.assert_close(logits[i], model(x[i]), rtol=1e-4, atol=1e-5)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(stacked.buffers[name][i], buffer, rtol=1e-4, atol=1e-5)


def test_a_stack_clips_each_model_by_its_own_norm(tiny):
    models = [fleet_jobs.prepare(j).descendant.model for j in jobs(2)]
    stacked = stack._Stack(models, torch.device("cpu"))
    for i, model in enumerate(models):
        for name, p in model.named_parameters():
            p.grad = torch.randn_like(p) * (10 if i else 1e-4)  # one above the limit, one below
            grad = stacked.params[name].grad
            if grad is None:
                grad = stacked.params[name].grad = torch.zeros_like(stacked.params[name])
            grad[i] = p.grad
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    stacked.clip(1.0)
    for i, model in enumerate(models):
        for name, p in model.named_parameters():
            torch.testing.assert_close(stacked.params[name].grad[i], p.grad)


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_a_stack_decays_what_training_alone_decays(tiny, family):
    model = fleet_jobs.prepare(job(family=family)).descendant.model
    names = {id(p): name for name, p in model.named_parameters()}
    alone, _ = train.optimizer_for(model, FIT, 6)
    stacked = stack._Stack([model, model], torch.device("cpu"))
    ours = {id(p): name for name, p in stacked.params.items()}
    together, _ = train.optimizer_for(stacked.parameter_groups(FIT.weight_decay), FIT, 6)
    found = [
        {(group["weight_decay"], known[id(p)]) for group in optimizer.param_groups for p in group["params"]}
        for optimizer, known in ((alone, names), (together, ours))
    ]  # fmt: skip
    assert found[0] == found[1]


def test_jobs_that_differ_in_training_or_shape_are_not_stacked():
    mixed = [
        BASE, replace(BASE, seed=1), replace(BASE, fit=replace(BASE.fit, lr=0.5)),
        replace(BASE, arch_kwargs={"stages": [1, 1, 1, 1]}), replace(BASE, method="scratch"),
        replace(BASE, method="full fine-tune"),
    ]  # fmt: skip
    assert sorted(map(len, stack.groups(mixed))) == [1, 1, 1, 3]


def test_distillation_and_norm_based_optimisers_stay_alone():
    teachers = [replace(BASE, method="distillation", seed=s) for s in (0, 1)]
    lambs = [replace(BASE, seed=s, fit=replace(BASE.fit, optimizer="lamb")) for s in (0, 1)]
    assert [len(group) for group in stack.groups(teachers + lambs)] == [1, 1, 1, 1]


def test_a_chunk_that_does_not_fit_is_halved_until_it_does(tiny, monkeypatch):
    tried, whole = [], stack._chunk

    def small(prepared):
        tried.append(len(prepared))
        if len(prepared) > 2:
            raise torch.OutOfMemoryError("too much")
        return whole(prepared)

    monkeypatch.setattr(stack, "_chunk", small)
    asked = jobs(5)
    rows = fleet.run(asked, backend="vmap")
    assert [row.job for row in rows] == asked
    assert tried == [5, 2, 2, 1]


def test_one_job_that_does_not_fit_is_an_error(tiny, monkeypatch):
    def never(prepared):
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(stack, "_chunk", never)
    with pytest.raises(UserError, match="does not fit into memory"):
        fleet.run(jobs(2), backend="vmap")


@pytest.mark.parametrize("backend", ["serial", "vmap"])
def test_a_run_that_diverges_counts_as_chance_and_stops_nothing(tiny, backend):
    wild = replace(FIT, lr=1e30, clip=None, optimizer="sgd", warmup=0.0)
    rows = fleet.run([replace(job(fit=wild), log_at=(1,)), job(1)], backend=backend)
    assert rows[0].curve == ((2, 1 / 3), (6, 1 / 3))
    assert rows[1].accuracy > 0


def test_a_stack_leaves_out_nothing_where_tasks_have_other_numbers_of_test_images(
    tiny, monkeypatch
):
    whole = stack.prepare

    def uneven(job):
        prepared = whole(job)
        images, labels = prepared.episode.test
        cut = len(labels) - (job.seed == 1)
        return replace(
            prepared, episode=replace(prepared.episode, test=(images[:cut], labels[:cut]))
        )

    monkeypatch.setattr(stack, "prepare", uneven)
    assert [row.job for row in fleet.run(jobs(3), backend="vmap")] == jobs(3)


def test_finished_rows_come_before_the_error_of_another():
    good, bad = Future(), Future()
    good.set_result("row")
    bad.set_exception(UserError("bad"))
    waiting = {good, bad}
    assert backends._finished(waiting) == ["row"]
    with pytest.raises(UserError, match="bad"):
        backends._finished(waiting)


@pytest.mark.parametrize("message", ["CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED"])
def test_every_kind_of_memory_error_halves_the_stack(tiny, monkeypatch, message):
    whole = stack._chunk

    def small(prepared):
        if len(prepared) > 1:
            raise RuntimeError(message)
        return whole(prepared)

    monkeypatch.setattr(stack, "_chunk", small)
    assert len(fleet.run(jobs(2), backend="vmap")) == 2


def test_another_runtime_error_is_not_taken_for_lack_of_memory(tiny, monkeypatch):
    def broken(prepared):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(stack, "_chunk", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        fleet.run(jobs(2), backend="vmap")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    code = (
        "import os, time\n"
        "from lgutils.fleet import backends\n"
        "if __name__ == '__main__':\n"
        "    with backends.pool(1) as processes:\n"
        "        print(processes.submit(os.getpid).result(), flush=True)\n"
        "        time.sleep(600)\n"
    )
    (tmp_path / "parent.py").write_text(code)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True
    )
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not alive(worker):
            break
        time.sleep(0.2)
    assert not alive(worker)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_few_jobs_are_not_worth_measuring(monkeypatch):
    monkeypatch.setattr(backends, "_fastest", None)
    assert backends.choose(jobs(3), 2) == {"serial": jobs(3)}


@pytest.mark.parametrize(("slow", "fastest"), [("run_job", "vmap"), ("run", "processes")])
def test_auto_takes_the_backend_that_was_faster(monkeypatch, slow, fastest):
    monkeypatch.setattr(backends, "run_job", lambda j: time.sleep(0.04 if slow == "run_job" else 0))
    monkeypatch.setattr(
        stack, "run", lambda group: (time.sleep(0.4 if slow == "run" else 0) for _ in [0])
    )
    assert list(backends.choose(jobs(backends.FEW), 2)) == [fastest]


def test_auto_loses_no_job(monkeypatch):
    mixed = jobs(20) + jobs(3, family="vit") + jobs(2, method="full fine-tune")
    monkeypatch.setattr(backends, "_fastest", lambda kind, workers: "vmap")
    parts = backends.choose(mixed, 2)
    assert sorted(j.key for part in parts.values() for j in part) == sorted(j.key for j in mixed)


def test_an_unknown_backend_or_something_that_is_no_job_is_refused():
    with pytest.raises(UserError, match="backend 'slurm'"):
        fleet.run([BASE], backend="slurm")
    with pytest.raises(UserError, match="str was given"):
        fleet.run(["learngene"])


def test_a_worker_that_died_is_reported_in_one_sentence(monkeypatch):
    class Broken:
        def submit(self, *_):
            raise BrokenProcessPool("gone")

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(backends, "ProcessPoolExecutor", lambda *_: nullcontext(Broken()))
    with pytest.raises(UserError, match="A worker process died"):
        fleet.run([BASE], backend="processes", workers=2)


# --- rows on disk ---------------------------------------------------------------------------------


def row(job, accuracy=0.5):
    return Row(job, accuracy, ((2, 0.3), (4, accuracy)), 0.25, 1.5, "task", {"device": "none"})


def test_a_stored_row_is_read_back_as_it_was(tmp_path):
    with Results(tmp_path / "r.sqlite") as results:
        results.add([row(BASE)])
        assert results.find([BASE]) == {BASE.key: row(BASE)}


def test_a_key_is_stored_once_and_the_first_row_stays(tmp_path):
    with Results(tmp_path / "r.sqlite") as results:
        results.add([row(BASE, 0.5)])
        results.add([row(BASE, 0.9)])
        assert len(results) == 1
        assert results.find([BASE])[BASE.key].accuracy == 0.5


def test_finished_jobs_are_not_run_again(tiny, tmp_path):
    with Results(tmp_path / "r.sqlite") as results:
        first = fleet.run(jobs(2), results=results, backend="serial")
    with Results(tmp_path / "r.sqlite") as results:
        second = fleet.run(jobs(3), results=results, backend="serial")
    assert second[:2] == first
    assert len(tiny) == 3


def test_other_files_are_absorbed_and_each_row_once(tmp_path):
    every = [row(replace(BASE, seed=s)) for s in range(5)]
    for name, part in (("a", every[:3]), ("b", every[2:])):
        with Results(tmp_path / name) as other:
            other.add(part)
    with Results(tmp_path / "r.sqlite") as results:
        results.add([row(BASE, 0.9)])
        assert results.absorb([tmp_path / "a", tmp_path / "b"]) == 4
        assert results.absorb([tmp_path / "a", tmp_path / "b"]) == 0
        found = results.find([r.job for r in every])
    assert found == {r.job.key: r for r in [row(BASE, 0.9), *every[1:]]}


def test_an_absorbed_file_keeps_its_rows(tmp_path):
    with Results(tmp_path / "a") as other:
        other.add([row(BASE)])
    with Results(tmp_path / "r.sqlite") as results:
        results.absorb([tmp_path / "a"])
    with Results(tmp_path / "a") as other:
        assert other.find([BASE]) == {BASE.key: row(BASE)}


def test_a_file_of_a_share_that_was_killed_before_its_first_row_has_none(tmp_path):
    (tmp_path / "a").touch()
    with Results(tmp_path / "r.sqlite") as results:
        assert results.absorb([tmp_path / "a"]) == 0


def test_a_file_that_is_missing_or_foreign_is_not_absorbed(tmp_path):
    (tmp_path / "foreign").write_text("not a database, but long enough to be looked at " * 20)
    with Results(tmp_path / "r.sqlite") as results:
        with pytest.raises(UserError, match="There is no results file"):
            results.absorb([tmp_path / "missing"])
        with pytest.raises(UserError, match="foreign is not a results file"):
            results.absorb([tmp_path / "foreign"])
    assert not (tmp_path / "missing").exists()


def test_a_file_that_is_no_results_file_is_refused(tmp_path):
    (tmp_path / "r.sqlite").write_text("not a database, but long enough to be looked at " * 20)
    with pytest.raises(UserError, match="not a results file"):
        Results(tmp_path / "r.sqlite")


def test_a_file_of_one_byte_is_no_results_file_and_stays(tmp_path):
    (tmp_path / "r.sqlite").write_text("D")
    with pytest.raises(UserError, match="not a results file"):
        Results(tmp_path / "r.sqlite")
    assert (tmp_path / "r.sqlite").read_text() == "D"


def test_a_pipe_is_no_results_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="a pipe or a device"):
        Results(tmp_path / "pipe")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be opened for writing"):
        Results(tmp_path / "file" / "r.sqlite")


def test_a_full_disk_is_told_and_keeps_what_is_there(tmp_path):
    with Results(tmp_path / "r.sqlite") as results:
        results.add([row(BASE)])
        pages = results._db.execute("PRAGMA page_count").fetchone()[0]
        results._db.execute(f"PRAGMA max_page_count = {pages}")
        many = [row(replace(BASE, seed=s)) for s in range(1, 400)]
        with pytest.raises(UserError, match="399 rows could not be written"):
            results.add(many)
        assert len(results) == 1


def in_child(work) -> int:
    """Run something in a forked process; returns its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork beside threads: the child uses none of them
        child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def sweep(path, asked, log):
    """Run jobs that take five milliseconds each, and write down each one that is really run."""

    def quick(job):
        time.sleep(0.005)
        with open(log, "a") as handle:
            handle.write(f"{job.key}\n")
        return row(job)

    backends.run_job = quick
    with Results(path) as results:
        fleet.run(asked, results=results, backend="serial")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_sweep_killed_many_times_loses_nothing_and_repeats_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "run_job", None)  # put back at the end, whatever the child did
    path, log = tmp_path / "r.sqlite", tmp_path / "log"
    asked = [replace(BASE, seed=s) for s in range(100)]
    dice, kills = random.Random(0), 0
    for life in range(200):
        stored = {j.key for j in asked if j.key in _keys(path)}
        started = len(log.read_text().split()) if log.exists() else 0
        child = in_child(lambda: sweep(path, asked, log))
        time.sleep(dice.uniform(0.01, 0.08) * (1 + life / 20))  # a slow machine gets there too
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
        again = log.read_text().split()[started:] if log.exists() else []
        assert not stored & set(again)  # what was stored is never run again
        assert stored <= _keys(path)  # and never lost
        if not os.WIFSIGNALED(status) or len(_keys(path)) == len(asked):
            break
    assert kills >= 5
    assert _keys(path) == {j.key for j in asked}
    runs = Counter(log.read_text().split())
    assert sum(runs.values()) <= len(asked) + kills  # only the job in flight is done again


def _keys(path) -> set[str]:
    if not path.exists():
        return set()
    with sqlite3.connect(path, timeout=60) as db:
        try:
            found = {key for (key,) in db.execute("SELECT key FROM rows")}
        except sqlite3.OperationalError:  # killed before the table was made
            found = set()
    db.close()
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_on_one_file_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "run_job", None)
    path = tmp_path / "r.sqlite"
    halves = [range(0, 60), range(40, 100)]
    asked = [[replace(BASE, seed=s) for s in half] for half in halves]
    children = [
        in_child(lambda a=a, i=i: sweep(path, a, tmp_path / f"log{i}")) for i, a in enumerate(asked)
    ]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert _keys(path) == {replace(BASE, seed=s).key for s in range(100)}


# --- damaged rows ---------------------------------------------------------------------------------


OUTCOME = json.dumps(store._outcome(row(BASE)))
DAMAGED = {
    "an accuracy of 7.5": OUTCOME.replace('"accuracy": 0.5', '"accuracy": 7.5'),
    "an accuracy that is not a number": OUTCOME.replace('"accuracy": 0.5', '"accuracy": NaN'),
    "an accuracy that is text": OUTCOME.replace('"accuracy": 0.5', '"accuracy": "0.5"'),
    "a curve that is no pairs": OUTCOME.replace('"curve": [', '"curve": [1, '),
    "seconds before the start": OUTCOME.replace('"seconds": 1.5', '"seconds": -1'),
    "an outcome that lacks entries": "{}",
    "an outcome of another kind": "[1]",
    "a number": 7,
    "bytes": b"\xff\x00",
    "deep JSON": "[" * 10_000,
    "an outcome of two million bytes": json.dumps("x" * 2_000_000),
    "an empty text": "",
}


def stored(path, outcome, key=BASE.key):
    """A results file with a sound row and another as it is given."""
    good = replace(BASE, seed=1)
    with Results(path) as results:
        results.add([row(good)])
        with results._db as db:
            db.execute("INSERT INTO rows VALUES (?, ?)", (key, outcome))
    return good


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_row_counts_as_absent_and_is_told(tmp_path, capfd, what):
    good = stored(tmp_path / "r.sqlite", DAMAGED[what])
    with Results(tmp_path / "r.sqlite") as results:
        assert results.find([BASE, good]) == {good.key: row(good)}
    told = capfd.readouterr().err
    assert "1 of 2 rows cannot be read" in told
    assert BASE.key in told


def test_a_row_whose_bytes_are_no_text_leaves_the_others_readable(tmp_path, capfd):
    good = stored(tmp_path / "r.sqlite", "x")
    with Results(tmp_path / "r.sqlite") as results:
        with results._db as db:
            db.execute("UPDATE rows SET outcome = CAST(x'ff22' AS TEXT) WHERE key = ?", (BASE.key,))
        assert results.find([BASE, good]) == {good.key: row(good)}


def test_a_damaged_row_is_replaced_by_the_one_that_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "run_job", row)
    stored(tmp_path / "r.sqlite", DAMAGED["an accuracy of 7.5"])
    with Results(tmp_path / "r.sqlite") as results:
        assert fleet.run([BASE], results=results, backend="serial") == [row(BASE)]
    with Results(tmp_path / "r.sqlite") as results:
        assert results.find([BASE]) == {BASE.key: row(BASE)}


def test_a_sound_row_is_not_replaced(tmp_path):
    with Results(tmp_path / "r.sqlite") as results:
        results.add([row(BASE)])
        results.add([replace(row(BASE), accuracy=0.25)])
        assert results.find([BASE]) == {BASE.key: row(BASE)}


def test_damaged_rows_are_not_absorbed(tmp_path, capfd):
    stored(tmp_path / "part.sqlite", DAMAGED["an accuracy of 7.5"])
    with Results(tmp_path / "r.sqlite") as results:
        assert results.absorb([tmp_path / "part.sqlite"]) == 1


# --- tables ---------------------------------------------------------------------------------------


def test_a_table_has_a_line_a_row_and_its_curve_can_be_read_back():
    frame = fleet.table([row(replace(BASE, seed=s)) for s in range(3)])
    steps, values = store.curves(frame)
    assert len(frame) == 3
    assert steps.tolist() == [2, 4]
    assert values.tolist() == [[0.3, 0.5]] * 3


def test_a_table_survives_a_csv_file(tmp_path):
    frame = fleet.table([row(BASE)])
    frame.to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), frame)


def test_curves_logged_at_different_steps_are_refused():
    frame = pd.DataFrame({"curve": ["2:0.3 4:0.5", "2:0.3 6:0.5"]})
    with pytest.raises(UserError, match="2 different sets of steps"):
        store.curves(frame)


def test_accuracies_are_ordered_by_task_and_one_a_task():
    frame = pd.DataFrame({"method": list("aab"), "task": [1, 0, 0], "accuracy": [0.1, 0.2, 0.3]})
    assert fleet.accuracies(frame, method="a").tolist() == [0.2, 0.1]
    with pytest.raises(UserError, match="exactly one for each task"):
        fleet.accuracies(frame)
    with pytest.raises(UserError, match="0 lines match"):
        fleet.accuracies(frame, method="c")


# --- tuning ---------------------------------------------------------------------------------------


@pytest.fixture
def pretended(monkeypatch):
    """Every job's accuracy falls with the distance of its rate from 0.003 (scratch: from 0.01)."""
    seen = []

    def run(asked, **_):
        seen.extend(asked)
        best = {"scratch": 0.01}
        return [row(j, 1 - abs(j.fit.lr - best.get(j.method, 0.003))) for j in asked]

    monkeypatch.setattr(tuning, "run", run)
    return seen


def test_tuning_finds_every_arms_best_rate(pretended, tmp_path):
    table = fleet.tune({"cnn": BASE}, tmp_path / "rates.json", progress=False)
    assert set(table["best"]["cnn"]) == {*fleet.ARMS, tuning.LONG}
    assert table["best"]["cnn"]["learngene"] == 0.003
    assert table["best"]["cnn"]["scratch"] == table["best"]["cnn"][tuning.LONG] == 0.01
    assert fleet.tuned_fit("cnn", "scratch", path=tmp_path / "rates.json").lr == 0.01


def test_tuning_sees_open_world_classes_only_and_the_same_tasks_in_every_arm(pretended, tmp_path):
    fleet.tune({"cnn": BASE}, tmp_path / "rates.json", progress=False)
    assert {j.pool for j in pretended} == {"open_world"}
    by_arm = {}
    for j in pretended:
        by_arm.setdefault((j.method, j.fit.epochs), []).append((j.fit.lr, j.task.seed))
    assert len({tuple(cells) for cells in by_arm.values()}) == 1


def test_tuning_one_arm_keeps_the_others(pretended, tmp_path):
    path = tmp_path / "rates.json"
    fleet.tune({"cnn": BASE}, path, progress=False)
    before = json.loads(path.read_text())["best"]
    pretended.clear()
    fleet.tune({"cnn": BASE}, path, arms=("scratch",), progress=False)
    assert json.loads(path.read_text())["best"] == before
    assert {j.method for j in pretended} == {"scratch"}


def test_a_best_rate_at_the_edge_of_the_grid_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(tuning, "run", lambda asked, **_: [row(j, j.fit.lr) for j in asked])
    table = fleet.tune({"cnn": BASE}, tmp_path / "rates.json", progress=False)
    assert "cnn: scratch" in table["at the edge of the grid"]


def test_the_patient_arm_has_five_times_the_steps():
    assert tuning.FITS[tuning.LONG].epochs == 5 * fleet.FEW_SHOT.epochs
    assert tuning.method_of(tuning.LONG) == "scratch"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_stacked_accuracies_are_those_of_training_alone(tiny):
    assert train.device().type == "cuda"
    asked = jobs(6)
    alone, stacked = (fleet.run(asked, backend=b) for b in ("serial", "vmap"))
    gaps = [abs(a.accuracy - b.accuracy) for a, b in zip(alone, stacked, strict=True)]
    assert sum(gaps) / len(gaps) < 0.05


def test_other_architectures_and_ancestors_get_stacks_of_their_own():
    jobs = [BASE, replace(BASE, arch="vgg11"), replace(BASE, ancestor_data="digits")]
    assert len(stack.groups(jobs)) == 3
