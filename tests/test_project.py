"""Facts about what stands around the code: the environment, the package's data, the notebooks."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import lgutils

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
NOTEBOOKS = sorted(
    path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "results" / "README.md"])
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")


def required(extra):
    """Names that installing the package with an extra brings along, extras of extras too."""
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    for requirement in map(Requirement, EXTRAS[extra]):
        if requirement.name == "lgutils":
            names = names.union(*map(required, requirement.extras))
        else:
            names.add(requirement.name)
    return names


def pip_list():
    """The entries under `- pip:` in environment.yml."""
    return re.findall(r"^ {6}- (.+)$", ENVIRONMENT.split("- pip:\n")[1], re.MULTILINE)


# --- the environment ------------------------------------------------------------------------------


def test_the_environment_installs_the_checkout_with_one_extra():
    assert len(pip_list()) == 1
    assert re.fullmatch(r"-e \.\[\w+\]", pip_list()[0])


def test_the_extra_of_the_environment_exists():
    assert re.search(r"\[(\w+)\]", pip_list()[0])[1] in EXTRAS


def test_the_environment_brings_all_the_course_needs():
    extra = re.search(r"\[(\w+)\]", pip_list()[0])[1]
    course = {"torch", "torchvision", "timm", "jupyterlab", "matplotlib", "seaborn", "nbval"}
    assert course <= required(extra)


def test_the_python_of_the_environment_is_one_the_package_allows():
    version = re.search(r"- python=([\d.]+)", ENVIRONMENT)[1]
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)


def test_the_environment_needs_no_channel_but_conda_forge():
    assert "channels: [conda-forge]" in ENVIRONMENT


# --- the package ----------------------------------------------------------------------------------


def test_the_version_is_that_of_the_project():
    assert lgutils.__version__ == PROJECT["version"]


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, lgutils; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "numpy", "matplotlib", "scipy"} & set(done.stdout.split())


def test_importing_the_command_line_loads_nothing_heavy():
    code = "import sys, lgutils.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "timm", "nbgrader", "nbformat", "sphinx", "zmq"}
    assert not heavy & set(done.stdout.split())


def test_the_files_named_in_the_project_exist():
    for name in (PROJECT["readme"], *PROJECT["license-files"]):
        assert (ROOT / name).is_file(), name


def test_the_assets_are_packaged():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)["tool"]["setuptools"]["package-data"]["lgutils"]
    for path in (ROOT / "lgutils" / "assets").iterdir():
        assert any(Path("assets", path.name).match(pattern) for pattern in data)


# --- the notebooks --------------------------------------------------------------------------------


def test_the_rules_for_comparing_notebook_outputs_can_be_read():
    from nbval.plugin import get_sanitize_patterns

    text = (ROOT / "tests" / "nbval_sanitize.cfg").read_text(encoding="utf-8")
    rules = [re.compile(pattern) for pattern, _ in get_sanitize_patterns(text)]
    assert len(rules) == text.count("regex:") >= 1


def test_there_are_at_least_four_notebooks():
    assert len(NOTEBOOKS) >= 4


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def code_cells(notebook):
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [cell for cell in cells if "".join(cell["source"]).strip()]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def texts(notebook):
    """Everything in a notebook that a reader sees as text."""
    for cell in notebook["cells"]:
        yield "".join(cell["source"])
    for output in outputs(notebook):
        yield "".join(output.get("text", ""))
        yield "\n".join(output.get("traceback", ()))
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/") or kind == "image/svg+xml":
                yield "".join(data) if isinstance(data, list | str) else json.dumps(data)


def test_a_notebook_is_a_valid_notebook(notebook):
    import nbformat

    nbformat.validate(nbformat.from_dict(notebook))


def test_a_notebook_was_run_from_top_to_bottom(notebook):
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_a_notebook_has_no_empty_cells(notebook):
    assert all("".join(cell["source"]).strip() for cell in notebook["cells"])


def test_a_notebook_shows_no_errors(notebook):
    assert not [output for output in outputs(notebook) if output["output_type"] == "error"]


def test_a_notebook_shows_no_warnings(notebook):
    streams = [output for output in outputs(notebook) if output.get("name") == "stderr"]
    assert not [text for text in ("".join(s["text"]) for s in streams) if "Warning" in text]


def test_a_notebook_has_no_widgets(notebook):
    assert "widgets" not in notebook["metadata"]
    assert "application/vnd.jupyter.widget-view+json" not in json.dumps(outputs(notebook))


def test_a_notebook_names_no_absolute_path(notebook):
    found = [re.search(r"(?<![\w.])/(root|work|tmp|home|Users)/\S*", t) for t in texts(notebook)]
    assert not [match[0] for match in found if match]


def test_a_notebook_begins_with_its_title(notebook):
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown"
    assert re.match(r"# \S", "".join(first["source"]))


# --- the pages of text ----------------------------------------------------------------------------


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def page(request):
    return request.param


def test_a_page_links_only_to_files_that_exist(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if not re.match(r"\w+:", link)]
    assert not [link for link in inside if not (page.parent / link).exists()]


def test_the_python_in_a_page_can_be_parsed(page):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        compile(block, page.name, "exec")


def test_a_page_names_only_commands_that_exist(page):
    import typer

    from lgutils.cli import app

    commands = typer.main.get_command(app).commands
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`|&& |-m )lgutils ([a-z]+)", text, re.MULTILINE))
    assert named <= set(commands)


def test_a_chapter_named_in_the_readme_exists():
    named = set(re.findall(r"\(notebooks/(\d\w+)\.ipynb\)", (ROOT / "README.md").read_text()))
    assert named == {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}


def test_the_glossary_explains_every_term_once():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("```{glossary}")[1]
    terms = re.findall(r"^(?!```)\S.*$", text, re.MULTILINE)
    assert len(terms) > 50
    assert sorted(set(terms)) == sorted(terms)
