"""The report page: whole or absent, escaped, without any address, and readable back."""

import errno
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lgutils import page
from lgutils.errors import UserError
from lgutils.report import Claim, Interval, chip

HOSTILE = "<script>alert(1)</script>"
NAMES = ["claims.json", "report.html", "report.md"]


def claims():
    return [
        Claim("learngene above scratch", Interval(0.2, 0.1, 0.3, 20), number=1, p=0.0001),
        Claim(f"a | b {HOSTILE}", Interval(-0.2, -0.3, -0.1, 20), note='why "so" & not'),
        Claim("shots saved", Interval(4, 1, np.inf, 20), unit="shots", null=0.0, family="vit"),
    ]


def sections():
    figure, axis = plt.subplots(figsize=(2, 1))
    axis.plot([1, 2])
    table = pd.DataFrame({"mean": [0.123456, np.nan], HOSTILE: ["a|b", HOSTILE]}, index=["x", "y"])
    text = ["See `results/` and **this**: https://example.org/a?b=1&c=2", f"- one\n- {HOSTILE}"]
    return [
        page.Section("First", text, [(figure, f'a "line" {HOSTILE}', "Up")], [("Means", table)])
    ]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "new" / "folder"
    page.write(made, f"Report {HOSTILE}", sections(), claims(), {"lgutils": "0.1.0", "x": HOSTILE})
    return made


@pytest.fixture
def text(folder):
    """The page without the bytes of its pictures."""
    whole = (folder / "report.html").read_text(encoding="utf-8")
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "", whole)


class Tags(HTMLParser):
    """Collects tags and checks that they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_three_files_are_written_and_the_figures_closed(folder):
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    assert not plt.get_fignums()


def test_the_page_is_well_formed_and_for_narrow_screens(text):
    tags = Tags(text)
    assert not tags.open
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        tags.found
    )
    boxes = [attrs for tag, attrs in tags.found if attrs.get("class") == "scroll"]
    assert len(boxes) == sum(tag == "table" for tag, _ in tags.found) == 4
    assert "prefers-color-scheme: dark" in text
    assert "max-width: 100%" in text


def test_the_page_has_no_script_and_no_address(text):
    assert "http" not in text.lower()
    assert "<script" not in text.lower()
    assert not re.search(r"(href|@import|url\(|//\w)", text)


def test_text_from_data_is_escaped(folder, text):
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 8
    assert "why &quot;so&quot; &amp; not" in text
    assert "<script" not in (folder / "report.md").read_text(encoding="utf-8")


def test_each_image_is_inside_and_has_alternative_text(folder):
    tags = Tags((folder / "report.html").read_text(encoding="utf-8"))
    images = [attrs for tag, attrs in tags.found if tag == "img"]
    assert [image["alt"] for image in images] == [f'a "line" {HOSTILE}']
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)


def test_the_ledger_comes_first_with_its_verdicts_and_a_count(text):
    assert text.index("learngene above scratch") < text.index("First")
    assert text.count(chip("supported")) == 2
    assert "Of 1 measurements of the paper's claims: 1 supported" in text
    assert "Of 2 controls: 1 supported, 0 not supported, 1 contradicted." in text


def test_markdown_is_set(text):
    assert "<code>results/</code> and <strong>this</strong>: example.org" in text
    assert "<ul><li>one</li>" in text


def test_the_markdown_says_the_same_without_pictures(folder):
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "**Figure.** Up (a" in text
    assert "| x | 0.1235 | a\\|b |" in text
    assert "| lgutils | 0.1.0 |" in text
    assert "base64" not in text
    assert text.index("learngene above scratch") < text.index("## First")


def test_the_claims_can_be_read_back(folder):
    def refuse(name):
        raise AssertionError(name)

    raw = (folder / "claims.json").read_text(encoding="utf-8")
    stored = json.loads(raw, parse_constant=refuse)
    assert [Claim.from_json(entry) for entry in stored["claims"]] == claims()
    assert stored["provenance"] == {"lgutils": "0.1.0", "x": HOSTILE}


def test_the_same_report_is_the_same_file(folder, tmp_path):
    provenance = {"lgutils": "0.1.0", "x": HOSTILE}
    page.write(tmp_path / "again", f"Report {HOSTILE}", sections(), claims(), provenance)
    for name in NAMES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_report_without_claims_and_sections(tmp_path):
    page.write(tmp_path, "Empty", [], [], {})
    assert "Of 0 measurements of the paper's claims" in (tmp_path / "report.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_full_disk_leaves_what_was_there(folder, monkeypatch, when):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    whole, calls = Path.write_text, []

    def write_text(self, text, **kwargs):
        calls.append(self)
        if len(calls) == when:
            whole(self, text[: len(text) // 2], **kwargs)
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(self, text, **kwargs)

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(UserError, match="disk is full"):
        page.write(folder, "Other", sections(), [], {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not plt.get_fignums()


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        page.write(tmp_path / "taken", "Report", [], claims(), {})
