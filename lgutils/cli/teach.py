"""`lgutils teach`: assignments from the student version to the class report."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lgutils.cli.app import app, command, panel

teach = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Hand out assignments, grade them, write feedback and a class report.",
    epilog="Example: lgutils teach release",
)
app.add_typer(teach, name="teach", rich_help_panel=panel("teach"))

Names = Annotated[
    list[str] | None, typer.Argument(help="Assignments, e.g. a1_splits; default: all.")
]
Folder = Annotated[Path, typer.Option(help="The teacher's folder, in nbgrader's layout.")]
FOLDER = Path("teaching")


@command("lgutils teach release a1_splits", teach)
def release(names: Names = None, folder: Folder = FOLDER) -> None:
    """Make the student versions: stubs for solutions, no hidden tests, no outputs."""
    from lgutils.teach.release import release as make

    for name, path in make(names or (), folder).items():
        print(f"{name:<18} {path}")
    print(
        f"Hand these files out. Put what comes back into {folder}/submitted/STUDENT/NAME/NAME.ipynb, "
        f"then: lgutils teach grade --folder {folder}"
    )


@command("lgutils teach grade a1_splits", teach)
def grade(
    names: Names = None,
    folder: Folder = FOLDER,
    student: Annotated[
        list[str] | None, typer.Option(help="Only this student; may be given several times.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Submissions at a time; default: one a core.")
    ] = None,
    cell_seconds: Annotated[
        float,
        typer.Option(min=1, max=180, help="A cell that runs longer is stopped; all after 180 s."),
    ] = 30,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run unchanged submissions again too.")
    ] = False,
) -> None:
    """Run what was handed in and enter the points; write autograded/ and grades.csv."""
    from lgutils.teach import classroom, gradebook, tables
    from lgutils.teach.grade import Limits

    done = gradebook.grade(
        names or (), folder, students=student or (), workers=workers,
        limits=Limits(cell_seconds=cell_seconds), fresh=fresh,
    )  # fmt: skip
    print(tables.table(done))
    for path, why in classroom.enter(folder).left_out():
        print(f"not graded: {path}; {why}", file=sys.stderr)
    print(f"Written: {folder}/grades.csv and {folder}/autograded/.")
    if unrun := sum(row.record.unrun for row in done):
        print(f"Not run, for the reasons above: {unrun}. Run the same command again.")
    if waiting := sum(bool(row.pending) for row in done):
        print(
            f"{waiting} submissions wait for points by hand: cd {folder} && jupyter lab, menu Nbgrader, "
            "Formgrader."
        )
    print(f"Next: lgutils teach feedback --folder {folder}; lgutils teach report --folder {folder}")


@command("lgutils teach feedback a1_splits", teach)
def feedback(names: Names = None, folder: Folder = FOLDER) -> None:
    """Write a page for each student: points, what failed and why, comments."""
    from lgutils.teach.feedback import feedback as write

    pages = write(names or (), folder)
    print(
        f"{len(pages)} pages in {folder}/feedback/STUDENT/NAME/. Send each student only their own."
    )


@command("lgutils teach report --names", teach)
def report(
    names: Names = None,
    folder: Folder = FOLDER,
    with_names: Annotated[
        bool, typer.Option("--names", help="Add a table that names the students.")
    ] = False,
) -> None:
    """Write the class report: totals, the hardest tasks and why, time-outs."""
    from lgutils.teach.classreport import report as write

    print(f"Written: {write(names or (), folder, with_names=with_names)} and report.md beside it.")
