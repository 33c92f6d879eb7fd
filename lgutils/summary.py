"""What the stored replications say, as the tables of README, docs/results.md and the cheat sheet.

A page marks the place with `<!-- NAME -->` and `<!-- /NAME -->`, NAME being a key of `TABLES`; `lgutils ship pages`
fills it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from lgutils import data, files, report, scale
from lgutils.errors import UserError
from lgutils.report import Claim

PAPER = {  # number -> what the paper claims of descendants with a learngene
    1: "converge faster",
    2: "are less sensitive to hyper-parameters",
    3: "end more accurate",
    4: "need fewer samples",
}
TITLES = {"glyphs": "new characters", "digits": "handwritten digits"}


def claims(results: Path) -> list[Claim]:
    """Those of the replications in `results/`, dataset by dataset."""
    folders = [results / f"{dataset}-quick" / "claims.json" for dataset in data.DATASETS]
    return [claim for path in folders for claim in report.read_claims(path)[0]]


def word(found: Sequence[Claim]) -> str:
    """One verdict on several measurements of a claim: a word, and a count where they disagree.

    "in part" where some support the claim; "contradicted" where none does and one or more contradict it.
    """
    counts, n = Counter(claim.verdict for claim in found), len(found)
    for verdict in report.VERDICTS:
        if counts[verdict] == n:
            return report.marked(verdict)
    if supported := counts["supported"]:
        against = f", {counts['contradicted']} contradict it" if counts["contradicted"] else ""
        return f"◐ in part ({supported} of {n}{against})"
    return f"{report.marked('contradicted')} ({counts['contradicted']} of {n})"


def four(results: Path) -> str:
    """The paper's four claims, a row each, and the words that the measurements earn them."""
    found = claims(results)
    head = ["Descendants with a learngene", *(f"on {TITLES[name]}" for name in data.DATASETS)]
    lines = [head, ["---"] * len(head)]
    for number, text in PAPER.items():
        cells = []
        for dataset in data.DATASETS:
            said = [
                f"{scale.TITLES[family]}: "
                + word(
                    [
                        c
                        for c in found
                        if (c.number, c.family, c.dataset) == (number, family, dataset)
                    ]
                )
                for family in scale.FAMILIES
            ]
            cells.append("<br>".join(said))
        lines.append([f"{number}. {text}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measured(results: Path) -> str:
    """Every measurement of the paper's claims, and every control."""
    return report.ledger(claims(results))._repr_html_()


def chapters(results: Path) -> str:
    """The chapters beside `results/`: a thumbnail, the title with a link, and the question."""
    from lgutils.site import front

    root = results.parent
    lines = ["| a&nbsp;picture&nbsp;from&nbsp;it | chapter |", "|---|---|"]
    for path in sorted(root.glob("notebooks/[0-9]*.ipynb")):
        card = front.card(path, root)
        link = f"**[{card.number} · {card.title}]({card.page}.ipynb)**"
        shown = f'<img src="{card.picture}" width="130" alt="">' if card.picture else ""
        lines.append(f"| {shown} | {'<br>'.join(filter(None, [link, card.question]))} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[Path], str]] = {
    "four": four,
    "measured": measured,
    "chapters": chapters,
}


def filled(text: str, results: Path) -> str:
    """A page with its marked tables made anew."""
    for name, make in TABLES.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, opened, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if opened and not closed:
            raise UserError(
                f"A page has {start.strip()} without {end}. Add it where the table ends."
            )
        if opened:
            text = f"{before}{start}{make(results)}\n{end}{after}"
    return text


def fill(root: Path) -> None:
    """Make the tables of README and docs/ anew."""
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        files.write_text(path, filled(path.read_text(encoding="utf-8"), root / "results"))
