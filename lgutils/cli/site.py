"""The command that builds the course's site."""

from pathlib import Path
from typing import Annotated

import typer

from lgutils.cli.app import app


@app.command()
def site(
    out: Annotated[Path, typer.Option(help="Folder of the site; ours is replaced.")] = Path("site"),
    repository: Annotated[
        str,
        typer.Option(
            help="Address like https://HOST/OWNER/NAME: adds launch buttons (Binder, Colab). "
            "Without it there are none, as no address is known."
        ),
    ] = "",
    branch: Annotated[
        str, typer.Option(help="Of the repository, installed by launched notebooks.")
    ] = "main",
    site_branch: Annotated[
        str, typer.Option(help="Of the repository, where the site is published.")
    ] = "gh-pages",
) -> None:
    """Build the course as a static site from stored outputs; needs no network, nor do its readers."""
    from lgutils import site as module

    page = module.build(out, repository=repository, branch=branch, site_branch=site_branch)
    print(f"Written: open {page} in a browser, or put the folder on any web server.")
