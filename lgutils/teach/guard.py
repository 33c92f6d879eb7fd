"""What happens in a kernel when the guard comes, the cell that must fail before each cell of the master.

`seal` runs a private copy of this module, as it does with `rules`. A notebook may call its own things
by the names of Python's builtins (`from numpy import *`, `sum = 0`, a helper named `max`): its functions
keep them, and only the code of the master's cells, which is read behind the guard, means Python's own.
"""

import ast
import sys
from collections.abc import Callable, Collection
from sys import audit

GUARD = "assert 0 > 1, 'guard "  # start of the cell that must fail
PROBE = "guard"  # the mode of an opening that must be refused; no real one has it
PYTHON = "Python's "  # no name that a notebook can write starts so
# Jupyter has its own of these; the compiler wants to read `super` itself.
LEFT = ("input", "_", "exit", "quit", "display", "get_ipython", "open", "super")


def restorer(report: Callable, shell, probe: str, kept: Collection[str]) -> Callable:
    """A rule for the event `compile`, which acts when it sees the guard.

    It shows that refusals still work and are still heard, puts changed builtins and the session's
    transformers of code back, and has the next cell read with Python's own builtins.

    Args:
        report: called with kind and sentence; here of the kinds "guard", "builtins" and "seal".
        shell: IPython's shell.
        probe: a path that may not be opened.
        kept: names that the master defines itself; a builtin among them, e.g. `round`, stays the student's.
    """
    live = vars(sys.modules["builtins"])  # everybody's; this module's own are a copy
    original = {name: value for name, value in live.items() if name not in LEFT}
    truth = Truth(original, live, kept)
    shell.ast_transformers.append(truth)
    sound = _transformers(shell)

    def restore(event, args):
        source = args[0]
        if isinstance(source, bytes):  # so it comes from text, by way of `compile`
            source = source.decode("utf-8", "replace")
        if not isinstance(source, str) or not source.startswith(GUARD):
            return
        try:
            audit("open", probe, PROBE, 0)
        except PermissionError:
            report("guard", source.removeprefix(GUARD).strip().rstrip("'"))
        if changed := sorted(name for name in original if live.get(name) is not original[name]):
            live.update(original)
            which = ", ".join(changed)
            report(
                "builtins", f"Python's own {which} was redefined; it was put back before the tests."
            )
        now = _transformers(shell)
        if any(now[place] != sound[place] for place in sound):
            for (holder, name), value in sound.items():
                setattr(holder, name, list(value) if isinstance(value, list) else value)
            report("seal", "This notebook changed how code is read (IPython's transformers).")
        truth.left = 2  # the guard itself, then the master's cell

    return restore


def _transformers(shell) -> dict:
    """What changes a cell before it runs, by holder and attribute; lists are copied."""
    manager = shell.input_transformer_manager
    lists = [(shell, "ast_transformers"), (shell, "input_transformers_post")]
    lists += [(manager, f"{kind}s") for kind in ("cleanup_transform", "line_transform", "token_transformer")]  # fmt: skip
    found = {(holder, name): list(getattr(holder, name)) for holder, name in lists}
    return {(shell, "input_transformer_manager"): manager, **found}


class Truth:
    """Makes the master's cells read Python's builtins, whatever the notebook calls by their names."""

    def __init__(self, original: dict, live: dict, kept: Collection[str]):
        self.left = 0  # trees until the one of the master's cell, that one included
        self._original, self._live, self._kept = original, live, set(kept)

    def visit(self, tree):
        """Called by IPython with the tree of each cell."""
        if self.left:
            self.left -= 1
            if not self.left:
                self._rename(tree)
        return tree

    def _rename(self, tree) -> None:
        own = self._kept | _bound(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in self._original and node.id not in own:
                true = PYTHON + node.id
                self._live[true] = self._original[node.id]
                node.id = true


def _bound(tree) -> set[str]:
    """Names that some code binds anywhere."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        else:  # functions, classes, imports, caught errors, patterns
            found |= {getattr(node, "name", None), getattr(node, "asname", None)}
    return found - {None}
