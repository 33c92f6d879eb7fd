"""The ledger: claims and controls apart, units in words, verdicts in words, nothing clipped."""

import re

import numpy as np
import pytest

from lgutils import report
from lgutils.report import Claim, Interval

POINTS = Interval(0.123, 0.091, 0.155, 20)
SHOTS = {"unit": "shots", "null": 20.0, "larger": False}


def claims():
    """A paper's claim of two families and a control, as a replication gives them."""
    return [
        Claim("a - b", POINTS, family="cnn", dataset="glyphs"),
        *(Claim("c - d", POINTS, number=3, family=f, dataset="glyphs") for f in ("cnn", "vit")),
    ]


def row(claim):
    """The texts that the ledger shows of a claim alone."""
    (part,) = report.ledger([claim]).parts
    return part.rows[0].cells


def test_controls_stand_apart_behind_the_papers_claims():
    titles = [(part.title, len(part.rows)) for part in report.ledger(claims()).parts]
    assert titles == [("The paper's claims", 2), ("Controls", 1)]


def test_without_the_papers_claims_the_others_are_no_controls():
    assert [part.title for part in report.ledger(claims()[:1]).parts] == ["Claims"]


def test_claims_of_one_sentence_stand_together_named_by_their_place():
    paper = report.ledger(claims()).parts[0]
    assert {k: [r.name for r in v] for k, v in paper.groups.items()} == {
        "3. c - d": ["CNN, glyphs", "ViT, glyphs"]
    }


def test_claims_of_one_place_are_named_by_their_sentences():
    (part,) = report.ledger([Claim("a", POINTS), Claim("b", POINTS)]).parts
    assert [r.name for r in part.groups[""]] == ["a", "b"]


def test_the_papers_claims_are_in_the_order_of_their_numbers():
    found = report.ledger(Claim("s", POINTS, number=n) for n in (4, 1, 3)).parts[0]
    assert [r.name[0] for r in found.rows] == ["1", "3", "4"]


def test_value_interval_n_and_verdict_are_texts_of_their_own():
    assert row(Claim("s", POINTS)) == {
        "value": "+12.3 points", "95 % interval": "+9.1 to +15.5", "n": "20", "p": "",
        "verdict": "supported",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("effect", "value", "interval"),
    [
        (Interval(1, 1, 1, 12), "1 shot", "none: every resample alike"),
        (Interval(4.09, 3.64, 4.69, 12), "4.09 shots", "3.64 to 4.69"),
        (Interval(8.25, 6.1, np.inf, 12), "8.25 shots", "6.10 or more"),
        (Interval(np.inf, 25, np.inf, 12), "never", "25.0 or more"),
        (Interval(np.inf, np.inf, np.inf, 12), "never", "none: every resample alike"),
    ],
)
def test_shots_are_words(effect, value, interval):
    cells = row(Claim("s", effect, **SHOTS))
    assert (cells["value"], cells["95 % interval"]) == (value, interval)


def test_a_claim_of_less_says_so():
    assert report.ledger([Claim("s", POINTS, **SHOTS)]).parts[0].rows[0].name == (
        "s (claimed: below 20 shots)"
    )


@pytest.mark.parametrize(("p", "columns"), [(None, 4), (0.2, 5)])
def test_a_column_for_p_only_where_it_was_tested(p, columns):
    assert len(report.ledger([Claim("s", POINTS, p=p)]).parts[0].head) == columns


@pytest.mark.parametrize(("p", "text"), [(1e-9, "< 0.001"), (0.0123, "0.012")])
def test_a_small_p_is_bounded(p, text):
    assert row(Claim("s", POINTS, p=p))["p"] == text


def test_the_plain_form_is_aligned_and_no_wider_than_a_page():
    long = Claim("word " * 40, Interval(-0.2, -0.3, -0.1, 20), p=0.2, note="note " * 40)
    lines = repr(report.ledger([*claims(), long], "Title")).splitlines()
    assert max(map(len, lines)) <= 100
    assert len({line.index("verdict") for line in lines if "verdict" in line}) <= 2
    assert lines[0] == "Title"


def test_markdown_has_a_row_a_claim_under_its_sentence():
    note = Claim("a | b", POINTS, note="why")
    text = report.ledger([*claims()[1:], note])._repr_markdown_().splitlines()
    assert text == [
        "**The paper's claims**",
        "",
        "*3. c - d*",
        "",
        "|  | verdict | value | 95 % interval | n |",
        "| --- | --- | --- | --- | --- |",
        "| CNN, glyphs | ✓ supported | +12.3 points | +9.1 to +15.5 | 20 |",
        "| ViT, glyphs | ✓ supported | +12.3 points | +9.1 to +15.5 | 20 |",
        "",
        "**Controls**",
        "",
        "|  | verdict | value | 95 % interval | n | note |",
        "| --- | --- | --- | --- | --- | --- |",
        r"| a \| b | ✓ supported | +12.3 points | +9.1 to +15.5 | 20 | why |",
    ]


@pytest.mark.parametrize("verdict", report.VERDICTS)
def test_a_chip_has_the_word_a_mark_and_a_dark_ground_for_its_white_text(verdict):
    found = re.search(r"background:#(\w{6}).*>(\S) ([a-z ]+)</span>", report.chip(verdict))
    light = [int(found[1][k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in light]
    assert 1.05 / (np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05) > 4.5  # WCAG 2.2, AA
    assert found[3] == verdict


def test_html_is_escaped_and_scrolls_by_itself():
    text = report.ledger([Claim("<b>", POINTS, note="<i>")], "<u>")._repr_html_()
    assert not re.search("<[biu]>", text)
    assert "overflow-x:auto" in text


def test_nothing_is_a_ledger_too():
    assert report.ledger([]).parts == []


def test_no_zero_has_a_sign_in_front_of_it():
    cells = row(Claim("s", Interval(-0.0001, -0.007, -0.0002, 20)))
    assert (cells["value"], cells["95 % interval"]) == ("0.0 points", "-0.7 to 0.0")


def test_where_all_differences_are_equal_there_is_no_interval_and_nothing_was_resampled():
    assert row(Claim("s", report.paired([1, 1, 1], [0.5] * 3)))["95 % interval"] == (
        "none: all 3 alike"
    )
