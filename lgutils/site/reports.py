"""A results folder as a page of the site: its report.md with the figures drawn again from its rows."""

import re
from pathlib import Path

import matplotlib.pyplot as plt

from lgutils.errors import UserError
from lgutils.site.look import SLIM

FIGURE = re.compile(r"^\*\*Figure\.\*\* .*$", re.MULTILINE)


def page(results: Path, folder: Path) -> None:
    """Write `report.md` and its figures into `folder`.

    Args:
        results: folder of `lgutils replicate`.
        folder: made here.
    Raises:
        UserError: the folder cannot be read, or its report.md speaks of other figures.
    """
    from lgutils import figures, replicate, sections

    figures.style()
    drawn = [f for s in sections.all_sections(replicate.load(results)) for f in s.figures]
    text = (results / "report.md").read_text(encoding="utf-8")
    if len(FIGURE.findall(text)) != len(drawn):
        for figure, *_ in drawn:
            plt.close(figure)
        raise UserError(
            f"{results / 'report.md'} has other figures than its rows give. Run `lgutils replicate` again."
        )
    folder.mkdir(parents=True)
    numbered = iter(enumerate(drawn, start=1))
    text = FIGURE.sub(lambda _: _figure(folder, *next(numbered)), text)
    dataset = results.name.split("-")[0]
    title = f"# Replication report: {dataset}"
    text = re.sub(r"\A# .*$", title, text, count=1, flags=re.MULTILINE)
    (folder / "report.md").write_text(text, encoding="utf-8")


def _figure(folder: Path, number: int, drawn: tuple) -> str:
    """Save a figure and its form for phones; the MyST directive that shows it."""
    from lgutils.figures.shown import pngs, width

    figure, alt, caption = drawn
    wide, slim = pngs(figure)
    (folder / f"figure-{number}.png").write_bytes(wide)
    if slim:
        (folder / f"figure-{number}{SLIM}.png").write_bytes(slim)
    options = f":alt: {alt}\n:class: plot\n:width: {width(wide)}px"
    return f"```{{figure}} figure-{number}.png\n{options}\n\n{caption}\n```"
