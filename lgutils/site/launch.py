"""Launch buttons: what they point to, and the notebooks that they open."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

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

PUBLIC = ("github.com", "gitlab.com")  # hosts whose address may be read from git's remote
REMOTE = re.compile(
    r"(?:(?:https?|ssh)://)?(?:[^@/\s]+@)?([\w.-]+)(?::\d+/|:|/)(\w[\w.-]*(?:/\w[\w.-]*)+)"
)


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


def remote(root: Path) -> str:
    """The https address of a clone's `origin`, or "" where there is none on a public host.

    Of the remote only host, owner and name are kept: a user's name, a token or a port never gets on.
    """
    return address(_git(root, "remote", "get-url", "origin"))


def branch(root: Path) -> str:
    """The main branch of a clone's `origin` where git knows it, else the clone's current one, else main."""
    main = _git(root, "symbolic-ref", "--short", "refs/remotes/origin/HEAD").removeprefix("origin/")
    return main or _git(root, "branch", "--show-current") or "main"


def _git(root: Path, *words: str) -> str:
    """What git says of the repository that begins at `root`; "" if there is none, or nothing to say."""
    if not (root / ".git").exists():  # a folder inside somebody else's repository
        return ""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    except OSError:  # no git
        return ""
    return done.stdout.strip()


def address(remote: str) -> str:
    """The https address that belongs to a git remote of a public host; "" for any other.

    >>> address("git@github.com:owner/course.git")
    'https://github.com/owner/course'
    """
    found = REMOTE.fullmatch(remote.removesuffix("/").removesuffix(".git"))
    if not found or found[1] not in PUBLIC:
        return ""
    return f"https://{found[1]}/{found[2]}"


def badges(where: Target, notebook: str) -> dict[str, str]:
    """Text -> address of the services that open a launch copy, such as `notebooks/02_condense.ipynb`.

    Colab opens notebooks from GitHub only; Binder any public repository.
    """
    host, path = where.repository.removeprefix("https://").split("/", 1)
    file = f"launch/{notebook}"
    kinds = {"github.com": f"gh/{path}", "gitlab.com": f"gl/{quote(path, safe='')}"}
    kind = kinds.get(host, f"git/{quote(where.repository, safe='')}")
    branch = quote(where.site_branch, safe="")
    found = {}
    if host == "github.com":
        base = "https://colab.research.google.com/github"
        found["Open in Colab"] = f"{base}/{path}/blob/{where.site_branch}/{file}"
    found["Open in Binder"] = f"https://mybinder.org/v2/{kind}/{branch}?urlpath=lab/tree/{file}"
    return found


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
