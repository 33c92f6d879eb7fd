"""One `fit`, for ancestry models, descendants and baselines alike."""

import copy
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from tqdm import tqdm

from lgutils import files, models, reading
from lgutils.checks import Count, Finite, NotNegative, Share, Whole, checked, expect
from lgutils.data import Batches, Normalize, Pictures, check_pair, check_range, placed
from lgutils.errors import UserError
from lgutils.train.config import FitConfig, layout_on, optimizer_for
from lgutils.train.keys import fit_key
from lgutils.train.memory import Room
from lgutils.train.ranks import Ranks, join
from lgutils.train.scores import BATCH, Diverged, Score, shared_score
from lgutils.train.shared import training_images

Epochs = Annotated[
    tuple[Count, ...],
    msgspec.Meta(description="must be a tuple of epochs, counted from 1, such as (5, 10)"),
]
Each = Callable[[int, float], None]  # epoch, accuracy
Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]  # model, x (B, C, H, W), y (B,) -> loss
STREAM = 998_244_353  # between the seeds of two ranks' dropout
SCALARS = ("step", "mu_product")  # of an optimiser's memory; the rest is shaped as the weights


@dataclass(frozen=True)
class Fitted:
    """A trained copy of a model and how it got there.

    Attributes:
        model: on the training device, in evaluation mode.
        score: accuracy after the last epoch; None without a test set.
        losses: mean training loss of each epoch.
        curve: (epoch, accuracy) pairs; epoch 0 is not measured.
        seconds: wall time of training, evaluation included.
        optimizer_state: of the optimiser after the last step, as torch's `state_dict` gives it.
        arithmetic: what it was computed in, see `arithmetic_on`.
    """

    model: nn.Module
    score: Score | None
    losses: tuple[float, ...]
    curve: tuple[tuple[int, float], ...]
    seconds: float
    optimizer_state: dict = field(default_factory=dict, repr=False)
    arithmetic: str = ""


def arithmetic_on(where: torch.device, config: FitConfig) -> str:
    """What a training computes in on a device, such as "bfloat16, channels last"."""
    last = layout_on(where) == torch.channels_last
    return config.precision_on(where) + (", channels last" if last else "")


def _finite_weights(model: nn.Module, config: FitConfig) -> None:
    """The last step has no loss after it that would tell."""
    if not all(bool(t.isfinite().all()) for t in model.state_dict().values()):
        raise Diverged(
            f"After the last step some weights are no longer numbers; the learning rate was {config.lr:.2g}. Try "
            "a tenth of it, more warmup, clip=1.0, or precision='float32'."
        )


def _finite(loss: float, step: int, lr: float) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"The loss became {loss} at step {step}, where the learning rate was {lr:.2g}. Try a "
            "tenth of it, more warmup, clip=1.0, or precision='float32'."
        )


class _Told(msgspec.Struct):
    """What a checkpoint holds besides the weights and the optimiser's memory."""

    losses: list[Finite]
    curve: list[tuple[Whole, Share]]
    seconds: NotNegative


@dataclass
class _Run:
    """Everything that changes while training; what a resumed run needs can be written down.

    `loss` maps normalised images (B, C, H, W) and labels (B,) to the mean loss over them.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Scheduler | None
    loss: Callable[[Tensor, Tensor], Tensor]
    together: Ranks
    room: Room
    losses: list[float] = field(default_factory=list)
    curve: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0

    def save(self, path: Path, key: str) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses,
            "curve": self.curve,
            "seconds": self.seconds,
        }
        files.save_checkpoint(path, key, state)

    def adopt(self, optimizer_state: dict) -> None:
        """Take over another optimiser's memory, but keep this run's hyper-parameters.

        Raises:
            ValueError: it is not the memory of an optimiser for this model.
        """
        own = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({**copy.deepcopy(optimizer_state), "param_groups": own})
        memories = self.optimizer.state
        if not type(self.optimizer).__module__.startswith("torch."):
            return  # others may remember of a matrix other things than of a vector, at other shapes
        if len({frozenset(memory) for memory in memories.values()}) > 1:
            raise ValueError("the optimiser remembers other things of one tensor than of others")
        first = next(iter(memories.values()), {})
        for p, memory in memories.items():
            for name, t in memory.items():
                if (t is None) != (first[name] is None):
                    raise ValueError(f"the optimiser's {name!r} is there for some tensors only")
                if t is not None and (name not in SCALARS or t.numel() != 1) and t.shape != p.shape:
                    raise ValueError(f"the optimiser's {name!r} has another shape than the model")

    def resume(self, path: Path, key: str) -> None:
        """Go on from a checkpoint, if there is one."""
        if path.exists():
            with files.taken_up(path, key) as state:
                told = reading.checked(state, _Told, path, "Delete it to start anew.")
                self.model.load_state_dict(state["model"])
                self.adopt(state["optimizer"])
                groups = state["optimizer"]["param_groups"]
                for own, kept in zip(self.optimizer.param_groups, groups, strict=True):
                    own.update({**kept, **own})  # some optimisers count their steps there
            self.losses, self.curve, self.seconds = told.losses, told.curve, told.seconds
        if not self.together.agree(len(self.losses)):
            raise UserError(
                f"Not all processes see the same checkpoint {path}. Put it where all machines can read "
                "it ($LGUTILS_CACHE), or delete it everywhere."
            )

    def backward(self, x: Tensor, y: Tensor) -> Tensor:
        """Gradients of the mean loss over the batch of all ranks; returns this rank's part of it.

        Each piece counts with its share of the images, so neither the size of the pieces nor that of the
        ranks' shares changes the sum.
        """
        whole, x, y = len(y), self.together.share(x), self.together.share(y)

        def work(size: int) -> Tensor:
            self.optimizer.zero_grad()
            total = torch.zeros((), device=self.together.device)
            for i in range(0, len(y), size):
                labels = y[i : i + size]
                part = self.loss(x[i : i + size], labels) * (len(labels) / whole)
                part.backward()
                total += part.detach()
            return total

        total = self.room.use(len(y), work)
        self.together.sum_gradients(self.model)
        return total


def batches(
    images: Tensor | Pictures, labels: Tensor, normalize: Normalize, config: FitConfig
) -> Batches:
    """The batches of a configuration, for every way of training: one at a time and stacked."""
    return Batches(
        images, labels, normalize, config.batch_size, config.shift, config.flip, config.seed, config.rotate
    )  # fmt: skip


def _checked(
    model: nn.Module, config: FitConfig, normalize: Normalize, train: Any, test: Any,
    log_at: Collection[int] | None,
) -> int:  # fmt: skip
    """Check what `fit` was given; returns the largest label."""
    expect(config, FitConfig, "config", "Make one: FitConfig(epochs=10, lr=1e-3).")
    models.check_weights(model, learns=True)
    if not callable(normalize):
        expect(normalize, Normalize, "normalize", "Make one: Normalize(mean, std).")
    if log_at is not None:
        several = isinstance(log_at, Collection) and not isinstance(log_at, str)
        checked("log_at", list(log_at) if several else log_at, Epochs)
    most = check_pair(train, "train")
    return most if test is None else max(most, check_pair(test, "test"))


def _settled(config: FitConfig, together: Ranks) -> FitConfig:
    """With the precision that "auto" stands for: bfloat16 if every rank's device is fast at it."""
    half = together.all(config.precision_on(together.device) == "bfloat16")
    return replace(config, precision="bfloat16" if half else "float32")


def _start(
    model: nn.Module,
    config: FitConfig,
    steps: int,
    together: Ranks,
    objective: Objective | None,
    most: int,
) -> _Run:
    """A run before its first step; `most` is the largest label."""
    where, layout = together.device, layout_on(together.device)
    half = config.precision == "bfloat16"
    model = copy.deepcopy(model).to(where, memory_format=layout)
    together.start_alike(model)
    # Every size of batch gets its own graph, the same in each epoch and after resuming.
    forward = torch.compile(model, dynamic=False) if config.compile else model
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        x = x.contiguous(memory_format=layout)
        with torch.autocast(where.type, torch.bfloat16, enabled=half):
            if objective:
                return objective(forward, x, y)
            logits = forward(x)
            check_range(most, models.classes_of(logits, x))
            return cross_entropy(logits, y)

    room = Room(config.batch_size, "training")
    return _Run(model, *optimizer_for(model, config, steps), loss, together, room)


def _epoch(run: _Run, batches: Batches, number: int, config: FitConfig) -> float:
    """One pass; returns the mean loss, the same on all ranks.

    NaN is looked for after every step where that costs nothing: alone on the CPU. Elsewhere once, at the
    end: a GPU would have to wait, and ranks must stop together.
    """
    where, total = run.together.device, torch.zeros((), device=run.together.device)
    watched = where.type == "cpu" and run.together.size == 1
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(config.seed * 1_000_003 + number + run.together.rank * STREAM)
        run.model.train()
        for i, (x, y) in enumerate(batches.epoch(number)):
            step = (number - 1) * len(batches) + i
            if run.scheduler is not None:
                run.scheduler.step_update(step)
            loss = run.backward(x, y)
            if config.clip is not None:
                nn.utils.clip_grad_norm_(run.model.parameters(), config.clip)
            run.optimizer.step()
            total += loss
            if watched:
                _finite(loss.item(), step + 1, run.optimizer.param_groups[0]["lr"])
    run.together.mean_buffers(run.model)
    mean = float(run.together.sum(total)) / len(batches)
    _finite(mean, number * len(batches), run.optimizer.param_groups[0]["lr"])
    return mean


def fit(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    normalize: Normalize,
    config: FitConfig = FitConfig(),
    *,
    test: tuple[Tensor, Tensor] | None = None,
    log_at: Collection[int] | None = None,
    objective: Objective | None = None,
    optimizer_state: dict | None = None,
    device_name: str | None = None,
    checkpoint: Path | str | None = None,
    keep: bool = False,
    progress: str | None = None,
    each: Each | None = None,
) -> Fitted:
    """Train a copy of a model; the model given is not touched.

    The same seed gives the same weights on the same machine and number of threads. With `checkpoint`, a
    run that was killed goes on from its last whole epoch and ends with the weights of an unbroken run.

    Where memory runs out, a batch is passed in pieces of half the size, down to one image, and gradients
    are accumulated: the step stays that of the whole batch. Only BatchNorm differs, which normalises
    each piece by itself, and dropout, which draws anew.

    Started by `torchrun` or `accelerate launch`, all processes call this with the same arguments and share
    every batch. Augmentation draws for the whole batch, a function of (seed, epoch, place in the batch);
    of pictures on disk each process decodes its share only. Without BatchNorm and dropout the result is
    that of one process but for rounding. BatchNorm normalises each process's share by itself (give each
    some 20 images or more) and its running statistics are averaged after every epoch; dropout draws
    differ between processes. Evaluation is shared out too, the main process alone writes checkpoint and
    bar, and all return the same, `seconds` aside. Another number of processes may take up a checkpoint.

    Args:
        model: maps (B, C, H, W) to (B, classes) logits.
        train, test: (images uint8 (N, C, H, W) or `Pictures`, labels int64 (N,)).
        normalize: from bytes to the model's input.
        log_at: epochs after which to evaluate, instead of every `config.log_every`; the last always.
        objective: the loss, a mean over the images; None for cross-entropy with `config.label_smoothing`.
        optimizer_state: start from another run's optimiser instead of a fresh one (the learning rate
            and weight decay stay those of `config`).
        device_name: see `device`.
        checkpoint: file for resuming, written after every epoch but the last and removed at the end.
        keep: leave it there, for who has yet to write down what was learned.
        progress: title of a progress bar; None for none.
        each: called with epoch and accuracy after every evaluation, for those who watch.
    Raises:
        Diverged: NaN loss (names the step and the learning rate), or weights that are no numbers at the end.
        UserError: images, labels or a model that do not go together; a checkpoint of something else; a
            single image does not fit into memory.
    """
    most = _checked(model, config, normalize, train, test, log_at)
    if checkpoint and (objective or optimizer_state):
        raise UserError(
            "A checkpoint does not know of an objective or of another run's optimiser. Leave out "
            "checkpoint=, or train with cross-entropy from a fresh optimiser."
        )
    together = join(device_name)
    where, path = together.device, Path(checkpoint) if checkpoint else None
    shuffled = batches(training_images(train[0], together), train[1].to(where), normalize, config)
    settled = _settled(config, together)
    run = _start(model, settled, config.epochs * len(shuffled), together, objective, most)
    if optimizer_state is not None:
        try:
            run.adopt(optimizer_state)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"optimizer_state is no memory of this model's optimiser ({reading.reason(error)}). Take the "
                "optimizer_state of a fit of the same model."
            ) from error
    key = fit_key(run.model, *train, normalize, config) if path else ""
    if path:
        run.resume(path, key)
    held = None
    if test is not None:
        held = together.share(placed(test[0], where)), together.share(test[1])
    with models.explained(run.model, train[0].shape[1:]):
        score = _epochs(run, shuffled, held, config, log_at, path, key, progress, each)
    _finite_weights(run.model, config)
    if path and together.main and not keep:
        path.unlink(missing_ok=True)
    together.wait()  # a next training must not find that file
    run.model.eval()
    return Fitted(
        run.model, score, tuple(run.losses), tuple(run.curve), run.seconds,
        run.optimizer.state_dict(), arithmetic_on(where, settled),
    )  # fmt: skip


def _epochs(
    run: _Run, batches: Batches, held: tuple[Tensor, Tensor] | None, config: FitConfig,
    log_at: Collection[int] | None, path: Path | None, key: str, progress: str | None,
    each: Each | None,
) -> Score | None:  # fmt: skip
    """The epochs that are left, evaluated and written down; returns the last score."""
    logged = range(config.log_every, config.epochs, config.log_every) if log_at is None else log_at
    score, room = None, Room(BATCH, "evaluation")
    bar = tqdm(
        range(1, config.epochs + 1), initial=len(run.losses), total=config.epochs,
        desc=progress, unit="epoch", disable=progress is None or not run.together.main,
    )  # fmt: skip
    for number in range(len(run.losses) + 1, config.epochs + 1):
        began = time.perf_counter()
        run.losses.append(_epoch(run, batches, number, config))
        if held is not None and (number in logged or number == config.epochs):
            score = shared_score(run.model, held, batches.normalize, room, run.together)
            run.curve.append((number, score.accuracy))
            bar.set_postfix(loss=f"{run.losses[-1]:.2f}", accuracy=f"{run.curve[-1][1]:.1%}")
            if each:
                each(*run.curve[-1])
        run.seconds += time.perf_counter() - began
        bar.update()
        if path and number < config.epochs and run.together.main:
            run.save(path, key)
    bar.close()
    return score
