"""What is stored of a submission: text and pictures, nothing that a browser would run.

Formgrader and nbgrader's feedback show the stored notebook by nbconvert, which hands on HTML, scripts and
links as they stand. So only what is on a short list is kept, and a text is shown by nbconvert itself first: if anything
comes out that is not on the list, the text is stored so that it reads as it was typed.
"""

import base64
import binascii
import html
import re
from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy

from nbformat import from_dict
from nbformat.v4 import new_output

from lgutils.teach import masters

LONGEST = 20_000  # characters of a text that is shown as Markdown; longer ones as they were typed
CUT = 200_000  # characters of a text in all
PICTURES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}  # how they start
TAG = re.compile(
    r"""<(?P<end>/?)(?P<name>
    (?:p|em|strong|del|b|i|u|sub|sup|code|pre|ul|ol|li|blockquote|table|thead|tbody|tr|th|td|dl|dt|dd
      |div|span|h[1-6]|a|br|hr)(?=\s?/?>)
    |h[1-6](?=\ id="[^"<>]*">)
    |a(?=(?:\ class="anchor-link")?\ href="(?:https?://|\#)[^"<>]*"(?:\ title="[^"<>]*")?>)
    |img(?=\ src="data:image/(?:png|jpeg);base64,[\w+/=]+"(?:\ (?:alt|title)="[^"<>]*")*\ ?/?>)
    |div(?=\ class="highlight">)|span(?=\ class="[a-z0-9]{1,3}">)|code(?=\ class="language-[^"<>]*">)
    |ol(?=\ start="\d+">)|t[hd](?=\ style="text-align:(?:left|right|center)">)
    |li(?=\ class="task-list-item">)
    |input(?=\ class="task-list-item-checkbox"\ type="checkbox"\ disabled(?:\ checked)?/>)
    )[^<>]*>""",
    re.X,
)  # what nbconvert makes of Markdown without HTML in it, and a few plain tags
ALONE = ("br", "hr", "img", "input")
OPENING = re.compile(r"<(?=[A-Za-z/!?])")
IDENTITY = re.compile(r' id="([^"]*)"')
# Commands of MathJax that make links, attributes or load more of it.
COMMANDS = re.compile(r"\\(?:href|unicode|class|cssId|style|require|mmlToken|data|url)\b")


def text(given: object) -> str:
    """Any value, or a list of lines, as text that can be written as UTF-8."""
    joined = "".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    return joined.encode("utf-8", "replace").decode()


def picture(kind: str, data: object) -> str | None:
    """A PNG or JPEG in base64 without anything else in it; None for everything that is none."""
    try:
        raw = base64.b64decode("".join("".join(data).split()), validate=True)
    except (binascii.Error, ValueError, TypeError):
        return None
    return base64.b64encode(raw).decode() if raw.startswith(PICTURES[kind]) else None


def attachments(given: object) -> dict[str, dict[str, str]]:
    """Pictures pasted into a text answer; anything of another shape is dropped."""
    kept = {}
    for name, bundle in given.items() if isinstance(given, dict) else ():
        if pictures := _pictures(bundle):
            kept[text(name)] = pictures
    return kept


def _pictures(bundle: object) -> dict[str, str]:
    found = {k: picture(k, bundle[k]) for k in PICTURES if isinstance(bundle, dict) and k in bundle}
    return {kind: data for kind, data in found.items() if data}


def markdown(
    source: str, attached: Mapping[str, Mapping[str, str]], names: Collection[str] = ()
) -> str:
    """A Markdown text that gives only plain tags, web links and attached pictures when it is shown.

    Args:
        source: what was handed in.
        attached: its pictures, from `attachments`.
        names: identities that the page has for itself, e.g. of tasks; no heading may take one.
    Returns:
        The source unchanged where it is harmless. Else with `< ` for each `<` that starts HTML; and where that
        is not enough, or the text is too long, all of it as a block of code.
    """
    for tried in (source, OPENING.sub("< ", source)):
        if len(source) <= LONGEST and _harmless(tried, attached, names):
            return tried
    typed = "\n".join(source[:CUT].splitlines())  # other ends of lines could end the block early
    fence = max([*re.findall("`+", typed), "``"], key=len) + "`"
    return f"{fence}\n{typed}\n{fence}"


def _harmless(source: str, attached: Mapping, names: Collection[str]) -> bool:
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    renderer = IPythonRenderer(escape=False, attachments=attached)
    try:
        shown = MarkdownWithMath(renderer=renderer).render(source)
    except Exception:  # a picture that is missing, nested too deep
        return False
    taken = {name + end for name in names for end in ("", "-comment", "_extra_credit")}
    if COMMANDS.search(html.unescape(shown)) or taken & set(IDENTITY.findall(shown)):
        return False
    return _balanced(shown) and not OPENING.search(TAG.sub("", shown))


def _balanced(shown: str) -> bool:
    """Whether every tag that is opened is closed in its turn, so that nothing ends the page's own."""
    open_tags = []
    for tag in TAG.finditer(shown):
        if tag["end"] and (not open_tags or open_tags.pop() != tag["name"]):
            return False
        if not tag["end"] and tag["name"] not in ALONE:
            open_tags.append(tag["name"])
    return not open_tags


def outputs(given: Iterable[Mapping]) -> list:
    """Outputs of a cell with nothing but text, errors, and pictures as PNG or JPEG."""
    return [kept for kept in map(_output, given) if kept is not None]


def _output(given: Mapping):
    kind = given.get("output_type")
    if kind == "stream":
        name = "stderr" if given.get("name") == "stderr" else "stdout"
        return new_output("stream", name=name, text=text(given.get("text", "")))
    if kind == "error":
        lines = given.get("traceback", ())
        lines = [text(line) for line in lines] if isinstance(lines, list | tuple) else []
        names = {key: text(given.get(key, "")) for key in ("ename", "evalue")}
        return new_output("error", **names, traceback=lines)
    bundle = given.get("data")
    data = _pictures(bundle)
    if isinstance(bundle, dict) and "text/plain" in bundle:
        data["text/plain"] = text(bundle["text/plain"])
    if kind not in ("display_data", "execute_result") or not data:
        return None
    if kind == "display_data":
        return new_output(kind, data=data)
    count = given.get("execution_count")
    return new_output(kind, data=data, execution_count=count if isinstance(count, int) else None)


def texts(book, own: Mapping) -> list[str]:
    """Clean the text cells of a notebook in place, but for the teacher's own.

    Args:
        book: an `nbformat.NotebookNode`.
        own: the named cells of the master, from `masters.by_name`.
    Returns:
        The name of each text that could not stay as it was ("" for one without a name).
    """
    changed = []
    for cell in book.cells:
        name = masters.name_of(cell)
        if cell.cell_type == "code" or (
            name in own and masters.nbgrader_utils().is_locked(own[name])
        ):
            continue
        cell.cell_type = "markdown"
        cell.attachments = from_dict(attachments(cell.get("attachments")))
        before, cell.source = cell.source, markdown(cell.source, cell.attachments, own)
        if cell.source != before:
            changed.append(name or "")
    return changed


def notebook(book, master) -> None:
    """Clean a whole notebook in place, also one that something else than this package has stored.

    Args:
        book: an `nbformat.NotebookNode`.
        master: the assignment's, from `masters.load`; it says what the cells with its names are.
    """
    own = masters.by_name(master)
    book.metadata = from_dict({"language_info": {"name": "python"}})
    for cell in book.cells:
        name = masters.name_of(cell)
        cell.metadata = deepcopy(own[name].metadata) if name in own else from_dict({})
        if cell.cell_type == "code":
            cell.outputs = outputs(cell.outputs)
    texts(book, own)
