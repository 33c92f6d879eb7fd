"""The report of a run as one page that needs nothing else: text, tables, figures, claims."""

import base64
import html
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lgutils import files
from lgutils.figures.shown import markup, pngs, width
from lgutils.report import VERDICTS, Claim, chip, ledger

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --page: #fff; --soft: #5a5a5a; --line: #c8c8c8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --page: #16181a; --soft: #a8a8a8; --line: #44484c; } }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
p, li { max-width: 44rem; } code { font-family: ui-monospace, monospace; font-size: .92em; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .92rem; }
caption, figcaption { text-align: left; color: var(--soft); font-size: .92rem; padding: .3rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0;
  border-bottom: 1px solid var(--line); }
td.number { font-variant-numeric: tabular-nums; } td.long { min-width: 15rem; }
figure { margin: 1.2rem 0; }
img { display: block; max-width: 100%; height: auto; margin: auto; }
@media (prefers-color-scheme: dark) { img { filter: invert(.91) hue-rotate(180deg)
  saturate(1.3) brightness(1.15); } }"""


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the report.

    title: one line.
    paragraphs: Markdown of which `code`, **bold** and lists of "- " lines are set in HTML.
    figures: (figure, alternative text, caption).
    tables: (caption, frame).
    """

    title: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[tuple[Figure, str, str]] = ()
    tables: Sequence[tuple[str, pd.DataFrame]] = ()


def write(
    folder: Path | str,
    title: str,
    sections: Sequence[Section],
    claims: Sequence[Claim] | None,
    provenance: Mapping[str, str],
) -> None:
    """Write report.html, report.md and claims.json: all of them, or none where the disk is full.

    The figures are closed, also where writing fails.

    Args:
        folder: made where missing.
        claims: the ledger that opens the report; None for a report without one and its claims.json.
        provenance: what made the numbers, such as versions, device, date.
    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    sections, claims = list(sections), claims if claims is None else list(claims)
    origin = {str(name): str(value) for name, value in provenance.items()}
    made = pd.DataFrame(origin.items(), columns=["what", "value"])
    stored = {"claims": [claim.to_json() for claim in claims or ()], "provenance": origin}
    try:
        texts = {
            "claims.json": json.dumps(stored, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
            "report.md": _markdown(title, sections, claims, made),
            "report.html": _html(title, sections, claims, made),
        }
        if claims is None:
            del texts["claims.json"]
    finally:
        for section in sections:
            for figure, *_ in section.figures:
                plt.close(figure)
    with ExitStack() as stack:  # each is renamed only after all were written
        for name, text in texts.items():
            temporary = stack.enter_context(files.atomic(Path(folder) / name))
            temporary.write_text(text, encoding="utf-8")


def _count(claims: Sequence[Claim]) -> str:
    """The verdicts, the paper's claims and the controls apart."""
    parts = []
    for name, numbered in (("measurements of the paper's claims", True), ("controls", False)):
        found = Counter(c.verdict for c in claims if (c.number is not None) == numbered)
        told = ", ".join(f"{found[v]} {v}" for v in VERDICTS)
        parts.append(f"Of {found.total()} {name}: {told}.")
    return " ".join(parts)


def _cell(value: object) -> str:
    """A table's entry as text: floats with four digits, nothing for a missing value."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _plain(frame: pd.DataFrame) -> tuple[list[str], list[tuple]]:
    """Names of the columns, and rows; an index that does more than count the rows comes along."""
    if not isinstance(frame.index, pd.RangeIndex):
        named = frame.rename_axis([name or "" for name in frame.index.names])
        frame = named.reset_index(allow_duplicates=True)
    names = [" ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in frame.columns]
    return names, list(frame.astype(object).itertuples(index=False, name=None))


def _text(text: object) -> str:
    """Escaped text without addresses."""
    return html.escape(_no_address(str(text)))


def _no_address(text: str) -> str:
    """Addresses lose their scheme, so that nothing in the page leads outside."""
    return re.sub(r"https?://", "", text, flags=re.IGNORECASE)


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)


def _paragraph(text: str) -> str:
    lines = text.strip().splitlines()
    if lines and all(line.startswith("- ") for line in lines):
        return "<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>"
    return f"<p>{_inline(' '.join(lines))}</p>"


def _table(frame: pd.DataFrame, caption: str) -> str:
    """A table in a box of its own that scrolls where the screen is narrow."""
    names, rows = _plain(frame)
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in names)
    body = "".join(f"<tr>{''.join(map(_data, row))}</tr>\n" for row in rows)
    label = _text(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<caption>{label}</caption><thead><tr>{head}</tr></thead>\n"
        f"<tbody>{body}</tbody></table></div>"
    )


def _data(value: object) -> str:
    text = _text(_cell(value))
    if not isinstance(value, str):
        return f'<td class="number">{text}</td>'
    if value in VERDICTS:
        return f"<td>{chip(value)}</td>"
    return f'<td class="long">{text}</td>' if len(text) > 40 else f"<td>{text}</td>"


def _figure(figure: Figure, alt: str, caption: str) -> str:
    wide, slim = pngs(figure)
    texts = [png and base64.b64encode(png).decode() for png in (wide, slim)]
    return (
        f"<figure>{markup(*texts, _no_address(alt), width(wide))}"
        f"<figcaption>{_inline(caption)}</figcaption></figure>"
    )


def _html(title, sections, claims, provenance) -> str:
    parts = [f"<h1>{_text(title)}</h1>"]
    if claims is not None:
        parts += ["<h2>Claims</h2>", f"<p>{_count(claims)}</p>"]
    if claims:
        parts.append(_no_address(ledger(claims)._repr_html_()))
    for section in sections:
        parts.append(f"<h2>{_text(section.title)}</h2>")
        parts += map(_paragraph, section.paragraphs)
        parts += (_figure(*figure) for figure in section.figures)
        parts += (_table(frame, caption) for caption, frame in section.tables)
    parts += ["<h2>Provenance</h2>", _table(provenance, "What made these numbers")]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _markdown_table(frame: pd.DataFrame) -> str:
    names, rows = _plain(frame)
    lines = [names, ["---"] * len(names), *(map(_cell, row) for row in rows)]
    texts = ([" ".join(cell.split()).replace("|", r"\|") for cell in line] for line in lines)
    text = "\n".join(f"| {' | '.join(line)} |" for line in texts)
    return text.replace("](", "] (")  # no links from data


def _markdown(title, sections, claims, provenance) -> str:
    parts = [f"# {title}"]
    if claims is not None:
        parts += ["## Claims", _count(claims)]
    if claims:
        parts.append(ledger(claims)._repr_markdown_())
    for section in sections:
        parts += [f"## {section.title}", *section.paragraphs]
        parts += [f"**Figure.** {caption} ({alt})" for _, alt, caption in section.figures]
        for caption, frame in section.tables:
            parts += [f"**Table.** {caption}", _markdown_table(frame)]
    parts += ["## Provenance", _markdown_table(provenance)]
    text = "\n\n".join(part.strip() for part in parts) + "\n"
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)  # no tags from data
