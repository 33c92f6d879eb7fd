"""Pre-training: the ancestry model learns all base classes at once, or a finished one is taken."""

import time
from pathlib import Path

from lgutils import data, files, machine, models, train
from lgutils.ancestry.adopt import adopt
from lgutils.ancestry.model import (
    Ancestor,
    AncestryCard,
    AncestryConfig,
    device_title,
    shipped_path,
)
from lgutils.data import Normalize
from lgutils.errors import UserError


def accumulate(
    config: AncestryConfig,
    *,
    fresh: bool = False,
    device_name: str | None = None,
    progress: bool = True,
) -> Ancestor:
    """Give the ancestry model of a configuration: adopted, shipped, cached, or trained now.

    Args:
        config: usually `AncestryConfig.preset("cnn")` or `("vit")`.
        fresh: train even where a finished one exists.
        device_name: see `train.device`.
        progress: show a bar.
    Returns:
        An `Ancestor` in evaluation mode. A model trained here, or adopted with timm's weights, is cached,
        and a training that was interrupted is resumed by the same call. Where the pictures of an own
        folder have changed, it is trained anew.
    """
    if config.weights not in ("", "timm"):
        return adopt(config)  # a file that is here anyway
    cached = files.cache_dir() / f"ancestor-{config.family}-{config.key}.safetensors"
    for path in () if fresh else (shipped_path(config.family), cached):
        if path.is_file():
            ancestor = Ancestor.load(path)
            if ancestor.card.config_key == config.key and _of_these_images(ancestor, config):
                return ancestor
    files.target(cached, force=True)
    if config.weights:
        ancestor = adopt(config)
    else:
        ancestor = pretrain(
            config, device_name=device_name, progress=progress,
            checkpoint=cached.with_suffix(".ckpt"),
        )  # fmt: skip
    if train.is_main():
        ancestor.save(cached)
        cached.with_suffix(".ckpt").unlink(missing_ok=True)
    return ancestor


def _of_these_images(ancestor: Ancestor, config: AncestryConfig) -> bool:
    """Whether a finished ancestor learnt the images that are there now: own folders change."""
    if config.weights or data.Dataset.parse(config.dataset).name in data.DATASETS:
        return True
    images = data.load(config.dataset, config.size)
    base = data.split(config.dataset, config.split_seed).base
    names = tuple(images.classes[c] for c in base)
    there = str(data.checksum(images.of(base, held_out=False)[0]))
    return (names, there) == (ancestor.card.classes, ancestor.card.images_key)


def pretrain(
    config: AncestryConfig,
    *,
    device_name: str | None = None,
    progress: bool = True,
    checkpoint: Path | None = None,
) -> Ancestor:
    """Train an ancestry model on the base classes, whatever is shipped or cached.

    All processes of a launch call this together, see `train.fit`; each gets the same ancestor. What they
    find on disk, images and checkpoint, lies in a folder that all machines share. The checkpoint stays until
    the caller has saved the ancestor: a process that is killed in between costs an epoch, not all.
    """
    together = train.join(device_name)
    with together.main_first():
        images = data.load(config.dataset, config.size, progress=progress and together.main)
    classes = data.split(config.dataset, config.split_seed).base
    training, held = images.of(classes, held_out=False), images.of(classes, held_out=True)
    if not len(training[1]):
        raise UserError(f"{config.dataset!r} has no base classes to accumulate from. Use 'glyphs'.")
    normalize = Normalize.measured(training[0])
    model = models.create(config.arch, len(classes), seed=config.seed, **config.arch_kwargs)
    models.check_input(model, tuple(images.images.shape[1:]))
    began = time.perf_counter()
    with machine.free_threads():
        fitted = train.fit(
            model, training, normalize, config.fit, test=held, device_name=device_name,
            checkpoint=checkpoint, keep=True,
            progress=f"accumulating ({config.family})" if progress else None,
        )  # fmt: skip
        title = device_title(together.device)
    card = AncestryCard.of(
        config,
        fitted.model,
        classes=tuple(images.classes[c] for c in classes),
        normalize=normalize,
        images_seen=len(training[1]) * config.fit.epochs,
        accuracy=fitted.score,
        seconds=round(max(fitted.seconds, time.perf_counter() - began), 1),
        device=title if together.size == 1 else f"{together.size} x {title}",
        arithmetic=fitted.arithmetic,
        images_key=str(data.checksum(training[0])),
    )
    return Ancestor(fitted.model.cpu(), card, fitted.losses, fitted.curve)
