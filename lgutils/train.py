"""One `fit` and one `evaluate`, for ancestry models, descendants and baselines alike."""

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from scipy.stats import binomtest
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from tqdm import tqdm

from lgutils import files
from lgutils.data import Batches, Normalize, checksum, placed
from lgutils.errors import UserError, unknown

PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("cosine", "constant", "steps")
MILESTONES = (0.3, 0.9)  # shares of all steps at which "steps" multiplies the rate by 0.2
LATER = {"rotate": 0.0}  # fields that came later: at these values they are left out of keys
Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]  # model, x (B, C, H, W), y (B,) -> loss


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: a name timm's `create_optimizer_v2` knows: "adamw", "sgd" (momentum, no Nesterov: use
            "momentum"), ...
        lr: peak learning rate, reached after `warmup`.
        schedule: "cosine" falls to 1 % of lr, "constant" stays, "steps" is multiplied by 0.2 after 30 % and
            after 90 % of all steps (the reference's 60 and 180 of 200 epochs).
        weight_decay: not applied to biases and norms (timm's rule).
        momentum: of "sgd" and its like; Adam keeps torch's betas.
        warmup: share of all steps with a linearly rising learning rate, 0 to 1.
        label_smoothing: 0 to 1.
        shift, flip, rotate: augmentation, see `data.Batches`.
        clip: largest gradient norm; None for no clipping.
        precision: "float32" or "bfloat16" (autocast; weights stay float32).
        compile: torch.compile the model; pays on a GPU for long training.
        log_every: evaluate every so many epochs, if a test set is given; the last epoch always.
        seed: order of images, augmentation and dropout.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 0.1
    label_smoothing: float = 0.0
    shift: int = 0
    flip: bool = False
    clip: float | None = 1.0
    precision: str = "float32"
    compile: bool = False
    log_every: int = 1
    seed: int = 0
    rotate: float = 0.0

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        if min(self.epochs, self.batch_size, self.log_every) < 1 or self.lr <= 0:
            raise UserError(
                f"epochs {self.epochs}, batch_size {self.batch_size}, log_every {self.log_every} and "
                f"lr {self.lr} must be positive."
            )
        if not (0 <= self.warmup <= 1 and 0 <= self.label_smoothing <= 1):
            raise UserError(
                f"warmup {self.warmup} and label_smoothing {self.label_smoothing} are shares: each "
                "lies between 0 and 1."
            )

    def told(self) -> dict:
        """Plain values for a key: what came later is left out at its default, so that old keys hold."""
        return {k: v for k, v in asdict(self).items() if k not in LATER or v != LATER[k]}


@dataclass(frozen=True)
class Score:
    """Accuracy on n images with its 95 % Wilson interval, all in [0, 1]."""

    accuracy: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.accuracy:.1%} [{self.low:.1%}, {self.high:.1%}], n = {self.n}"


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
    """

    model: nn.Module
    score: Score | None
    losses: tuple[float, ...]
    curve: tuple[tuple[int, float], ...]
    seconds: float
    optimizer_state: dict = field(default_factory=dict, repr=False)


def device(name: str | None = None) -> torch.device:
    """The device to use: the one named, else a GPU where there is one, else the CPU."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"Unknown device {name!r}. Use 'cpu', 'cuda' or 'cuda:1'.") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"Device {name!r} was asked for, but torch sees no GPU. Use 'cpu'.")
    return found


@torch.no_grad()
def predict(
    model: nn.Module, images: Tensor, normalize: Normalize, *, batch_size: int = 500
) -> Tensor:
    """Class predictions in evaluation mode; the model's mode is restored.

    Args:
        images: (N, C, H, W) uint8, anywhere.
    Returns:
        (N,) int64 on the CPU.
    """
    mode, where = model.training, next(model.parameters()).device
    model.eval()
    try:
        batches = (normalize(part.to(where)) for part in images.split(batch_size))
        return torch.cat([model(x).argmax(1).cpu() for x in batches])
    finally:
        model.train(mode)


def evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, normalize: Normalize, *, batch_size: int = 500
) -> Score:
    """Accuracy over (N, C, H, W) uint8 images and (N,) labels, in float32."""
    predicted = predict(model, images, normalize, batch_size=batch_size)
    right, n = int((predicted == labels.cpu()).sum()), len(labels)
    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return Score(right / n, float(interval.low), float(interval.high), n)


class Diverged(UserError):
    """The loss is no longer a number."""


def _finite(loss: float, step: int, lr: float) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"The loss became {loss} at step {step}, where the learning rate was {lr:.2g}. Try a "
            "tenth of it, more warmup, clip=1.0, or precision='float32'."
        )


@dataclass
class _Run:
    """Everything that changes while training, so that it can be written down and taken up again."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Scheduler | None
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
        """Take over another optimiser's memory, but keep this run's hyper-parameters."""
        own = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({**copy.deepcopy(optimizer_state), "param_groups": own})

    def load(self, path: Path, key: str) -> None:
        state = files.load_checkpoint(path, key)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.losses, self.seconds = state["losses"], state["seconds"]
        self.curve = [tuple(point) for point in state["curve"]]


def optimizer_for(
    parameters: nn.Module | list[dict], config: FitConfig, steps: int
) -> tuple[torch.optim.Optimizer, Scheduler | None]:
    """The optimiser of a configuration and its learning-rate schedule over so many steps.

    Args:
        parameters: a model (timm's rule then says what is not decayed), or ready parameter groups.
    Raises:
        UserError: an optimiser that timm does not know.
    """
    extra = {"fused": True} if config.optimizer in ("adamw", "adam") else {}
    name = "momentum" if config.optimizer == "sgd" else config.optimizer
    try:
        optimizer = create_optimizer_v2(
            parameters, name, config.lr, config.weight_decay, config.momentum, **extra
        )
    except ValueError as error:
        if "registry" not in str(error):
            raise
        raise unknown("optimizer", config.optimizer, list_optimizers()) from error
    if config.schedule == "constant" and not config.warmup:
        return optimizer, None
    common = {
        "warmup_t": round(config.warmup * steps),
        "warmup_lr_init": config.lr / 25,
        "t_in_epochs": False,
    }
    if config.schedule == "steps":
        drops = [round(share * steps) for share in MILESTONES]
        return optimizer, MultiStepLRScheduler(optimizer, drops, decay_rate=0.2, **common)
    lowest = 0.01 * config.lr if config.schedule == "cosine" else config.lr
    return optimizer, CosineLRScheduler(optimizer, max(steps, 1), lr_min=lowest, **common)


def _start(model: nn.Module, config: FitConfig, steps: int, where: torch.device) -> _Run:
    model = copy.deepcopy(model).to(where, memory_format=torch.channels_last)
    return _Run(model, *optimizer_for(model, config, steps))


def _epoch(
    run: _Run,
    batches: Batches,
    number: int,
    config: FitConfig,
    forward: nn.Module,
    objective: Objective | None,
) -> float:
    """One pass; returns the mean loss. On a GPU NaN is looked for once, at the end: no waiting."""
    where = batches.images.device
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    total = torch.zeros((), device=where)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(config.seed * 1_000_003 + number)
        run.model.train()
        for i, (x, y) in enumerate(batches.epoch(number)):
            step = (number - 1) * len(batches) + i
            if run.scheduler is not None:
                run.scheduler.step_update(step)
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(where.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                loss = objective(forward, x, y) if objective else cross_entropy(forward(x), y)
            run.optimizer.zero_grad()
            loss.backward()
            if config.clip is not None:
                nn.utils.clip_grad_norm_(run.model.parameters(), config.clip)
            run.optimizer.step()
            total += loss.detach()
            if where.type == "cpu":
                _finite(loss.item(), step + 1, run.optimizer.param_groups[0]["lr"])
    mean = float(total) / len(batches)
    _finite(mean, number * len(batches), run.optimizer.param_groups[0]["lr"])
    return mean


def _key(model: nn.Module, images: Tensor, labels: Tensor, config: FitConfig) -> str:
    settings = replace(config, log_every=1).told()
    text = json.dumps([settings, weight_hash(model), list(images.shape)], sort_keys=True)
    sums = f"{checksum(images)}-{int(labels.sum())}"
    return hashlib.sha256((text + sums).encode()).hexdigest()


def weight_hash(model: nn.Module) -> str:
    """Hex SHA-256 over the names and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


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
    progress: str | None = None,
) -> Fitted:
    """Train a copy of a model; the model given is not touched.

    The same seed gives the same weights on the same machine and number of threads. With `checkpoint`, a
    run that was killed goes on from its last whole epoch and ends with the weights of an unbroken run.

    Args:
        model: maps (B, C, H, W) to (B, classes) logits.
        train, test: (images uint8 (N, C, H, W), labels int64 (N,)).
        normalize: from bytes to the model's input.
        log_at: epochs after which to evaluate, instead of every `config.log_every`; the last always.
        objective: the loss; None for cross-entropy with `config.label_smoothing`.
        optimizer_state: start from another run's optimiser instead of a fresh one (the learning rate
            and weight decay stay those of `config`).
        device_name: see `device`.
        checkpoint: file for resuming, written after every epoch and removed at the end.
        progress: title of a progress bar; None for none.
    Raises:
        Diverged: NaN loss (names the step and the learning rate).
        UserError: a checkpoint of something else.
    """
    where = device(device_name)
    batches = Batches(
        placed(train[0], where), train[1].to(where), normalize,
        config.batch_size, config.shift, config.flip, config.seed, config.rotate,
    )  # fmt: skip
    run = _start(model, config, config.epochs * len(batches), where)
    path = Path(checkpoint) if checkpoint else None
    if path and (objective or optimizer_state):
        raise UserError(
            "A checkpoint does not know of an objective or of another run's optimiser. Leave out "
            "checkpoint=, or train with cross-entropy from a fresh optimiser."
        )
    key = _key(model, *train, config) if path else ""
    if optimizer_state is not None:
        run.adopt(optimizer_state)
    if path and path.exists():
        run.load(path, key)
    logged = range(config.log_every, config.epochs, config.log_every) if log_at is None else log_at
    forward = torch.compile(run.model) if config.compile else run.model
    held, score = (None if test is None else (placed(test[0], where), test[1])), None
    bar = tqdm(
        range(1, config.epochs + 1), initial=len(run.losses), total=config.epochs,
        desc=progress, unit="epoch", disable=progress is None,
    )  # fmt: skip
    for number in range(len(run.losses) + 1, config.epochs + 1):
        began = time.perf_counter()
        run.losses.append(_epoch(run, batches, number, config, forward, objective))
        if held is not None and (number in logged or number == config.epochs):
            score = evaluate(run.model, *held, normalize)
            run.curve.append((number, score.accuracy))
            bar.set_postfix(loss=f"{run.losses[-1]:.2f}", accuracy=f"{run.curve[-1][1]:.1%}")
        run.seconds += time.perf_counter() - began
        bar.update()
        if path and number < config.epochs:
            run.save(path, key)
    bar.close()
    if path:
        path.unlink(missing_ok=True)
    run.model.eval()
    return Fitted(
        run.model, score, tuple(run.losses), tuple(run.curve), run.seconds,
        run.optimizer.state_dict(),
    )  # fmt: skip
