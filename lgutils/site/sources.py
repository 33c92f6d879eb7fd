"""What the site is made of: copies of the course's own files, and the few pages made from them."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from lgutils import course
from lgutils.site import api, citation, front, reports
from lgutils.site.look import STYLE

DOCS = {  # part of the menu -> its pages under docs/, in order; all others stand in "How to"
    "The course": ("cheatsheet",),
    "Teaching": ("teaching", "grading"),
    "How to": ("data", "howto_model", "howto_gpu", "cluster", "troubleshooting"),
    "Results": ("results", "benchmarks", "recipes"),
    "Reference": ("architecture", "glossary"),
}
LINK = re.compile(r"\]\(([^)\s#:]+)")


def collect(folder: Path) -> None:
    """Fill `folder` with sphinx's sources, laid out as in the repository, so that links hold.

    What a copy of the course lacks, such as `docs/` in an installed package, is left out. Assignments
    stay out: their masters hold solutions.

    Raises:
        UserError: no notebooks, or a results folder that cannot be read.
    """
    root = course.notebooks_folder().parent
    folder.mkdir(parents=True)
    for pattern in ("notebooks/[0-9]*.ipynb", "notebooks/solutions/[0-9]*.ipynb", "docs/*.md",
                    "docs/thumbs/*.png", "CHANGELOG.md", "results/README.md"):  # fmt: skip
        for path in sorted(root.glob(pattern)):
            _copy(path, root, folder)
    for path in sorted(root.glob("results/*/claims.json")):
        reports.page(path.parent, folder / "results" / path.parent.name)
    api.pages(folder / "api")
    if (root / "CITATION.cff").is_file():
        text = citation.page(root / "CITATION.cff")
        (folder / "citation.md").write_text(text, encoding="utf-8")
    index = f"{front.page(folder, root / 'README.md')}\n{_contents(folder)}"
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


def _contents(folder: Path) -> str:
    """The menu: hidden toctrees with captions."""
    named = {name for names in DOCS.values() for name in names}
    docs = {part: [f"docs/{name}" for name in names] for part, names in DOCS.items()}
    others = sorted(p.stem for p in folder.glob("docs/*.md") if p.stem not in named)
    solutions = sorted(p.stem for p in folder.glob("notebooks/solutions/*.ipynb"))
    found = sorted(path.parent.name for path in folder.glob("results/*/report.md"))
    chapters = [f"notebooks/{p.stem}" for p in sorted(folder.glob("notebooks/*.ipynb"))]
    groups = {
        "The course": [*chapters, *docs["The course"]],
        "Solutions": [f"notebooks/solutions/{name}" for name in solutions],
        "Teaching": docs["Teaching"],
        "How to": [*docs["How to"], *(f"docs/{name}" for name in others)],
        "Results": [docs["Results"][0], *(f"results/{name}/report" for name in found),
                    "results/README", *docs["Results"][1:]],
        "Reference": [*docs["Reference"], "api/index", "CHANGELOG", "citation"],
    }  # fmt: skip
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
