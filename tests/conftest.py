"""Shared by all tests: few threads, images drawn once, and ancestors made in milliseconds."""

import os
import shutil
import tempfile

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `lgutils course` sets it; read with torch
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.gettempdir())  # not in the tree

import pytest
import torch
from tiny import GENES

from lgutils import ancestry, data, fleet, inherit, learngene, models, train
from lgutils.ancestry import Ancestor, AncestryCard
from lgutils.data import Normalize
from lgutils.fleet import jobs as fleet_jobs
from lgutils.fleet import stack as fleet_stack
from lgutils.train import Score

# At most two for the kernels that run notebooks; one here, where two would mostly wait for each other.
os.environ["OMP_NUM_THREADS"] = str(min(2, torch.get_num_threads()))
torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption(
        "--fuzz", type=int, default=0, help="cases of a campaign, for tests/fuzz (0: the usual few)"
    )


def random_ancestor(arch: str, seed: int = 3, **kwargs) -> Ancestor:
    """An untrained model of 5 classes with a card that fits it; batch statistics are random too."""
    model = models.create(arch, 5, seed=seed, **kwargs).eval()
    random = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "running_var", ".bias", "norm.weight")):
            tensor.add_(torch.rand(tensor.shape, generator=random))
    card = AncestryCard(
        family="cnn",
        arch=arch,
        arch_kwargs=kwargs,
        dataset="glyphs",
        size="quick",
        split_seed=0,
        classes=tuple("abcde"),
        normalize=Normalize((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)),
        images_seen=0,
        accuracy=Score(0.2, 0.1, 0.3, 50),
        seconds=0.0,
        device="nowhere",
        versions=ancestry.versions(),
        weight_hash=train.weight_hash(model),
        config_key="none",
        seed=seed,
    )
    return Ancestor(model, card, (1.5, 0.5), ((1, 0.1), (2, 0.2)))


@pytest.fixture(scope="session")
def make_ancestor():
    """The function `random_ancestor`: (arch, seed, **kwargs) -> Ancestor."""
    return random_ancestor


@pytest.fixture(scope="session")
def tiny_cnn() -> Ancestor:
    """A random VGG with four blocks: widths 4, 6, 6, 8, 8."""
    return random_ancestor("learngene_vgg", stages=(1, 2, 2), widths=(4, 6, 8))


@pytest.fixture(scope="session")
def tiny_vit() -> Ancestor:
    """A random ViT with six blocks of 12 channels."""
    return random_ancestor("learngene_vit", depth=6, embed_dim=12, num_heads=2)


@pytest.fixture(scope="session")
def shipped_cnn() -> Ancestor:
    """The CNN ancestor that ships with the package."""
    return Ancestor.load(ancestry.shipped_path("cnn"))


@pytest.fixture(scope="session")
def quick_glyphs() -> data.ImageSet:
    """The quick glyphs, drawn once into the shared cache."""
    return data.load("glyphs", "quick")


@pytest.fixture(scope="session")
def digits() -> data.ImageSet:
    return data.load("digits")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache folder for one test, which may then damage it."""
    monkeypatch.setenv("LGUTILS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def little():
    """Random images of 100 classes, 6 each (one held out), small enough to train on at once."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(100).repeat_interleave(6)
    images = torch.randint(0, 256, (600, 3, 16, 16), dtype=torch.uint8, generator=random)
    held_out = (torch.arange(6) == 5).repeat(100)
    return data.ImageSet("little", images, labels, tuple(map(str, range(100))), held_out)


@pytest.fixture(scope="session")
def coloured():
    """Noisy images of ten classes, 20 each (16 held out); a class is a slight tint."""
    random = torch.Generator().manual_seed(0)
    tints = torch.rand(10, 3, 1, 1, generator=random).repeat_interleave(20, 0)
    images = 255 * (0.6 * torch.rand(200, 3, 32, 32, generator=random) + 0.4 * tints)
    labels, held_out = torch.arange(10).repeat_interleave(20), (torch.arange(20) > 3).repeat(10)
    return data.ImageSet("coloured", images.byte(), labels, tuple("abcdefghij"), held_out)


@pytest.fixture(scope="session")
def sources(tiny_cnn, tiny_vit):
    """Ancestor and learngene of each family."""
    ancestors = {"cnn": tiny_cnn, "vit": tiny_vit}
    return {name: (a, learngene.extract(a, GENES[name])) for name, a in ancestors.items()}


@pytest.fixture
def tiny(monkeypatch, coloured, sources):
    """Jobs get tiny ancestors and the coloured images; gives what `train.fit` then gives."""
    fitted = []

    def prepare(job):
        ancestor, gene = sources[job.family]
        method = "scratch" if job.method == "distillation" else job.method
        descendant = inherit.descend(
            method, ancestor, gene, num_classes=job.task.n_way, seed=job.seed, **job.arch_kwargs
        )
        episode = job.task.draw(coloured, tuple(range(10)))
        return fleet.Prepared(job, ancestor, episode, descendant)

    whole = train.fit

    def fit(*args, **options):
        fitted.append(whole(*args, **options))
        return fitted[-1]

    monkeypatch.setattr(fleet_jobs, "prepare", prepare)
    monkeypatch.setattr(fleet_stack, "prepare", prepare)
    monkeypatch.setattr(train, "fit", fit)
    return fitted


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by playwright; tests that need it skip where either is missing."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(names)})")
    with driver.sync_playwright() as running:
        started = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, in order: widgets, and figures, which it closes, with their alternative text."""
    import IPython.display
    import matplotlib.pyplot as plt

    from lgutils import figures

    found = []

    def show(figure, alt):
        found.append((figure, alt))
        plt.close(figure)

    monkeypatch.setattr(IPython.display, "display", lambda widget: found.append((widget, None)))
    monkeypatch.setattr(figures, "show", show)
    return found
