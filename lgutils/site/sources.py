"""What the site is made of: copies of the course's own files, and the few pages made from them."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from lgutils import course
from lgutils.errors import UserError
from lgutils.site import api, citation, reports
from lgutils.site.look import STYLE

HOW_TO = ("data", "howto_model", "howto_gpu", "cluster", "troubleshooting")
APART = ("teaching", "grading", "glossary")  # pages under docs/ with a place of their own
LINK = re.compile(r"\]\(([^)\s#:]+)")


def collect(folder: Path) -> None:
    """Fill `folder` with sphinx's sources, laid out as in the repository, so that links hold.

    Assignments stay out: their masters hold solutions.

    Raises:
        UserError: no notebooks, or a results folder that cannot be read.
    """
    root = course.notebooks_folder().parent
    for name in ("README.md", "CITATION.cff"):
        if not (root / name).is_file():
            raise UserError(
                f"{root} holds no {name}. Build the site from a clone of the repository."
            )
    folder.mkdir(parents=True)
    for pattern in ("notebooks/[0-9]*.ipynb", "notebooks/solutions/[0-9]*.ipynb", "docs/*.md",
                    "CHANGELOG.md", "results/README.md"):  # fmt: skip
        for path in sorted(root.glob(pattern)):
            _copy(path, root, folder)
    for path in sorted(root.glob("results/*/claims.json")):
        reports.page(path.parent, folder / "results" / path.parent.name)
    api.pages(folder / "api")
    (folder / "citation.md").write_text(citation.page(root / "CITATION.cff"), encoding="utf-8")
    first, rest = _readme(root)
    (folder / "guide.md").write_text("# Results and use\n\n" + rest, encoding="utf-8")
    index = f"{_linked_chapters(first, folder)}\n\n{_contents(folder)}"
    (folder / "index.md").write_text(index, encoding="utf-8")
    _linked_files(root, folder)
    static(folder / "_static")


def static(folder: Path) -> None:
    """Write the style sheet and MathJax, of which one file of the installed package is enough."""
    folder.mkdir()
    (folder / "site.css").write_text(STYLE, encoding="utf-8")
    mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    shutil.copy(mathjax / "tex-svg.js", folder)


def _copy(path: Path, root: Path, folder: Path) -> None:
    target = folder / path.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _readme(root: Path) -> tuple[str, str]:
    """README up to the end of its section "The course", and the rest."""
    text = (root / "README.md").read_text(encoding="utf-8")
    head, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    titles = [part.splitlines()[0] for part in parts]
    end = titles.index("## The course") + 1 if "## The course" in titles else 0
    return head + "".join(parts[:end]), "".join(parts[end:])


def _linked_chapters(text: str, folder: Path) -> str:
    """The table of chapters with links."""
    for path in folder.glob("notebooks/*.ipynb"):
        text = text.replace(f"| `{path.stem}` |", f"| [{path.stem}](notebooks/{path.name}) |")
    return text


def _contents(folder: Path) -> str:
    """The menu: hidden toctrees with captions."""
    docs = {path.stem for path in folder.glob("docs/*.md")} - set(APART)
    how_to = [name for name in HOW_TO if name in docs] + sorted(docs - set(HOW_TO))
    solutions = sorted(p.stem for p in folder.glob("notebooks/solutions/*.ipynb"))
    found = sorted(path.parent.name for path in folder.glob("results/*/report.md"))
    groups = {
        "The course": [f"notebooks/{p.stem}" for p in sorted(folder.glob("notebooks/*.ipynb"))],
        "Solutions": [f"notebooks/solutions/{name}" for name in solutions],
        "Teaching": ["docs/teaching", "docs/grading"],
        "How to": [f"docs/{name}" for name in how_to],
        "Results": [*(f"results/{name}/report" for name in found), "results/README"],
        "Reference": ["guide", "api/index", "docs/glossary", "CHANGELOG", "citation"],
    }
    return "\n".join(_toctree(*group, folder) for group in groups.items())


def _toctree(caption: str, pages: list[str], folder: Path) -> str:
    """One part of the menu, of pages that exist."""
    there = [page for page in pages if list(folder.glob(f"{page}.*"))]
    if not there:
        return ""
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *there, "```", ""])


def _linked_files(root: Path, folder: Path) -> None:
    """Bring along the files of the repository that pages show or link to, such as pictures."""
    for path in [*folder.rglob("*.md"), *folder.rglob("*.ipynb")]:
        for link in LINK.findall(path.read_text(encoding="utf-8")):
            target = (path.parent / link).resolve()
            if target.exists() or not target.is_relative_to(folder.resolve()):
                continue
            file = root / target.relative_to(folder.resolve())
            if file.is_file() and "assignments" not in file.parts:
                _copy(file, root, folder)
