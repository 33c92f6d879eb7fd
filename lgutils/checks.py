"""Values at the borders: what a setting may be stands in its annotation, and is checked against it once.

The types below say a range twice, for the check and in words for the message. A frozen dataclass of settings
calls `typed` when it is made; a function checks a value by itself with `checked`, an object with `expect`.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from reprlib import repr as shortened
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from msgspec import Meta

from lgutils.errors import UserError

MOST = 10**9
ATOMS = (int, float, str, bool)
LARGEST = 2.0**128 - 2.0**104  # of what float32 weights can hold; inf and nan are beyond

Count = Annotated[
    int,
    Meta(ge=1, le=MOST, description="must be positive: a whole number from 1 to 1,000,000,000"),
]
Whole = Annotated[int, Meta(ge=0, le=2**53, description="must be a whole number, 0 or more")]
Seed = Annotated[
    int, Meta(ge=0, lt=2**32, description="must be a whole number from 0 to 4,294,967,295")
]
Positive = Annotated[
    float, Meta(gt=0, le=LARGEST, description="must be positive: a finite number above 0")
]
NotNegative = Annotated[
    float, Meta(ge=0, le=LARGEST, description="must be a finite number, 0 or more")
]
Finite = Annotated[float, Meta(ge=-LARGEST, le=LARGEST, description="must be a finite number")]
Share = Annotated[
    float, Meta(ge=0, le=1, description="is a share: a number that lies between 0 and 1")
]
Name = Annotated[str, Meta(min_length=1, description="must be a name")]
Names = Annotated[
    tuple[str, ...], Meta(description="must be a tuple of names, such as ('features.4',)")
]
Kwargs = Annotated[
    dict[str, Any],
    Meta(description="must be a dictionary of plain values (finite numbers, text, lists) by name"),
]


def plain(value: Any) -> Any:
    """The value with Python's numbers in the place of numpy's and torch's, in lists and the like too."""
    if getattr(value, "ndim", 2) < 2:  # a number or a vector
        return value.tolist()
    if isinstance(value, range):
        return list(value)
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return {k: plain(v) for k, v in value.items()} if type(value) is dict else value


def checked(name: str, value: Any, kind: Any) -> Any:
    """A value that fits an annotation; see `plain`; a list becomes a tuple where one is expected.

    Raises:
        UserError: it does not fit; says what was given and what is expected.
    """
    value = plain(value)
    if objects := _objects(kind):
        if value is not None or kind in objects:
            expect(value, objects[0], name)
        return value
    try:
        found = (_known if type(value) in ATOMS else msgspec.convert)(value, kind)
        if isinstance(found, dict):
            json.dumps(found, allow_nan=False)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        reason = f", but it {words}" if (words := _words(kind)) else f". {error}"
        raise UserError(f"{name} {_shown(value)} was given{reason}.") from None
    return found if isinstance(found, tuple | dict) else value  # 1 stays 1 where 1.0 would do


@lru_cache(maxsize=1024, typed=True)
def _known(value: Any, kind: Any) -> Any:
    """A number or text that fits; remembered, since a grid makes the same settings again and again."""
    return msgspec.convert(value, kind)


@lru_cache
def _objects(kind: Any) -> list[type]:
    """The dataclasses that an annotation allows."""
    return [part for part in (kind, *get_args(kind)) if is_dataclass(part)]


def _shown(value: Any) -> str:
    """A value on one line, cut short."""
    return " ".join(shortened(value).split())


def _words(kind: Any) -> str:
    """What an annotation says for people; "" if nothing."""
    for part in (kind, *get_args(kind)):
        for meta in getattr(part, "__metadata__", ()):
            return meta.description
    return ""


@lru_cache
def _kinds(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def typed(config: Any, *names: str) -> None:
    """Check fields of a frozen dataclass against its annotations; for its `__post_init__`.

    Args:
        names: of the fields; none for all of them.
    Raises:
        UserError: see `checked`.
    """
    kinds = _kinds(type(config))
    for name in names or (n for n in kinds if n in config.__dataclass_fields__):
        value = checked(name, getattr(config, name), kinds[name])
        object.__setattr__(config, name, value)


def expect(value: Any, kind: type, what: str, advice: str = "") -> None:
    """Refuse what is not of a kind.

    Args:
        what: the argument's name.
        advice: what to do.
    Raises:
        UserError: names both kinds.
    """
    if not isinstance(value, kind):
        shown = f" {_shown(value)}" if isinstance(value, str | int | float) else ""
        told = f"{what}{shown} is of type {type(value).__name__}; {kind.__name__} is expected."
        raise UserError(f"{told} {advice}".rstrip())


def once(what: str, values: Sequence[Any]) -> None:
    """Refuse values that stand twice; a `UserError` names the first."""
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        raise UserError(f"{what} {twice[0]!r} is given twice. Name it once.")
