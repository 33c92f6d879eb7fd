"""The notebook that is graded: the student's answers, the master's tests."""

import json
import os
from copy import deepcopy
from pathlib import Path

from lgutils.teach import clean, masters

LARGEST = 20_000_000  # bytes of a submitted file; beyond that it is not even read
MOST = 2000  # cells of a submission
TWICE = "only the first is graded as such, the other runs as an ordinary cell"
SHOWN = (
    "held HTML, a link or picture of another kind, or was very long: it is shown as it was typed"
)


class Unreadable(Exception):
    """A submission that is no notebook; the message says why, for the teacher."""


def read(path: Path | str) -> list[dict]:
    """Read a submission without trusting it.

    Args:
        path: the submitted file.
    Returns:
        A dict for each cell with `kind` ("code" or "markdown"), `source`, `name` (its grade_id, or
        None), `id` and `attachments`. Outputs, points and all other metadata are left behind.
    Raises:
        Unreadable: missing, a folder, a link that leads elsewhere, too large, not JSON, no notebook,
            more than 2000 cells.
    """
    path = Path(path)
    try:
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(path.parent)):
            raise Unreadable("the file is a link that leads outside its folder")
        if not path.is_file():
            raise Unreadable("there is no file" if not path.exists() else "it is not a file")
        if (size := path.stat().st_size) > LARGEST:
            raise Unreadable(f"the file has {size / 1e6:.0f} MB, {LARGEST / 1e6:.0f} are allowed")
        raw = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Unreadable("the file is not JSON") from error
    except OSError as error:
        raise Unreadable(f"the file cannot be read ({error.strerror})") from error
    if len(cells := _cells(raw)) > MOST:
        raise Unreadable(f"the notebook has {len(cells)} cells, {MOST} are allowed")
    return [cell for cell in map(_cell, cells) if cell]


def _cells(raw: object) -> list:
    """The list of cells in version 4 of the format, or in version 3 (worksheets)."""
    if isinstance(raw, dict):
        if isinstance(raw.get("cells"), list):
            return raw["cells"]
        sheets = raw.get("worksheets")
        if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict):
            return sheets[0].get("cells") if isinstance(sheets[0].get("cells"), list) else []
    raise Unreadable("the file is JSON, but not a notebook")


def _cell(raw: object) -> dict | None:
    if not isinstance(raw, dict):
        return None
    source = raw.get("source", raw.get("input", ""))
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    if not isinstance(source, str):
        return None
    meta = raw.get("metadata")
    marks = meta.get("nbgrader") if isinstance(meta, dict) else None
    name = marks.get("grade_id") if isinstance(marks, dict) else None
    return {
        "kind": "code" if raw.get("cell_type") == "code" else "markdown",
        "source": source.encode("utf-8", "replace").decode(),
        "name": name if isinstance(name, str) else None,
        "id": raw["id"] if isinstance(raw.get("id"), str) else None,
        "attachments": clean.attachments(raw.get("attachments")),
    }


def stubs(master):
    """The master as students get it: solutions and hidden tests cut out, outputs dropped.

    Args:
        master: a notebook from `masters.load`; not modified.
    Returns:
        A new notebook.
    """
    from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions

    book = deepcopy(master)
    for step in (ClearSolutions(), ClearHiddenTests()):
        book, _ = step.preprocess(book, {})
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return book


def assemble(master, submission: list[dict]):
    """Put a submission's answers between the master's tests.

    The submission's cells keep their order. Test cells and other locked cells get the master's source,
    hidden tests included; all metadata, points too, is the master's. What was missing is put back.

    Args:
        master: a notebook from `masters.load`; not modified.
        submission: from `read`; an empty list gives the blank assignment.
    Returns:
        (notebook without outputs, flags: a sentence for each thing that was not as handed out).
    """
    utils = masters.nbgrader_utils()
    stub, own = masters.by_name(stubs(master)), masters.by_name(master)
    cells, flags, seen = [], [], set()
    submission = _named(submission, master)
    for given in submission:
        name = given["name"]
        if name in seen:
            flags.append(f"cell {name} came twice: {TWICE}")
        if name not in own or name in seen:
            cells.append(_plain(given))
            continue
        seen.add(name)
        locked = utils.is_locked(own[name])
        if given["kind"] != own[name].cell_type:
            flags.append(f"cell {name} had another type: it was set back")
        if locked and not _same(given["source"], own[name].source, stub[name].source):
            flags.append(f"locked cell {name} was edited: the original was put in its place")
        cells.append(
            _marked(own[name], stub[name], own[name].source if locked else given["source"])
        )
        if given["attachments"] and own[name].cell_type == "markdown":
            cells[-1].attachments = given["attachments"]
    flags += _put_back(cells, master, stub, seen)
    book = _book(cells)
    for name in clean.texts(book, own):
        flags.append(f"{f'the text {name}' if name else 'a text'} {SHOWN}")
    return book, flags if seen else ["no cell of this assignment was found"]


def _named(submission: list[dict], master) -> list[dict]:
    """The same cells; where a tool has removed all names, the release's cell ids say which is which."""
    names = {cell.get("id"): masters.name_of(cell) for cell in master.cells}
    if {given["name"] for given in submission} & set(names.values()) - {None}:
        return submission
    return [{**given, "name": names.get(given["id"])} for given in submission]


def _same(source: str, *originals: str) -> bool:
    def lines(text):
        return [line.rstrip() for line in text.strip().splitlines() if line.strip()]

    return any(lines(source) == lines(original) for original in originals)


def _plain(given: dict):
    from nbformat.v4 import new_code_cell, new_markdown_cell

    if given["kind"] == "code":
        return new_code_cell(given["source"])
    return new_markdown_cell(given["source"], attachments=given["attachments"])


def _marked(own, stub, source: str):
    """A cell of the master with a source, and with the checksum by which nbgrader knows a blank."""
    utils = masters.nbgrader_utils()
    cell = deepcopy(own)
    cell.source = source
    if cell.cell_type == "code":
        cell.outputs, cell.execution_count = [], None
    cell.metadata.nbgrader["checksum"] = utils.compute_checksum(
        own if utils.is_locked(own) else stub
    )
    return cell


def _put_back(cells: list, master, stub: dict, seen: set) -> list[str]:
    """Insert what is missing behind the cell that comes before it in the master."""
    utils = masters.nbgrader_utils()
    flags, before = [], None
    for cell in master.cells:
        name = masters.name_of(cell)
        if name is None:
            continue
        if name not in seen:
            locked = utils.is_locked(cell)
            source = cell.source if locked else stub[name].source
            at = [i + 1 for i, c in enumerate(cells) if before and masters.name_of(c) == before]
            cells.insert(at[0] if at else 0, _marked(cell, stub[name], source))
            kind = "test cell" if utils.is_grade(cell) and locked else "cell"
            flags.append(f"{kind} {name} was missing and was put back")
        before = name
    return flags


def _book(cells: list):
    from nbformat.v4 import new_notebook

    book = new_notebook(cells=cells)
    book.metadata["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python",
    }  # fmt: skip
    book.metadata["language_info"] = {"name": "python"}
    for index, cell in enumerate(book.cells):
        cell["id"] = f"cell-{index}"
    return book
