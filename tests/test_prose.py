r"""Numbers in the course's prose against the results they come from.

A number is tagged in the source by an HTML comment behind it, which no reader sees: `2.75<!--=06-12-->` stands in
what cell 06-12 of the same notebook shows, `2.75<!--=glyphs-quick|cnn|SENTENCE|mean-->` in that folder's claims. A page
names the notebook too: `2.75<!--=06_converge:06-12-->`. In a table the bars of a tag are written \|, since a bare one would
begin a cell.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TAGGED = re.compile(r"([+−-]?\d[\d,]*(?:\.\d+)?)(?:\s?%|\*\*)*<!--=(.+?)-->")
ANY_TAG = re.compile(r"<!--=.*?-->")
BARE_BAR = re.compile(r"(?<!\\)\|")
NUMBER = re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?")
BOOKS = sorted(
    [*(ROOT / "notebooks").glob("[0-9]*.ipynb"), *(ROOT / "notebooks/solutions").glob("*.ipynb")]
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def value(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def shown(cell: dict) -> list[float]:
    """Every number in a cell's stored outputs: text, tables, alternative texts."""
    parts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        parts += ["".join(output.get("text", "")), "".join(data.get("text/plain", ""))]
        parts.append(
            re.sub(
                r"<style.*?</style>|<[^>]*>", " ", "".join(data.get("text/html", "")), flags=re.S
            )
        )
        parts += [
            m.get("alt", "") for m in output.get("metadata", {}).values() if isinstance(m, dict)
        ]
    return [value(n) for n in NUMBER.findall(" ".join(parts))]


def claimed(tag: str) -> list[float]:
    """The one value in a results folder that a tag names."""
    folder, family, sentence, part = re.split(r"\\?\|", tag)
    claims = json.loads((ROOT / "results" / folder / "claims.json").read_text())["claims"]
    claim = next(c for c in claims if (c["family"], c["sentence"]) == (family, sentence))
    number = claim["p"] if part == "p" else claim["effect"][part]
    return [
        100 * number if claim["unit"] == "points" and part in ("mean", "low", "high") else number
    ]


def fits(written: str, values: list[float]) -> bool:
    """Whether one of the values, rounded as the prose is, is the number written.

    A written sign is that of the value; without one it may be in the words.
    """
    decimals = len(written.partition(".")[2])
    wanted = value(written)
    if written[0].isdigit():
        values = [abs(v) for v in values]
    return any(abs(v - wanted) <= 0.5 * 10**-decimals + 1e-9 for v in values)


def tagged(text: str) -> list[tuple[str, str]]:
    return TAGGED.findall(text)


def wrong(texts: list[str], cells: dict) -> list[str]:
    found = []
    for text in texts:
        assert len(tagged(text)) == len(ANY_TAG.findall(text)), f"A tag without its number: {text}"
        for number, tag in tagged(text):
            values = claimed(tag) if "|" in tag else shown(cells[tag])
            if not fits(number, values):
                found.append(f"{number} is not in {tag}")
    return found


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_chapters_tagged_numbers_stand_in_the_results(path):
    cells = json.loads(path.read_text())["cells"]
    prose = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    assert wrong(prose, {c["id"]: c for c in cells}) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_a_pages_tagged_numbers_stand_in_the_results(path):
    cells = {
        f"{book.stem}:{cell['id']}": cell
        for book in ROOT.glob("notebooks/[0-9]*.ipynb")
        for cell in json.loads(book.read_text())["cells"]
    }
    assert wrong([path.read_text()], cells) == []


@pytest.mark.parametrize("path", [*BOOKS, *PAGES], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_no_tag_in_a_table_breaks_its_cell(path):
    text = path.read_text()
    cells = json.loads(text)["cells"] if path.suffix == ".ipynb" else []
    prose = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"] or [text]
    lines = [line for part in prose for line in part.splitlines() if line.startswith("|")]
    assert [tag for line in lines for tag in ANY_TAG.findall(line) if BARE_BAR.search(tag)] == []


CELL = {"outputs": [{"text": ["gain 2.749 times, n = 1,234\n"]}]}


@pytest.mark.parametrize("written", ["2.75", "2.7", "3", "1,234", "+2.749"])
def test_a_number_rounded_from_an_output_passes(written):
    assert wrong([f"It is {written}<!--=a--> here."], {"a": CELL}) == []


@pytest.mark.parametrize("written", ["2.74", "2.8", "4", "1,235", "-2.75", "−2.75"])
def test_a_number_that_no_output_holds_is_told(written):
    assert wrong([f"It is {written} %<!--=a-->."], {"a": CELL}) == [f"{written} is not in a"]


def test_a_claim_in_points_is_compared_in_percentage_points():
    sentence = "mean accuracy along the learning curve, learngene - scratch"
    assert wrong([f"It is +31.8<!--=glyphs-quick|cnn|{sentence}|mean-->."], {}) == []
    assert wrong([f"| +31.8<!--=glyphs-quick\\|cnn\\|{sentence}\\|mean--> |"], {}) == []
    assert wrong([f"It is +31.9<!--=glyphs-quick|cnn|{sentence}|mean-->."], {}) != []
