"""The page that says how to cite the course and the paper, from CITATION.cff."""

from pathlib import Path
from typing import Any

TEXT = """# How to cite

If you use this course or its package, please cite it and the paper that it makes real.

{names}

As BibTeX:

```bibtex
{entries}
```
"""


def page(cff: Path) -> str:
    """Markdown with the references in words and as BibTeX."""
    import yaml

    about: dict[str, Any] = yaml.safe_load(cff.read_text(encoding="utf-8"))
    works = [about, *about.get("references", [])]
    return TEXT.format(
        names="\n".join(f"- {_words(work)}" for work in works),
        entries="\n\n".join(_bibtex(work) for work in works),
    )


def _authors(work: dict[str, Any]) -> list[str]:
    people = work["authors"]
    return [p.get("name") or f"{p['family-names']}, {p['given-names']}" for p in people]


def _year(work: dict[str, Any]) -> str:
    return str(work.get("year") or work["date-released"])[:4]


def _words(work: dict[str, Any]) -> str:
    parts = ["; ".join(_authors(work)), f"*{work['title']}*", _year(work)]
    if "version" in work:
        parts.append(f"version {work['version']}")
    if "url" in work:
        parts.append(f"[{work.get('notes', work['url'])}]({work['url']})")
    return ", ".join(parts) + "."


def _bibtex(work: dict[str, Any]) -> str:
    """An entry; a name that is no person's stands in braces of its own."""
    people = [name if "," in name else f"{{{name}}}" for name in _authors(work)]
    fields = {
        "title": f"{{{work['title']}}}", "author": " and ".join(people), "year": _year(work),
        "version": work.get("version"), "url": work.get("url"), "note": work.get("notes"),
    }  # fmt: skip
    kind, key = ("misc", "paper") if "year" in work else ("software", "lgutils")
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key}{_year(work)},", *lines, "}"])
