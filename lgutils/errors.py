"""Errors a user can act on: what was given, what was expected, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Bad input. The message is one clear sentence or two; the command line exits with code 2."""


def missing(what: str, extra: str) -> UserError:
    """Build the error for packages that are not installed.

    Args:
        what: a few words that end the sentence's first half, such as "JupyterLab is not installed".
        extra: of lgutils, that brings them; works in a clone and for a wheel.
    Returns:
        A `UserError` (not raised) with the command that installs them.
    """
    return UserError(f'{what}: python -m pip install "lgutils[{extra}]".')


def unknown(kind: str, name: str, options: Iterable[str]) -> UserError:
    """Build the error for a name that is not among the options.

    Args:
        kind: what the name should have been, e.g. "layer" or "dataset".
        name: what was given.
        options: every legal name.
    Returns:
        A `UserError` (not raised) that lists the nearest legal names.
    """
    options = sorted(options)
    near = get_close_matches(str(name), options, n=3, cutoff=0.4)
    if near:
        hint = "Nearest: " + ", ".join(map(repr, near)) + "."
    else:
        shown = ", ".join(map(repr, options[:12])) + (", ..." if len(options) > 12 else ".")
        hint = f"Choose one of {shown}" if options else "There are none."
    return UserError(f"Unknown {kind} {name!r}. {hint}")
