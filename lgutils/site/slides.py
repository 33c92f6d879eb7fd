"""Chapters as slides: reveal.js, chosen by the cells' slide tags; nothing from the network."""

import base64
import hashlib
import html
import re
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

from lgutils import files

TEMPLATE = """
{%- extends 'reveal/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block notebook_css -%}<link rel="stylesheet" href="../_static/slides.css">{%- endblock -%}
{%- block html_head_js_mathjax -%}
<script>MathJax = {tex: {inlineMath: [["$", "$"], ["\\\\(", "\\\\)"]]}};</script>
<script defer src="../_static/tex-svg.js"></script>
{%- endblock -%}
{%- block footer_js -%}
<script src="../_static/reveal/dist/reveal.js"></script>
<script>
const fit = ({currentSlide: slide}) => {  // letters shrink until all of a slide is seen, down to a half
  for (let size = 26; slide.scrollHeight > slide.clientHeight + 1 && size > 13; size--)
    slide.style.fontSize = `${size}px`;
};
Reveal.on("ready", fit);
Reveal.on("slidechanged", fit);
Reveal.initialize({hash: true, slideNumber: "c/t", width: 1200, height: 750, margin: 0.04});
</script>
{%- endblock -%}
"""
STYLE = """\
html:root { --r-main-font: system-ui, sans-serif; --r-heading-font: system-ui, sans-serif;
  --r-main-font-size: 26px; --r-heading-text-transform: none; --r-heading-letter-spacing: normal;
  --r-heading1-size: 1.7em; --r-heading2-size: 1.4em; --r-heading3-size: 1.15em; }
main { height: 100%; }
.reveal .slides { text-align: left; }
.reveal .slides section { box-sizing: border-box; max-height: 100%; overflow: hidden auto; padding: 0 10px; }
html .reveal img { display: block; margin: .3em auto; width: 88%; max-height: 20em; object-fit: contain; }
html .reveal pre { font-size: .62em; max-height: none; width: auto; margin: .5em 0; padding: .3em .6em; box-shadow: none;
  white-space: pre-wrap; }
.reveal .jp-InputArea pre { background: #f4f4f2; }
html .reveal table { font-size: .7em; }
html .reveal :is(th, td) { border-color: #ddd; }
.reveal .scroll td[colspan], .reveal details { display: none; } /* notes, boxes */
"""


def tagged(book) -> bool:
    """Whether a notebook (of nbformat) has a cell that begins a slide."""
    return any(c.metadata.get("slideshow", {}).get("slide_type") == "slide" for c in book.cells)


def names(notebooks: Path) -> list[str]:
    """Stems of the chapters in a folder that have slides."""
    import nbformat

    paths = sorted(notebooks.glob("*.ipynb"))
    return [path.stem for path in paths if tagged(nbformat.read(path, as_version=4))]


def write(notebooks: Path, site: Path) -> None:
    """Write `slides/NAME.html` into a finished site for each chapter that has slides, and reveal.js.

    Args:
        notebooks: the chapters.
        site: with figures in `_images`, named as myst-nb does, which the slides share.
    """
    import nbformat

    found = names(notebooks)
    for name in found:
        book = nbformat.read(notebooks / f"{name}.ipynb", as_version=4)
        files.write_text(site / "slides" / f"{name}.html", deck(book, name))
    if found:
        _static(site / "_static")


def deck(book, name: str) -> str:
    """One chapter's slides as HTML; `book` is changed."""
    from nbconvert import SlidesExporter
    from traitlets.config import Config

    for cell in book.cells:
        for output in cell.get("outputs", []):
            _share_image(output)
    only_output = {"enabled": True, "remove_input_tags": {"hide-input"}}
    exporter = SlidesExporter(
        config=Config(TagRemovePreprocessor=only_output), raw_template=TEMPLATE,
        reveal_url_prefix="../_static/reveal", reveal_theme="white", exclude_anchor_links=True, exclude_input_prompt=True, exclude_output_prompt=True,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text, _ = exporter.from_notebook_node(book, resources={"metadata": {"name": name}})
    return re.sub(r'href="(?![a-z]+:)([^"#]+)\.(?:ipynb|md)(#[^"]*)?"', _link, text)


def _share_image(output) -> None:
    """Let an output show the site's own copy of its picture instead of carrying it."""
    data = output.get("data", {})
    if picture := data.get("image/png"):
        stem = hashlib.sha256(base64.b64decode(picture)).hexdigest()
        alt = html.escape(output.metadata.get("image/png", {}).get("alt", ""))
        output.data = {"text/html": f'<img src="../_images/{stem}.png" alt="{alt}">'}


def _link(match: re.Match) -> str:
    """A link as in the notebooks' folder, from the folder of the slides to a page of the site."""
    return f'href="../notebooks/{match[1]}.html{(match[2] or "").lower()}"'


def _static(folder: Path) -> None:
    """reveal.js, as the package sphinx-revealjs carries it, and our style."""
    reveal = Path(find_spec("sphinx_revealjs").origin).parent / "_static" / "revealjs"
    for name in ("LICENSE", "dist/reveal.js", "dist/reveal.css", "dist/theme/white.css"):
        target = folder / "reveal" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(reveal / name, target)
    theme = folder / "reveal" / "dist/theme/white.css"
    theme.write_text(re.sub(r"@import [^;]*;", "", theme.read_text()))  # fonts: the reader's own
    (folder / "slides.css").write_text(STYLE)
