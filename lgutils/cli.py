"""The `lgutils` command: a thin shell over the functions. torch is imported when a command needs it."""

import json
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
Scale = Annotated[str | None, typer.Option(help="quick (two CPU cores) or paper (a GPU).")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1; default: a GPU if there is one.")
]


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
    dataset: Annotated[str, typer.Argument(help="glyphs or digits.")] = "glyphs",
    size: Annotated[
        str, typer.Option(help="glyphs: quick (24,000 images) or full (60,000).")
    ] = "quick",
    export: Annotated[
        Path | None, typer.Option(help="Folder for sample PNGs of each class.")
    ] = None,
) -> None:
    """Draw or load a dataset, say what is in it, and optionally write samples as PNG."""
    from lgutils import data as module

    images, split = module.load(dataset, size, progress=True), module.split(dataset)
    for name, count in module.describe(images, split).items():
        print(f"{name:>20}: {count:,}")
    if export:
        folder = module.export(images, export, tuple(range(len(images.classes))))
        print(f"Samples are in {folder}.")


@app.command()
def accumulate(
    family: Annotated[str, typer.Argument(help="cnn or vit.")],
    out: Out = Path("ancestor.safetensors"),
    scale: Scale = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train even where one is at hand.")
    ] = False,
    device: Device = None,
) -> None:
    """Make an ancestry model: it learns the base classes. A finished one is used if there is one."""
    from lgutils import ancestry

    config = ancestry.AncestryConfig.preset(family, scale)
    ancestor = ancestry.accumulate(config, fresh=fresh, device_name=device)
    ancestor.save(out)
    print(ancestor.card)
    print(f"Written to {out}. Next: lgutils condense {out}")


@app.command()
def condense(
    ancestor: Annotated[Path, typer.Argument(help="File from `lgutils accumulate`.")],
    out: Out = Path("learngene.safetensors"),
    criterion: Annotated[
        str, typer.Option(help="lambda, cka, gradient-stability, random, first or last.")
    ] = "lambda",
    budget: Annotated[
        str, typer.Option(help="Layers to keep (3), or share of the blocks' parameters (0.4).")
    ] = "3",
    seeds: Annotated[int, typer.Option(help="Repeat with so many seeds.", min=1)] = 1,
    iterations: Annotated[int | None, typer.Option(help="Meta-iterations.", min=1)] = None,
    protocol: Annotated[str, typer.Option(help="clean or paper.")] = "clean",
    scale: Scale = None,
    device: Device = None,
) -> None:
    """Score an ancestor's layers on the open-world classes and keep the best as the learngene."""
    from lgutils import condense as module
    from lgutils import learngene
    from lgutils.ancestry import Ancestor
    from lgutils.condense import CondenseConfig

    kept = _budget(budget)
    source = Ancestor.load(ancestor)
    scale = scale or ("paper" if source.card.size == "full" else "quick")
    config = CondenseConfig.preset(source.card.family, scale, protocol)
    if iterations:
        config = replace(config, iterations=iterations)
    options = {}
    if criterion == "lambda":
        options = {"device_name": device, "checkpoint": out.with_suffix(".ckpt")}
    images = source.open_world(progress=True)
    scores = module.score(criterion, source, images, config, seeds, **options)
    gene = learngene.condense_to(source, scores, kept)
    gene.save(out)
    print(gene)
    if seeds > 1:
        agreement = learngene.agreement(scores, len(gene.names))
        print("agreement of seeds: " + ", ".join(f"{k} {v:.2f}" for k, v in agreement.items()))
    print(f"Written to {out}. Next: lgutils inherit {out}")


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
    dataset: Annotated[str, typer.Option(help="glyphs or digits.")] = "glyphs",
    ways: Annotated[int, typer.Option(help="Classes of the task.")] = 5,
    shots: Annotated[int, typer.Option(help="Training images of each class.")] = 10,
    epochs: Annotated[int, typer.Option(help="Passes over them.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Draws the task and the fresh layers.")] = 0,
    device: Device = None,
) -> None:
    """Build a descendant for a few-shot task of novel classes, train it, and compare with scratch."""
    from lgutils import data, files, fleet, train
    from lgutils import inherit as module
    from lgutils.learngene import Learngene

    gene = Learngene.load(learngene)
    images, classes = data.load(dataset, progress=True), data.split(dataset).novel
    episode = data.Task(ways, shots, seed).draw(images, classes)
    settings, fit = _settings(set_ or []), replace(fleet.FEW_SHOT, epochs=epochs)
    scores = {}
    for name, source in {"scratch": module.scratch(None, gene), "learngene": gene}.items():
        heir = module.inherit(source, arch, num_classes=ways, seed=seed, **settings)
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
    dataset: Annotated[str, typer.Option(help="glyphs, digits, or glyphs,digits.")] = "glyphs",
    claims: Annotated[str, typer.Option(help="Of the paper's four, e.g. 1,3.")] = "1,2,3,4",
    families: Annotated[str, typer.Option(help="cnn, vit, or cnn,vit.")] = "cnn,vit",
    tasks: Annotated[int, typer.Option(help="Tasks of the main comparison.")] = 20,
    out: Annotated[Path, typer.Option(help="Results folder; a second run goes on there.")] = Path(
        "replication"
    ),
    backend: Annotated[str, typer.Option(help="auto, serial, processes or vmap.")] = "auto",
) -> None:
    """Test the paper's four claims: run (or resume) all descendants, judge, write report.html."""
    from lgutils import replicate as module
    from lgutils import report
    from lgutils import scale as scales

    found = module.run(
        out,
        scale_name=scales.current(scale),
        datasets=tuple(filter(None, dataset.split(","))),
        claims=_numbers(claims),
        families=tuple(scales.family(name) for name in filter(None, families.split(","))),
        tasks=tasks,
        backend=backend,
    )
    for claim in found:
        print(f"{claim.family:>4} {claim.dataset:<7} {claim}")
    verdicts = [claim.verdict for claim in found if claim.number]
    print(", ".join(f"{verdicts.count(v)} {v}" for v in report.VERDICTS) + " (paper's claims)")
    print(f"Written to {out}: report.html, report.md, claims.json, runs.csv.")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise UserError(f"--claims {text!r} is not a list of numbers such as 1,3.") from None


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
        typer.Argument(help="ancestors, scores, rates, sweep, variance, faults, picture."),
    ] = None,
) -> None:
    """For maintainers: make again what the package ships and results/ (one to two hours)."""
    from lgutils import ship as module

    module.run(parts or [])


def main() -> None:
    """Entry point: one sentence and exit code 2 for bad input, 130 for Ctrl-C."""
    try:
        app()
    except UserError as error:
        print(f"lgutils: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:  # typer turns Ctrl-C into 130 without a word
        if end.code == 130:
            print(
                "lgutils: stopped. Finished files are kept; a training with a checkpoint goes on.",
                file=sys.stderr,
            )
        raise
