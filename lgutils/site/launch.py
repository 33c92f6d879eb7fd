"""Launch buttons: what they point to, and the notebooks that they open."""

import re
from dataclasses import dataclass
from pathlib import Path

from lgutils import files
from lgutils.errors import UserError

CELL = """\
# On Binder and Colab: install the course if it is missing. Where it is installed, nothing happens.
import importlib.util, os, subprocess, sys

if importlib.util.find_spec("lgutils") is None:
    if not os.path.isdir({name!r}):
        clone = ["git", "clone", "--depth", "1", "--branch", {branch!r}, {repository!r}, {name!r}]
        subprocess.run(clone, check=True)
    install = [sys.executable, "-m", "pip", "install", "-q", "-e", {extra!r}]
    subprocess.run(install, check=True)
    sys.path.insert(0, os.path.abspath({name!r}))  # the running kernel sees it at once
    os.chdir(os.path.join({name!r}, "notebooks"))"""


@dataclass(frozen=True)
class Target:
    """Where launched notebooks come from.

    Attributes:
        repository: https address without ".git".
        branch: that is installed.
        site_branch: that holds the site, with the notebooks to open.
    """

    repository: str
    branch: str
    site_branch: str


def target(repository: str, branch: str, site_branch: str) -> Target:
    """Check what was given.

    Raises:
        UserError: not an address like https://HOST/OWNER/NAME, or not the name of a branch.
    """
    address = repository.rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"https://[\w.-]+(/[\w.-]+){2,}", address):
        raise UserError(
            f"The repository {repository!r} was given; an address like https://HOST/OWNER/NAME is expected."
        )
    for name in (branch, site_branch):
        if not re.fullmatch(r"\w[\w./-]*", name):
            raise UserError(f"The branch {name!r} was given; a name like main is expected.")
    return Target(address, branch, site_branch)


def first_cell(repository: str, branch: str) -> str:
    """Code that makes `import lgutils` work on a bare machine and changes into its `notebooks` folder.

    The repository is cloned and installed from there, since `results/` lives in the clone.
    """
    name = repository.rsplit("/", 1)[-1].removesuffix(".git")
    return CELL.format(name=name, branch=branch, repository=repository, extra=f"./{name}[course]")


def copies(notebooks: Path, folder: Path, where: Target) -> None:
    """Write every notebook under `notebooks` to the same place under `folder`, with that first cell."""
    import nbformat

    for path in sorted(notebooks.rglob("*.ipynb")):
        book = nbformat.read(path, as_version=4)
        cell = nbformat.v4.new_code_cell(first_cell(where.repository, where.branch), id="install")
        book.cells.insert(0, cell)
        files.write_text(folder / path.relative_to(notebooks), nbformat.writes(book) + "\n")
