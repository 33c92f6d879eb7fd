"""Sphinx in a process of its own: it changes global state, and its warnings are not the caller's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from lgutils.errors import UserError
from lgutils.machine import end_with


def render(source: Path, html: Path, settings: dict[str, Any]) -> None:
    """Turn sources into pages.

    Args:
        source: folder of Markdown, reStructuredText and notebooks.
        html: folder to make.
        settings: sphinx's, as plain values.
    Raises:
        UserError: sphinx warns, with its last words.
    """
    done = subprocess.run(
        [sys.executable, "-m", "lgutils.site.render", str(os.getpid()), str(source), str(html)],
        input=json.dumps(settings), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)  # without colours
        told = plain.replace(f"{source}/", "").strip().splitlines()[-20:]
        raise UserError("The site was not built. Sphinx says:\n" + "\n".join(told))


def _main(parent: str, source: str, html: str) -> int:
    """Build with the settings on standard input; warnings are errors. Ends with its parent."""
    end_with(int(parent))
    from sphinx.application import Sphinx

    app = Sphinx(
        source, None, html, f"{source}/.doctrees", "html", confoverrides=json.load(sys.stdin),
        status=None, freshenv=True, warningiserror=True,
    )  # fmt: skip
    app.build()
    return app.statuscode


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
