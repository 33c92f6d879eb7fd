"""Run the notebooks in order: executed copies and self-contained pages in a run folder."""

import asyncio
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Coroutine
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from lgutils import files, home, machine
from lgutils.errors import UserError, missing, unknown

SLOW = 3  # times the expected seconds, and the bar says what may be the reason
WIDTH = 60  # letters of a running cell's output beside the bar
EQUATION = re.compile(  # or code, which may hold dollars that are none
    r"```.*?```|`[^`]*`|\$\$(?P<display>.+?)\$\$|(?<![\\\w$])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$(?!\w)",
    re.DOTALL,
)

FOLDING = """\
{%- extends 'lab/index.html.j2' -%}
{%- macro folded(cell, tag, title, inside) -%}
{%- if tag in cell.metadata.get('tags', []) -%}
<details class="folded"><summary>{{ title }}</summary>{{ inside }}</details>
{%- else -%}{{ inside }}{%- endif -%}
{%- endmacro -%}
{%- block input_group -%}{{ folded(cell, 'hide-input', 'Show the code', super()) }}{%- endblock -%}
{%- block output_group -%}{{ folded(cell, 'hide-output', 'Show the answer', super()) }}{%- endblock -%}
{%- block html_head_css -%}{{ super() }}<style>
details.folded > summary { margin-left: 64px; padding: 4px; cursor: pointer;
  font-family: var(--jp-ui-font-family, sans-serif); color: var(--jp-ui-font-color2, #616161); }
{{ resources.ledgers }}
@media (max-width: 760px) { details.folded > summary { margin-left: 0; } }
</style>{%- endblock -%}
"""


@dataclass(frozen=True)
class Chapter:
    """One finished notebook: `error` is None, or the failing cell's last line."""

    name: str
    seconds: float
    expected: float
    error: str | None
    notebook: Path
    page: Path


def notebooks_folder() -> Path:
    """The course's notebooks, see `home.folder`."""
    return home.folder() / "notebooks"


def chapters(only: str | None = None) -> list[Path]:
    """Notebooks in course order; `only` picks them by number or start of name, comma-separated."""
    every = sorted(notebooks_folder().glob("[0-9][0-9]*.ipynb"))
    if only is None:
        return every
    chosen = []
    for part in filter(None, (p.strip() for p in only.split(","))):
        found = [path for path in every if path.stem.startswith(part)]
        if not found:
            raise unknown("chapter", part, [path.stem for path in every])
        chosen += found
    if not chosen:
        raise UserError(f"{only!r} names no chapter. Write, for example, 02 or 01,03.")
    return sorted(set(chosen))


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def run(
    only: str | None = None, *, out: Path | str | None = None, scale: str = "quick"
) -> list[Chapter]:
    """Execute chapters, one kernel each; the committed notebooks are only read.

    Args:
        only: e.g. "02" or "01,03"; None for all.
        out: run folder; None for runs/<date and time> under the current folder.
        scale: handed to the notebooks as `LGUTILS_SCALE`.
    Returns:
        A `Chapter` each, finished or failed; a failure does not stop the others.
    Raises:
        UserError: no such chapter, or a run folder that cannot be written or holds notebooks of these
            names that were edited.
    """
    nbformat = _nbformat()
    paths = chapters(only)
    folder = files.expand(out) if out else Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if folder.resolve() == notebooks_folder().resolve():
        raise UserError(
            "The run folder must not be the notebooks' own folder. Choose another --out."
        )
    books = [nbformat.read(path, as_version=4) for path in paths]
    for path, book in zip(paths, books, strict=True):
        _check_free(folder / path.name, book)
    expected = [float(b.metadata.get("lgutils", {}).get("seconds", 60)) for b in books]
    cells = [sum(c.cell_type == "code" for c in b.cells) for b in books]
    done = []
    with tqdm(
        total=sum(expected), unit="s", bar_format="{percentage:3.0f}%|{bar:30}| {desc}"
    ) as bar:
        for path, book, seconds, count in zip(paths, books, expected, cells, strict=True):
            bar.set_description_str(f"{path.stem}  0:00 of about {_clock(seconds)}")
            done.append(_execute(path, book, folder, scale, seconds, count, bar))
    return done


def _nbformat() -> ModuleType:
    try:
        import nbformat
    except ImportError as error:
        raise missing("The course needs its extra packages", "course") from error
    return nbformat


async def _ticking(work: Coroutine, tick: Callable[[], Coroutine]) -> None:
    """Do the work, and call `tick` every second until it ends."""
    doing = asyncio.ensure_future(work)
    while not doing.done():
        await tick()
        await asyncio.wait([doing], timeout=1)
    await doing


def _last_line(cell) -> str:
    """What a running cell wrote last, cut to fit beside the bar."""
    texts = [o.get("text", "") for o in getattr(cell, "outputs", []) if o.output_type == "stream"]
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", texts[-1])) if texts else []
    shown = [line.strip() for line in lines if line.strip()]
    return shown[-1][:WIDTH] if shown else ""


def _why_slow() -> str:
    """What of this computer explains a chapter that takes long."""
    fast, free, cores = machine.arithmetic(), machine.free_cores(), machine.cores()
    told = f"{free} of {cores} cores are free beside it" if cores > 1 else "there is one core"
    if not fast.bfloat16:
        told += ", and the processor computes in float32, as its bfloat16 is slow or lacking"
    threads = os.environ.get("OMP_NUM_THREADS")
    told += f"; OMP_NUM_THREADS is {threads}" if threads else ""
    return told + ". It goes on."


def _check_free(copy: Path, book) -> None:
    """Refuse to replace a notebook, or the page beside it, that is more than a run of this chapter."""
    import nbformat

    page = copy.with_suffix(".html")
    for file in (copy, page):
        files.target(file, force=True)
    if not (copy.exists() or page.exists()):
        return
    try:
        ours = _sources(nbformat.read(copy, as_version=4)) == _sources(book)
    except Exception:  # missing, or whatever else has this name
        ours = False
    if not ours:
        raise UserError(
            f"{copy.parent} holds {copy.name} or its page in another form than this chapter's, perhaps "
            "your work. Choose another --out, or move the file."
        )


def _sources(book) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in book.cells]


def _client(book, folder: Path, **hooks):
    """A client that runs a notebook in a folder and stores no times and no widgets."""
    from nbclient import NotebookClient

    return NotebookClient(
        book, timeout=3600, kernel_name="python3", record_timing=False, store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=40"], **hooks,
    )  # fmt: skip


@dataclass(frozen=True)
class Started:
    """Names of notebooks in a reader's folder, by what was done: `kept` ones differ from what was copied."""

    copied: list[str]
    kept: list[str]


def start(folder: Path | str) -> Started:
    """Copy the chapters into a folder to work on, and the solutions into `solutions` there.

    A copy that nobody changed gives way to a newer chapter; one that was changed is kept. Running a
    notebook is no change, editing a cell is.

    Raises:
        UserError: the folder cannot be written, or holds the course itself.
    """
    nbformat = _nbformat()
    folder, copied, kept = files.expand(folder), {}, []
    if folder.resolve().is_relative_to(notebooks_folder().resolve()):
        raise UserError(f"{folder} holds the course's own notebooks. Choose another folder.")
    for path in [*chapters(), *sorted(notebooks_folder().glob("solutions/*.ipynb"))]:
        name = path.relative_to(notebooks_folder())
        book, target = nbformat.read(path, as_version=4), folder / name
        digest, there = _digest(book), _copied(target)
        book.metadata.setdefault("lgutils", {})["copied"] = digest
        if there is None and target.exists():
            kept.append(name.with_suffix("").as_posix())
        elif there != digest:
            copied[name] = nbformat.writes(book) + "\n"
            files.target(target, force=True)
    for name, text in copied.items():
        files.write_text(folder / name, text)
    return Started([name.with_suffix("").as_posix() for name in copied], kept)


def _digest(book) -> str:
    return files.sha256(repr(_sources(book)).encode())


def _copied(path: Path) -> str | None:
    """Digest of the chapter that a copy is still equal to; None if it was changed, or is none."""
    import nbformat

    try:
        book = nbformat.read(path, as_version=4)
        digest = book.metadata["lgutils"]["copied"]
    except Exception:  # missing, or whatever else has this name
        return None
    return digest if digest == _digest(book) else None


def open_lab(folder: Path) -> int:
    """Open JupyterLab there and wait for its end; gives its exit code, 0 if Ctrl-C ended it.

    Ctrl-C reaches JupyterLab too, which asks whether to end. Modules that lie in the folder are not run.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("jupyterlab") is None:
        raise missing("JupyterLab is not installed", "course")
    line = [sys.executable, "-P", "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}"]
    lab, asked = subprocess.Popen(line), False
    while True:
        try:
            code = lab.wait()
        except KeyboardInterrupt:
            asked = True
        else:
            return 0 if asked else code


def _execute(path, book, folder: Path, scale: str, expected: float, count: int, bar) -> Chapter:
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    began, start, ran, said, running = time.perf_counter(), bar.n, 0, False, None

    def begin(cell, **_):
        nonlocal running
        running = cell

    def end(**_):
        nonlocal ran
        ran += 1

    async def tick():
        nonlocal said
        elapsed = time.perf_counter() - began
        # Between the share of cells and the share of time: neither alone is a good clock.
        share = min(0.5 * ran / max(count, 1) + 0.5 * min(elapsed / expected, 1), 1)
        bar.n = start + expected * share
        now = f"{path.stem}  {_clock(elapsed)} of about {_clock(expected)}"
        bar.set_description_str(f"{now}  {_last_line(running)}".rstrip())
        if elapsed > SLOW * expected and not said:
            said = True
            why = await asyncio.to_thread(_why_slow)  # which loads torch
            tqdm.write(
                f"{path.stem} takes {SLOW} times as long as expected, or more: {why}",
                file=sys.stderr,
            )

    folder.mkdir(parents=True, exist_ok=True)
    client = _client(book, folder, on_cell_start=begin, on_cell_executed=end)
    error = None
    environment = {**machine.PASSIVE, **os.environ, "LGUTILS_SCALE": scale, "LGUTILS_WIDGETS": "0"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.run(_ticking(client.async_execute(env=environment), tick))
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as problem:
        error = next(e for e in (getattr(problem, "ename", ""), type(problem).__name__) if e)
        error += f": {getattr(problem, 'evalue', '') or ''}".rstrip(": ")
    bar.n = start + expected
    bar.refresh()
    notebook, page = folder / path.name, folder / path.with_suffix(".html").name
    import nbformat

    files.write_text(notebook, nbformat.writes(book))
    files.write_text(page, _html(book, path.stem))
    return Chapter(path.stem, time.perf_counter() - began, expected, error, notebook, page)


def _html(book, title: str) -> str:
    """A page that needs nothing from the network: figures inside, no script addresses.

    What the tags hide-input and hide-output name is folded. Figures take the form for the screen's width,
    see `figures.show`; a ledger stacks on a phone. Equations become MathML, which browsers draw themselves.
    """
    from nbconvert import HTMLExporter

    from lgutils.report.ledgers import PHONE

    exporter = HTMLExporter(
        mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="", jupyter_widgets_base_url="",
        raw_template=FOLDING,  # no embed_images: it closes every <details> of Markdown at its summary
    )  # fmt: skip
    resources = {"metadata": {"name": title}, "ledgers": PHONE}
    book, equations = deepcopy(book), []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = _held_back(cell.source, equations)
        for output in cell.get("outputs", []):
            _choose_form(output)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page, _ = exporter.from_notebook_node(book, resources=resources)
    page = re.sub(r'<script[^>]*src=""[^>]*>\s*</script>', "", page)
    return re.sub(r"equation-(\d+)-here", lambda found: equations[int(found[1])], page)


def _held_back(source: str, equations: list[str]) -> str:
    """Markdown with a token for each equation, which is added to `equations` as MathML."""
    from latex2mathml.converter import convert

    def token(found: re.Match) -> str:
        display, inline = found["display"], found["inline"]
        if display is None and inline is None:  # code
            return found[0]
        equations.append(convert(display or inline, display="block" if display else "inline"))
        return f"equation-{len(equations) - 1}-here"

    return EQUATION.sub(token, source)


def _choose_form(output) -> None:
    """Show a figure that has a form for phones as HTML that chooses."""
    from lgutils.figures.shown import markup

    about = output.get("metadata", {}).get("image/png", {})
    if "narrow" in about:
        wide = output.data["image/png"]
        page = markup(wide, about["narrow"], about["alt"], about["width"])
        output.data, output.metadata = {"text/html": page}, {}


def refresh(only: str | None = None) -> None:
    """Execute the committed notebooks in place, for maintainers after a change.

    Output is stored as strict nbval compares it, without progress bars and other words on stderr;
    `python -m lgutils.course 02` refreshes chapter 02,
    and `python -m lgutils.course notebooks/solutions/02_condense.ipynb` any other notebook.
    """
    import nbformat

    home.clone()
    for path in [Path(only)] if only and only.endswith(".ipynb") else chapters(only):
        if not path.is_file():
            raise UserError(f"There is no notebook {path}. Name a chapter, such as 02, or a file.")
        book = nbformat.read(path, as_version=4)
        began = time.perf_counter()
        environment = {**machine.PASSIVE, **os.environ, "LGUTILS_WIDGETS": "0"}
        asyncio.run(_client(book, path.parent).async_execute(env=environment))
        seconds = time.perf_counter() - began
        _tidy(book)
        book.metadata["lgutils"] = {"seconds": round(seconds)}
        book.metadata.pop("widgets", None)
        book.metadata["language_info"] = {"name": "python"}
        files.write_text(path, nbformat.writes(book) + "\n")
        print(f"{path.name}: {seconds:.0f} s")


def _tidy(book) -> None:
    """Drop what cells wrote to stderr, and join the pieces of what they wrote to stdout."""
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, 0)


if __name__ == "__main__":
    import sys

    refresh(sys.argv[1] if len(sys.argv) > 1 else None)
