"""A ledger: claims as tables, with the paper's apart from the controls, for notebooks, pages and logs."""

import html
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lgutils import scale
from lgutils.report.claims import Claim

WIDTH = 100  # of the plain form, in characters
CHIPS = {  # verdict -> mark and colour; white text on each has a contrast above 6 to 1
    "supported": ("✓", "#00694a"),
    "not supported": ("○", "#5a5a5a"),
    "contradicted": ("✗", "#a33b00"),
}
CHIP = (
    "display:inline-block;padding:0 .6em;border-radius:1em;color:#fff;font-weight:600;"
    "white-space:nowrap;background:{}"
)
CELL = "text-align:left;vertical-align:top;padding:.3em .9em .3em 0"
INDENT = " " * 4  # of notes and of what is broken, in the plain form
ACROSS = "position:sticky;left:0;width:fit-content;max-width:min(100%,85vw)"
SOFT = "opacity:.8;font-size:.9em;padding-top:0"
# for the style sheets of pages that hold ledgers
PHONE = """\
/* Phones: a ledger's claim takes two lines, name and verdict first. */
@media (max-width: 600px) {
  .scroll :is(table, tbody, caption) { display: block; }
  .scroll tr { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 .8rem; }
  .scroll tr > * { padding: .1rem .2rem .1rem 0 !important; white-space: normal !important; border: 0; }
  .scroll tr > :first-child { flex: 1 1 calc(100% - 10.5rem); order: -2; }
  .scroll tr > [colspan] { flex-basis: 100%; padding-top: .3rem !important; }
  .scroll tr > th[colspan] { padding-top: 1rem !important; }
  .scroll td:has(> span) { order: -1; }
  .scroll :is(tr:has(> [scope="col"]), td:empty) { display: none; }
  /* The verdict stands second; in outputs stored before, last. */
  .scroll tr:has(> :nth-child(2) > span) > td:nth-child(4)::before { content: "95 %: "; }
  .scroll tr:has(> :nth-child(2) > span) > td:nth-child(5)::before { content: "n = "; }
  .scroll tr:has(> :nth-child(2) > span) > td:nth-child(6)::before { content: "p = "; }
  .scroll tr:has(> :last-child > span) > td:nth-child(3)::before { content: "95 %: "; }
  .scroll tr:has(> :last-child > span) > td:nth-child(4)::before { content: "n = "; }
  .scroll tr:has(> :last-child > span) > td:nth-child(5):not(:last-child)::before { content: "p = "; }
}
"""
HEAD = ("verdict", "value", "95 % interval", "n", "p")  # the verdict where a phone shows it


class Row(NamedTuple):
    """A claim as a reader sees it: its name, the texts under `HEAD`, and its note."""

    name: str
    cells: dict[str, str]
    note: str


@dataclass(frozen=True)
class Part:
    """One table of a ledger.

    title: its caption.
    groups: heading -> rows; the heading is empty where the rows are named by their sentences.
    """

    title: str
    groups: dict[str, list[Row]]

    @property
    def rows(self) -> list[Row]:
        """Those of all groups."""
        return [row for rows in self.groups.values() for row in rows]

    @property
    def head(self) -> list[str]:
        """The columns in which any row has an entry: no p where nothing was tested."""
        return [name for name in HEAD if any(row.cells[name] for row in self.rows)]


@dataclass(frozen=True, repr=False)
class Ledger:
    """Claims as tables; `print` shows them aligned, Jupyter and the site in colour.

    claims: in the order to show; the paper's come before the controls, in the order of their numbers.
    title: above all; None for none.
    """

    claims: tuple[Claim, ...]
    title: str | None = None

    @property
    def parts(self) -> list[Part]:
        """The paper's claims and the controls, if there are any of each; without the first, just claims."""
        paper = sorted((c for c in self.claims if c.number), key=lambda c: c.number)
        controls = [c for c in self.claims if not c.number]
        named = [("The paper's claims", paper), ("Controls" if paper else "Claims", controls)]
        return [Part(title, _groups(found)) for title, found in named if found]

    def __repr__(self) -> str:
        return "\n\n".join([*filter(None, [self.title]), *map(_plain, self.parts)])

    def _repr_markdown_(self) -> str:
        title = [f"**{_safe(self.title)}**"] if self.title else []
        return "\n\n".join([*title, *map(_markdown, self.parts)]) + "\n"

    def _repr_html_(self) -> str:
        title = [f"<p><strong>{html.escape(self.title)}</strong></p>"] if self.title else []
        return "\n".join([*title, *map(_html, self.parts)])


def ledger(claims: Iterable[Claim], title: str | None = None) -> Ledger:
    """Show claims as tables with a column each for verdict, value, 95 % interval, n and p (where tested).

    Claims of one sentence, as of two families, stand together under it.
    """
    return Ledger(tuple(claims), title)


def chip(verdict: str) -> str:
    """A verdict as HTML: its word on a colour, with a mark for readers who do not see the colour."""
    mark, colour = CHIPS[verdict]
    return f'<span style="{CHIP.format(colour)}">{mark} {verdict}</span>'


def marked(verdict: str) -> str:
    """A verdict as text, with its mark."""
    return f"{CHIPS[verdict][0]} {verdict}"


def p_text(p: float | None) -> str:
    """A p-value with two digits; empty where nothing was tested."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def _groups(claims: Sequence[Claim]) -> dict[str, list[Row]]:
    """Claims of the same sentence together; all in one, without a heading, where none comes twice."""
    places = [_where(claim) for claim in claims]
    headings = [_heading(claim) for claim in claims]
    if len(set(headings)) == len(claims):
        if len(set(places)) > 1:
            headings = [f"{place}: {text}" for place, text in zip(places, headings, strict=True)]
        return {"": list(map(_row, claims, headings))}
    groups: dict[str, list[Row]] = {}
    for claim, place, heading in zip(claims, places, headings, strict=True):
        groups.setdefault(heading, []).append(_row(claim, place))
    return groups


def _where(claim: Claim) -> str:
    family = scale.TITLES.get(claim.family, claim.family)
    return ", ".join(filter(None, (family, claim.dataset)))


def _heading(claim: Claim) -> str:
    """The sentence with the paper's number and, where it is not "above 0", what it claims."""
    number = f"{claim.number}. " if claim.number else ""
    if claim.larger and claim.null == 0:
        return number + claim.sentence
    side = "above" if claim.larger else "below"
    unit = "" if claim.null == 0 or claim.unit == "times" else f" {claim.unit}"
    return f"{number}{claim.sentence} (claimed: {side} {claim.null:g}{unit})"


def _row(claim: Claim, name: str) -> Row:
    effect, unit = claim.effect, claim.unit
    value, low, high = effect.numbers(unit)
    interval = f"{low} or more" if high == "inf" else f"{low} to {high}"
    if effect.low == effect.high:
        # Points have t intervals of the tasks' differences, other units percentiles of resamples.
        alike = f"all {effect.n} alike" if unit == "points" else "every resample alike"
        interval = f"none: {alike}"
        if unit != "points" and effect.mean == 1:
            value, unit = "1", unit if unit == "times" else unit.removesuffix("s")
    value = "never" if value == "inf" else f"{value} {unit}"
    texts = claim.verdict, value, interval, str(effect.n), p_text(claim.p)
    return Row(name, dict(zip(HEAD, texts, strict=True)), claim.note)


def _plain(part: Part) -> str:
    """Aligned columns; names longer than the room beside them are broken, and so are notes."""
    table = [[row.cells[name] for name in part.head] for row in part.rows]
    widths = [max(map(len, column)) for column in zip(part.head, *table, strict=True)]
    longest = max(len(row.name) for row in part.rows) + 2
    room = min(longest, WIDTH - sum(widths) - 2 * len(widths))

    def line(name: str, texts: Sequence[str]) -> list[str]:
        first, *rest = textwrap.wrap(name, room, subsequent_indent=INDENT) or [""]
        columns = [text.ljust(width) for text, width in zip(texts, widths, strict=True)]
        return ["  ".join([first.ljust(room), *columns]).rstrip(), *rest]

    lines = [part.title, *line("", part.head)]
    for heading, rows in part.groups.items():
        lines += textwrap.wrap(heading, WIDTH)
        for row in rows:
            name = f"  {row.name}" if heading else row.name
            lines += line(name, [row.cells[name] for name in part.head])
            lines += textwrap.wrap(row.note, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    return "\n".join(lines)


def _safe(text: str) -> str:
    """Text for a Markdown table, in which nothing makes a column, a link or a tag."""
    return html.escape(text, quote=False).replace("|", r"\|").replace("](", "] (")


def _markdown(part: Part) -> str:
    """A table a sentence, under it: Markdown has no rows that go across."""
    lines = [f"**{part.title}**"]
    for heading, rows in part.groups.items():
        notes = ["note"] if any(row.note for row in rows) else []
        table = [["", *part.head, *notes], ["---"] * (1 + len(part.head) + len(notes))]
        for row in rows:
            cells = row.cells | {"verdict": marked(row.cells["verdict"])}
            texts = [row.name, *(cells[name] for name in part.head), *[row.note for _ in notes]]
            table.append([_safe(text) for text in texts])
        lines += [f"*{_safe(heading)}*"] if heading else []
        lines.append("\n".join(f"| {' | '.join(line)} |" for line in table))
    return "\n\n".join(lines)


def _cell(text: str, tag: str = "td", style: str = "white-space:nowrap", more: str = "") -> str:
    return f'<{tag}{more} style="{CELL};{style}">{text}</{tag}>'


def _across(text: str) -> str:
    """Text for a cell that goes across the table: no wider than a phone, and there while the rest scrolls."""
    return f'<div style="{ACROSS}">{html.escape(text)}</div>'


def _html(part: Part) -> str:
    """A table in a box that scrolls where the screen is narrow; notes stand under their rows."""
    across = f' colspan="{len(part.head) + 1}"'
    lines = [
        _cell("", "td") + "".join(_cell(name, "th", more=' scope="col"') for name in part.head)
    ]
    for heading, rows in part.groups.items():
        if heading:
            about = f'{across} scope="rowgroup"'
            lines.append(_cell(_across(heading), "th", "padding-top:1.2em", about))
        for row in rows:
            name = _cell(html.escape(row.name), "th", "font-weight:400", ' scope="row"')
            cells = {key: html.escape(text) for key, text in row.cells.items()}
            cells["verdict"] = chip(row.cells["verdict"])
            lines.append(name + "".join(_cell(cells[key]) for key in part.head))
            if row.note:
                lines.append(_cell(_across(row.note), "td", SOFT, across))
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{part.title}"'
        ' style="overflow-x:auto"><table style="border-collapse:collapse">'
        f'<caption style="text-align:left;font-weight:600">{part.title}</caption>\n{body}\n</table></div>'
    )
