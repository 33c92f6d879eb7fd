"""Time pre-training of the quick CNN ancestor: `lgutils.train.fit` against the recipe of timm's `train.py`.

    python benchmarks/train.py --rounds 5 --images 5120

Both train the same model (`learngene_vgg`, 64 classes, the same initial weights) on the same 32x32 glyphs
with the same batches, AdamW, weight-decay groups, clipping, label smoothing and precision, in one process,
on the same threads, taking turns; a turn is one pass over the images, and what starts up (worker processes,
kernels) is warm before the clock runs. Accuracies are not compared: this is about speed alone.

- timm: images in a folder tree (PNG), `create_dataset`, `create_loader` with its defaults (4 workers,
  prefetcher, RandomResizedCrop of 8 to 100 %, flips, colour jitter 0.4), `create_optimizer_v2`,
  `create_scheduler_v2`, and per batch what its `train_one_epoch` does: meters, a log line every 50 updates,
  the schedule told of every update. As in https://github.com/huggingface/pytorch-image-models, train.py at
  commit 2aabaef. Four workers may be too many for few cores: `--workers 2` shows.
- ours: `train.fit`, images in memory, augmented as whole batches (shifts of up to 3 pixels). A turn
  includes copying the model and building the optimiser.

How to read it: the first line is what a user gets who runs either program as it comes. The augmentations are
not the same, so that ratio says what the choices cost together. The lines below take it apart: `--channels-last`
and `--no-aug` are options of timm's script; "batches ready in memory" is timm's loop alone, which neither loads
nor augments anything, and the last of them with the memory layout that ours uses. What is left there beside "ours,
no augmentation" is the same arithmetic, and a ratio of 1 is to be expected.

On a GPU, peak memory is printed too, and for ViT-S/16 at 224 px in bfloat16 the images a second of `fit` and
its utilisation: floating-point operations of the model (counted in one forward and backward pass, attention
as plain matrix products) against the fastest square matmul measured just before.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from common import growth, machine, ratios, spread, table, turns
from timm_recipe import Timm, Work
from utilisation import utilisation

from lgutils import train

LADDER = {  # timm's sides: what each changes
    "timm, as it comes": {},
    "timm, --channels-last": {"channels_last": True},
    "timm, --no-aug --channels-last": {"channels_last": True, "no_aug": True},
    "timm's loop, batches ready in memory": {"ready": True},
    "timm's loop, ready, --channels-last": {"ready": True, "channels_last": True},
}


def ours(work: Work, shift: int) -> Callable[[], train.Fitted]:
    """A turn of ours: `fit` for one pass; later turns start from the same weights again."""
    config = replace(work.config.fit, epochs=1, shift=shift)
    model, images = work.model(), (work.images, work.labels)
    return lambda: train.fit(model, images, work.normalize, config, device_name=str(work.where))


def sides(work: Work, workers: int) -> dict[str, Callable[[], object]]:
    """All sides at one precision, ours last."""
    timms = {name: Timm(work, workers=workers, **given).epoch for name, given in LADDER.items()}
    shift = work.config.fit.shift
    return {**timms, "ours": ours(work, shift), "ours, no augmentation": ours(work, 0)}


def lines(count: int, times: dict[str, list[float]]) -> list[list[str]]:
    """Table rows: images a second, and each side's seconds over ours; both median and range."""
    return [
        [name, spread([count / t for t in took], 0), spread(ratios(took, times["ours"]))]
        for name, took in times.items()
    ]


def main(given: argparse.Namespace) -> None:
    where = train.device(given.device)
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = (
        True  # as timm's script
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Work.prepare(Path(folder), given.images, given.batch, where)
        count = len(work.labels)
        print(
            f"{count} images a turn, batch {given.batch}, {given.rounds} rounds, "
            f"{given.workers} workers; {machine(where)}\n"
        )
        for precision in given.precision:
            chosen = sides(work.at(precision), given.workers)
            header = [precision, "images/s", "seconds over ours"]
            print(table(header, lines(count, turns(chosen, given.rounds))), flush=True)
            for name in ("timm, as it comes", "ours") if where.type == "cuda" else ():
                print(f"peak memory of {name}: {growth(chosen[name], where) / 2**20:.0f} MiB")
            print()
    if where.type == "cuda" and not given.quick:
        print(utilisation(where))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed turns of every side (5)")
    parser.add_argument("--images", type=int, default=5120, help="images of a turn (5120)")
    parser.add_argument("--batch", type=int, default=128, help="images of a batch (128)")
    parser.add_argument("--workers", type=int, default=4, help="timm's loader processes (4)")
    parser.add_argument("--device", help="default: a GPU where there is one")
    parser.add_argument(
        "--precision", nargs="+", choices=train.PRECISIONS, default=["bfloat16", "float32"]
    )
    parser.add_argument("--quick", action="store_true", help="1 round of 256 images, for a look")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.images = 1, 256
    # More workers than cores are timm's choice here, not ours.
    warnings.filterwarnings("ignore", "This DataLoader will create")
    main(options)
