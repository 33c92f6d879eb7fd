"""Ways in which bytes and JSON come to harm, as strategies of functions that do it."""

import copy
import json
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

NUMBERS = st.one_of(
    st.integers(-3, 300), st.sampled_from([2**31, 2**63, 2**64, 10**30, -(2**63), 10**400]),
    st.floats(), st.booleans(),
)  # fmt: skip
WORDS = st.one_of(
    st.sampled_from(["", "nan", "../../x", "/etc", "\x00", "\udcff", "Ω", "a\nb", "x" * 300, "cnn", "block"]),
    st.text(max_size=8),
)  # fmt: skip


def _deep(depth: int) -> list:
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


LEAVES = st.one_of(st.none(), NUMBERS, WORDS)
VALUES = st.one_of(
    LEAVES,
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
        max_leaves=4,
    ),
    st.integers(50, 300).map(_deep),
)  # fmt: skip
Change = Callable[[Any], Any]


@st.composite
def changes(draw: st.DrawFn, most: int = 3) -> Change:
    """A function that changes one to `most` places of plain data: other values, gone, doubled, renamed."""
    steps = draw(
        st.lists(
            st.tuples(
                st.integers(0, 10**6),
                st.sampled_from(["value", "value", "gone", "doubled", "renamed", "added"]),
                VALUES,
                WORDS,
            ),
            min_size=1,
            max_size=most,
        )
    )
    return Changed(tuple(steps))


class Changed:
    """Changes of plain data; its text is the case."""

    def __init__(self, steps: tuple):
        self.steps = steps

    def __repr__(self) -> str:
        return f"Changed({self.steps!r})"

    def __call__(self, data: Any) -> Any:
        data = [copy.deepcopy(data)]
        for number, how, value, word in self.steps:
            places = list(_places(data))
            if not places:
                return None
            owner, key = places[number % len(places)]
            _change(owner, key, how, copy.deepcopy(value), word)
        return data[0] if data else None


def _places(data: Any):
    for key, value in list(data.items() if isinstance(data, dict) else enumerate(data))[:40]:
        yield data, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _change(owner: Any, key: Any, how: str, value: Any, word: str) -> None:
    if how == "gone":
        del owner[key]
    elif how == "doubled" and isinstance(owner, list):
        owner.append(owner[key])
    elif how == "renamed" and isinstance(owner, dict):
        owner[word] = owner.pop(key)
    elif how == "added" and isinstance(owner[key], dict):
        owner[key][word] = value
    elif how == "added" and isinstance(owner[key], list):
        owner[key].append(value)
    else:
        owner[key] = value


def dumped(data: Any) -> bytes:
    """JSON as Python writes it: with NaN, and with what is no UTF-8."""
    return json.dumps(data).encode("utf-8", "surrogatepass")


class Bytes:
    """Damage of bytes; its text is the case."""

    def __init__(self, how: str, place: float, more: bytes):
        self.how, self.place, self.more = how, place, more

    def __repr__(self) -> str:
        return f"Bytes({self.how!r}, {self.place!r}, {self.more!r})"

    def __call__(self, data: bytes) -> bytes:
        at, more = int(self.place * len(data)), self.more
        if self.how == "cut":
            return data[:at]
        if self.how == "headless":
            return data[at:]
        if self.how == "flip" and data:
            at = min(at, len(data) - 1)
            return (
                data[:at]
                + bytes([data[at] ^ (more[0] if more and more[0] else 1)])
                + data[at + 1 :]
            )
        if self.how == "write":
            return data[:at] + more + data[at + len(more) :]
        if self.how == "insert":
            return data[:at] + more + data[at:]
        if self.how == "zero":
            return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]
        if self.how == "twice":
            return data + data
        return more


def bytes_damage() -> st.SearchStrategy[Bytes]:
    """Cut, flipped, overwritten, longer, other bytes. Half of the places lie at the start, with the headers."""
    whole, start = st.floats(0, 1, exclude_max=True), st.floats(0, 0.02)
    return st.builds(
        Bytes,
        st.sampled_from(["cut", "headless", "flip", "flip", "write", "insert", "zero", "twice", "other"]),
        st.one_of(whole, start),
        st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff" * 8, b"\x00", b'"', b"[" * 20000, b"}"])),
    )  # fmt: skip


def safetensors(header: Any, body: bytes) -> bytes:
    """A safetensors file of any header."""
    told = dumped(header)
    return struct.pack("<Q", len(told)) + told + body


def taken_apart(data: bytes) -> tuple[dict, bytes]:
    """(header, body) of a safetensors file."""
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]
