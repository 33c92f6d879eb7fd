"""Train many jobs of one architecture together: their weights stacked, every step taken by all at once.

Models are stacked with torch.func (https://pytorch.org/tutorials/intermediate/ensembling.html); gradients,
optimiser and schedule are the ordinary ones, over tensors with one more dimension. BatchNorm keeps
statistics of its own for each job. On a GPU this turns thousands of small kernels into a few large ones.
"""

import copy
import re
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F

from lgutils import train
from lgutils.data import Batches, Normalize
from lgutils.errors import UserError
from lgutils.fleet.jobs import Job, Prepared, Row, finished, prepare, run_job

CHUNK = {"cpu": 8, "cuda": 256}  # jobs stacked at first; halved when memory runs out
ELEMENTWISE = ("adam", "adamw", "nadam", "rmsprop", "sgd", "momentum")  # update each entry alone


def stackable(job: Job) -> bool:
    """Distillation has a second model to run; optimisers with norms would mix the jobs."""
    return job.method != "distillation" and job.fit.optimizer in ELEMENTWISE


def groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that may share a stack: same architecture, number of images, schedule and settings."""
    found: dict[tuple, list[Job]] = {}
    for job in jobs:
        key = (
            *(job.family, job.scale, job.dataset, job.ancestor_seed, job.fit, job.log_at),
            *(job.task.n_way, job.task.k_shot, job.arch, str(job.arch_kwargs), job.ancestor_data),
            job.method == "full fine-tune",  # keeps the ancestor's own architecture
            *(() if stackable(job) else (job.key,)),
        )
        found.setdefault(key, []).append(job)
    return list(found.values())


def run(jobs: Sequence[Job]) -> Iterator[list[Row]]:
    """Train the jobs of one group; a chunk that does not fit into memory is halved and tried again.

    Raises:
        UserError: a single job does not fit.
    """
    if not stackable(jobs[0]):
        yield from ([run_job(job)] for job in jobs)
        return
    left, size = list(jobs), CHUNK.get(train.device().type, 8)
    while left:
        size = min(size, len(left))
        if rows := _fitting([prepare(job) for job in left[:size]]):
            yield rows
            done = {row.job.key for row in rows}
            left = [job for job in left if job.key not in done]
        elif size > 1:
            size //= 2
        else:
            raise UserError(
                f"One {left[0].family} job does not fit into memory. Use smaller batches "
                "(batch_size), or the CPU."
            )


def _fitting(prepared: list[Prepared]) -> list[Row]:
    """The chunk's rows; none if it does not fit into memory."""
    try:
        return _chunk(prepared)
    except RuntimeError as error:  # cuDNN and cuBLAS have errors of their own
        full = isinstance(error, torch.OutOfMemoryError)
        if not full and not re.search("out of memory|ALLOC_FAILED", str(error)):
            raise
    torch.cuda.empty_cache()  # out here nothing holds the tensors of the failed try any more
    return []


def _chunk(prepared: list[Prepared]) -> list[Row]:
    """Rows of some jobs, trained together; tasks with another number of test images wait."""
    images = len(prepared[0].episode.test[1])
    prepared = [p for p in prepared if len(p.episode.test[1]) == images]
    began = time.perf_counter()
    _, curves = _train(prepared)
    seconds = (time.perf_counter() - began) / len(prepared)
    return [finished(p, c, seconds, "stacked") for p, c in zip(prepared, curves, strict=True)]


class _Stack:
    """J models of one architecture as stacked tensors, and how to run them on stacked images."""

    def __init__(self, models: Sequence[nn.Module], where: torch.device):
        models = [copy.deepcopy(model).to(where) for model in models]
        params, buffers = stack_module_state(models)
        self.params = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
        self.buffers = {name: b.detach().clone() for name, b in buffers.items()}
        self.base = models[0]
        for module in self.base.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False  # has no batching rule on the CPU

    def __call__(self, x: Tensor) -> Tensor:
        """(J, B, C, H, W) -> (J, B, classes); in training mode BatchNorm's statistics move along."""

        def one(params, buffers, images):
            return functional_call(self.base, (params, buffers), (images,))

        return torch.vmap(one, randomness="different")(self.params, self.buffers, x)

    def parameter_groups(self, weight_decay: float) -> list[dict]:
        """timm's rule (no decay of biases and norms), which needs the shapes of a single model."""
        skip = getattr(self.base, "no_weight_decay", set)()
        plain = param_groups_weight_decay(self.base, weight_decay, no_weight_decay_list=skip)
        names = {id(p): name for name, p in self.base.named_parameters()}
        return [
            {**group, "params": [self.params[names[id(p)]] for p in group["params"]]}
            for group in plain
        ]

    def clip(self, largest: float) -> None:
        """Clip each model's own gradient norm, as torch.nn.utils.clip_grad_norm_ does for one."""
        grads = [p.grad for p in self.params.values() if p.grad is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads]).norm(dim=0)
        factor = (largest / (norms + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(factor.view(-1, *[1] * (grad.ndim - 1)))


def _train(prepared: list[Prepared]) -> tuple[_Stack, list[list[tuple[int, float]]]]:
    """Train all; returns the stack and each job's curve of (optimiser step, accuracy)."""
    job, where, count = prepared[0].job, train.device(), len(prepared)
    stack = _Stack([p.descendant.model for p in prepared], where)
    batches = _batches(prepared, where)
    optimizer, scheduler = train.optimizer_for(
        stack.parameter_groups(job.fit.weight_decay), job.fit, job.fit.epochs * len(batches)
    )
    held = [torch.stack([p.episode.test[i] for p in prepared]).to(where) for i in (0, 1)]
    curves: list[list[tuple[int, float]]] = [[] for _ in prepared]
    diverged = torch.zeros(count, dtype=torch.bool, device=where)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        for number in range(1, job.fit.epochs + 1):
            torch.manual_seed(job.fit.seed * 1_000_003 + number)
            losses = _epoch(stack, batches, number, job, count, optimizer, scheduler)
            diverged |= ~losses.isfinite()
            if number in job.log_at or number == job.fit.epochs:
                found = _accuracies(stack, *held, prepared[0].descendant.normalize)
                diverged |= torch.tensor(found, device=where).isnan()
                for curve, value in zip(curves, found, strict=True):
                    curve.append((number * len(batches), value))
    for weights in (*stack.params.values(), *stack.buffers.values()):
        diverged |= ~weights.isfinite().reshape(count, -1).all(1)
    for i in diverged.nonzero()[:, 0].tolist():  # as one at a time: all of it counts as chance
        curves[i] = [(step, 1 / job.task.n_way) for step, _ in curves[i]]
    return stack, curves


def _batches(prepared: list[Prepared], where: torch.device) -> Batches:
    """One `Batches` for all jobs: the jobs' images lie side by side in the channel dimension.

    All jobs of a group have the same seed for order and augmentation, as they have one after another.
    """
    fit, normalize = prepared[0].job.fit, prepared[0].descendant.normalize
    count = len(prepared)
    return train.batches(
        torch.cat([p.episode.train[0] for p in prepared], 1).to(where),
        torch.stack([p.episode.train[1] for p in prepared], 1).to(where),
        Normalize(normalize.mean * count, normalize.std * count),
        fit,
    )


def _epoch(
    stack: _Stack, batches: Batches, number: int, job: Job, count: int,
    optimizer: torch.optim.Optimizer, scheduler: Callable | None,
) -> Tensor:  # fmt: skip
    """One pass of all jobs; returns their mean losses (J,)."""
    fit, where = job.fit, batches.images.device
    stack.base.train()
    total = torch.zeros(count, device=where)
    for i, (x, y) in enumerate(batches.epoch(number)):
        if scheduler is not None:
            scheduler.step_update((number - 1) * len(batches) + i)
        x = x.unflatten(1, (count, -1)).transpose(0, 1)
        half = fit.precision_on(where) == "bfloat16"
        with torch.autocast(where.type, torch.bfloat16, enabled=half):
            logits = stack(x).flatten(0, 1)
        losses = F.cross_entropy(
            logits.float(), y.T.flatten(), reduction="none", label_smoothing=fit.label_smoothing
        )
        losses = losses.unflatten(0, (count, -1)).mean(1)
        optimizer.zero_grad()
        losses.sum().backward()
        if fit.clip is not None:
            stack.clip(fit.clip)
        optimizer.step()
        total += losses.detach()
    return total / len(batches)


@torch.no_grad()
def _accuracies(
    stack: _Stack, images: Tensor, labels: Tensor, normalize: Normalize, part: int = 100
) -> list[float]:
    """Accuracy of each job on its own (J, M, C, H, W) uint8 images and (J, M) labels; nan if it answers nan."""
    stack.base.eval()
    right = torch.zeros(len(images), device=images.device)
    for x, y in zip(images.split(part, 1), labels.split(part, 1), strict=True):
        flat = normalize(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        answer = stack(flat)
        right += (answer.argmax(-1) == y).sum(1)
        right[answer.isnan().flatten(1).any(1)] = torch.nan
    return (right.double() / labels.shape[1]).tolist()
