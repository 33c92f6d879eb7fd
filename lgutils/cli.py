"""The `lgutils` command: a thin shell over the functions. torch is imported when a command needs it."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lgutils import __version__
from lgutils.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learngene: accumulate knowledge, condense a learngene, let descendants inherit it. "
    "Start with `lgutils course`, or: lgutils accumulate cnn --out a.safetensors; "
    "lgutils condense a.safetensors --out g.safetensors; "
    "lgutils inherit g.safetensors --out d.safetensors",
)

Out = Annotated[Path, typer.Option(help="File to write (safetensors).")]
Scale = Annotated[
    str | None,
    typer.Option(help="quick (two CPU cores), paper (a GPU), rehearsal (paper's path in minutes)."),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1; default: a GPU if there is one.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of downloaded or own datasets; default: $LGUTILS_DATA, else the cache."
    ),
]


def _look_in(folder: Path | None) -> None:
    """Say where datasets are, to this process and to those that it starts."""
    if folder is not None:
        os.environ["LGUTILS_DATA"] = str(folder.absolute())


def _again(folder: Path | None) -> str:
    """The option that the next command needs too."""
    return f" --data-dir {folder}" if folder else ""


def _version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
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
    from lgutils import data as module

    _look_in(data_dir)
    if download:
        print(f"It is in {module.download(dataset)}.")
    images, split = module.load(dataset, size, progress=True), module.split(dataset)
    for name, count in module.describe(images, split).items():
        print(f"{name:>20}: {count:,}")
    if export:
        folder = module.export(images, export, tuple(range(len(images.classes))))
        print(f"Samples are in {folder}.")


@app.command()
def accumulate(
    family: Annotated[
        str | None, typer.Argument(help="cnn, vit, or a recipe: see `lgutils recipes`.")
    ] = None,
    out: Out = Path("ancestor.safetensors"),
    arch: Annotated[str | None, typer.Option(help="Instead of FAMILY: any timm model.")] = None,
    weights: Annotated[
        str, typer.Option(help="With --arch: timm (its own weights) or a file; default: train.")
    ] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="With --arch: img_size=32, depth=4, ...")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="What it learns, or is condensed on: see `lgutils data`.")
    ] = None,
    data_dir: DataDir = None,
    scale: Scale = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train even where one is at hand.")
    ] = False,
    device: Device = None,
) -> None:
    """Make an ancestry model: it learns the base classes. A finished one is used if there is one."""
    from lgutils import ancestry, train

    _look_in(data_dir)
    if (family is None) == (arch is None):
        raise UserError("Name a family (cnn, vit, a recipe) or an --arch, one of the two.")
    if arch is None and (weights or set_):
        raise UserError("--weights and --set belong to --arch. Leave them out, or name an --arch.")
    if arch is None:
        config = ancestry.AncestryConfig.preset(family, scale, dataset=dataset)
    else:
        config = ancestry.AncestryConfig.custom(
            arch, _settings(set_ or []), weights=weights, dataset=dataset, scale_name=scale
        )
    ancestor = ancestry.accumulate(config, fresh=fresh, device_name=device)
    if train.is_main():
        ancestor.save(out)
        print(ancestor.card)
        print(f"Written to {out}. Next: lgutils condense {out}{_again(data_dir)}")


@app.command()
def recipes() -> None:
    """List the paper's architectures with their parameter counts."""
    from lgutils import recipe_table

    print(recipe_table.markdown())


@app.command()
def condense(
    ancestor: Annotated[Path, typer.Argument(help="File from `lgutils accumulate`.")],
    out: Out = Path("learngene.safetensors"),
    criterion: Annotated[
        str, typer.Option(help="lambda, cka, gradient-stability, random, first or last.")
    ] = "lambda",
    budget: Annotated[
        str | None,
        typer.Option(
            help="Layers to keep (3), or share of the blocks' parameters (0.4); default: the recipe's."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="No scores: these blocks, e.g. blocks.0,blocks.1, or 'recipe'."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Repeat with so many seeds.", min=1)] = 1,
    iterations: Annotated[int | None, typer.Option(help="Meta-iterations.", min=1)] = None,
    protocol: Annotated[str, typer.Option(help="clean or paper.")] = "clean",
    data_dir: DataDir = None,
    scale: Scale = None,
    device: Device = None,
) -> None:
    """Score an ancestor's layers on the open-world classes and keep the best as the learngene."""
    from lgutils import condense as module
    from lgutils import learngene
    from lgutils import recipes as module_recipes
    from lgutils.ancestry import Ancestor
    from lgutils.condense import CondenseConfig

    kept = _budget(budget) if budget else None
    _look_in(data_dir)
    source = Ancestor.load(ancestor)
    scale = scale or _scale_of(source.card.size)
    recipe = module_recipes.find(source.card.family, scale)
    if layers:
        names = recipe.layers if layers == "recipe" else tuple(layers.split(","))
        if not names:
            raise UserError(f"The recipe of {recipe.name!r} names no layers. Leave out --layers.")
        travels = recipe.travels if layers == "recipe" else learngene.TRAVEL
        gene = learngene.extract(source, names, travels=travels)
    else:
        config = CondenseConfig.preset(
            source.card.family, scale, protocol, dataset=source.card.dataset
        )
        if iterations:
            config = replace(config, iterations=iterations)
        options = {}
        if criterion == "lambda":
            options = {"device_name": device, "checkpoint": out.with_suffix(".ckpt")}
        images = source.open_world(progress=True)
        scores = module.score(criterion, source, images, config, seeds, **options)
        gene = learngene.condense_to(source, scores, kept or recipe.budget)
    gene.save(out)
    print(gene)
    if seeds > 1 and not layers:
        agreement = learngene.agreement(scores, len(gene.names))
        print("agreement of seeds: " + ", ".join(f"{k} {v:.2f}" for k, v in agreement.items()))
    print(f"Written to {out}. Next: lgutils inherit {out}{_again(data_dir)}")


def _scale_of(size: str) -> str:
    """The scale whose ancestors learn from images of this size."""
    return "paper" if size == "full" else size


def _budget(text: str) -> int | float:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise UserError(
            f"--budget {text!r} is neither a number of layers (3) nor a share (0.4)."
        ) from None


def _settings(pairs: list[str]) -> dict:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--set {pair!r} is not NAME=VALUE, such as depth=4 or stages=1,2,3,2.")
        try:
            settings[name] = json.loads(f"[{value}]" if "," in value else value)
        except json.JSONDecodeError:
            settings[name] = value
    if "num_classes" in settings:
        raise UserError(
            "--set num_classes is not possible: the classes follow from the dataset. Leave it out."
        )
    return settings


@app.command()
def inherit(
    learngene: Annotated[Path, typer.Argument(help="File from `lgutils condense`.")],
    out: Out = Path("descendant.safetensors"),
    arch: Annotated[
        str | None, typer.Option(help="A timm architecture; default: the ancestor's.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Its settings: depth=4, stages=1,2,3,2.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Of the task; default: what the ancestor learnt.")
    ] = None,
    data_dir: DataDir = None,
    ways: Annotated[int, typer.Option(help="Classes of the task.")] = 5,
    shots: Annotated[int, typer.Option(help="Training images of each class.")] = 10,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over them; default: the recipe's.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the task and the fresh layers.")] = 0,
    device: Device = None,
) -> None:
    """Build a descendant for a few-shot task of novel classes, train it, and compare with scratch."""
    from lgutils import data, files, models, recipes, train
    from lgutils import inherit as module
    from lgutils.learngene import Learngene

    _look_in(data_dir)
    gene = Learngene.load(learngene)
    own = gene.card.get("dataset", "glyphs")
    dataset = dataset or own
    split_seed = gene.card.get("split_seed", 0) if dataset == own else 0
    images, classes = data.load(dataset, progress=True), data.split(dataset, split_seed).novel
    episode = data.Task(ways, shots, seed).draw(images, classes)
    family, size = gene.card.get("family", "cnn"), gene.card.get("size", "quick")
    fit = recipes.find(family, _scale_of(size), dataset).few_shot
    settings, fit = _settings(set_ or []), replace(fit, epochs=epochs or fit.epochs)
    scores = {}
    for name, source in {"scratch": module.scratch(None, gene), "learngene": gene}.items():
        heir = module.inherit(source, arch, num_classes=ways, seed=seed, **settings)
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


@app.command()
def info(file: Annotated[Path, typer.Argument(help="Any file that lgutils wrote.")]) -> None:
    """Say what a file holds."""
    from lgutils import files
    from lgutils.ancestry import Ancestor
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
        for name in ("arch", "settings", "dataset", "classes", "accuracy"):
            print(f"{name:>12}: {meta.get(name)}")


@app.command()
def course(
    only: Annotated[str | None, typer.Option(help="Chapters, e.g. 02 or 01,03.")] = None,
    scale: Annotated[str, typer.Option(help="quick or paper.")] = "quick",
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default: runs/<date and time>.")
    ] = None,
) -> None:
    """Run the notebooks in order; write executed copies and HTML pages to a run folder."""
    from lgutils import course as module
    from lgutils import scale as scales

    done = module.run(only, out=out, scale=scales.current(scale))
    for chapter in done:
        state = f"FAILED ({chapter.error})" if chapter.error else "done"
        print(f"{chapter.name:<24} {chapter.seconds:6.0f} s  {state}  {chapter.page}")
    if failed := [chapter.name for chapter in done if chapter.error]:
        print(f"Failed: {', '.join(failed)}. The page shows the cell.", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def replicate(
    scale: Scale = None,
    dataset: Annotated[
        str,
        typer.Option(help="Of the tasks, e.g. glyphs,digits; default: what the ancestor learnt."),
    ] = "",
    ancestor_data: Annotated[
        str,
        typer.Option(help="What the ancestors learn; default: the recipe's. Not at quick scale."),
    ] = "",
    data_dir: DataDir = None,
    claims: Annotated[str, typer.Option(help="Of the paper's four, e.g. 1,3.")] = "1,2,3,4",
    families: Annotated[
        str, typer.Option(help="cnn, vit, cnn,vit, or recipes: see `lgutils recipes`.")
    ] = "cnn,vit",
    tasks: Annotated[int, typer.Option(help="Tasks of the main comparison.")] = 20,
    shots: Annotated[
        str, typer.Option(help="Of claim 4, with 10 and 20 among them; default: 1,2,5,10,20,50.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Results folder; a second run goes on there.")] = Path(
        "replication"
    ),
    backend: Annotated[str, typer.Option(help="auto, serial, processes, vmap or ray.")] = "auto",
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only ancestors, learngenes and learning rates.")
    ] = False,
    part: Annotated[
        str | None, typer.Option(help="3/16: the third of 16 shares of the jobs, for job arrays.")
    ] = None,
) -> None:
    """Test the paper's four claims: run (or resume) all descendants, judge, write report.html."""
    from lgutils import replicate as module
    from lgutils import report

    _look_in(data_dir)
    found = module.run(
        out,
        scale_name=scale,
        datasets=tuple(filter(None, dataset.split(","))),
        ancestor_data=ancestor_data,
        claims=_numbers(claims, "--claims"),
        families=tuple(filter(None, families.split(","))),
        tasks=tasks,
        shots=_numbers(shots, "--shots"),
        backend=backend,
        prepare=prepare,
        part=_part(part),
    )
    if prepare or part:
        print(f"Done: kept in {out}. The same command without --prepare or --part goes on.")
        return
    for claim in found:
        print(f"{claim.family:>4} {claim.dataset:<7} {claim}")
    verdicts = [claim.verdict for claim in found if claim.number]
    print(", ".join(f"{verdicts.count(v)} {v}" for v in report.VERDICTS) + " (paper's claims)")
    print(f"Written to {out}: report.html, report.md, claims.json, runs.csv.")


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        k, n = map(int, text.split("/"))
    except ValueError:
        raise UserError(f"--part {text!r} is not K/N such as 3/16.") from None
    return k, n


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise UserError(f"{option} {text!r} is not a list of numbers such as 1,3.") from None


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Results folder of `lgutils replicate`.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Put two results folders side by side: which effects moved, which verdicts changed."""
    from lgutils import compare as module

    print(module.compare(a, b))


@app.command()
def ship(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="ancestors, scores, rates, sweep, fashion, variance, faults, lifelong, picture."
        ),
    ] = None,
) -> None:
    """For maintainers: make again what the package ships and results/ (one to two hours)."""
    from lgutils import ship as module

    module.run(parts or [])


def _alone_but_for(command: str) -> None:
    """Refuse to run under torchrun what would only do the same several times."""
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and sys.argv[1:2] != [command]:
        raise UserError(
            f"Several processes were started, but only `lgutils {command}` shares its work between them. "
            "Start the others without torchrun; see docs/cluster.md for fleets."
        )


def main() -> None:
    """Entry point: one sentence and exit code 2 for bad input, 130 for Ctrl-C."""
    try:
        _alone_but_for("accumulate")
        app()
    except UserError as error:
        if int(os.environ.get("RANK") or 0) == 0:  # one sentence, however many processes
            print(f"lgutils: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:  # typer turns Ctrl-C into 130 without a word
        if end.code == 130:
            print(
                "lgutils: stopped. Finished files are kept; a training with a checkpoint goes on.",
                file=sys.stderr,
            )
        raise
