"""Claims: verdicts, the text that notebooks show, and JSON."""

import json

import numpy as np
import pytest

from lgutils.errors import UserError
from lgutils.report import Claim, Interval

ABOVE, AROUND, BELOW = Interval(2, 1, 3, 20), Interval(0, -1, 1, 20), Interval(-2, -3, -1, 20)
FULL = Claim(
    "fewer images are needed",
    Interval(8.25, 6.1, np.inf, 20),
    unit="shots",
    null=20,
    larger=False,
    p=0.01,
    number=4,
    family="vit",
    dataset="glyphs",
    note="The curve is flat.",
)


def test_text_in_points():
    claim = Claim("a above b", Interval(0.123, 0.091, 0.155, 20))
    assert str(claim) == "a above b: +12.3 [+9.1, +15.5] points, n = 20: supported"


def test_text_in_another_unit():
    assert str(FULL) == "fewer images are needed: 8.25 [6.10, inf] shots, n = 20: not supported"


@pytest.mark.parametrize(
    ("effect", "larger", "verdict"),
    [
        (ABOVE, True, "supported"),
        (AROUND, True, "not supported"),
        (BELOW, True, "contradicted"),
        (ABOVE, False, "contradicted"),
        (AROUND, False, "not supported"),
        (BELOW, False, "supported"),
    ],
)
def test_verdict_by_direction(effect, larger, verdict):
    assert Claim("s", effect, larger=larger).verdict == verdict


@pytest.mark.parametrize("effect", [ABOVE, AROUND, BELOW])
def test_the_default_verdict_is_that_of_the_interval(effect):
    assert Claim("s", effect).verdict == effect.verdict


@pytest.mark.parametrize(("null", "verdict"), [(1.5, "not supported"), (0.9, "supported")])
def test_verdict_of_a_ratio_looks_at_its_null(null, verdict):
    assert Claim("s", Interval(1.5, 1.1, 2, 9), "times", null).verdict == verdict


def test_an_interval_that_ends_at_the_null_is_not_supported():
    assert Claim("s", Interval(1, 0, 2, 9)).verdict == "not supported"


@pytest.mark.parametrize(
    ("effect", "p", "verdict"),
    [
        (ABOVE, 0.049, "supported"),
        (ABOVE, 0.05, "not supported"),
        (BELOW, 0.049, "contradicted"),
        (BELOW, 0.05, "not supported"),
        (AROUND, 0.001, "not supported"),
    ],
)
def test_verdict_needs_the_p_value_too(effect, p, verdict):
    assert Claim("s", effect, p=p).verdict == verdict


def test_never_reached_contradicts_a_claim_of_fewer():
    effect = Interval(np.inf, 25, np.inf, 20)
    assert Claim("s", effect, "shots", 20, larger=False).verdict == "contradicted"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"p": 1.2}, "p = 1.2"),
        ({"p": float("nan")}, "p = nan"),
        ({"number": 5}, "1 to 4"),
        ({"null": float("inf")}, "finite"),
        ({"effect": Interval(0, float("nan"), 1, 3)}, "nan"),
    ],
)
def test_a_claim_refuses_bad_input(kwargs, message):
    with pytest.raises(UserError, match=message):
        Claim("s", **{"effect": ABOVE} | kwargs)


# --- JSON -----------------------------------------------------------------------------------------


def test_json_round_trip():
    text = json.dumps(FULL.to_json(), allow_nan=False)
    assert Claim.from_json(json.loads(text)) == FULL


def test_infinity_is_a_string_in_json():
    assert FULL.to_json()["effect"] == {"mean": 8.25, "low": 6.1, "high": "inf", "n": 20}


def test_json_holds_the_verdict():
    assert Claim("s", BELOW).to_json()["verdict"] == "contradicted"


def test_numbers_of_numpy_become_plain():
    effect = Interval(np.float32(0.5), np.float64(0.25), np.float64(1), np.int64(3))
    claim = Claim("s", effect, null=np.float64(0), larger=np.True_, p=np.float32(0), number=1)
    assert Claim.from_json(json.loads(json.dumps(claim.to_json(), allow_nan=False))) == claim


def test_a_short_entry_takes_the_defaults():
    stored = {"sentence": "s", "effect": {"mean": 2, "low": 1, "high": 3, "n": 20}}
    assert Claim.from_json(stored) == Claim("s", ABOVE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"famly": "cnn"}, "'family'"),
        ({"verdict": "supported"}, "stored as supported"),
        ({"effect": {"mean": 1}}, "low"),
        ({"effect": None}, r"at `\$.effect`"),
    ],
)
def test_a_damaged_entry_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        Claim.from_json(FULL.to_json() | change)


def test_an_entry_without_a_sentence_is_refused():
    stored = FULL.to_json()
    del stored["sentence"]
    with pytest.raises(UserError, match="sentence"):
        Claim.from_json(stored)
