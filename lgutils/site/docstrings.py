"""What the course's plain docstrings need before sphinx reads them as reStructuredText."""

import inspect
import re
from typing import Any

from numpy.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

CODE = re.compile(r"(`[^`]*`)")
FIELDS = re.compile(r"(\w+(?:, \w+)*): ")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by sphinx; works before napoleon does."""
    app.connect("autodoc-process-docstring", _repair, priority=100)
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True}


def _repair(app, kind: str, name: str, thing: Any, options, lines: list[str]) -> None:
    text = with_attributes(thing, lines) if inspect.isclass(thing) else lines
    lines[:] = map(escaped, text)


def _shorten(app, kind, name, thing, options, signature, returns) -> tuple[str | None, str | None]:
    """Call numpy's ArrayLike by its name, and a default that is made anew `...`."""
    parts = stringify_annotation(ArrayLike, "smart")
    return signature and signature.replace(parts, "ArrayLike").replace("<factory>", "..."), returns


def escaped(line: str) -> str:
    """A line whose stars and bars mean themselves; what stands in backticks is left alone."""
    parts = CODE.split(line)
    return "".join(p if p.startswith("`") else re.sub(r"([*|])", r"\\\1", p) for p in parts)


def with_attributes(thing: type, lines: list[str]) -> list[str]:
    """Put the heading "Attributes:" over fields that are told without one."""
    fields = inspect.get_annotations(thing)
    told = [bool(m := FIELDS.match(line)) and m[1].split(", ")[0] in fields for line in lines]
    if True not in told:
        return lines
    first = told.index(True)
    last = next((k for k in range(first, len(lines)) if not lines[k].strip()), len(lines))
    inside = [f"    {line}" for line in lines[first:last]]
    return [*lines[:first], "", "Attributes:", *inside, *lines[last:]]
