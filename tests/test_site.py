"""The site: built once, read as files, and looked at in a browser where there is one."""

import json
import ntpath
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import pytest

pytest.importorskip("sphinx", reason="sphinx is not installed (extra site)")

import bs4
import matplotlib.pyplot as plt
import nbformat
from PIL import Image

from lgutils import course
from lgutils.errors import UserError
from lgutils.site import (
    api,
    build,
    citation,
    docstrings,
    front,
    hooks,
    launch,
    moved,
    reports,
    sheet,
    slides,
    sources,
)  # fmt: skip
from lgutils.site.config import settings
from lgutils.site.render import render

ROOT = course.notebooks_folder().parent
REPOSITORY = "https://github.com/example/course"
WIDE, NARROW = 1440, 390


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the whole site, with launch buttons."""
    return build(tmp_path_factory.mktemp("site") / "out", repository=REPOSITORY).parent


@pytest.fixture(scope="module")
def soups(site):
    """Page (relative path) -> its parsed html; without those that only send their reader on."""
    paths = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    pages = {path.relative_to(site).as_posix(): path for path in sorted(paths)}
    return {
        page: bs4.BeautifulSoup(path.read_bytes(), "html.parser")
        for page, path in pages.items()
        if page not in moved.addresses()
    }


# --- as files -------------------------------------------------------------------------------------


def test_every_chapter_solution_and_document_has_its_page(soups):
    patterns = ("notebooks/[0-9]*.ipynb", "notebooks/solutions/[0-9]*.ipynb", "docs/*.md")
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    expected = {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in files}
    expected |= {"index.html", "CHANGELOG.html", "citation.html", "search.html"}
    expected |= {f"results/{name}-quick/report.html" for name in ("glyphs", "digits")}
    assert expected - set(soups) == set()


def test_every_public_module_has_its_page_of_reference(soups):
    modules = {path.stem for path in (ROOT / "lgutils").glob("[a-z]*.py")}
    modules |= {path.parent.name for path in (ROOT / "lgutils").glob("[a-z]*/__init__.py")}
    found = {Path(page).stem for page in soups if page.startswith("api/")}
    assert modules - {"cli"} - found == set()


def test_the_reference_holds_signature_and_words_of_a_function(soups):
    entry = soups["api/inherit.html"].find(id="lgutils.inherit.inherit")
    assert "num_classes" in entry.text
    assert "Raises" in entry.parent.text


def test_every_page_can_be_reached_from_the_front_page(soups):
    links = soups["index.html"].select(".bd-sidebar-primary a[href], main a[href]")
    linked = {"index.html", "search.html", *(a["href"] for a in links)}
    assert set(soups) - linked == set()


def test_the_menu_holds_each_document_once(soups):
    menu = [a["href"] for a in soups["index.html"].select(".bd-sidebar-primary a[href]")]
    documents = Counter(link for link in menu if link.startswith("docs/"))
    assert set(documents) == {f"docs/{path.stem}.html" for path in ROOT.glob("docs/*.md")}
    assert set(documents.values()) == {1}


def test_internal_links_and_their_anchors_resolve(site, soups):
    broken = []
    anchors = {page: {tag["id"] for tag in soup.select("[id]")} for page, soup in soups.items()}
    for page, soup in soups.items():
        for tag in soup.select("a[href]"):
            link = urlsplit(tag["href"])
            if link.scheme:
                continue
            target = (site / page).parent / unquote(link.path) if link.path else site / page
            where = target.resolve().relative_to(site).as_posix()
            known = anchors.get(where, set())
            lost = link.fragment and where in soups and unquote(link.fragment) not in known
            if not target.is_file() or lost:
                broken.append(f"{page}: {tag['href']}")
    assert broken == []


def test_nothing_is_loaded_from_the_network(soups):
    loaded = "script[src], link[href], img[src], iframe[src], source[src], video[src], object[data]"
    outside = [
        f"{page}: {tag}"
        for page, soup in soups.items()
        for tag in soup.select(loaded)
        for address in (tag.get("src") or tag.get("href") or tag.get("data"),)
        if urlsplit(address).scheme in ("http", "https") or address.startswith("//")
    ]
    assert outside == []


def test_style_sheets_load_nothing_from_the_network(site):
    loads = re.compile(r"""url\(\s*['"]?(https?:)?//|@import\s+['"](https?:)?//""")
    assert [p.name for p in site.rglob("*.css") if loads.search(p.read_text())] == []


def test_no_line_of_text_is_taken_for_a_comment():
    pages = {p: p.read_text() for p in [*ROOT.glob("docs/*.md"), ROOT / "README.md"]}
    for path in (ROOT / "notebooks").rglob("[0-9]*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        pages[path] = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    lost = re.compile(r"^\s*(%|\+\+\+)", re.MULTILINE)  # MyST leaves such lines out
    assert [path.name for path, text in pages.items() if lost.search(text)] == []


def test_no_comment_can_be_read(soups):
    texts = {page: soup.select_one("main").text for page, soup in soups.items()}
    assert [page for page, text in texts.items() if re.search(r"<!(--|–)=", text)] == []


def test_no_word_with_an_at_sign_became_a_mail_link(soups):
    assert [page for page, soup in soups.items() if soup.select("a[href^='mailto:']")] == []


def test_every_image_is_there_and_has_its_alternative_text(site, soups):
    images = [(page, tag) for page, soup in soups.items() for tag in soup.select("article img")]
    poor = [
        f"{page}: {tag['src']}"
        for page, tag in images
        if len(tag.get("alt", "").split()) < 3 or not ((site / page).parent / tag["src"]).is_file()
    ]
    assert len(images) > 40
    assert poor == []


def test_figures_carry_the_texts_that_their_notebook_stores(site, soups):
    stored = hooks.stored(site / "_sources/notebooks/02_condense.ipynb").values()
    shown = soups["notebooks/02_condense.html"].select("article img:not(.narrow)")
    assert len(stored) > 3
    assert Counter(tag["alt"] for tag in shown) == Counter(about["alt"] for about in stored)


def test_no_figure_is_blank(site):
    blank = []
    for path in (site / "_images").glob("*.png"):
        with Image.open(path) as picture:
            if all(low == high for low, high in picture.convert("RGB").getextrema()):
                blank.append(path.name)
    assert blank == []


def test_no_solution_of_an_assignment_is_in_the_site(site):
    files = [path for path in site.rglob("*") if path.is_file()]
    assert not [path for path in files if "assignments" in path.parts]
    texts = (path for path in files if path.suffix in (".html", ".ipynb", ".js", ".txt", ".md"))
    marks = re.compile("BEGIN (HIDDEN TESTS|SOLUTION)")
    assert [p for p in texts if marks.search(p.read_text(encoding="utf-8"))] == []


def test_no_page_tells_where_it_was_built(site, soups):
    assert [page for page in soups if str(site.parent) in (site / page).read_text()] == []


def test_the_site_is_small(site):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 40e6


def test_a_report_shows_its_figures_and_its_ledger(soups):
    page = soups["results/glyphs-quick/report.html"]
    claims = json.loads((ROOT / "results/glyphs-quick/claims.json").read_text())["claims"]
    assert len(page.select("main figure img.wide")) == len(page.select("img.narrow")) == 6
    verdicts = re.compile(r"^[✓○✗] (supported|not supported|contradicted)$")
    assert len(page.find_all("td", string=verdicts)) == len(claims)


def test_chapters_link_to_their_launch_copies_and_other_pages_do_not(site, soups):
    links = [a["href"] for a in soups["notebooks/02_condense.html"].select("a.badge-link")]
    copy = "launch/notebooks/02_condense.ipynb"
    assert (site / copy).is_file()
    assert f"https://colab.research.google.com/github/example/course/blob/gh-pages/{copy}" in links
    binder = f"https://mybinder.org/v2/gh/example/course/gh-pages?urlpath=lab/tree/{copy}"
    assert binder in links
    assert not [a for a in soups["docs/data.html"].select("a") if "binder" in a["href"]]


# --- the front page -------------------------------------------------------------------------------


def test_the_front_page_starts_at_chapter_00(soups):
    assert soups["index.html"].select_one("a.start-here")["href"] == "notebooks/00_paradigm.html"


def test_the_front_page_has_a_card_for_each_chapter_and_three_paths(soups):
    links = [a["href"] for a in soups["index.html"].select(".sd-card a")]
    chapters = [f"notebooks/{path.stem}.html" for path in course.chapters()]
    assert links[3:] == chapters
    assert links[:3] == [chapters[0], "docs/teaching.html", chapters[-1]]


def test_the_front_page_does_not_tell_how_to_build_it(soups):
    assert "lgutils site" not in soups["index.html"].text


def test_the_front_page_shows_the_first_picture_of_the_readme(site, soups):
    shown = re.search(r"^!\[(.+)\]\((.+)\)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    picture = soups["index.html"].select_one("article img")
    assert picture["alt"] == shown[1]
    assert (site / picture["src"]).read_bytes() == (ROOT / shown[2]).read_bytes()


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("**The question.** Do *they*\nhelp? And why?", "Do they help?"),
        ("Read [this](x.md?y) first. Is `that` so?", "Is that so?"),
        ("No question here.", ""),
    ],
)
def test_a_card_asks_the_first_question_of_its_chapter(text, first):
    assert front.question(text) == first


def test_a_card_shows_the_thumbnail_where_there_is_one(tmp_path):
    (tmp_path / "docs/thumbs").mkdir(parents=True)
    (tmp_path / "docs/thumbs/03.png").touch()
    cell = {"cell_type": "markdown", "source": ["# 03 · Inheriting\n", "\n", "Why?"]}
    for name in ("03_inherit.ipynb", "04_rivals.ipynb"):
        cell["source"][0] = f"# {name[:2]} · Inheriting\n"
        (tmp_path / name).write_text(json.dumps({"cells": [cell]}))
    shown = [front.card(tmp_path / n, tmp_path) for n in ("03_inherit.ipynb", "04_rivals.ipynb")]
    assert [card.picture for card in shown] == ["docs/thumbs/03.png", ""]


# --- moved pages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("old", moved.CHAPTERS)
@pytest.mark.parametrize("folder", ["notebooks", "notebooks/solutions"])
def test_an_old_address_sends_its_reader_on(site, folder, old):
    page = bs4.BeautifulSoup((site / folder / f"{old}.html").read_bytes(), "html.parser")
    to = page.select_one("link[rel=canonical]")["href"]
    assert (site / folder / to).is_file()
    assert page.select_one("meta[http-equiv=refresh]")["content"] == f"0; url={to}"
    assert page.select_one("a")["href"] == to


def test_addresses_on_windows_have_no_backslash(tmp_path, monkeypatch):
    monkeypatch.setattr(moved, "os", SimpleNamespace(path=ntpath), raising=False)
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "results.html").touch()
    moved.write(tmp_path)
    assert "url=docs/results.html" in (tmp_path / "guide.html").read_text()


def test_no_page_is_sent_on_that_still_exists(soups):
    assert not {f"notebooks/{path.stem}.html" for path in course.chapters()} & set(
        moved.addresses()
    )


# --- predictions ----------------------------------------------------------------------------------


def folded(soups, tag):
    """(page, the cell's element) for every cell with a tag in its notebook."""
    return [
        (page, cell)
        for page, soup in soups.items()
        if page.startswith("notebooks/")
        for cell in soup.select(f".cell.tag_{tag}")
    ]


@pytest.mark.parametrize(
    ("tag", "side", "words"),
    [
        ("hide-output", "below-input", "Show the answer"),
        ("hide-input", "above-input", "Show the code"),
    ],
)
def test_tagged_cells_are_folded_under_words_that_say_what_is_inside(soups, tag, side, words):
    boxes = [
        (page, details)
        for page, cell in folded(soups, tag)
        for details in cell.select(f"details.{side}")
    ]
    bad = [
        page
        for page, details in boxes
        if details.has_attr("open") or not details.summary.text.strip().startswith(words)
    ]
    assert len(boxes) > 0
    assert bad == []


# --- slides ---------------------------------------------------------------------------------------


def cell(kind, source, slide, **metadata):
    make = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
    return make(source, metadata={"slideshow": {"slide_type": slide}, **metadata})


@pytest.fixture
def deck():
    """The slides of a small notebook."""
    book = nbformat.v4.new_notebook()
    book.cells = [
        cell(
            "markdown",
            "# Title\n\n[next](03_inherit.ipynb#Exercises), [out](https://a.org/x.md)",
            "slide",
        ),
        cell("code", "draw()", "-", tags=["hide-input"]),
        cell("markdown", "Not shown.", "skip"),
        cell("markdown", "Below.", "subslide"),
    ]
    output = nbformat.v4.new_output("display_data", {"image/png": "AAAA"})
    output.metadata = {"image/png": {"alt": "A <curve>"}}
    book.cells[1].outputs = [output]
    return bs4.BeautifulSoup(slides.deck(book, "02_condense"), "html.parser")


def test_cells_become_slides_by_their_tags(deck):
    assert len(deck.select(".slides > section")) == 1
    assert len(deck.select(".slides > section > section")) == 2
    assert "Not shown" not in deck.text


def test_slides_show_a_figure_from_the_site_and_not_the_code_that_draws_it(deck):
    picture = deck.select_one(".slides img")
    assert re.fullmatch(r"\.\./_images/[0-9a-f]{64}\.png", picture["src"])
    assert picture["alt"] == "A <curve>"
    assert "draw()" not in deck.text


def test_links_on_slides_lead_to_pages_of_the_site(deck):
    links = [a["href"] for a in deck.select("section a")]
    assert links == ["../notebooks/03_inherit.html#exercises", "https://a.org/x.md"]


def test_a_chapter_without_slide_tags_has_no_slides():
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title")])
    assert not slides.tagged(book)


def test_every_chapter_with_slides_links_to_them(site, soups):
    for name in slides.names(ROOT / "notebooks"):
        links = [a["href"] for a in soups[f"notebooks/{name}.html"].select("a.badge-link")]
        assert f"../slides/{name}.html" in links
        assert (site / "slides" / f"{name}.html").is_file()


# --- the cheat sheet ------------------------------------------------------------------------------

SHEET = "<html><head></head><body><h1>Sheet</h1><p>One line.</p></body></html>"


def test_without_a_browser_the_cheat_sheet_has_no_pdf_and_no_link_to_one(tmp_path, monkeypatch):
    (tmp_path / "sheet.html").write_text(SHEET)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not sheet.finish(tmp_path / "sheet.html")
    assert ".pdf" not in (tmp_path / "sheet.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.html"]


def test_the_printed_sheet_links_to_other_sites_only(tmp_path, monkeypatch):
    links = '<a class="b" href="#top">A</a> <a href="b.html#x">B</a> <a href="https://c.org">C</a>'
    (tmp_path / "sheet.html").write_text(f'<link href="look.css">{links}')
    given = []
    monkeypatch.setattr(sheet.shutil, "which", lambda name: name)
    monkeypatch.setattr(
        sheet.subprocess, "run", lambda line, **_: given.append(urlopen(line[-1]).read().decode())
    )
    sheet.finish(tmp_path / "sheet.html")
    assert re.findall('href="(.*?)"', given[0]) == ["look.css", "https://c.org"]
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.html"]


def test_the_cheat_sheet_is_printed_on_one_page(browser, site):
    assert sheet.pages(site / "docs/cheatsheet.pdf") == 1


def test_a_browser_prints_the_cheat_sheet_and_the_page_links_to_it(browser, tmp_path):
    (tmp_path / "sheet.html").write_text(SHEET)
    assert sheet.finish(tmp_path / "sheet.html")
    assert 'href="sheet.pdf"' in (tmp_path / "sheet.html").read_text()
    assert sheet.pages(tmp_path / "sheet.pdf") == 1


# --- the glossary ---------------------------------------------------------------------------------


def test_a_page_links_every_term_once_and_never_in_a_heading(soups):
    page = soups["notebooks/00_paradigm.html"]
    targets = Counter(a["href"] for a in page.select("main a.term-link"))
    assert len(targets) > 5
    assert set(targets.values()) == {1}
    other_names = {"descendants", "condensing", "ancestors"}  # of entries that are linked already
    assert not other_names & {a.text.lower() for a in page.select("main a.term-link")}
    assert not page.select(
        "h1 .term-link, h2 .term-link, h3 .term-link, code .term-link, pre .term-link"
    )


def test_the_glossary_does_not_link_to_itself(soups):
    assert not soups["docs/glossary.html"].select("main a.term-link")


KNOWN = {"descendant": "#d", "pseudo-descendant": "#p", "ancestry model": "#a", "ancestor": "#a"}


def linked(text):
    """(text of the link, address) for each link that would be set."""
    used = set()
    parts = hooks.linked(text, hooks.pattern(KNOWN), KNOWN, used)
    return [(str(p.astext()), p["refuri"]) for p in parts if hasattr(p, "attributes")]


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("Descendants of one descendant", [("Descendants", "#d")]),
        (
            "a pseudo-descendant and a descendant",
            [("pseudo-descendant", "#p"), ("descendant", "#d")],
        ),
        ("an ancestry\nmodel", [("ancestry\nmodel", "#a")]),
        ("the ancestry model is an ancestor", [("ancestry model", "#a")]),
        ("descendant_lr and undescendant", []),
    ],
)
def test_terms_are_linked_where_they_are_first_used(text, links):
    assert linked(text) == links


def test_linking_keeps_the_text():
    text = "A descendant of an ancestor, and a descendant."
    parts = hooks.linked(text, hooks.pattern(KNOWN), KNOWN, set())
    assert "".join(part.astext() for part in parts) == text


# --- docstrings -----------------------------------------------------------------------------------


def test_stars_and_bars_in_docstrings_mean_themselves():
    assert docstrings.escaped("|s|^2 * `a * b`") == r"\|s\|^2 \* `a * b`"


def test_fields_told_without_a_heading_become_attributes():
    class Told:
        size: int

    lines = ["A thing.", "", "size: in pixels,", "    per side.", "", "More."]
    expected = [
        "A thing.",
        "",
        "",
        "Attributes:",
        "    size: in pixels,",
        "        per side.",
        "",
        "More.",
    ]
    assert docstrings.with_attributes(Told, lines) == expected


def test_a_docstring_that_tells_no_fields_stays_as_it_is():
    class Told:
        size: int

    assert docstrings.with_attributes(Told, ["Note: nothing."]) == ["Note: nothing."]


def test_a_module_shows_what_it_defines_and_not_what_it_imports(tmp_path):
    api.pages(tmp_path / "api")
    text = (tmp_path / "api" / "learngene.rst").read_text()
    assert "condense_to" in text
    assert "kendalltau" not in text


# --- pages made from other files ------------------------------------------------------------------


def test_the_citation_has_an_entry_for_the_course_and_one_for_the_paper():
    text = citation.page(ROOT / "CITATION.cff")
    assert re.findall(r"@(\w+)\{", text) == ["software", "misc"]
    assert "Wang, Qiufeng and Yang, Xu" in text


def test_a_figure_without_a_form_for_phones_is_saved_alone(tmp_path):
    figure, _ = plt.subplots()
    assert "figure-1.png" in reports._figure(tmp_path, 1, (figure, "alt", "caption"))
    assert [path.name for path in tmp_path.iterdir()] == ["figure-1.png"]


def test_a_report_with_other_figures_than_its_rows_give_is_refused(tmp_path):
    open_before = plt.get_fignums()
    folder = tmp_path / "digits-quick"
    shutil.copytree(ROOT / "results" / "digits-quick", folder)
    text = (folder / "report.md").read_text()
    (folder / "report.md").write_text(text.replace("**Figure.**", "Figure.", 1))
    with pytest.raises(UserError, match="other figures"):
        reports.page(folder, tmp_path / "out")
    assert plt.get_fignums() == open_before


# --- the folder -----------------------------------------------------------------------------------


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="left alone"):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.fixture
def quickly(monkeypatch):
    """A build that takes no time: no sources, and an empty page."""

    def page(source, html, settings):
        html.mkdir()
        (html / "index.html").write_text("new")

    monkeypatch.setattr(sources, "collect", lambda folder: folder.mkdir())
    monkeypatch.setattr("lgutils.site.render.render", page)
    return monkeypatch


def test_a_site_of_ours_is_replaced_as_a_whole(quickly, tmp_path):
    build(tmp_path / "out")
    (tmp_path / "out" / "old.html").touch()
    assert build(tmp_path / "out").read_text() == "new"
    assert not (tmp_path / "out" / "old.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_build_that_fails_leaves_the_old_site_alone(quickly, tmp_path):
    def fail(folder):
        raise UserError("no notebooks")

    build(tmp_path / "out")
    quickly.setattr(sources, "collect", fail)
    with pytest.raises(UserError, match="no notebooks"):
        build(tmp_path / "out")
    assert (tmp_path / "out" / "index.html").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_warning_of_sphinx_ends_the_build_with_its_words(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "index.md").write_text("# Title\n\n[lost](nowhere.md)\n")
    plain = {"extensions": ["myst_parser"], "project": "test"}
    with pytest.raises(UserError, match=r"index.md:3: WARNING.*nowhere"):
        render(tmp_path / "source", tmp_path / "html", plain)


def test_sphinx_ends_when_the_command_that_started_it_is_gone(tmp_path):
    gone = "999999999"  # no process has this number
    start = [
        sys.executable,
        "-m",
        "lgutils.site.render",
        gone,
        tmp_path / "source",
        tmp_path / "html",
    ]
    with subprocess.Popen(start, stdin=subprocess.PIPE) as waiting:  # for settings that never come
        assert waiting.wait(60) == 1


def test_the_command_ends_with_two_for_a_foreign_folder(tmp_path):
    (tmp_path / "thesis.tex").touch()
    command = [sys.executable, "-m", "lgutils", "site", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "left alone" in done.stderr


# --- launching ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/owner/course.git", "https://github.com/owner/course"),
        ("git@github.com:owner/course.git", "https://github.com/owner/course"),
        ("ssh://git@github.com:22/owner/course", "https://github.com/owner/course"),
        ("https://me:secret@github.com/owner/course/", "https://github.com/owner/course"),
        ("git@gitlab.com:group/part/course.git", "https://gitlab.com/group/part/course"),
        ("https://git.company.example/owner/course", ""),
        ("git@github.com.example:owner/course", ""),
        ("https://github.com/owner", ""),
        ("/srv/git/github.com/owner/course", ""),
        ("file:///srv/owner/course", ""),
        ("", ""),
    ],
)
def test_of_a_remote_only_a_public_address_gets_on(remote, address):
    assert launch.address(remote) == address


def clone(folder, remote):
    """An empty repository with an `origin`."""
    subprocess.run(["git", "init", "-q", folder], check=True)
    subprocess.run(["git", "-C", folder, "remote", "add", "origin", remote], check=True)


def test_the_address_is_that_of_the_clone(tmp_path):
    clone(tmp_path, f"{REPOSITORY}.git")
    assert launch.remote(tmp_path) == REPOSITORY


@pytest.mark.parametrize(("known", "branch"), [(False, "work"), (True, "trunk")])
def test_the_branch_is_the_remotes_main_one_else_the_clones_own(known, branch, tmp_path):
    clone(tmp_path, REPOSITORY)
    head = ["git", "-C", tmp_path, "symbolic-ref"]
    subprocess.run([*head, "HEAD", "refs/heads/work"], check=True)
    if known:
        names = ["refs/remotes/origin/HEAD", "refs/remotes/origin/trunk"]
        subprocess.run([*head, *names], check=True)
    assert launch.branch(tmp_path) == branch


def test_without_a_clone_the_branch_is_main(tmp_path):
    assert launch.branch(tmp_path) == "main"


def test_a_repository_around_an_installed_course_is_not_its_own(tmp_path):
    clone(tmp_path, REPOSITORY)
    (tmp_path / "site-packages").mkdir()
    assert launch.remote(tmp_path / "site-packages") == ""


def test_a_folder_without_a_remote_has_no_address(tmp_path):
    (tmp_path / ".git").mkdir()
    assert launch.remote(tmp_path) == ""


def test_a_site_without_an_address_has_nothing_to_launch(quickly, tmp_path):
    asked = []
    quickly.setattr("lgutils.site.launch.copies", lambda *given: asked.append(given))
    build(tmp_path / "out", repository="")
    assert asked == []


def test_colab_is_offered_for_github_only():
    where = launch.target("https://gitlab.com/example/course", "main", "pages")
    assert list(launch.badges(where, "notebooks/00.ipynb")) == ["Open in Binder"]


@pytest.mark.parametrize(
    ("repository", "start"),
    [
        (REPOSITORY, "gh/example/course/pages?"),
        ("https://gitlab.com/group/part/course", "gl/group%2Fpart%2Fcourse/pages?"),
        ("https://git.example.org/a/b", "git/https%3A%2F%2Fgit.example.org%2Fa%2Fb/pages?"),
    ],
)
def test_binder_opens_each_kind_of_host_in_its_own_way(repository, start):
    where = launch.target(repository, "main", "pages")
    address = launch.badges(where, "notebooks/00.ipynb")["Open in Binder"]
    assert address.startswith(f"https://mybinder.org/v2/{start}")


@pytest.mark.parametrize(
    ("repository", "branch"),
    [("course", "main"), ("https://github.com/example", "main"), ("git@host:a/b.git", "main"),
     (REPOSITORY + '"', "main"), (REPOSITORY, "a b"), (REPOSITORY, "--upload-pack=x")],
)  # fmt: skip
def test_bad_addresses_and_branches_are_refused(repository, branch):
    with pytest.raises(UserError, match="was given"):
        launch.target(repository, branch, "gh-pages")


def test_a_launch_copy_is_the_chapter_with_one_more_cell_in_front(site):
    copy = nbformat.read(site / "launch/notebooks/02_condense.ipynb", as_version=4)
    chapter = nbformat.read(site / "_sources/notebooks/02_condense.ipynb", as_version=4)
    assert REPOSITORY in copy.cells[0].source
    assert copy.cells[1:] == chapter.cells


@pytest.fixture
def remote(tmp_path):
    """A repository with a package `lgutils` of one line and a folder of notebooks."""
    folder = tmp_path / "remote" / "course"
    for name, text in {"lgutils/__init__.py": "", "notebooks/00.ipynb": "{}"}.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for step in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *step], cwd=folder, check=True)
    return folder.as_uri()


def test_the_first_cell_clones_installs_and_moves_to_the_notebooks(remote, tmp_path, monkeypatch):
    calls, run = [], subprocess.run

    def record(command, **options):
        calls.append(command)
        if "pip" not in command:
            run(command, **options, capture_output=True)

    monkeypatch.setattr(subprocess, "run", record)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    exec(launch.first_cell(remote, "main"), {})
    assert calls[1][1:] == ["-m", "pip", "install", "-q", "-e", "./course[course]"]
    assert sys.path[0] == str(tmp_path / "course")
    assert Path.cwd() == tmp_path / "course" / "notebooks"


def test_the_first_cell_does_nothing_where_the_course_is_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(launch.first_cell("file:///nowhere/course", "main"), {})
    assert list(tmp_path.iterdir()) == []


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture
def tab(browser):
    context = browser.new_context(viewport={"width": WIDE, "height": 900})
    yield context.new_page()
    context.close()


LOOK = """() => ({
  over: document.documentElement.scrollWidth - innerWidth,
  empty: [...document.images].filter(i => !i.naturalWidth).map(i => i.src),
  small: [...document.querySelectorAll('article .cell_output img, article figure img')].filter(
    i => i.clientWidth && i.clientWidth < Math.min(i.naturalWidth / 1.5, 320)).map(i => i.src),
  both: [...document.querySelectorAll('article img.narrow')].filter(
    i => !i.clientWidth == !i.previousElementSibling.clientWidth).map(i => i.src),
  mute: [...document.querySelectorAll('article img')].filter(i => !i.alt).map(i => i.src),
  cut: [...document.querySelectorAll('article .scroll')].filter(
    e => e.scrollWidth > e.clientWidth + 1).map(e => e.ariaLabel),
  unmarked: [...document.querySelectorAll('article pre')].filter(e => e.scrollWidth > e.clientWidth + 1
    && !getComputedStyle(e).backgroundImage.includes('gradient')).map(e => e.textContent.slice(0, 60)),
})"""


@pytest.fixture(scope="module")
def visits(browser, site, soups):
    """Each page loaded once, from its file: page -> what was seen, wide and narrow."""
    found, noise = {}, []
    context = browser.new_context(viewport={"width": WIDE, "height": 900})
    tab = context.new_page()
    tab.on("console", lambda m: noise.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: noise.append(str(error)))
    tab.on("requestfailed", lambda request: noise.append(request.url))
    tab.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else noise.append(r.url)
    )
    for page in soups:
        noise.clear()
        tab.goto((site / page).as_uri())
        tab.evaluate("() => window.MathJax?.startup?.promise")
        wide = tab.evaluate(LOOK)
        tab.set_viewport_size({"width": NARROW, "height": 800})
        found[page] = {"wide": wide, "narrow": tab.evaluate(LOOK), "noise": list(noise)}
        tab.set_viewport_size({"width": WIDE, "height": 900})
    context.close()
    return found


def test_pages_load_without_errors_and_without_any_request_that_leaves_the_machine(visits):
    assert {page: seen["noise"] for page, seen in visits.items() if seen["noise"]} == {}


def test_images_are_drawn_and_described(visits):
    bad = {page: s["wide"] for page, s in visits.items() if s["wide"]["empty"] or s["wide"]["mute"]}
    assert bad == {}


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_no_page_scrolls_sideways(visits, width):
    assert {page: s[width]["over"] for page, s in visits.items() if s[width]["over"] > 0} == {}


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_no_ledger_is_wider_than_its_box(visits, width):
    assert {page: s[width]["cut"] for page, s in visits.items() if s[width]["cut"]} == {}


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_text_that_goes_on_outside_its_box_says_so(visits, width):
    assert {p: s[width]["unmarked"] for p, s in visits.items() if s[width]["unmarked"]} == {}


def test_figures_keep_a_readable_size_on_a_phone(visits):
    assert {page: s["narrow"]["small"] for page, s in visits.items() if s["narrow"]["small"]} == {}


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_of_a_figure_with_two_forms_one_is_shown(visits, width):
    assert {page: s[width]["both"] for page, s in visits.items() if s[width]["both"]} == {}


def test_formulas_are_set_by_a_local_mathjax(tab, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    sources.static(source / "_static")
    (source / "index.md").write_text("# Title\n\nThe loss is $x^2$.\n")
    render(source, tmp_path / "html", settings())
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "html" / "index.html").as_uri())
    tab.wait_for_selector("mjx-container svg")
    assert [url for url in asked if not url.startswith("file:")] == []


def test_the_search_finds_learngene(tab, site):
    tab.goto((site / "search.html").as_uri() + "?q=learngene")
    tab.wait_for_selector("#search-results li a")
    pages = [a.get_attribute("href") for a in tab.query_selector_all("#search-results li a")]
    assert any("00_paradigm.html" in page for page in pages)


def test_a_box_of_statistics_opens_by_the_keyboard(tab, site, soups):
    pages = [page for page, soup in soups.items() if soup.select("details.statistics")]
    tab.goto((site / pages[0]).as_uri())
    box = tab.locator("details.statistics").first
    assert box.get_attribute("open") is None
    box.locator("summary").focus()
    tab.keyboard.press("Enter")
    assert box.get_attribute("open") is not None


def test_the_menu_opens_on_a_phone(tab, site):
    tab.set_viewport_size({"width": NARROW, "height": 800})
    tab.goto((site / "index.html").as_uri())
    link = tab.locator("a[href='notebooks/02_condense.html']:visible", has_text="02 ·")
    assert link.count() == 0
    tab.locator("button.primary-toggle").click()
    link.first.click()
    tab.wait_for_url("**/02_condense.html")


def test_in_the_dark_plots_turn_dark_and_images_keep_their_colours(browser, site):
    context = browser.new_context(color_scheme="dark")
    tab = context.new_page()
    tab.goto((site / "notebooks/00_paradigm.html").as_uri())
    page = tab.eval_on_selector("body", "e => getComputedStyle(e).backgroundColor")
    assert max(map(int, re.findall(r"\d+", page)[:3])) < 80
    style = "e => getComputedStyle(e).filter"
    assert "invert" in tab.eval_on_selector("article img.plot", style)
    assert tab.eval_on_selector("article img.picture", style) == "none"
    context.close()
