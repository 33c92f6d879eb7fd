"""Old addresses of pages: each is a small page that sends its reader on to the new one."""

import html
import posixpath
from pathlib import Path

from lgutils import files

CHAPTERS = {  # name until version 0.4 -> name now
    "01b_lifelong": "05_lifelong", "04_converge": "06_converge", "05_sensitive": "07_sensitive",
    "06_perform": "08_perform", "07_samples": "09_samples", "08_replicate": "10_replicate",
}  # fmt: skip
PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Moved</title>
<link rel="canonical" href="{to}"><meta http-equiv="refresh" content="0; url={to}">
</head><body><p>This page has moved to <a href="{to}">{to}</a>.</p></body></html>
"""


def addresses() -> dict[str, str]:
    """Old page -> new page, both relative to the site."""
    folders = ("notebooks", "notebooks/solutions")
    found = {f"{f}/{a}.html": f"{f}/{b}.html" for f in folders for a, b in CHAPTERS.items()}
    return found | {"guide.html": "docs/results.html"}


def write(site: Path) -> None:
    """Put a page at each old address whose new page the site has."""
    for old, new in addresses().items():
        if (site / new).is_file():
            to = html.escape(posixpath.relpath(new, posixpath.dirname(old)))
            files.write_text(site / old, PAGE.format(to=to))
