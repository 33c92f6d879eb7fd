"""Pages of the API reference: one for each module or package, filled from the docstrings by sphinx."""

import ast
import pkgutil
from pathlib import Path

import lgutils

HIDDEN = ("cli",)  # commands: their help is on the command line


def pages(folder: Path) -> None:
    """Write `index.rst` and a page for each public module into `folder`."""
    folder.mkdir(parents=True)
    names = [
        module.name
        for module in pkgutil.iter_modules(lgutils.__path__)
        if not module.name.startswith("_") and module.name not in HIDDEN
    ]
    root = Path(lgutils.__path__[0])
    rows = []
    for name in names:
        package = (root / name).is_dir()
        source = root / name / "__init__.py" if package else root / f"{name}.py"
        tree = ast.parse(source.read_text(encoding="utf-8"))
        (folder / f"{name}.rst").write_text(_page(name, root, package, _exports(tree)))
        summary = (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ")
        rows.append(f"   * - :doc:`{name}`\n     - {summary}")
    (folder / "index.rst").write_text(
        _title("API reference")
        + "Every module and package, with its public functions and classes.\n\n"
        + ".. toctree::\n   :hidden:\n\n" + "".join(f"   {name}\n" for name in names)
        + "\n.. list-table::\n   :widths: 20 80\n\n" + "\n".join(rows) + "\n"
    )  # fmt: skip


def _exports(tree: ast.Module) -> bool:
    """Whether a module says by `__all__` what is public in it."""
    return any(
        isinstance(node, ast.Assign)
        and any(getattr(t, "id", "") == "__all__" for t in node.targets)
        for node in tree.body
    )


def _title(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n\n"


def _page(name: str, root: Path, package: bool, exports: bool) -> str:
    """The names a package exports; of one that exports none, those of its modules."""
    text = _title(f"lgutils.{name}")
    if exports:
        return text + f".. automodule:: lgutils.{name}\n   :members:\n   :imported-members:\n"
    if not package:
        return text + _module(f"lgutils.{name}", root / f"{name}.py")
    inner = [m.name for m in pkgutil.iter_modules([str(root / name)]) if m.name[0] != "_"]
    parts = (
        _title(f"{name}.{one}", "-") + _module(f"lgutils.{name}.{one}", root / name / f"{one}.py")
        for one in inner
    )
    return "\n".join([text + f".. automodule:: lgutils.{name}\n", *parts])


def _module(name: str, source: Path) -> str:
    """A module with the functions and classes that it defines; what it imports is not its own."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    body = ast.parse(source.read_text(encoding="utf-8")).body
    own = [node.name for node in body if isinstance(node, kinds) and node.name[0] != "_"]
    members = f"   :members: {', '.join(own)}\n" if own else ""
    return f".. automodule:: {name}\n{members}"
