"""Files from outside: bounded before they are read, and held against a type afterwards.

Whatever is wrong with a file, one `UserError` says what, where in it, and what to do.
"""

import io
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from lgutils.errors import UserError

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")

JSON_LIMIT = 2**25  # bytes; the largest that the library writes has a few million
TABLE_LIMIT = 2**28
WIDEST = 1000  # columns of a table
DEEPEST = 100  # levels of JSON in each other
AGAIN = "Copy or make it again."


def regular(path: Path | str, limit: int) -> int:
    """The size in bytes of a file that can be read.

    Raises:
        UserError: missing, no regular file (reading a pipe or a device may never end), or more than `limit`.
    """
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"There is no file {path}. Check the name, or make it first.") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise UserError(f"{path} cannot be read ({reason(error)}). Check the name.") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise UserError(f"{path} is {kind}, but a file is expected here. Check the name.")
    if found.st_size > limit:
        raise _too_large(path, found.st_size, limit)
    return found.st_size


def _too_large(path: Path | str, size: int, limit: int) -> UserError:
    return UserError(
        f"{path} has {size / 2**20:,.1f} MiB; at most {limit / 2**20:,.1f} are read of such a file. "
        "Check that it is the right one."
    )


def content(path: Path | str, limit: int) -> bytes:
    """All bytes of a regular file of at most `limit` bytes; raises `UserError` for any other."""
    regular(path, limit)
    try:
        with Path(path).open("rb") as handle:
            data = handle.read(limit + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}).") from error
    if len(data) > limit:  # it grew, or its folder (such as /proc) tells no sizes
        raise _too_large(path, len(data), limit)
    return data


def text(path: Path | str, limit: int = JSON_LIMIT, encoding: str = "utf-8") -> str:
    """The text of a regular file of at most `limit` bytes; raises `UserError` for any other."""
    try:
        return content(path, limit).decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8 ({reason(error)}). {AGAIN}") from error


def reason(error: object) -> str:
    """Why, on one line of at most 300 characters."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    why = " ".join(why.split()).rstrip(".") or type(error).__name__
    return why if len(why) <= 300 else why[:297] + "..."


def checked(value: Any, kind: type[T], name: Path | str, remedy: str = AGAIN) -> T:
    """Hold plain values (as JSON gives them) against a type and build it.

    Args:
        value: dicts, lists, strings, numbers.
        kind: a dataclass, `msgspec.Struct` or any other type; entries that it lacks are passed over, those
            with a default may be absent, whole numbers may stand for floats.
        name: the file, for the message.
        remedy: what to do, a sentence.
    Raises:
        UserError: with the place in the file, as in "at `$.card.classes[3]`".
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeError, RecursionError, OverflowError) as error:
        why = reason(error).replace(" - at ", " at ")
        why = why[0].lower() + why[1:] if why.startswith(("Expected", "Object")) else why
        raise _damaged(name, why, remedy) from error


def _damaged(name: Path | str, why: str, remedy: str) -> UserError:
    return UserError(f"{name} is damaged or not such a file ({why}). {remedy}")


def parsed(data: str | bytes, kind: type[T], name: Path | str, remedy: str = AGAIN) -> T:
    """Read JSON that is at hand already; see `checked`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"no JSON: {reason(error)}", remedy) from error
    if _deeper(value, DEEPEST):
        raise _damaged(name, f"JSON nested more than {DEEPEST} levels deep", remedy)
    return checked(value, kind, name, remedy)


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(part, levels - 1) for part in parts)


def table(
    path: Path | str, columns: Mapping[str, Any], remedy: str = AGAIN, **how: Any
) -> "pandas.DataFrame":
    """Read a CSV file of at most `TABLE_LIMIT` bytes.

    Args:
        columns: name -> type of those that must be there, such as `Share`; others may be.
        how: for `pandas.read_csv`.
    Raises:
        UserError: as `json_file`; of a value that is not of its type the line is told.
    """
    import pandas

    data = content(path, TABLE_LIMIT)
    if data.partition(b"\n")[0].count(b",") > WIDEST:
        raise _damaged(path, f"more than {WIDEST} columns", remedy)
    try:
        frame = pandas.read_csv(io.BytesIO(data), low_memory=False, **how)
    except Exception as error:  # pandas raises many kinds for what is no table
        raise _damaged(path, reason(error), remedy) from error
    for name, kind in columns.items():
        if name not in frame:
            raise _damaged(path, f"it lacks the column {name!r}", remedy)
        for line, value in enumerate(frame[name].tolist(), 2):
            checked(value, kind, f"{path}, line {line}, column {name!r},", remedy)
    return frame


def json_file(path: Path | str, kind: type[T], remedy: str = AGAIN) -> T:
    """Read a JSON file of at most `JSON_LIMIT` bytes as a type; see `checked`.

    Raises:
        UserError: missing, unreadable, too large, no JSON, nested too deep, or of another shape.
    """
    return parsed(content(path, JSON_LIMIT), kind, path, remedy)
