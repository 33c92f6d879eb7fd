"""The site's first page: what the course is, where to start, and its chapters as cards."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lgutils.site import slides
from lgutils.site.look import badges

IMAGE = re.compile(r"^!\[[^\]]+\]\(docs/[\w./-]+\)$", re.MULTILINE)
PAGE = """\
---
html_theme.sidebar_secondary.remove: true
---

# Learngene, made real

A model learns many classes and hands down what matters. This course lets you build that, watch it work, and find out
where it does not.

{hero}

An *ancestry model* learns many classes. The few layers that matter, the *learngene*, are condensed out of it.
*Descendants* for new tasks inherit them and learn from a handful of images. All of it runs on two CPU cores, and nothing
is downloaded.

```{{button-ref}} notebooks/{first}
:ref-type: doc
:color: primary
:class: start-here

Start here: chapter {number}
```

## What you will be able to do

- Say what an ancestry model, a learngene and a descendant are, and draw a few-shot task that leaks nothing.
- Write the loop that condenses a learngene, and prove it right.
- Build descendants of any depth, and prove what they inherited.
- Test a claim on paired runs, with an interval, against rivals that get the same chances.
- Say which claims of [the paper](https://arxiv.org/abs/2305.02279) hold here, which do not, and how sure that is.

## Three paths

{paths}

## The chapters

{chapters}
{slides}"""
PATHS = (
    ("Learn", "notebooks/00_paradigm",
     "Read, predict, run and change the chapters. Each ends with three exercises that check themselves."),
    ("Teach", "docs/teaching",
     "Plans for 2, 6 and 12 hours, slides of each chapter, and assignments that grade themselves."),
    ("Replicate", "notebooks/10_replicate",
     "Every number with its interval and verdict, and one command that measures all of them again."),
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One chapter on the first page: its page, number, title and question, and a picture's file name."""

    page: str
    number: str
    title: str
    question: str
    picture: str

    def text(self) -> str:
        """The card in MyST, a link as a whole."""
        lines = [f":::{{grid-item-card}} {self.number} · {self.title}", f":link: {self.page}"]
        lines += [":link-type: doc", ":class-card: chapter"]
        if self.picture:
            lines += [f":img-top: {self.picture}", f":img-alt: Picture of chapter {self.title}"]
        return "\n".join([*lines, "", self.question, ":::"])


def page(folder: Path, readme: Path) -> str:
    """The first page in MyST.

    Args:
        folder: of the sources, with `notebooks/` and, where there are some, `docs/thumbs/NN.png`.
        readme: its first picture is shown; it may be missing.
    """
    cards = [card(path, folder) for path in sorted(folder.glob("notebooks/*.ipynb"))]
    picture = IMAGE.search(readme.read_text(encoding="utf-8")) if readme.is_file() else None
    return PAGE.format(
        hero=f":::{{div}} hero\n{picture[0]}\n:::" if picture else "",
        first=Path(cards[0].page).name,
        number=cards[0].number,
        paths=_grid("1 1 3 3", [_path(*p) for p in PATHS if list(folder.glob(f"{p[1]}.*"))]),
        chapters=_grid("1 2 3 3", [card.text() for card in cards]),
        slides=_slides(slides.names(folder / "notebooks")),
    )


def card(notebook: Path, folder: Path) -> Card:
    """A chapter's card, from the title and the first question of its opening cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    heading, _, rest = "".join(cells[0]["source"]).partition("\n")
    number, _, title = heading.removeprefix("# ").partition(" · ")
    picture = f"docs/thumbs/{number}.png"
    return Card(
        page=f"notebooks/{notebook.stem}",
        number=number,
        title=title,
        question="" if title.endswith("?") else question(rest),
        picture=picture if (folder / picture).is_file() else "",
    )


def question(text: str) -> str:
    """The first sentence of some Markdown that ends with a question mark, without its marks; or ""."""
    plain = re.sub(r"\[([^\]]+)\]\([^)]*\)|[*_`]", r"\1", text)
    sentences = re.split(r"(?<=[.:?!])\s+", " ".join(plain.split()))
    return next((s for s in sentences if s.endswith("?")), "")


def _slides(names: Sequence[str]) -> str:
    """A line of links to the chapters' slides, of those that have some."""
    links = {name.split("_")[0]: f"slides/{name}.html" for name in names}
    return f"\nAs slides, to show in a class:\n\n{badges(links)}\n" if links else ""


def _path(title: str, to: str, words: str) -> str:
    return "\n".join(
        [f":::{{grid-item-card}} {title}", f":link: {to}", ":link-type: doc", "", words, ":::"]
    )


def _grid(columns: str, cards: Sequence[str]) -> str:
    return "\n".join([f"::::{{grid}} {columns}", ":gutter: 3", "", *cards, "::::"])
