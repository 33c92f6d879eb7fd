"""What the stored replications say, as the tables of README, docs/results.md and the cheat sheet.

A page marks the place with `<!-- NAME -->` and `<!-- /NAME -->`, NAME being a key of `TABLES`; `lgutils ship pages`
fills it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from lgutils import data, files, report, scale
from lgutils.report import Claim

PAPER = {  # number -> what the paper claims of descendants with a learngene
    1: "They converge faster.",
    2: "They are less sensitive to hyper-parameters.",
    3: "They end more accurate.",
    4: "They need fewer samples.",
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


def paper(results: Path) -> str:
    """Every measurement of the paper's claims."""
    return report.ledger(c for c in claims(results) if c.number)._repr_markdown_().strip()


def controls(results: Path) -> str:
    """Every control."""
    return report.ledger(c for c in claims(results) if not c.number)._repr_markdown_().strip()


TABLES: dict[str, Callable[[Path], str]] = {"four": four, "paper": paper, "controls": controls}


def filled(text: str, results: Path) -> str:
    """A page with its marked tables made anew."""
    for name, make in TABLES.items():
        start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        if start in text:
            before, _, rest = text.partition(start)
            text = before + start + make(results) + end + rest.partition(end)[2]
    return text


def fill(root: Path) -> None:
    """Make the tables of README and docs/ anew."""
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        files.write_text(path, filled(path.read_text(encoding="utf-8"), root / "results"))
