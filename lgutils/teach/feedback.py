"""A page for each student: points, what failed and why, and what the teacher wrote.

The text of hidden tests is not shown, nor tracebacks that quote it; their messages are. The page holds
no scripts and forbids the browser to load anything, so formulas stay as they were typed.
"""

import html
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from lgutils import files
from lgutils.errors import UserError
from lgutils.teach import clean, masters
from lgutils.teach.classroom import Classroom, enter
from lgutils.teach.records import Row, rows
from lgutils.teach.release import REGION

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
FONT = re.compile(r"@font-face\s*\{[^}]*\}")
SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.S | re.I)
# nbgrader's own list of cells, without names: the first in the page, before anything of the student's
CONTENTS = re.compile(
    r'<div class="panel-heading">\s*<h4>.*?<div id="toc">.*?</div>\s*</div>', re.S
)
STYLE = """
img { max-width: 100%; height: auto; }
table { display: block; overflow-x: auto; }
div#notebook { overflow-wrap: break-word; }
.table td { overflow-wrap: anywhere; min-width: 5em; }
.table td:first-child { min-width: 8em; }
.table td:last-child { min-width: 11em; }
div.nbgrader_cell .panel-heading { height: auto; overflow: hidden; }
@media (max-width: 540px) { .container, .panel-body { padding: 0 2px; } }
"""
ADDRESS = re.compile(
    r"""(<(?!a\b)[^<>]*?\b(?:src|href|data|poster|srcset)\s*=\s*["']?)\s*(?:https?:)?//[^"'\s>]*""",
    re.I,
)


def feedback(
    names: Iterable[str] = (),
    folder: Path | str = "teaching",
    *,
    masters: Mapping[str, Path] | None = None,
) -> list[Path]:
    """Write feedback/STUDENT/NAME/NAME.html for every graded submission.

    Args:
        names: assignments; none for all that were graded.
        masters: assignment -> instructor's notebook; None for the course's own.
    Returns:
        The pages, by assignment and student.
    Raises:
        UserError: an unknown assignment, or nothing was graded.
    """
    room = enter(folder, masters)
    chosen = room.choose(names)
    graded = [row for row in rows(room, chosen) if _ready(room, row)]
    if not graded:
        raise UserError(
            f"Nothing was graded in {room.folder} for {', '.join(chosen)}. Run `lgutils teach grade` first."
        )
    exporter = _exporter()
    return [_page(room, row, exporter) for row in graded]


def _ready(room: Classroom, row: Row) -> bool:
    return room.autograded(row.assignment, row.student).is_file() and not row.record.unrun


def _exporter():
    """nbgrader's own page for feedback, without what it would load from elsewhere."""
    import nbgrader
    from nbconvert import HTMLExporter

    forms = Path(nbgrader.__file__).parent / "server_extensions" / "formgrader"
    styles = forms / "static" / "node_modules" / "bootstrap" / "dist" / "css"
    return HTMLExporter(
        template_name="feedback", extra_template_basedirs=[str(forms / "templates")],
        extra_template_paths=[str(styles)], mathjax_url="", require_js_url="", jquery_url="",
        mermaid_js_url="", jupyter_widgets_base_url="",
    )  # fmt: skip


def _page(room: Classroom, row: Row, exporter) -> Path:
    import nbformat

    name, student = row.assignment, row.student
    book = nbformat.read(room.autograded(name, student), as_version=4)
    comments = _comments(room, row)
    clean.notebook(book, masters.load(room.masters[name]))
    for cell in book.cells:
        _mark(cell, row, comments)
    book.cells.insert(0, nbformat.v4.new_markdown_cell(_summary(row, comments)))
    told = {"notebook": name, "score": row.total, "max_score": row.maximum, "late_penalty": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text, _ = exporter.from_notebook_node(book, resources={"nbgrader": told})
    path = room.folder / "feedback" / student / name / f"{name}.html"
    return files.write_text(path, _closed(text))


def _closed(text: str) -> str:
    """The page without scripts and addresses of other machines; links to click on stay."""
    text = CONTENTS.sub("", text, count=1)
    text = ADDRESS.sub(r"\1", SCRIPT.sub("", FONT.sub("", text)))
    text = re.sub("http-equiv", "no-equiv", text, flags=re.I)  # a page must not send readers on
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    text = text.replace("<head>", f"<head>\n{policy}\n{view}", 1)
    return text.replace("</head>", f"<style>{STYLE}</style>\n</head>", 1)  # after nbgrader's own


def _comments(room: Classroom, row: Row) -> dict[str, str]:
    """Cell -> what the teacher wrote, or nbgrader's "No response."."""
    with room.gradebook() as book:
        notebook = book.find_submission_notebook(row.assignment, row.assignment, row.student)
        return {comment.name: comment.comment for comment in notebook.comments if comment.comment}


def _mark(cell, row: Row, comments: Mapping[str, str]) -> None:
    """Give a cell its points and comment, and take from a test cell what students must not see."""
    marks = cell.metadata.get("nbgrader") or {}
    task = marks.get("grade_id")
    if marks.get("solution"):
        marks["comment"] = comments.get(task)
    if marks.get("grade") and task in row.points:
        marks["score"], marks["points"] = row.points[task], row.most[task]
    if marks.get("grade") and not marks.get("solution"):
        cell.source = REGION.sub("# hidden tests", cell.source)
        cell["outputs"] = [_short(output) for output in cell.get("outputs", ())]


def _short(output):
    """An error without its traceback, which quotes the test."""
    if output.output_type == "error":
        output.traceback = [f"{output.ename}: {output.evalue}"]
    return output


def _summary(row: Row, comments: Mapping[str, str]) -> str:
    """A table of the tasks, as HTML in which everything is escaped."""
    head = "<tr><th>task</th><th>points</th><th>what the tests or the teacher said</th></tr>"
    body = "".join(
        f'<tr><td><a href="#{_text(task)}">{_text(task).replace("_", "_<wbr>")}</a></td>'
        f"<td>{points:g} of {row.most[task]:g}</td>"
        f"<td>{_text(_said(row, task, comments))}</td></tr>"
        for task, points in row.points.items()
    )
    flags = "".join(f"<li>{_text(flag)}</li>" for flag in row.record.flags)
    notes = f"<p>What was noticed when it was run:</p><ul>{flags}</ul>" if flags else ""
    title = f"<h2>{_text(row.assignment)}: {row.total:g} of {row.maximum:g} points</h2>"
    table = f'<table class="table"><thead>{head}</thead><tbody>{body}</tbody></table>'
    return f"<div>{title}{table}{notes}</div>"


def _said(row: Row, task: str, comments: Mapping[str, str]) -> str:
    parts = [comments.get(task), comments.get(f"{task}_answer"), row.record.messages.get(task)]
    if task in row.pending:
        parts.append("Not final: the teacher will look at it.")
    return " ".join(filter(None, parts))


def _text(text: str) -> str:
    return html.escape(" ".join(str(text).split()))
