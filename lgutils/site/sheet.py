"""The cheat sheet on one printed page: as a PDF too, where there is a browser that prints."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lgutils import files

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SECONDS = 60  # for the browser
PRINT = """\
<style>@media print {
@page { size: A4; margin: 9mm 12mm; }
html { font-size: 11px !important; }
#jb-print-toc, .badge-line { display: none !important; }
#jb-print-docs-body h1 { font-size: 1.8rem; margin: 0 !important; }
.bd-article h2 { font-size: 1.35rem; margin: .7rem 0 .2rem; }
.bd-article :is(p, li, ul, ol, table) { margin-top: 0; margin-bottom: .25rem; }
.bd-article :is(th, td) { padding: .1rem .5rem !important; }
.bd-article section, .bd-article { break-inside: avoid; padding: 0 !important; margin: 0 !important; }
}</style>"""
LOCAL = re.compile(r"""(<a\b[^>]*?)\shref=(?:"(?!https?:)[^"]*"|'(?!https?:)[^']*')""")
LINK = '<p class="badge-line"><a class="badge-link" href="{name}">One page to print (PDF)</a></p>'


def finish(page: Path) -> bool:
    """Make a built page fit one sheet of A4 when printed, print it, and link the PDF under its title.

    Args:
        page: HTML of sphinx. The PDF is put beside it.
    Returns:
        Whether there is a PDF: without a browser there is none, and the page links to none.
    """
    text = page.read_text(encoding="utf-8").replace("</head>", f"{PRINT}\n</head>", 1)
    files.write_text(page, text)
    pdf = page.with_suffix(".pdf")
    if not _print(page, pdf):
        return False
    before, end, after = text.rpartition("</h1>")  # the theme has another title for printing
    files.write_text(page, f"{before}{end}\n{LINK.format(name=pdf.name)}{after}")
    return True


def pages(pdf: Path) -> int:
    """How many pages a PDF of chromium has."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))


def _print(page: Path, pdf: Path) -> bool:
    """Have a browser print a page, without links into the folder where it lies now; whether it did."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return False
    with tempfile.TemporaryDirectory() as profile, _unlinked(page) as plain:
        command = [
            browser, "--headless", "--disable-gpu", f"--user-data-dir={profile}", "--no-pdf-header-footer",
            f"--print-to-pdf={pdf}", plain.resolve().as_uri(),
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # in containers, chromium asks for this
            command.insert(1, "--no-sandbox")
        try:
            subprocess.run(command, capture_output=True, timeout=SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return pdf.is_file() and pages(pdf) > 0


@contextlib.contextmanager
def _unlinked(page: Path) -> Iterator[Path]:
    """The page once more beside itself, for as long as needed, with links to other sites only."""
    plain = page.with_name(f"{page.stem}-plain.html")
    files.write_text(plain, LOCAL.sub(r"\1", page.read_text(encoding="utf-8")))
    try:
        yield plain
    finally:
        plain.unlink()
