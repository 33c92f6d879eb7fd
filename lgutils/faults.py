"""The reference code's faults as switches: what do they do to the accuracies of an arm?

Three things in `initialize_w_learngene.py` of the package learngene 1.0.0 (the code of arXiv
2305.02279) make its accuracies mean something else than they seem to. Each can be switched on here, in a
protocol that is otherwise ours: independent tasks, training in training mode, the last epoch's accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from tqdm import tqdm

from lgutils import models
from lgutils.errors import UserError
from lgutils.fleet import jobs as fleet_jobs
from lgutils.fleet.jobs import Job
from lgutils.train import Fitted


@dataclass(frozen=True)
class Faults:
    """Which faults to switch on; none by default.

    Attributes:
        leakage: a task starts from the last task's trained weights, head and batch statistics
            included, and from its optimiser's momentum. (There the "fresh copy" of a task is the model
            just trained, and the optimiser is built once.) The learning-rate schedule starts anew; there
            the rate is constant.
        eval_mode: the first evaluation, after the first epoch, puts the model into evaluation mode for
            good: from then on batch statistics are frozen and nothing is dropped out. (There
            `model.train()` is never called.) With `leakage`, the later tasks are trained in evaluation
            mode from their first epoch, as there.
        best_on_test: a task's accuracy is the best of all epochs, chosen on the test images.
    """

    leakage: bool = False
    eval_mode: bool = False
    best_on_test: bool = False


class _Asleep:
    """Laid over a model's class: once in evaluation mode, always in evaluation mode."""

    asleep = False

    def train(self, mode: bool = True):
        self.asleep = self.asleep or not mode
        return super().train(mode and not self.asleep)


def never_woken(model: nn.Module) -> nn.Module:
    """A copy of a model that `train()` cannot wake once `eval()` was called on it.

    A subclass and not a wrapper, so that the parameters keep their names (weight decay goes by them).
    """
    model = models.copied(model)
    kind = type(model)
    model.__class__ = type(kind.__name__, (_Asleep, kind), {})
    return model


def run(jobs: Sequence[Job], faults: Faults = Faults(), progress: str | None = None) -> list[float]:
    """Train the tasks of one arm one after another, on one CPU thread or the GPU, with some faults.

    Args:
        jobs: they differ in their tasks and seeds only. Their order matters with `leakage`.
        faults: what to switch on. Without any, the accuracies are those of `fleet.run_job`, to the bit.
        progress: title of a progress bar; None for none.
    Returns:
        One accuracy in [0, 1] for each job, in order: after the last epoch, or with `best_on_test` the
        greatest.
    Raises:
        UserError: the jobs are not those of one arm; leakage in the distillation arm.
    Source: learngene 1.0.0, auto_learngene/initialize_w_learngene.py. What differs: nothing else of that
    script is imitated; images, augmentation, optimiser and learning rate are those of the jobs.
    """
    _check(jobs, faults)
    bar = tqdm(jobs, desc=progress, unit="task", disable=progress is None)
    threads, found, last = torch.get_num_threads(), [], None
    torch.set_num_threads(1)
    try:
        for job in bar:
            last = _task(job, faults, last)
            curve = [accuracy for _, accuracy in last.curve]
            found.append(max(curve) if faults.best_on_test else curve[-1])
    finally:
        torch.set_num_threads(threads)
    return found


def _check(jobs: Sequence[Job], faults: Faults) -> None:
    fleet_jobs.check(jobs)
    arms = [
        replace(job, seed=0, task=replace(job.task, seed=0), fit=replace(job.fit, seed=0))
        for job in jobs
    ]
    for i, arm in enumerate(arms):
        if arm != arms[0]:
            raise UserError(
                f"Jobs 0 and {i} differ in more than task and seed. Give the jobs of one arm: the same "
                "family, method, layers, shape, ways, shots and training."
            )
    if arms and arms[0].method == "distillation" and faults.leakage:
        raise UserError(
            "Leakage is for arms that inherit or start from scratch: the 'distillation' arm would "
            "lose its second head between two tasks."
        )


def _task(job: Job, faults: Faults, last: Fitted | None) -> Fitted:
    """Train one task; `last` is what the task before it gave."""
    prepared = fleet_jobs.prepare(job)
    model, memory = prepared.descendant.model, None
    if faults.eval_mode:
        model = never_woken(model)
    if faults.leakage and last is not None:
        model, memory = last.model, last.optimizer_state
    every = tuple(range(1, job.fit.epochs + 1))
    log_at = every if faults.best_on_test else every[:1] if faults.eval_mode else ()
    prepared = replace(
        prepared,
        job=replace(job, log_at=log_at),
        descendant=replace(prepared.descendant, model=model),
    )
    return fleet_jobs.trained(prepared, optimizer_state=memory)
