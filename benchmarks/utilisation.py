"""How much of a GPU `lgutils.train.fit` uses: ViT-S/16 in bfloat16 against the fastest matmul."""

import time
from collections.abc import Iterable
from functools import partial
from itertools import product

import torch
from common import seconds
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from lgutils import models, train
from lgutils.data import Normalize
from lgutils.train import FitConfig

ARCH = "vit_small_patch16_224"


def train_flops(model: nn.Module, px: int) -> float:
    """Floating-point operations of one training step, for each image (a multiply-add counts two).

    Args:
        model: on the CPU, taking (B, 3, px, px).
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, 3, px, px)).sum().backward()
    return counter.get_total_flops() / 2


def matmul_ceiling(where: torch.device, sizes: Iterable[int] = (4096, 8192, 16384)) -> float:
    """Operations a second of the fastest square bfloat16 matmul; each size is tried six times."""
    best = 0.0
    for n, _ in product(sizes, range(6)):
        a = torch.randn(n, n, device=where).bfloat16()
        best = max(best, 2 * n**3 / seconds(partial(torch.mm, a, a)))
    return best


class Clock:
    """An objective, cross-entropy, that notes when the first and the last timed step begin.

    Args:
        first, last: numbers of these steps, counted from 0.
    """

    def __init__(self, first: int, last: int):
        self.marks, self.calls, self.times = (first, last), 0, []

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if self.calls in self.marks:
            if x.device.type == "cuda":
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())
        self.calls += 1
        return cross_entropy(model(x), y)


def steady_rate(
    model: nn.Module, px: int, batch: int, where: torch.device, *, warm: int = 20, timed: int = 60
) -> float:
    """Images a second of `fit` in bfloat16, compiled on a GPU, once it runs; images are random.

    Args:
        model: taking (B, 3, px, px), with at least 2 classes.
        warm: steps before the clock starts, compiling included; 1 or more.
        timed: steps between its two looks.
    """
    images = torch.randint(0, 256, (8 * batch, 3, px, px), dtype=torch.uint8)
    clock, labels = Clock(warm, warm + timed), torch.arange(len(images)) % 2
    fit = FitConfig(
        epochs=(warm + timed) // 8 + 1, batch_size=batch, precision="bfloat16",
        compile=where.type == "cuda",
    )  # fmt: skip
    normalize = Normalize((0.5,) * 3, (0.25,) * 3)
    train.fit(
        model, (images, labels), normalize, fit, objective=clock, device_name=str(where)
    )  # fmt: skip
    return batch * timed / (clock.times[1] - clock.times[0])


def utilisation(where: torch.device, batch: int = 256, px: int = 224) -> str:
    """One line on ViT-S/16: images a second, and its operations as a share of what a matmul reaches.

    The share is of the model's own operations: what is computed twice would not count.
    """
    model = models.create(ARCH, 64, img_size=px)
    flops, ceiling = train_flops(model, px), matmul_ceiling(where)
    rate = steady_rate(model, px, batch, where)
    peak = torch.cuda.max_memory_allocated() / 2**30
    return (
        f"ViT-S/16 at {px} px, bfloat16, batch {batch}: {rate:.0f} images/s, {flops / 1e9:.1f} "
        f"GFLOP an image, {rate * flops / 1e12:.0f} of {ceiling / 1e12:.0f} TFLOP/s of the fastest "
        f"matmul ({rate * flops / ceiling:.1%}); peak memory {peak:.1f} GiB"
    )
