"""The commands that run many things: the course, the replication, what ships."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lgutils import files
from lgutils.cli.app import command
from lgutils.cli.options import (
    MOST_SEED,
    DataDir,
    Force,
    Scale,
    look_in,
    names,
    numbers,
    part_of,
    stated,
)


@command("lgutils try")
def try_(
    family: Annotated[str, typer.Argument(help="Of the ancestor: cnn or vit.")] = "cnn",
    out: Annotated[Path, typer.Option(help="Picture to write (PNG).")] = Path("try.png"),
    seed: Annotated[
        int, typer.Option(help="Draws the task and the fresh layers.", min=0, max=MOST_SEED)
    ] = 0,
    force: Force = False,
) -> None:
    """See it happen: one task of new classes, learned with the learngene and from scratch."""
    files.target(out, force=True)
    from lgutils import demo

    out, asked = demo.place(out, force), demo.wanted(family, seed)
    known = demo.evidence(family)
    print(demo.intro(family), flush=True)
    tried = demo.run(asked)
    demo.save(tried, out)
    print(demo.told(tried, known))
    print(f"Written: {out}, the images and both curves.")


@command("lgutils start my-course")
def start(
    folder: Annotated[Path, typer.Argument(help="Where to; made if it is missing.")],
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Only copy; do not open JupyterLab.")
    ] = False,
) -> None:
    """Copy the chapters and their solutions into a folder to work on, and open JupyterLab there.

    Notebooks that you changed are kept, the others are brought up to date.
    """
    from lgutils import course as module

    folder = files.expand(folder)
    done = module.start(folder)
    print(f"Copied to {folder}: {', '.join(done.copied) or 'nothing new'}.")
    if done.kept:
        print(f"Kept, as they were changed: {', '.join(done.kept)}. Move them to get them anew.")
    print(f"Solutions to the exercises: {folder / 'solutions'}.")
    if no_open:
        print(f"Open them with: jupyter lab {folder}")
    elif code := module.open_lab(folder):
        raise typer.Exit(code)


@command("lgutils course --only 00")
def course(
    only: Annotated[
        str | None, typer.Option(callback=stated, help="Chapters, e.g. 02 or 01,03.")
    ] = None,
    scale: Annotated[str, typer.Option(callback=stated, help="quick or paper.")] = "quick",
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


@command("lgutils replicate --claims 3 --families cnn --tasks 5")
def replicate(
    scale: Scale = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            callback=stated,
            help="Of the tasks, e.g. glyphs,digits; default: what the ancestor learnt.",
        ),
    ] = None,
    ancestor_data: Annotated[
        str | None,
        typer.Option(
            callback=stated,
            help="What the ancestors learn; default: the recipe's. Not at quick scale.",
        ),
    ] = None,
    data_dir: DataDir = None,
    claims: Annotated[
        str, typer.Option(callback=stated, help="Of the paper's four, e.g. 1,3.")
    ] = "1,2,3,4",
    families: Annotated[
        str,
        typer.Option(callback=stated, help="cnn, vit, cnn,vit, or recipes: see `lgutils recipes`."),
    ] = "cnn,vit",
    tasks: Annotated[int, typer.Option(help="Tasks of the main comparison.", max=10_000)] = 20,
    shots: Annotated[
        str | None,
        typer.Option(
            callback=stated, help="Of claim 4, with 10 and 20 among them; default: 1,2,5,10,20,50."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Results folder; a second run goes on there.")] = Path(
        "replication"
    ),
    backend: Annotated[str, typer.Option(help="auto, serial, processes, vmap or ray.")] = "auto",
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only ancestors, learngenes and learning rates.")
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(
            callback=stated, help="3/16: the third of 16 shares of the jobs, for job arrays."
        ),
    ] = None,
) -> None:
    """Test the paper's four claims: run (or resume) all descendants, judge, write report.html."""
    from lgutils import replicate as module
    from lgutils import report

    look_in(data_dir)
    found = module.run(
        out,
        scale_name=scale,
        datasets=names(dataset),
        ancestor_data=ancestor_data or "",
        claims=numbers(claims, "--claims"),
        families=names(families),
        tasks=tasks,
        shots=numbers(shots, "--shots"),
        backend=backend,
        prepare=prepare,
        part=part_of(part),
    )
    if prepare or part:
        print(f"Done: kept in {out}. The same command without --prepare or --part goes on.")
        return
    for claim in found:
        print(f"{claim.family:>4} {claim.dataset:<7} {claim}")
    verdicts = [claim.verdict for claim in found if claim.number]
    print(", ".join(f"{verdicts.count(v)} {v}" for v in report.VERDICTS) + " (paper's claims)")
    print(f"Written to {out}: report.html, report.md, claims.json, runs.csv.")


@command("lgutils compare mine theirs")
def compare(
    a: Annotated[Path, typer.Argument(help="Results folder of `lgutils replicate`.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Put two results folders side by side: which effects moved, which verdicts changed."""
    from lgutils import compare as module

    print(module.compare(a, b))


@command("lgutils ship pictures")
def ship(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="ancestors, scores, noise, rates, edges, sweep, fashion, variance, faults, lifelong, reports, pictures, pages."
        ),
    ] = None,
) -> None:
    """For maintainers: make again what the package ships and results/ (one to two hours)."""
    from lgutils import ship as module

    module.run(parts or [])
