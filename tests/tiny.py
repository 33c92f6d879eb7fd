"""Jobs that train in a blink, for the fixture `tiny` of conftest."""

from lgutils.data import Task
from lgutils.fleet import Job
from lgutils.train import FitConfig

FIT = FitConfig(epochs=3, batch_size=8, lr=1e-2, shift=1)
GENES = {"cnn": ("features.4",), "vit": ("blocks.1",)}
SHAPES = {"cnn": {"stages": (1, 2, 1)}, "vit": {"depth": 2}}


def job(seed=0, fit=FIT, family="cnn", method="learngene", **options):
    task = Task(n_way=3, k_shot=4, seed=seed)
    shape = SHAPES[family] | options
    return Job(family, method, GENES[family], task, arch_kwargs=shape, fit=fit, seed=seed)


def jobs(n=3, **options):
    return [job(seed, **options) for seed in range(n)]
