"""The recipe of timm's `train.py`, written anew from timm's public functions, and what it trains on.

Source: https://github.com/huggingface/pytorch-image-models, train.py at commit 2aabaef (options that
are off by default are left out: gradient accumulation, averages of weights, mixup, distribution).
"""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.models import model_parameters
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, dispatch_clip_grad
from torch import Tensor, nn

from lgutils import data, models
from lgutils.ancestry import AncestryConfig
from lgutils.data import ImageSet, Normalize
from lgutils.errors import UserError

LOG_EVERY = 50
LOGGER = logging.getLogger("train")


@dataclass(frozen=True)
class Work:
    """What both sides train on.

    Attributes:
        images, labels: (N, 3, H, W) uint8 and (N,) int64 on the CPU; N is a multiple of the batch size.
        folder: the same images as PNG, one folder a class.
        config: the ancestry model and how it is trained; `fit.batch_size` is the batch.
    """

    images: Tensor
    labels: Tensor
    normalize: Normalize
    folder: Path
    config: AncestryConfig
    where: torch.device

    @classmethod
    def prepare(cls, folder: Path, count: int, batch: int, where: torch.device) -> "Work":
        """Take `count` glyphs of the base classes, rounded down to whole batches; write them out."""
        config = AncestryConfig.preset("cnn", "quick")
        classes = data.split("glyphs").base
        images, labels = data.load("glyphs", config.size).of(classes, held_out=False)
        rows = torch.arange(len(labels)).view(len(classes), -1).T.flatten()
        rows = rows[: min(count, len(rows)) // batch * batch]
        if not len(rows):
            raise UserError(f"{count} images do not fill a batch of {batch}. Ask for more images.")
        normalize, images, labels = Normalize.measured(images), images[rows], labels[rows]
        names = tuple(data.load("glyphs", config.size).classes[c] for c in classes)
        chosen = ImageSet("glyphs", images, labels, names, torch.zeros(len(labels)).bool())
        data.export(chosen, folder, tuple(range(len(names))), per_class=len(labels))
        config = replace(config, fit=replace(config.fit, batch_size=batch))
        return cls(images, labels, normalize, folder, config, where)

    def model(self) -> nn.Module:
        return models.create(self.config.arch, len(data.split("glyphs").base), seed=0)

    def at(self, precision: str) -> "Work":
        fit = replace(self.config.fit, precision=precision)
        return replace(self, config=replace(self.config, fit=fit))


class Timm:
    """The recipe of timm's script, written anew from its public functions; one call of `epoch` a turn.

    Args:
        work: what to train on.
        channels_last, no_aug, workers: timm's options of these names.
        ready: feed batches that stand normalised in memory, instead of a loader.
    """

    def __init__(
        self, work: Work, *, channels_last: bool = False, no_aug: bool = False, ready: bool = False,
        workers: int = 4,
    ):  # fmt: skip
        fit, self.where, self.channels_last = work.config.fit, work.where, channels_last
        self.model, self.clip = work.model().to(self.where), fit.clip
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.loader = in_memory(work) if ready else from_disk(work, no_aug, workers)
        self.optimizer = create_optimizer_v2(
            self.model, opt=fit.optimizer, lr=fit.lr, weight_decay=fit.weight_decay, momentum=0.9
        )
        self.scheduler, _ = create_scheduler_v2(
            self.optimizer, sched="cosine", num_epochs=300, warmup_epochs=5,
            updates_per_epoch=len(self.loader),
        )  # fmt: skip
        self.loss_fn = LabelSmoothingCrossEntropy(smoothing=fit.label_smoothing)
        self.autocast: Callable[[], AbstractContextManager] = partial(
            torch.autocast, self.where.type, torch.bfloat16, enabled=fit.precision == "bfloat16"
        )
        self.done = 0

    def epoch(self) -> float:
        """One pass over the images; returns the mean loss."""
        update_time, data_time, losses = AverageMeter(), AverageMeter(), AverageMeter()
        self.model.train()
        updates = self.done * len(self.loader)
        loaded = updated = time.time()
        self.optimizer.zero_grad()
        for i, (x, y) in enumerate(self.loader):
            if self.channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            data_time.update(time.time() - loaded)
            with self.autocast():
                loss = self.loss_fn(self.model(x), y)
            loss.backward()
            if self.clip is not None:
                dispatch_clip_grad(model_parameters(self.model), value=self.clip, mode="norm")
            self.optimizer.step()
            losses.update(loss.item(), len(x))
            updates += 1
            self.optimizer.zero_grad()
            now = time.time()
            update_time.update(now - updated)
            updated = now
            if i % LOG_EVERY == 0:
                rate = sum(group["lr"] for group in self.optimizer.param_groups)
                LOGGER.info(
                    f"{self.done} [{i}/{len(self.loader)}] loss {losses.val:.3g} ({losses.avg:.3g}) "
                    f"time {update_time.avg:.3f}s, {len(x) / update_time.avg:.2f}/s "
                    f"lr {rate / len(self.optimizer.param_groups):.3e} data {data_time.avg:.3f}"
                )
            self.scheduler.step_update(num_updates=updates, metric=losses.avg)
            loaded = time.time()
        self.done += 1
        self.scheduler.step(self.done)
        return losses.avg


def from_disk(work: Work, no_aug: bool, workers: int) -> Iterable[tuple[Tensor, Tensor]]:
    """timm's loader over the image tree, as its script builds it."""
    dataset = create_dataset("", root=str(work.folder), split="train", is_training=True)
    return create_loader(
        dataset, input_size=tuple(work.images.shape[1:]), batch_size=work.config.fit.batch_size,
        is_training=True, no_aug=no_aug, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), hflip=0.5,
        color_jitter=0.4, interpolation="bilinear" if no_aug else "random", num_workers=workers,
        mean=work.normalize.mean, std=work.normalize.std, device=work.where,
    )  # fmt: skip


def in_memory(work: Work) -> list[tuple[Tensor, Tensor]]:
    """All batches, normalised and on the device."""
    order = torch.randperm(len(work.labels), generator=torch.Generator().manual_seed(0))
    return [
        (work.normalize(work.images[rows].to(work.where)), work.labels[rows].to(work.where))
        for rows in order.split(work.config.fit.batch_size)
    ]
