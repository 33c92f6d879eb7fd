"""A sphinx extension: anchors, alternative text of figures, badges, prompts, links to the glossary."""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.addnodes import desc_signature, pending_xref
from sphinx.application import Sphinx

from lgutils.site.look import SLIM, badges

GLOSSARY = "docs/glossary"
CLOSED = (
    nodes.title, nodes.rubric, nodes.reference, nodes.literal, nodes.literal_block, nodes.math,
    nodes.math_block, nodes.raw, nodes.term, desc_signature, pending_xref, nodes.image,
)  # fmt: skip
UNLINKED = {"cell_output", "sd-card"}  # classes: outputs, and cards, which are links as a whole


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by sphinx."""
    app.connect("source-read", lower_anchors)
    app.connect("doctree-read", dress_figures, priority=400)  # before images are collected
    app.add_config_value("lgutils_badges", {}, "html", dict)
    app.connect("doctree-resolved", add_badges)
    app.connect("doctree-resolved", name_prompts)
    app.connect("doctree-resolved", link_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def lower_anchors(app: Sphinx, page: str, source: list[str]) -> None:
    """Write links such as 02.ipynb#Exercises, as Jupyter has them, with the site's small letters."""
    source[0] = re.sub(r"\.ipynb#[\w-]+", lambda match: match[0].lower(), source[0])


def dress_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Give each figure of a notebook the text and the looks that `figures.show` stored beside it.

    A figure with a form for phones (NAME-narrow.png beside NAME.png) stands twice, for the style sheet
    to choose.
    """
    source = Path(doctree["source"])
    known = stored(source) if source.suffix == ".ipynb" else {}
    for image in list(doctree.findall(nodes.image)):
        if "://" in image["uri"]:
            continue
        path = Path(app.env.relfn2path(image["uri"], app.env.docname)[1])
        about = known.get(path.stem, {})
        if about:
            image["alt"] = about.get("alt", image.get("alt", ""))
            image["classes"] += [about["kind"]] if "kind" in about else []
            image.attributes |= {"width": f"{about['width']}px"} if "width" in about else {}
        slim = path.with_stem(path.stem + SLIM)
        if "narrow" in about:
            slim.write_bytes(base64.b64decode(about["narrow"]))
        if slim.is_file():
            twin = image.deepcopy()
            twin["uri"] = str(PurePosixPath(image["uri"]).with_name(slim.name))
            twin.attributes.pop("width", None)
            twin["classes"].append("narrow")
            image["classes"].append("wide")
            image.parent.insert(image.parent.index(image) + 1, twin)


def stored(notebook: Path) -> dict[str, dict]:
    """SHA-256 of each PNG among the outputs, by which myst-nb names its file -> what is known of it."""
    import nbformat

    return {
        hashlib.sha256(base64.b64decode(output.data["image/png"])).hexdigest(): output.metadata.get(
            "image/png", {}
        )
        for cell in nbformat.read(notebook, as_version=4).cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    }


def add_badges(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put links such as "Slides" or "Open in Colab" under the page's title."""
    title = next(doctree.findall(nodes.title), None)
    if title is not None and (found := app.config.lgutils_badges.get(page)):
        title.parent.insert(1, nodes.raw("", badges(found), format="html"))


def name_prompts(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Say what a folded part of a cell holds: the answer to a prediction, or the code of a figure."""
    for folded in doctree.findall(HideCodeCellNode):
        what = "answer"
        if "above-input" in folded["classes"]:
            raws = (raw.astext() for raw in folded.parent.findall(nodes.raw))
            table = any("<table" in text for text in raws)
            figure = next(folded.parent.findall(nodes.image), None)
            what = "code" + (" of this figure" if figure else " of this table" if table else "")
        folded["prompt_show"], folded["prompt_hide"] = f"Show the {what}", f"Hide the {what}"


def link_terms(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Link the first use of every glossary term on a page; headings, links and code stay as they are."""
    if page in (GLOSSARY, "citation") or GLOSSARY not in app.env.found_docs:
        return
    where = app.builder.get_relative_uri(page, GLOSSARY)
    known = {}
    for entry in app.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        names = list(entry.findall(nodes.term))
        known |= {name.astext().lower(): f"{where}#{names[0]['ids'][0]}" for name in names}
    found = pattern(known)
    used: set[str] = set()
    for text in list(doctree.findall(nodes.Text)):
        if not _closed(text) and found.search(text):
            text.parent.replace(text, list(linked(str(text), found, known, used)))


def pattern(names: Iterable[str]) -> re.Pattern:
    """Matches any of the names as a whole, in any case, its plural too; the longest first."""
    longest = sorted(names, key=len, reverse=True)
    either = "|".join(r"\s+".join(map(re.escape, name.split())) for name in longest)
    return re.compile(rf"(?<![\w-])({either})s?(?![\w-])", re.IGNORECASE)


def _closed(node: nodes.Node) -> bool:
    """Whether a text is inside a heading, a link, code or a cell's output."""
    while node := node.parent:
        if isinstance(node, CLOSED) or UNLINKED & set(node.get("classes", ())):
            return True
    return False


def linked(
    text: str, found: re.Pattern, known: Mapping[str, str], used: set[str]
) -> Iterator[nodes.Node]:
    """The text in pieces, with a link for each term that is used for the first time.

    Args:
        found: see `pattern`.
        known: term in lower case -> address; names of one entry share it.
        used: addresses that the page links to already; grows.
    """
    done = 0
    for match in found.finditer(text):
        target = known[" ".join(match[1].lower().split())]
        if target in used:  # also by another name of the same entry
            continue
        used.add(target)
        yield nodes.Text(text[done : match.start()])
        yield nodes.reference("", match[0], refuri=target, classes=["term-link"], internal=True)
        done = match.end()
    yield nodes.Text(text[done:])
