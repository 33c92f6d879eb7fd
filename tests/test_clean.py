"""What a submission holds is shown to the teacher and to students, and none of it runs.

The notebooks are rendered by Formgrader's own template and exporter; where a browser is at hand, in it too.
"""

import base64
import json
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("nbgrader")

import nbformat
import nbgrader
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from lgutils.teach import assemble, clean

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()
HIT = "window.hit = 1"
TEXTS = {
    "script": f"<script>{HIT}</script>",
    "script in a list": f"- a\n- <script>{HIT}</script>\n",
    "image": f"Because <img src=x onerror='{HIT}'> of this.",
    "slash": f"<svg/onload='{HIT}'>",
    "unclosed": f"a < b <img src=x onerror={HIT.replace(' ', '')} ",
    "comment": f"<!--><img src=x onerror='{HIT}'>-->",
    "hidden": f"<<b>script>{HIT}<</b>/script>",
    "frame": f'<iframe srcdoc="<script>parent.{HIT}</script>"></iframe>',
    "style": "<style>body { display: none }</style>",
    "form": '<form action="//example.org"><input class="score" id="why"></form>',
    "ends the panel": "</div></div></div><p>Full marks</p>",
    "link": f"[click](javascript:{HIT.replace(' ', '')})",
    "link in brackets": f"[click](<javascript:{HIT}>)",
    "link by reference": f"[click]\n\n[click]: JaVaScRiPt:{HIT.replace(' ', '')}",
    "link by entity": "[click](java&#115;cript:alert(1))",
    "address": "<javascript:alert(1)>",
    "data link": "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "relative link": "[click](../../../logout)",
    "picture from elsewhere": "![pixel](https://example.org/pixel.png)",
    "picture as SVG": "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    "missing attachment": "![x](attachment:none.png)",
    "mermaid": f"```mermaid\n</pre><script>{HIT}</script>\n```",
    "language": f'```"><script>{HIT}</script>\nx\n```',
    "formula with a link": r"$\href{javascript:alert(1)}{x}$",
    "formula with escapes": r"\\(\\href{javascript:alert(1)}{x}\\)",
    "formula with entities": r"\\(\hr&#101;f{javascript:alert(1)}{x}\\)",
    "formula with HTML": f"$$\n<img src=x onerror='{HIT}'>\n$$",
    "heading named as a task": "# double\n\n3 points",
    "ends the block early": f"<script>\u2028```\x0b```\r```\n<script>{HIT}</script>",
    "deep": ">" * 9000 + f"<script>{HIT}</script>",
    "ticks": "`" * 300_000,
    "long": f"<script>{HIT}</script>" * 20_000,
}
HARMLESS = ("slash", "unclosed", "hidden", "language", "formula with entities", "formula with HTML")
HONEST = (
    "Twice is even, since $2x < 3x$ and `a<b`: if a < b & c, *then* **so**.",
    "# Why\n\n1. one\n2. two\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n> [paper](https://arxiv.org/abs/2305.02279)",
    "```python\nif a<b:\n    print('<b>')\n```\n\n    indented <b>\n\n- [x] done\n- [ ] open",
    "H<sub>2</sub>O<br>and <b>so</b> on\n\n$$\na<b\n$$\n\n\\begin{align}a<b\\end{align}",
    "![sketch](attachment:sketch.png)",
    "",
)


def master():
    marks = {"schema_version": 3, "task": False, "grade": True, "points": 3}
    whys = {"grade_id": "why", "solution": True, "locked": False}
    tests = {"grade_id": "double", "solution": False, "locked": True}
    return new_notebook(
        cells=[
            new_markdown_cell("Say why.", metadata={"nbgrader": {**marks, **whys}}),
            new_code_cell("assert True", metadata={"nbgrader": {**marks, **tests}}),
        ]
    )


def stored(text: str, cell=new_markdown_cell, **more):
    """What is stored of a submission with this by-hand answer, and its flags."""
    book = master()
    book.cells[0].source = text
    book.cells[0].update(more)
    book.cells.append(cell(text))
    given = [assemble._cell(each) for each in json.loads(json.dumps(book))["cells"]]
    return assemble.assemble(master(), given)


@cache
def exporter():
    """Formgrader's."""
    forms = Path(nbgrader.__file__).parent / "server_extensions" / "formgrader" / "templates"
    return HTMLExporter(template_name="formgrade", extra_template_basedirs=[str(forms)])


def shown(book) -> str:
    """The page of Formgrader, as nbgrader's server makes it."""
    names = (
        "base_url",
        "submission_id",
        "notebook_id",
        "assignment_id",
        "student",
        "notebook_path",
    )
    about = {**dict.fromkeys(names, "x"), "index": 0, "total": 1, "last_name": "", "first_name": ""}
    return exporter().from_notebook_node(book, resources=about)[0]


def active(page: str) -> list[str]:
    """Tags and attributes in the notebook's part of the page that act, load or lead elsewhere."""
    bad = ("script", "style", "iframe", "object", "embed", "form", "svg", "math", "meta", "base")
    found = []
    for cell in BeautifulSoup(page, "html.parser").select("#notebook .text_cell_render, .output"):
        for tag in cell.find_all(True):
            found += [tag.name] * (tag.name in bad)
            for name, value in tag.attrs.items():
                web = str(value).startswith(("https://", "http://", "#"))
                pixels = str(value).startswith(("data:image/png;", "data:image/jpeg;"))
                wrong = (name == "href" and not web) or (name == "src" and not pixels)
                found += [f"{name}={value}"] * (wrong or name.startswith("on") or name == "srcdoc")
    return found


@pytest.fixture(scope="module")
def pages():
    """Each hostile text: Formgrader's page of it, and what was flagged."""
    return {name: (shown((made := stored(text))[0]), made[1]) for name, text in TEXTS.items()}


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_text_is_shown_and_does_nothing(name, pages):
    page, flags = pages[name]
    assert active(page) == []
    soup = BeautifulSoup(page, "html.parser")
    assert len(soup.find_all("script")) == shown(stored("So.")[0]).count("</script>")
    assert soup.select_one("#double").find_parent(class_="nbgrader_cell").code.text == "double"
    told = name not in HARMLESS  # and so changed
    assert not told or TEXTS[name].split("<")[-1][-8:].strip() in soup.get_text()
    assert len(flags) == 2 * told  # the answer and another cell


def test_a_raw_cell_is_a_text_like_others():
    book, _ = stored(TEXTS["script"], cell=new_raw_cell)
    assert [cell.cell_type for cell in book.cells] == ["markdown", "code", "markdown"]
    assert active(shown(book)) == []


@pytest.mark.parametrize("text", HONEST)
def test_an_honest_text_stays_as_it_is(text):
    book, flags = stored(text, attachments={"sketch.png": {"image/png": PNG}})
    assert (book.cells[0].source, flags) == (text, [] if "attachment" not in text else flags)


def test_no_script_of_a_student_runs_in_formgrader(browser, tmp_path, pages):
    tab = browser.new_context(offline=True).new_page()
    book, _ = stored("So.")
    book.cells[1].outputs = clean.outputs(OUTPUTS)
    for name, page in {
        **{name: page for name, (page, _) in pages.items()},
        "": shown(book),
    }.items():
        (tmp_path / "page.html").write_text(page)
        tab.goto((tmp_path / "page.html").as_uri(), wait_until="load")
        assert tab.evaluate("window.hit") is None, name
    (tmp_path / "page.html").write_text(f"<img src=x onerror='{HIT}'>")
    tab.goto((tmp_path / "page.html").as_uri(), wait_until="load")
    assert tab.evaluate("window.hit") == 1  # the trap works
    tab.close()


SCRIPT = f"<script>{HIT}</script>"
OUTPUTS = [
    {"output_type": "display_data", "metadata": {"image/png": {"width": f"1 onload={HIT}"}},
     "data": {"image/png": PNG, "text/html": SCRIPT, "text/plain": SCRIPT}},
    {"output_type": "display_data", "data": {"image/svg+xml": f"<svg onload='{HIT}'/>"}},
    {"output_type": "display_data", "data": {"application/javascript": HIT, "text/latex": SCRIPT}},
    {"output_type": "display_data", "data": {"text/markdown": SCRIPT, "image/png": f'"> {SCRIPT}'}},
    {"output_type": "display_data", "data": {"image/jpeg": PNG, "application/vnd.x+json": {}}},
    {"output_type": "execute_result", "data": {"text/plain": ["a", "\ud800"]}, "execution_count": "<"},
    {"output_type": "stream", "name": SCRIPT, "text": f"\x1b[31m{SCRIPT}"},
    {"output_type": "error", "ename": SCRIPT, "evalue": SCRIPT, "traceback": [SCRIPT]},
    {"output_type": SCRIPT}, {"output_type": "display_data", "data": "x"},
]  # fmt: skip


def test_of_outputs_only_text_and_real_pictures_are_kept():
    kept = clean.outputs(OUTPUTS)
    assert [sorted(out.get("data", {})) for out in kept if "data" in out] == [
        ["image/png", "text/plain"], ["text/plain"],
    ]  # fmt: skip
    assert [out.output_type for out in kept] == [
        "display_data",
        "execute_result",
        "stream",
        "error",
    ]
    assert kept[2].name == "stdout"
    assert not any(out.get("metadata") for out in kept)


def test_outputs_that_are_kept_are_valid_and_show_nothing_active():
    book, _ = stored("So.")
    book.cells[1].outputs = clean.outputs(OUTPUTS)
    nbformat.validate(book)
    nbformat.writes(book).encode()
    assert active(shown(book)) == []


def test_attachments_are_pictures_or_nothing():
    bad = {"image/png": '"><script>', "image/svg+xml": PNG, "text/html": PNG}
    assert clean.attachments(
        {"a": {**bad, "image/jpeg": PNG}, "b": {"image/png": PNG}, "c": 1}
    ) == {"b": {"image/png": PNG}}


def test_a_notebook_that_another_program_stored_is_cleaned_too():
    book = master()
    book.metadata = {"title": SCRIPT, "widgets": {"x": SCRIPT}, "language_info": {"name": SCRIPT}}
    book.cells[0].source = SCRIPT
    book.cells[0].metadata["tags"] = [SCRIPT]
    book.cells[1].outputs = [nbformat.from_dict(out) for out in OUTPUTS[:1]]
    book.cells.append(
        new_code_cell("x", metadata={"nbgrader": {"grade_id": f'">{SCRIPT}', "solution": True}})
    )
    clean.notebook(book, master())
    assert active(shown(book)) == []
    assert SCRIPT not in shown(book)
