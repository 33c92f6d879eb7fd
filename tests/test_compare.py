"""Two result folders: planted differences are found, equal folders are called equal."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from lgutils.compare import compare
from lgutils.errors import UserError
from lgutils.report import Claim, Interval

CLAIMS = [
    Claim("learngene above scratch", Interval(0.2, 0.1, 0.3, 20), family="cnn", dataset="glyphs"),
    Claim("learngene above scratch", Interval(0.1, 0.05, 0.2, 20), family="vit", dataset="glyphs"),
    Claim("fewer steps", Interval(2, 1.5, float("inf"), 20), unit="times", null=1.0),
]
RUNS = pd.DataFrame(
    {"dataset": "glyphs", "family": "cnn", "method": ["learngene", "learngene", "scratch"],
     "k_shot": 10, "task": [0, 1, 0], "accuracy": [0.8, 0.9, 0.5]}
)  # fmt: skip


def save(folder, claims=CLAIMS, runs=RUNS):
    folder.mkdir()
    stored = {"claims": [claim.to_json() for claim in claims], "provenance": {}}
    (folder / "claims.json").write_text(json.dumps(stored, allow_nan=False))
    if runs is not None:
        runs.to_csv(folder / "runs.csv", index=False)
    return folder


@pytest.fixture
def a(tmp_path):
    return save(tmp_path / "a")


def line_of(text, start):
    return next(line for line in text.splitlines() if start in line)


def test_equal_folders_are_called_equal(a, tmp_path):
    text = compare(a, save(tmp_path / "b"))
    assert text.endswith("0 of 3 verdicts changed: all claims are the same.")
    assert "every mean accuracy is the same" in text
    assert "*" not in text
    assert "Only in" not in text


def test_a_changed_verdict_is_marked_and_counted(a, tmp_path):
    planted = replace(CLAIMS[1], effect=Interval(0.01, -0.03, 0.04, 20))
    text = compare(a, save(tmp_path / "b", [CLAIMS[0], planted, CLAIMS[2]]))
    line = line_of(text, "+1.0 [-3.0, +4.0] points")
    assert line.startswith("*")
    assert "+10.0 [+5.0, +20.0] points" in line
    assert line.endswith("no       supported -> not supported")
    assert [t[0] for t in text.splitlines() if t.startswith("*")] == ["*", "*"]  # row and legend
    assert text.endswith("\n1 of 3 verdicts changed.")


def test_a_changed_effect_with_the_same_verdict(a, tmp_path):
    moved = replace(CLAIMS[0], effect=Interval(0.21, 0.11, 0.31, 20))
    text = compare(a, save(tmp_path / "b", [moved, *CLAIMS[1:]]))
    assert "yes      supported" in line_of(text, "+21.0")
    assert text.endswith("\n0 of 3 verdicts changed.")


def test_claims_in_one_folder_only(a, tmp_path):
    new = Claim("fewer shots", Interval(3, 2, 4, 20), unit="shots", family="vit")
    text = compare(a, save(tmp_path / "b", [*CLAIMS[:2], new]))
    assert "Only in A:\n  fewer steps\n" in text
    assert "Only in B:\n  fewer shots (vit)\n" in text
    assert text.endswith("\n0 of 2 verdicts changed.")


def test_claims_with_the_same_words_are_all_compared(tmp_path):
    twice = [CLAIMS[0], replace(CLAIMS[0], effect=Interval(0, -1, 1, 20))]
    text = compare(save(tmp_path / "a", twice), save(tmp_path / "b", twice[:1]))
    assert "Only in A:\n  learngene above scratch (cnn, glyphs)\n" in text


def test_another_unit_is_not_called_an_overlap(a, tmp_path):
    text = compare(a, save(tmp_path / "b", [*CLAIMS[:2], replace(CLAIMS[2], unit="steps")]))
    assert "other unit" in line_of(text, "fewer steps")


def test_long_sentences_are_broken_and_nothing_is_lost(tmp_path):
    long = [Claim("word " * 30 + "end", Interval(0.2, 0.1, 0.3, 20))]
    text = compare(save(tmp_path / "a", long), save(tmp_path / "b", long))
    assert text.count("word") == 30
    assert "end" in text


def test_runs_that_differ(a, tmp_path):
    other = pd.concat([RUNS, RUNS.tail(1).assign(method="stem only")])
    other.iloc[0, -1] = 0.7
    text = compare(a, save(tmp_path / "b", runs=other))
    assert "runs.csv: 3 rows in A, 4 in B" in text
    assert (
        "glyphs, cnn, learngene, 10-shot: mean accuracy 85.00 % -> 80.00 % (-5.00 points)" in text
    )
    assert "glyphs, cnn, stem only, 10-shot: only in B" in text
    assert "scratch, 10-shot" not in text


def test_runs_in_one_folder_only_are_passed_over(a, tmp_path):
    assert "runs.csv" not in compare(a, save(tmp_path / "b", runs=None))


def test_a_missing_folder_and_a_folder_without_claims(a, tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        compare(a, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no claims"):
        compare(tmp_path / "empty", a)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "{}", '{"claims": 3}', '{"claims": [3]}', '{"claims": [{}]}',
     '{"claims": [{"sentence": "a", "effect": {"mean": "x", "low": 0, "high": 0, "n": 2}}]}',
     '{"claims": [{"sentence": "a", "effect": {"mean": 0, "low": 0, "high": 0, "n": 1e999}}]}',
     '{"claims": [{"sentence": ["a"], "effect": {"mean": 0, "low": 0, "high": 0, "n": 2}}]}'],
)  # fmt: skip
def test_damaged_claims_are_one_clear_sentence(a, tmp_path, text):
    bad = save(tmp_path / "bad")
    (bad / "claims.json").write_text(text)
    with pytest.raises(UserError, match=r"claims\.json is damaged"):
        compare(a, bad)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"task,accuracy\n0,0.5\n"])
def test_damaged_runs_are_one_clear_sentence(a, tmp_path, data):
    bad = save(tmp_path / "bad")
    (bad / "runs.csv").write_bytes(data)
    with pytest.raises(UserError, match=r"runs\.csv is damaged"):
        compare(a, bad)
