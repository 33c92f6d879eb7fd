"""A campaign is `python -m pytest tests/fuzz --fuzz 10000`; without --fuzz a few hundred cases, always the same."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from samples import Content, made
from yard import Figures

USUAL = 400  # cases of the usual suite
FIGURES = pytest.StashKey[Figures]()


def pytest_configure(config):
    asked = config.getoption("--fuzz")
    phases = [Phase.explicit, Phase.generate, *([] if asked else [Phase.shrink])]
    settings.register_profile(
        "lgutils", max_examples=asked or USUAL, deadline=None, database=None, derandomize=not asked,
        phases=phases, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    settings.load_profile("lgutils")
    config.addinivalue_line("filterwarnings", "ignore:Generating overly large repr")
    config.stash[FIGURES] = Figures(keep=bool(asked))


@pytest.fixture(scope="session")
def figures(pytestconfig) -> Figures:
    """Counts what became of every case."""
    return pytestconfig.stash[FIGURES]


@pytest.fixture(autouse=True)
def no_falls(figures):
    """A campaign goes on after a fall; the test that had one fails at its end."""
    before = set(figures.falls)
    yield
    if new := sorted(set(figures.falls) - before):
        pytest.fail(f"{len(new)} kinds of falls:\n" + "\n".join(new), pytrace=False)


def pytest_terminal_summary(terminalreporter, config):
    figures = config.stash.get(FIGURES, None)
    if figures and figures.counts["tried"]:
        terminalreporter.section("fuzzing")
        terminalreporter.line(str(figures))
        for kind, case in figures.falls.items():
            terminalreporter.line(f"--- {kind}\n{case}")


@pytest.fixture(scope="session")
def samples(tmp_path_factory, sources) -> Content:
    """A whole file of every format, by name."""
    return made(tmp_path_factory.mktemp("samples"), sources)


@pytest.fixture(scope="session")
def desk(tmp_path_factory):
    """A folder for the file of one case after another."""
    return tmp_path_factory.mktemp("desk")
