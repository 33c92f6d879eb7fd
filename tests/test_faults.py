"""Facts about the reference code's faults: none changes nothing, each does what it says."""

from dataclasses import replace

import pytest
import torch
from tiny import FIT, GENES, job, jobs

from lgutils import data, faults, fleet, train
from lgutils.data import Task
from lgutils.errors import UserError
from lgutils.faults import Faults
from lgutils.fleet import Job
from lgutils.fleet import jobs as fleet_jobs

STEADY = replace(FIT, schedule="constant", warmup=0.0)
LEAKAGE, EVAL_MODE = Faults(leakage=True), Faults(eval_mode=True)


def statistics(model):
    """The BatchNorm buffers of a model."""
    return {n: b.clone() for n, b in model.named_buffers() if "running" in n or "batches" in n}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["learngene", "distillation"])
@pytest.mark.parametrize("family", GENES)
def test_without_faults_the_accuracies_are_the_fleets(tiny, family, method):
    tasks = jobs(2, family=family, method=method)
    assert faults.run(tasks) == [fleet.run_job(task).accuracy for task in tasks]


def test_without_faults_the_weights_are_those_of_plain_training(tiny):
    faults.run(jobs(2))
    prepared = fleet_jobs.prepare(job(1))
    wanted = train.fit(
        prepared.descendant.model, prepared.episode.train, prepared.descendant.normalize, FIT
    )
    assert train.weight_hash(tiny[1].model) == train.weight_hash(wanted.model)


def test_a_shipped_ancestors_jobs_get_the_fleets_accuracy(quick_glyphs):
    gene, shape = ("features.7", "features.14"), {"stages": (1, 2, 2, 1)}
    fit = replace(fleet.FEW_SHOT, epochs=1)
    task = Job("cnn", "learngene", gene, Task(k_shot=5, seed=3), arch_kwargs=shape, fit=fit)
    assert faults.run([task]) == [fleet.run_job(task).accuracy]


def test_without_faults_the_order_of_the_tasks_has_no_say(tiny):
    assert faults.run(jobs(2)[::-1]) == faults.run(jobs(2))[::-1]


def test_no_tasks_give_no_accuracies():
    assert faults.run([]) == []


def test_the_number_of_threads_is_restored(tiny):
    torch.set_num_threads(2)
    try:
        faults.run(jobs(1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


# --- leakage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_leakage_over_one_task_twice_is_one_long_training(tiny, monkeypatch, optimizer):
    # With the same batches in every epoch and a constant rate, 3 + 3 epochs are 6, to the bit.
    epoch = data.Batches.epoch
    monkeypatch.setattr(data.Batches, "epoch", lambda self, number: epoch(self, 1))
    task = job(fit=replace(STEADY, optimizer=optimizer))
    found = faults.run([task, task], LEAKAGE)
    whole = fleet.run_job(replace(task, fit=replace(task.fit, epochs=6), log_at=(3,)))
    assert found == [accuracy for _, accuracy in whole.curve]
    assert train.weight_hash(tiny[1].model) == train.weight_hash(tiny[2].model)


def test_the_first_task_has_nothing_to_leak(tiny):
    assert faults.run(jobs(1), LEAKAGE) == faults.run(jobs(1))


@pytest.mark.parametrize(("which", "alike"), [(Faults(), True), (LEAKAGE, False)])
def test_a_tasks_weights_depend_on_the_task_before_with_leakage_only(tiny, which, alike):
    faults.run([job(0), job(2)], which)
    faults.run([job(1), job(2)], which)
    assert (train.weight_hash(tiny[1].model) == train.weight_hash(tiny[3].model)) is alike


def test_leakage_leaves_the_task_before_as_it_was(tiny):
    faults.run(jobs(1))
    faults.run(jobs(2), LEAKAGE)
    assert train.weight_hash(tiny[0].model) == train.weight_hash(tiny[1].model)


# --- evaluation mode ------------------------------------------------------------------------------


def one_epoch(task):
    """The first epoch of a job with a constant learning rate, trained plainly."""
    return fleet_jobs.trained(fleet_jobs.prepare(replace(task, fit=replace(STEADY, epochs=1))))


@pytest.mark.parametrize("family", GENES)
def test_in_evaluation_mode_batch_statistics_stay_those_of_the_first_epoch(tiny, family):
    task = job(fit=STEADY, family=family)
    faults.run([task], EVAL_MODE)
    assert same(statistics(tiny[0].model), statistics(one_epoch(task).model))


def test_without_faults_batch_statistics_go_on(tiny):
    task = job(fit=STEADY)
    faults.run([task])
    assert not same(statistics(tiny[0].model), statistics(one_epoch(task).model))


def test_in_evaluation_mode_the_weights_are_trained_on(tiny):
    task = job(fit=STEADY)
    faults.run([task], EVAL_MODE)
    assert train.weight_hash(tiny[0].model) != train.weight_hash(one_epoch(task).model)


def test_in_evaluation_mode_the_first_epoch_is_as_always(tiny):
    task = job(fit=replace(STEADY, epochs=1), drop_rate=0.5)
    assert faults.run([task], EVAL_MODE) == faults.run([task])
    assert tiny[0].losses == tiny[1].losses


def test_in_evaluation_mode_the_first_task_has_no_say_in_the_second(tiny):
    assert faults.run(jobs(2), EVAL_MODE)[1] == faults.run([job(1)], EVAL_MODE)[0]


def test_with_leakage_too_later_tasks_keep_the_statistics_of_the_first(tiny):
    faults.run(jobs(), Faults(leakage=True, eval_mode=True))
    first, *later = (statistics(f.model) for f in tiny)
    assert all(same(first, other) for other in later)


def test_in_evaluation_mode_distillation_freezes_the_student(tiny):
    task = job(fit=STEADY, method="distillation")
    faults.run([task], EVAL_MODE)
    assert same(statistics(tiny[0].model), statistics(one_epoch(task).model))


def test_a_model_never_woken_sleeps_after_its_first_evaluation():
    model = faults.never_woken(torch.nn.Sequential(torch.nn.Dropout())).train()
    modes = [model[0].training, model.eval().train()[0].training]
    assert modes == [True, False]


def test_a_model_never_woken_keeps_its_names_and_its_type(tiny_vit):
    model = faults.never_woken(tiny_vit.model)
    assert isinstance(model, type(tiny_vit.model))
    assert train.weight_hash(model) == train.weight_hash(tiny_vit.model)


def test_the_model_given_to_never_woken_is_not_touched():
    model = torch.nn.Sequential(torch.nn.Dropout())
    faults.never_woken(model)
    assert model.eval().train().training


# --- best on test ---------------------------------------------------------------------------------


def test_the_best_on_test_is_the_greatest_of_the_curve(tiny):
    tasks = jobs(fit=replace(FIT, epochs=5))
    curves = [fleet.run_job(replace(task, log_at=(1, 2, 3, 4))).curve for task in tasks]
    wanted = [max(accuracy for _, accuracy in curve) for curve in curves]
    assert faults.run(tasks, Faults(best_on_test=True)) == wanted


def test_the_best_on_test_is_never_below_the_last_epoch(tiny):
    tasks = jobs(4)
    best, last = faults.run(tasks, Faults(best_on_test=True)), faults.run(tasks)
    assert all(b >= a for b, a in zip(best, last))
    assert best != last


def test_choosing_the_best_does_not_change_the_training(tiny):
    faults.run(jobs(1), Faults(best_on_test=True))
    faults.run(jobs(1))
    assert train.weight_hash(tiny[0].model) == train.weight_hash(tiny[1].model)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        job(1, method="scratch"),
        job(1, fit=replace(FIT, lr=1e-3)),
        job(1, stages=(1, 1, 1)),
        replace(job(1), task=Task(n_way=4, k_shot=4)),
        replace(job(1), ancestor_seed=1),
    ],
)
def test_jobs_of_two_arms_are_refused(other):
    with pytest.raises(UserError, match="Jobs 0 and 1 differ in more than task and seed"):
        faults.run([job(), other])


def test_the_seed_of_the_training_may_differ(tiny):
    assert len(faults.run([job(), job(1, fit=replace(FIT, seed=1))])) == 2


def test_leakage_in_the_distillation_arm_is_refused():
    with pytest.raises(UserError, match="Leakage is for arms that inherit"):
        faults.run(jobs(method="distillation"), LEAKAGE)


def test_only_jobs_are_taken():
    with pytest.raises(UserError, match="str was given"):
        faults.run(["learngene"])
