"""The commands of the story: data, accumulate, condense, inherit."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lgutils import files
from lgutils.cli.app import command
from lgutils.cli.options import (
    MOST_SEED,
    DataDir,
    Device,
    Force,
    Out,
    Precision,
    Scale,
    again,
    budget_of,
    channels,
    look_in,
    names,
    scale_of,
    settings_of,
    stated,
)
from lgutils.errors import UserError, unknown


@command("lgutils data digits --export samples")
def data(
    dataset: Annotated[
        str, typer.Argument(help="glyphs, digits, cifar100, folder:birds, mini-imagenet@84, ...")
    ] = "glyphs",
    size: Annotated[
        str,
        typer.Option(help="rehearsal, quick or full: at most 24, 240 or all images of a class."),
    ] = "quick",
    download: Annotated[
        bool, typer.Option("--download", help="Fetch it first; a fetch that broke off goes on.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Folder for sample PNGs of each class.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Draw, find or fetch a dataset, say what is in it, and optionally write samples as PNG."""
    if export:
        files.target(export / "000.png", force=True)
    from lgutils import data as module

    look_in(data_dir)
    if download:
        print(f"It is in {module.download(dataset)}.")
    images, split = module.load(dataset, size, progress=True), module.split(dataset)
    for name, count in module.describe(images, split).items():
        print(f"{name:>20}: {count:,}")
    if export:
        folder = module.export(images, export, tuple(range(len(images.classes))))
        print(f"Samples are in {folder}.")


@command("lgutils accumulate cnn --out ancestor.safetensors")
def accumulate(
    family: Annotated[
        str | None, typer.Argument(help="cnn, vit, or a recipe: see `lgutils recipes`.")
    ] = None,
    out: Out = Path("ancestor.safetensors"),
    arch: Annotated[
        str | None, typer.Option(callback=stated, help="Instead of FAMILY: any timm model.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            callback=stated, help="With --arch: timm (its own weights) or a file; default: train."
        ),
    ] = None,
    match: Annotated[
        str,
        typer.Option(
            callback=stated, help="With --weights: names, or order where a file has other names."
        ),
    ] = "names",
    mean: Annotated[
        str | None,
        typer.Option(
            callback=stated,
            help="With --weights: of the input, as 0.5,0.5,0.5; default: what is known.",
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option(callback=stated, help="Its standard deviation, likewise.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="With --arch: img_size=32, depth=4, ...")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            callback=stated, help="What it learns, or is condensed on: see `lgutils data`."
        ),
    ] = None,
    data_dir: DataDir = None,
    scale: Scale = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train even where one is at hand.")
    ] = False,
    force: Force = False,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Make an ancestry model: it learns the base classes. A finished one is used if there is one."""
    out = files.target(out, "ancestor", inputs=[weights or ""], force=force)
    settings = settings_of(set_ or [])
    from lgutils import ancestry, train
    from lgutils.data import Normalize, split

    look_in(data_dir)
    train.device(device)
    if (family is None) == (arch is None):
        raise UserError("Name a family (cnn, vit, a recipe) or an --arch, one of the two.")
    if (mean is None) != (std is None):
        raise UserError("--mean and --std belong together. Give both, or leave both out.")
    means, stds = channels(mean, "--mean"), channels(std, "--std")
    adopting = {"match": match, "normalize": Normalize(means, stds) if means else None}
    if arch is None and (weights or set_ or match != "names" or means):
        raise UserError(
            "--weights, --set, --match, --mean and --std belong to --arch. Leave them out, or name an --arch."
        )
    if not weights and (match != "names" or means):
        raise UserError(
            "--match, --mean and --std belong to --weights. Leave them out, or give weights."
        )
    if arch is None:
        config = ancestry.AncestryConfig.preset(family, scale, dataset=dataset)
    else:
        config = ancestry.AncestryConfig.custom(
            arch, settings, weights=weights or "", dataset=dataset, scale_name=scale, **adopting
        )
    config = replace(config, fit=replace(config.fit, precision=precision or config.fit.precision))
    ancestor = ancestry.accumulate(config, fresh=fresh, device_name=device)
    if train.is_main():
        ancestor.save(out)
        print(ancestor.card)
        world = (
            "" if split(config.dataset, config.split_seed).open_world else " --open-world glyphs"
        )
        print(f"Written to {out}. Next: lgutils condense {out}{world}{again(data_dir)}")


@command("lgutils recipes")
def recipes() -> None:
    """List the paper's architectures with their parameter counts."""
    from lgutils import recipe_table

    print(recipe_table.markdown())


@command("lgutils condense ancestor.safetensors --criterion cka")
def condense(
    ancestor: Annotated[Path, typer.Argument(help="File from `lgutils accumulate`.")],
    out: Out = Path("learngene.safetensors"),
    criterion: Annotated[
        str, typer.Option(help="lambda, cka, gradient-stability, random, first or last.")
    ] = "lambda",
    budget: Annotated[
        str | None,
        typer.Option(
            callback=stated,
            help="Layers to keep (3), or share of the blocks' parameters (0.4); default: the recipe's.",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            callback=stated, help="No scores: these blocks, e.g. blocks.0,blocks.1, or 'recipe'."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Repeat with so many seeds.", min=1, max=100)] = 1,
    iterations: Annotated[
        int | None, typer.Option(help="Meta-iterations.", min=1, max=1_000_000)
    ] = None,
    protocol: Annotated[str, typer.Option(help="clean or paper.")] = "clean",
    open_world: Annotated[
        str | None,
        typer.Option(
            callback=stated,
            help="Condense on another dataset's open-world classes, at the ancestor's size; default: its own.",
        ),
    ] = None,
    data_dir: DataDir = None,
    scale: Scale = None,
    force: Force = False,
    device: Device = None,
) -> None:
    """Score an ancestor's layers on the open-world classes and keep the best as the learngene."""
    kept = None if budget is None else budget_of(budget)
    out = files.target(out, "learngene", inputs=[ancestor], force=force)
    checkpoint = out.with_suffix(".ckpt")
    for seed in range(seeds):
        files.target(f"{checkpoint}.{seed}", inputs=[ancestor], force=True)
    from lgutils import condense as module
    from lgutils import learngene, train
    from lgutils import recipes as module_recipes
    from lgutils.ancestry import Ancestor
    from lgutils.condense import CondenseConfig

    if layers is not None and open_world is not None:
        raise UserError("--layers takes no scores, so no --open-world. Leave one of them out.")
    look_in(data_dir)
    train.device(device)
    if criterion not in module.CRITERIA:
        raise unknown("criterion", criterion, module.CRITERIA)
    source = Ancestor.load(ancestor)
    scale = scale or scale_of(source.card.size)
    recipe = module_recipes.find(source.card.family, scale)
    if layers:
        chosen = recipe.layers if layers == "recipe" else names(layers)
        if not chosen:
            raise UserError(f"The recipe of {recipe.name!r} names no layers. Leave out --layers.")
        travels = recipe.travels if layers == "recipe" else learngene.TRAVEL
        gene = learngene.extract(source, chosen, travels=travels)
    else:
        world = source.card.dataset if open_world is None else source.sized(open_world)
        config = CondenseConfig.preset(source.card.family, scale, protocol, dataset=world)
        if iterations:
            config = replace(config, iterations=iterations)
        options = {}
        if criterion == "lambda":
            options = {"device_name": device, "checkpoint": checkpoint}
        images = source.open_world(world, progress=True)
        scores = module.score(criterion, source, images, config, seeds, **options)
        gene = learngene.condense_to(source, scores, kept or recipe.budget)
        if world != source.card.dataset:
            gene = replace(gene, scores={**gene.scores, "open_world": world})
    gene.save(out)
    print(gene)
    if seeds > 1 and not layers:
        agreement = learngene.agreement(scores, len(gene.names))
        print("agreement of seeds: " + ", ".join(f"{k} {v:.2f}" for k, v in agreement.items()))
    print(f"Written to {out}. Next: lgutils inherit {out}{again(data_dir)}")


@command("lgutils inherit learngene.safetensors --set stages=1,2,2,2")
def inherit(
    learngene: Annotated[Path, typer.Argument(help="File from `lgutils condense`.")],
    out: Out = Path("descendant.safetensors"),
    arch: Annotated[
        str | None,
        typer.Option(callback=stated, help="A timm architecture; default: the ancestor's."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Its settings: depth=4, stages=1,2,3,2.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(callback=stated, help="Of the task; default: what the ancestor learnt."),
    ] = None,
    data_dir: DataDir = None,
    ways: Annotated[int, typer.Option(help="Classes of the task.", min=2)] = 5,
    shots: Annotated[int, typer.Option(help="Training images of each class.", min=1)] = 10,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over them; default: the recipe's.", min=1, max=100_000),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Draws the task and the fresh layers.", min=0, max=MOST_SEED)
    ] = 0,
    force: Force = False,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Build a descendant for a few-shot task of novel classes, train it, and compare with scratch."""
    out = files.target(out, "descendant", inputs=[learngene], force=force)
    settings = settings_of(set_ or [])
    from lgutils import data, models, recipes, train
    from lgutils import inherit as module
    from lgutils.learngene import Learngene

    look_in(data_dir)
    train.device(device)
    gene = Learngene.load(learngene)
    own = gene.card.get("dataset", "glyphs")
    dataset = dataset or own
    split_seed = gene.card.get("split_seed", 0) if dataset == own else 0
    family, size = gene.card.get("family", "cnn"), gene.card.get("size", "quick")
    fit = recipes.find(family, scale_of(size), dataset).few_shot
    fit = replace(fit, epochs=epochs or fit.epochs, precision=precision or fit.precision)
    heirs = {
        name: module.inherit(source, arch, num_classes=ways, seed=seed, **settings)
        for name, source in {"scratch": module.scratch(None, gene), "learngene": gene}.items()
    }
    images, classes = data.load(dataset, progress=True), data.split(dataset, split_seed).novel
    episode = data.Task(ways, shots, seed).draw(images, classes)
    scores = {}
    for name, heir in heirs.items():
        models.check_input(heir.model, tuple(images.images.shape[1:]))
        fitted = train.fit(
            heir.model, episode.train, heir.normalize, fit, test=episode.test, device_name=device,
            progress=name,
        )  # fmt: skip
        scores[name] = fitted.score
    print(heir.report())
    print(f"{ways}-way {shots}-shot: " + " ".join(images.classes[c] for c in episode.classes))
    for name, score in scores.items():
        print(f"{name:>12}: {score}")
    meta = {
        "arch": arch or gene.arch, "settings": settings, "classes": episode.classes,
        "dataset": dataset, "accuracy": scores["learngene"].accuracy, "task": episode.key,
    }  # fmt: skip
    files.save_tensors(out, "descendant", fitted.model.state_dict(), meta)
    print(f"Written to {out}.")


@command("lgutils info learngene.safetensors")
def info(file: Annotated[Path, typer.Argument(help="Any file that lgutils wrote.")]) -> None:
    """Say what a file holds."""
    from lgutils import reading
    from lgutils.ancestry import Ancestor
    from lgutils.inherit import Kept
    from lgutils.learngene import Learngene

    tensors, meta = files.load_tensors(file)
    print(f"{file}: {meta['kind']}, format {meta['format']}, {len(tensors)} tensors")
    if meta["kind"] == "ancestor":
        print(Ancestor.load(file).card)
    elif meta["kind"] == "learngene":
        gene = Learngene.load(file)
        print(gene)
        if gene.card:
            print(f"ancestor's weights: {gene.card['weight_hash'][:16]}")
    else:
        kept = reading.checked(meta, Kept, file)
        for name in ("arch", "settings", "dataset", "classes", "accuracy"):
            print(f"{name:>12}: {getattr(kept, name)}")
