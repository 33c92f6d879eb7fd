"""How to train: the settings, the optimiser and the learning-rate schedule they stand for."""

from dataclasses import asdict, dataclass

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from lgutils import machine
from lgutils.checks import Count, NotNegative, Positive, Seed, Share, Whole, typed
from lgutils.errors import unknown

PRECISIONS = ("auto", "float32", "bfloat16")
SCHEDULES = ("cosine", "constant", "steps")
MILESTONES = (0.3, 0.9)  # shares of all steps at which "steps" multiplies the rate by 0.2
LATER = {"rotate": 0.0}  # fields that came later: at these values they are left out of keys


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step, of all processes together.
        optimizer: a name timm's `create_optimizer_v2` knows: "adamw", "nesterov", ...; "sgd" is plain
            momentum here, as everywhere but in timm, where it means Nesterov's.
        lr: peak learning rate, reached after `warmup`.
        schedule: "cosine" falls to 1 % of lr, "constant" stays, "steps" is multiplied by 0.2 after 30 % and
            after 90 % of all steps (the reference's 60 and 180 of 200 epochs).
        weight_decay: not applied to biases and norms (timm's rule).
        momentum: of "sgd" and its like; Adam keeps torch's betas.
        warmup: share of all steps with a linearly rising learning rate, 0 to 1.
        label_smoothing: 0 to 1.
        shift, flip, rotate: augmentation, see `data.Batches`.
        clip: largest gradient norm; None for no clipping.
        precision: "float32", "bfloat16" (autocast; weights stay float32), or "auto": bfloat16 where the
            device is fast at it, see `machine.arithmetic`, else float32.
        compile: torch.compile the model, once for each size of batch that occurs (whole ones, the last
            one); pays on a GPU for long training.
        log_every: evaluate every so many epochs, if a test set is given; the last epoch always.
        seed: order of images, augmentation and dropout.

    The processor and the number of processes are no settings: they do not change what is meant, see
    `fit` for what they do change.
    """

    epochs: Count = 10
    batch_size: Count = 64
    optimizer: str = "adamw"
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.05
    momentum: Share = 0.9
    schedule: str = "cosine"
    warmup: Share = 0.1
    label_smoothing: Share = 0.0
    shift: Whole = 0
    flip: bool = False
    clip: NotNegative | None = 1.0
    precision: str = "float32"
    compile: bool = False
    log_every: Count = 1
    seed: Seed = 0
    rotate: NotNegative = 0.0

    def __post_init__(self):
        typed(self)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)

    def told(self) -> dict:
        """Plain values for a key: what came later is left out at its default, so that old keys hold."""
        told = {k: v for k, v in asdict(self).items() if k not in LATER or v != LATER[k]}
        # The processor is no setting: "auto" is the bfloat16 of old keys, wherever it runs.
        return told | ({"precision": "bfloat16"} if self.precision == "auto" else {})

    def precision_on(self, where: torch.device) -> str:
        """What a device computes in: "float32" or "bfloat16"."""
        if self.precision != "auto":
            return self.precision
        return "bfloat16" if machine.arithmetic(where.type).bfloat16 else "float32"


def layout_on(where: torch.device) -> torch.memory_format:
    """The memory layout in which a device is fast at convolutions."""
    fast = machine.arithmetic(where.type).channels_last
    return torch.channels_last if fast else torch.contiguous_format


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
        # timm asks for the step after the current one, hence one more.
        drops = [round(share * steps) + 1 for share in MILESTONES]
        return optimizer, MultiStepLRScheduler(
            optimizer, drops, decay_rate=0.2, warmup_prefix=False, **common
        )
    lowest = 0.01 * config.lr if config.schedule == "cosine" else config.lr
    return optimizer, CosineLRScheduler(optimizer, max(steps, 1), lr_min=lowest, **common)
