"""The site: built once, read as files, and looked at in a browser where there is one."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("sphinx", reason="sphinx is not installed (extra site)")

import bs4
import nbformat
from PIL import Image

from lgutils import course
from lgutils.errors import UserError
from lgutils.site import api, build, citation, docstrings, hooks, launch, reports, sources
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
    """Page (relative path) -> its parsed html."""
    paths = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    return {
        path.relative_to(site).as_posix(): bs4.BeautifulSoup(path.read_bytes(), "html.parser")
        for path in sorted(paths)
    }


# --- as files -------------------------------------------------------------------------------------


def test_every_chapter_solution_and_document_has_its_page(soups):
    patterns = ("notebooks/[0-9]*.ipynb", "notebooks/solutions/[0-9]*.ipynb", "docs/*.md")
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    expected = {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in files}
    expected |= {"index.html", "CHANGELOG.html", "citation.html", "guide.html", "search.html"}
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


def test_every_page_can_be_reached_from_the_menu(soups):
    menu = soups["index.html"].select(".bd-sidebar-primary a[href]")
    linked = {"index.html", "search.html", *(a["href"] for a in menu)}
    assert set(soups) - linked - {"index.html"} == set()


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
    stored = hooks.alternatives(site / "_sources/notebooks/02_condense.ipynb")
    shown = [tag["alt"] for tag in soups["notebooks/02_condense.html"].select("article img")]
    assert len(stored) > 3
    assert Counter(shown) == Counter(stored.values())


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
    assert len(page.select("main figure img")) == 6
    assert len(page.select_one("main table").select("tbody tr")) == len(claims)


def test_chapters_link_to_their_launch_copies_and_other_pages_do_not(site, soups):
    links = [
        a["href"] for a in soups["notebooks/02_condense.html"].select(".article-header-buttons a")
    ]
    copy = "launch/notebooks/02_condense.ipynb"
    assert (site / copy).is_file()
    assert any(
        f"colab.research.google.com/github/example/course/blob/gh-pages/{copy}" in a for a in links
    )
    assert any("mybinder.org/v2/gh/example/course/gh-pages" in a and copy in a for a in links)
    assert not [a for a in soups["docs/data.html"].select("a") if "binder" in a["href"]]


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


def test_a_report_with_other_figures_than_its_rows_give_is_refused(tmp_path):
    folder = tmp_path / "digits-quick"
    shutil.copytree(ROOT / "results" / "digits-quick", folder)
    text = (folder / "report.md").read_text()
    (folder / "report.md").write_text(text.replace("**Figure.**", "Figure.", 1))
    with pytest.raises(UserError, match="other figures"):
        reports.page(folder, tmp_path / "out")


def test_pictures_that_a_page_shows_come_along(site, soups):
    picture = soups["index.html"].select_one("article img")
    assert Path(picture["src"]).name == "learngene.png"
    assert (site / picture["src"]).read_bytes() == (ROOT / "docs/learngene.png").read_bytes()


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


def test_without_an_address_there_are_no_launch_buttons():
    options = settings()["html_theme_options"]
    assert not {"launch_buttons", "repository_url"} & set(options)


def test_colab_is_offered_for_github_only():
    where = launch.target("https://gitlab.com/example/course", "main", "pages")
    assert "colab_url" not in settings(where)["html_theme_options"]["launch_buttons"]


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
    i => i.clientWidth < Math.min(i.naturalWidth, 600)).map(i => i.src),
  mute: [...document.querySelectorAll('article img')].filter(i => !i.alt).map(i => i.src),
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


def test_figures_keep_a_readable_size_on_a_phone(visits):
    assert {page: s["narrow"]["small"] for page, s in visits.items() if s["narrow"]["small"]} == {}


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


def test_the_menu_opens_on_a_phone(tab, site):
    tab.set_viewport_size({"width": NARROW, "height": 800})
    tab.goto((site / "index.html").as_uri())
    link = tab.locator("a[href='notebooks/02_condense.html']:visible", has_text="02 ·")
    assert link.count() == 0
    tab.locator("button.primary-toggle").click()
    link.first.click()
    tab.wait_for_url("**/02_condense.html")


def test_figures_stay_on_white_in_the_dark(browser, site):
    context = browser.new_context(color_scheme="dark")
    tab = context.new_page()
    tab.goto((site / "notebooks/00_paradigm.html").as_uri())
    style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).filter]"
    page, _ = tab.eval_on_selector("body", style)
    assert max(map(int, re.findall(r"\d+", page)[:3])) < 80
    assert tab.eval_on_selector("article img", style) == ["rgb(255, 255, 255)", "none"]
    context.close()
