"""Building the site: sources into a temporary folder, sphinx over it, the rest, one rename at the end."""

from importlib.util import find_spec
from pathlib import Path

from lgutils import course, scratch
from lgutils.errors import UserError, missing

MARK = ".lgutils-site"  # says that a folder may be replaced
NEEDED = ("sphinx", "myst_nb", "sphinx_book_theme", "sphinx_copybutton", "sphinx_design",
          "sphinx_revealjs", "sphinx-mathjax-offline", "nbconvert")  # fmt: skip


def build(
    out: Path | str = "site",
    *,
    repository: str | None = None,
    branch: str | None = None,
    site_branch: str = "gh-pages",
) -> Path:
    """Build the whole course as static pages from the stored outputs; nothing is executed.

    Args:
        out: folder of the site. One of ours is replaced as a whole at the end; a failure leaves it alone.
        repository: https address of the course's repository. With it the chapters get links to Binder and
            Colab, and the site a folder `launch` with the notebooks that these open. None: that of git's
            remote `origin`, if its host is a public one. "": none.
        branch: of the repository, which the launched notebooks install. None: the remote's main one, else the
            clone's current one, see `launch.branch`.
        site_branch: of the repository, on which the site itself is published.
    Returns:
        The page to open, `index.html`. Without a browser that prints, `docs/cheatsheet.pdf` is missing.
    Raises:
        UserError: a package is missing, `out` holds something else, a bad address, no notebooks, or
            sphinx warns about a source.
    """
    for name in NEEDED:
        if find_spec(name) is None:
            raise missing(f"lgutils site needs {name}", "site")
    from lgutils.site import config, launch, moved, render, sheet, slides, sources

    out = Path(out).resolve()
    _check_free(out)
    root = course.notebooks_folder().parent
    if repository is None:
        repository = launch.remote(root)
    branch = branch or launch.branch(root)
    target = launch.target(repository, branch, site_branch) if repository else None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch.folder(out.parent, f".{out.name}.") as work:
            source, html = work / "source", work / "html"
            sources.collect(source)
            chapters = source / "notebooks"
            render.render(source, html, config.settings(_badges(chapters, target)))
            slides.write(chapters, html)
            moved.write(html)
            if (page := html / "docs" / "cheatsheet.html").is_file():
                sheet.finish(page)
            if target:
                launch.copies(chapters, html / "launch" / "notebooks", target)
            (html / MARK).write_text("Made by lgutils site, which may replace this folder.\n")
            (html / ".nojekyll").touch()  # or GitHub's pages would leave out _static
            _swap(html, out, work / "old")
    except OSError as error:
        raise UserError(
            f"Cannot write {out}: {error.strerror or error}. Choose another folder or free some space."
        ) from error
    return out / "index.html"


def _badges(notebooks: Path, target) -> dict[str, dict[str, str]]:
    """Page -> links under its title; the front page has those that open the first chapter."""
    from lgutils.site import launch, slides

    paths = sorted(notebooks.rglob("*.ipynb"))
    names = [path.relative_to(notebooks.parent).as_posix() for path in paths]
    opened = {name: launch.badges(target, name) if target else {} for name in names}
    found = {name.removesuffix(".ipynb"): links for name, links in opened.items()}
    found["index"] = dict(next(iter(opened.values()), {}))
    if (notebooks.parent / "docs" / "cheatsheet.md").is_file():
        found["index"]["Cheat sheet"] = "docs/cheatsheet.html"
    for stem in slides.names(notebooks):
        found[f"notebooks/{stem}"]["Slides"] = f"../slides/{stem}.html"
    return found


def _check_free(out: Path) -> None:
    """Refuse to replace what is not a site of ours."""
    ours = out.is_dir() and ((out / MARK).is_file() or not any(out.iterdir()))
    if out.exists() and not ours:
        raise UserError(
            f"{out} exists and is not a site made by lgutils, so it is left alone. Choose another --out."
        )


def _swap(new: Path, out: Path, old: Path) -> None:
    """Put `new` in the place of `out`; what was there is put back if that fails."""
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
