"""The command that builds the course's site."""

from pathlib import Path
from typing import Annotated

import typer

from lgutils.cli.app import command


@command("lgutils site --out site")
def site(
    out: Annotated[Path, typer.Option(help="Folder of the site; ours is replaced.")] = Path("site"),
    repository: Annotated[
        str | None,
        typer.Option(
            help="Address like https://HOST/OWNER/NAME, for links to Binder and Colab; by default that of "
            "git's remote, if it is on GitHub or GitLab.",
        ),
    ] = None,
    launch: Annotated[
        bool,
        typer.Option(help="Whether chapters link to Binder and Colab where an address is known."),
    ] = True,
    branch: Annotated[
        str | None,
        typer.Option(
            help="Of the repository, installed by launched notebooks; by default the remote's main one.",
        ),
    ] = None,
    site_branch: Annotated[
        str, typer.Option(help="Of the repository, where the site is published.")
    ] = "gh-pages",
) -> None:
    """Build the course as a static site from stored outputs; needs no network, nor do its readers."""
    from lgutils import site as module

    if not launch:
        repository = ""
    page = module.build(out, repository=repository, branch=branch, site_branch=site_branch)
    print(f"Written: open {page} in a browser, or put the folder on any web server.")
    sheet = page.parent / "docs" / "cheatsheet.html"
    if sheet.is_file() and not sheet.with_suffix(".pdf").is_file():
        print("No browser was found to print the cheat sheet, so the site has no PDF of it.")
