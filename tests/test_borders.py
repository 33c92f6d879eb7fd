"""Wrong uses of the Python API: each gets one sentence that says what was given and what to do.

`WRONG` names what the user did; a case is a call and the words that its message must hold. `RIGHT` holds legal
uses at the same borders, so that no check refuses what is good.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from lgutils import blocks, condense, distill, fleet, inherit, learngene, models, train
from lgutils.ancestry import Ancestor, AncestryConfig
from lgutils.ancestry.world import LifeConfig
from lgutils.condense import CondenseConfig, Scores
from lgutils.data import Batches, ImageSet, Normalize, Task
from lgutils.errors import UserError
from lgutils.report import curves, stats
from lgutils.train import FitConfig

SMALL = {"stages": (1, 1), "widths": (4, 6)}
ONCE = FitConfig(epochs=1, batch_size=8, lr=1e-2)
STEEP = FitConfig(1, 20, "sgd", lr=3e38, schedule="constant", warmup=0.0, clip=None)
NORM = Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
PSEUDO = CondenseConfig(
    "learngene_vgg", {"stages": [1, 1], "widths": [4, 6]}, iterations=2, batch_size=6, inner_steps=1
)
INF, NAN = math.inf, math.nan


@dataclass(frozen=True)
class Bench:
    """What a wrong use is tried on; images are 20 of 5 classes."""

    ancestor: Ancestor
    gene: learngene.Learngene
    model: nn.Module
    x: torch.Tensor
    y: torch.Tensor
    scores: Scores
    images: ImageSet

    @property
    def unit(self):
        """The images as floats in 0..1."""
        return self.x.float() / 255

    def fit(self, config=ONCE, *, x=None, y=None, model=None, normalize=NORM, **options):
        pair = (self.x if x is None else x, self.y if y is None else y)
        return train.fit(self.model if model is None else model, pair, normalize, config, **options)

    def evaluate(self, *, x=None, y=None, model=None, **options):
        x, y = self.x if x is None else x, self.y if y is None else y
        return train.evaluate(self.model if model is None else model, x, y, NORM, **options)

    def predict(self, x):
        return train.predict(self.model, x, NORM)

    def condense(self, *, x=None, y=None, ancestor=None, config=PSEUDO):
        pair = (self.x if x is None else x, self.y if y is None else y)
        return condense.condense(ancestor or self.ancestor, pair, config, progress=False)

    def draw(self, classes=(0, 1, 2), images=None, **options):
        return Task(3, 2).draw(images or self.images, classes, **options)

    def inherit(self, gene=None, num_classes=3, **options):
        return inherit.inherit(gene or self.gene, num_classes=num_classes, **options)

    @property
    def heir(self):
        return self.inherit()

    @property
    def sizes(self):
        return [10] * len(self.scores.layers)


@pytest.fixture
def bench(tiny_cnn, coloured):
    random = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8, generator=random)
    names = tuple(blocks.block_names(tiny_cnn.model))
    return Bench(
        tiny_cnn, learngene.extract(tiny_cnn, ["features.4"]),
        models.create("learngene_vgg", 5, **SMALL), x, torch.arange(20) % 5,
        Scores("first", names, -np.arange(len(names), dtype=float)[None]), coloured,
    )  # fmt: skip


class Deep(nn.Module):
    """Maps images to something that is no (B, classes) tensor."""

    def __init__(self, answer):
        super().__init__()
        self.linear, self.answer = nn.Linear(3, 5), answer

    def forward(self, x):
        return self.answer(self.linear(x.mean((2, 3))))


def meta(classes=5):
    with torch.device("meta"):
        return models.create("learngene_vgg", classes, **SMALL)


def new(**options):
    return models.create("learngene_vgg", 5, **SMALL | options)


Case = tuple[Callable, str]

IMAGES: dict[str, Case] = {
    "trains on floats in 0..1": (lambda b: b.fit(x=b.unit), "float32.*uint8.*255"),
    "predicts floats in 0..1": (lambda b: b.predict(b.unit), "float32.*uint8.*255"),
    "evaluates floats in 0..1": (lambda b: b.evaluate(x=b.unit), "float32.*uint8.*255"),
    "condenses floats in 0..1": (lambda b: b.condense(x=b.unit), "float32.*uint8.*255"),
    "normalises floats in 0..1": (lambda b: NORM(b.unit), "float32.*uint8.*255"),
    "measures floats in 0..1": (lambda b: Normalize.measured(b.unit), "float32.*uint8.*255"),
    "makes a set of floats": (lambda b: replace(b.images, images=b.images.images / 255), "float32.*uint8"),
    "makes batches of floats": (lambda b: Batches(b.unit, b.y, NORM), "float32.*uint8"),
    "trains on numpy images": (lambda b: b.fit(x=b.x.numpy()), r"ndarray.*torch\.from_numpy"),
    "predicts numpy images": (lambda b: b.predict(b.x.numpy()), r"ndarray.*torch\.from_numpy"),
    "condenses numpy images": (lambda b: b.condense(x=b.x.numpy()), r"ndarray.*torch\.from_numpy"),
    "trains on a list of images": (lambda b: b.fit(x=list(b.x)), r"list.*torch\.stack"),
    "predicts integers of 64 bits": (lambda b: b.predict(b.x.long()), "int64.*uint8"),
    "predicts one image alone": (lambda b: b.predict(b.x[0]), r"\(3, 16, 16\).*\(N, C, H, W\)"),
    "predicts grey images without a channel": (lambda b: b.predict(b.x[:, 0]), r"\(20, 16, 16\)"),
    "predicts channels last": (lambda b: b.predict(b.x.permute(0, 2, 3, 1)), r"16 channels.*permute"),
    "predicts grey images": (lambda b: b.predict(b.x[:, :1]), "1 channels.*expects 3"),
    "predicts no image": (lambda b: b.predict(b.x[:0]), "0 images.*at least one"),
    "trains on no image": (lambda b: b.fit(x=b.x[:0], y=b.y[:0]), "0 images"),
    "evaluates no image": (lambda b: b.evaluate(x=b.x[:0], y=b.y[:0]), "0 images"),
    "measures no image": (lambda b: Normalize.measured(b.x[:0]), "0 images"),
    "gives images without labels": (
        lambda b: train.fit(b.model, b.x, NORM, ONCE), r"Tensor.*\(images, labels\)",
    ),
    "tests on images without labels": (lambda b: b.fit(test=b.x), r"Tensor.*\(images, labels\)"),
    "swaps images and labels": (lambda b: b.fit(x=b.y, y=b.x), "int64.*uint8"),
    "trains a model of another image size": (
        lambda b: b.fit(model=models.create("learngene_vit", 5, depth=1)), "16x16.*img_size",
    ),
    "evaluates a model of another image size": (
        lambda b: b.evaluate(model=models.create("learngene_vit", 5, depth=1)), "16x16.*img_size",
    ),
}  # fmt: skip

LABELS: dict[str, Case] = {
    "trains with labels from 1": (lambda b: b.fit(y=b.y + 1), "label 5.*0 to 4"),
    "trains with negative labels": (lambda b: b.fit(y=b.y - 1), "label -1.*0"),
    "trains with float labels": (lambda b: b.fit(y=b.y.float()), r"float32.*int64.*long\(\)"),
    "trains with labels of 32 bits": (lambda b: b.fit(y=b.y.int()), r"int32.*int64.*long\(\)"),
    "trains with one-hot labels": (lambda b: b.fit(y=torch.eye(5)[b.y].long()), r"\(20, 5\).*argmax"),
    "trains with a list of labels": (lambda b: b.fit(y=b.y.tolist()), r"list.*torch\.tensor"),
    "trains with numpy labels": (lambda b: b.fit(y=b.y.numpy()), "ndarray.*from_numpy"),
    "trains with too few labels": (lambda b: b.fit(y=b.y[:7]), "20 images and 7 labels"),
    "tests with labels from 1": (lambda b: b.fit(test=(b.x, b.y + 1)), "label 5.*0 to 4"),
    "tests with negative labels": (lambda b: b.fit(test=(b.x, b.y - 1)), "label -1.*0"),
    "tests with float labels": (lambda b: b.fit(test=(b.x, b.y.float())), "float32.*int64"),
    "tests with too few labels": (lambda b: b.fit(test=(b.x, b.y[:7])), "20 images and 7 labels"),
    "evaluates labels from 1": (lambda b: b.evaluate(y=b.y + 1), "label 5.*0 to 4"),
    "evaluates labels far outside": (lambda b: b.evaluate(y=b.y + 100), "label 104.*0 to 4"),
    "evaluates float labels": (lambda b: b.evaluate(y=b.y.float()), "float32.*int64"),
    "evaluates numpy labels": (lambda b: b.evaluate(y=b.y.numpy()), "ndarray.*from_numpy"),
    "evaluates too few labels": (lambda b: b.evaluate(y=b.y[:1]), "20 images and 1 labels"),
    "condenses float labels": (lambda b: b.condense(y=b.y.float()), "float32.*int64"),
    "condenses negative labels": (lambda b: b.condense(y=b.y - 1), "label -1"),
    "condenses one class": (lambda b: b.condense(y=b.y * 0), "1 class.*two"),
    "condenses two images": (lambda b: b.condense(x=b.x[:2], y=b.y[:2]), "2 images.*6"),
    "makes a set with labels outside": (
        lambda b: replace(b.images, labels=b.images.labels + 1), "label 10.*0 to 9",
    ),
    "makes a set with too few labels": (
        lambda b: replace(b.images, labels=b.images.labels[:3]), "200 images and 3 labels",
    ),
    "makes a set with a held-out list": (lambda b: replace(b.images, held_out=[True]), "held_out.*bool"),
}  # fmt: skip


def job_with(**change):
    return replace(tiny.job(), **change)


def ancestry_with(**change):
    return replace(AncestryConfig.preset("cnn", "quick"), **change)


def setting(make, name, value, words):
    return f"{make.__name__} {name}={value!r}", (lambda b: make(**{name: value}), words)


def settings(make, *rows):
    return dict(setting(make, *row) for row in rows)


FIT_CONFIG = settings(
    FitConfig,
    ("lr", INF, "lr inf.*finite"), ("lr", NAN, "lr nan.*finite"), ("lr", "0.1", "lr '0.1'.*number"),
    ("lr", True, "lr True.*number"), ("lr", None, "lr None.*number"), ("lr", [0.1], r"lr \[0.1\].*number"),
    ("epochs", "3", "epochs '3'.*whole number"), ("epochs", 2.5, "epochs 2.5.*whole number"),
    ("epochs", True, "epochs True.*whole number"), ("epochs", 10**12, "epochs 1000000000000"),
    ("epochs", np.float64(2.5), "epochs 2.5.*whole"), ("batch_size", 0, "batch_size 0.*positive"),
    ("weight_decay", NAN, "weight_decay nan"), ("weight_decay", INF, "weight_decay inf"),
    ("weight_decay", "0", "weight_decay '0'"), ("momentum", "0.9", "momentum '0.9'"),
    ("momentum", NAN, "momentum nan.*0 and 1"), ("warmup", NAN, "warmup nan.*0 and 1"),
    ("label_smoothing", NAN, "label_smoothing nan.*0 and 1"), ("clip", NAN, "clip nan"),
    ("clip", INF, "clip inf"), ("clip", "1", "clip '1'"), ("clip", True, "clip True"),
    ("shift", 1.5, "shift 1.5.*whole"), ("shift", True, "shift True.*whole"),
    ("rotate", INF, "rotate inf"), ("rotate", NAN, "rotate nan"), ("rotate", "15", "rotate '15'"),
    ("flip", "no", "flip 'no'.*bool"), ("flip", 1, "flip 1.*bool"), ("compile", "yes", "compile 'yes'.*bool"),
    ("log_every", 0, "log_every 0.*positive"), ("log_every", "all", "log_every 'all'"),
    ("seed", -1, "seed -1.*from 0"), ("seed", 2**64, "seed 18446744073709551616.*from 0"),
    ("seed", 1.5, "seed 1.5.*whole"), ("seed", True, "seed True.*whole"), ("seed", "0", "seed '0'.*whole"),
    ("optimizer", torch.optim.SGD, "optimizer.*str"), ("schedule", None, "schedule None"),
)  # fmt: skip
OTHER_CONFIGS = (
    settings(
        CondenseConfig,
        ("lr", NAN, "lr nan"), ("lr", -1.0, "lr -1.0.*positive"), ("iterations", 0, "iterations 0.*positive"),
        ("iterations", "10", "iterations '10'.*whole"), ("iterations", 10**15, "iterations 1000000000000000"),
        ("keep", 2.0, "keep 2.0.*share"), ("keep", NAN, "keep nan"),
        ("batch_size", 1, "batch_size 1.*2"), ("gamma", -1.0, "gamma -1.0"), ("gamma", NAN, "gamma nan"),
        ("inner_steps", 1.5, "inner_steps 1.5.*whole"), ("momentum", 2.0, "momentum 2.0"),
        ("weight_decay", INF, "weight_decay inf"), ("meta_lr", "1", "meta_lr '1'"),
        ("distance", "l3", "distance 'l3'.*'l2'"), ("adapter", "cnv", "adapter 'cnv'.*'conv'"),
        ("pairs", "all", "pairs 'all'"), ("pairs", ((0,),), r"pairs \(\(0,\),\)"),
        ("taps", "features.3", "taps 'features.3'.*tuple"), ("slots", "stem", "slots 'stem'.*tuple"),
        ("seed", -1, "seed -1"), ("seed", None, "seed None"), ("arch_kwargs", None, "arch_kwargs None.*dict"),
        ("arch", None, "arch None"), ("flip", "no", "flip 'no'"), ("rotate", NAN, "rotate nan"),
        ("shift", -2, "shift -2"), ("taps", ("a", "a"), "taps.*'a'.*twice"),
    )
    | settings(
        Task,
        ("n_way", "5", "n_way '5'.*whole"), ("n_way", 1, "n_way 1.*2"), ("k_shot", True, "k_shot True"),
        ("k_shot", 0, "k_shot 0.*positive"), ("k_shot", 2.5, "k_shot 2.5"), ("seed", -1, "seed -1"),
        ("seed", 2**64, "seed 18446744073709551616"), ("seed", 1.5, "seed 1.5"), ("seed", True, "seed True"),
    )
    | settings(
        job_with,
        ("layers", "features.4", "layers 'features.4'.*tuple"), ("layers", ("a", "a"), "'a'.*twice"),
        ("seed", -1, "seed -1"), ("task", 5, "task 5 .*Task"),
        ("fit", {"epochs": 3}, "fit .*FitConfig"), ("method", ["scratch"], "method"),
        ("log_at", 3, "log_at 3.*tuple"), ("log_at", (0,), r"log_at \(0,\)"),
        ("log_at", (99,), "log_at.*99.*3 epochs"), ("arch_kwargs", {"act": nn.GELU}, "arch_kwargs.*plain values"),
        ("arch_kwargs", {"depth": NAN}, "arch_kwargs.*plain values"), ("ancestor_seed", "0", "ancestor_seed '0'"),
        ("arch", 3, "arch 3"), ("dataset", None, "dataset None"),
    )
    | settings(
        ancestry_with,
        ("seed", -1, "seed -1"), ("fit", {"epochs": 3}, "fit .*FitConfig"), ("arch", None, "arch None"),
        ("split_seed", 1.5, "split_seed 1.5"), ("arch_kwargs", [1], "arch_kwargs .*dict"),
    )
    | settings(
        LifeConfig,
        ("tasks", "8", "tasks '8'"), ("tasks", 1, "tasks 1"), ("memory", 0, "memory 0"), ("order", -1, "order -1"),
        ("strength", NAN, "strength nan"), ("noise", INF, "noise inf"),
    )
    | settings(
        distill.DistillConfig,
        ("temperature", NAN, "temperature nan"), ("temperature", "4", "temperature '4'"),
        ("weight", NAN, "weight nan"), ("weight", True, "weight True"),
    )
)  # fmt: skip

DRAWS: dict[str, Case] = {
    "draws from a class twice": (lambda b: b.draw((0, 1, 1)), "class 1.*twice"),
    "draws from a class that is not there": (lambda b: b.draw((0, 1, 10)), "class 10.*0 to 9"),
    "draws from a negative class": (lambda b: b.draw((0, 1, -1)), "class -1.*0 to 9"),
    "draws from names": (lambda b: b.draw(("a", "b", "c")), "class 'a'.*0 to 9"),
    "draws from one class": (lambda b: b.draw(3), "classes 3.*such as"),
    "draws without test images": (
        lambda b: b.draw(images=replace(b.images, held_out=torch.zeros(200, dtype=torch.bool))),
        "no held-out images",
    ),
    "draws a negative number of test images": (lambda b: b.draw(max_test=-1), "max_test -1"),
    "draws from a tensor": (lambda b: Task().draw(b.x, (0, 1, 2, 3, 4)), "Tensor.*ImageSet"),
    "picks a class twice": (lambda b: b.images.of((1, 1), held_out=False), "class 1.*twice"),
    "picks a class that is not there": (lambda b: b.images.of((1, 99), held_out=False), "class 99.*0 to 9"),
    "normalises by a number": (lambda b: Normalize(0.5, 0.5), "mean 0.5.*tuple"),
    "normalises by a deviation of 0": (lambda b: Normalize((0.5,), (0.0,)), "std.*positive"),
    "normalises by nan": (lambda b: Normalize((NAN,), (0.5,)), "mean"),
    "normalises three channels by one deviation": (lambda b: Normalize((0.5,) * 3, (0.5,)), "3 .*1"),
    "shuffles in batches of 0": (lambda b: Batches(b.x, b.y, NORM, 0), "batch_size 0.*positive"),
}  # fmt: skip

MODELS: dict[str, Case] = {
    "builds a model of -1 classes": (lambda b: models.create("learngene_vgg", -1), "num_classes -1.*positive"),
    "builds a model of no classes": (lambda b: models.create("learngene_vgg", 0), "num_classes 0.*positive"),
    "builds a model of '5' classes": (lambda b: models.create("learngene_vgg", "5"), "num_classes '5'"),
    "builds a model of True classes": (lambda b: models.create("learngene_vgg", True), "num_classes True"),
    "builds without an architecture": (lambda b: models.create(None, 5), "arch .*NoneType"),
    "builds with a negative seed": (lambda b: new(seed=-1), "seed -1.*from 0"),
    "builds with a huge seed": (lambda b: new(seed=2**64), "seed 18446744073709551616.*from 0"),
    "builds with a broken seed": (lambda b: new(seed=1.5), "seed 1.5.*whole"),
    "builds with a negative depth": (lambda b: models.create("learngene_vit", 5, depth=-1), "depth -1"),
    "builds with no depth": (lambda b: models.create("learngene_vit", 5, depth=0), "depth 0"),
    "builds with a broken depth": (lambda b: models.create("learngene_vit", 5, depth=1.5), "depth.*1.5"),
    "builds stages of 0 layers": (lambda b: new(stages=(0, 1)), r"stages \(0, 1\)"),
    "builds heads of width 0": (lambda b: new(hidden=(0, 0)), r"hidden \(0, 0\)"),
    "builds stages as one number": (lambda b: new(stages=2), "stages.*2"),
    "trains a model on meta": (lambda b: b.fit(model=meta()), "meta"),
    "trains a model of half precision": (lambda b: b.fit(model=new().half()), r"float16.*\.float\(\)"),
    "trains a bfloat16 model": (lambda b: b.fit(model=new().bfloat16()), r"bfloat16.*\.float\(\)"),
    "trains a frozen model": (lambda b: b.fit(model=new().requires_grad_(False)), "frozen.*requires_grad_"),
    "trains a Descendant": (lambda b: b.fit(model=b.heir), r"Descendant.*\.model"),
    "trains an Ancestor": (lambda b: b.fit(model=b.ancestor), r"Ancestor.*\.model"),
    "trains a class": (lambda b: b.fit(model=nn.Linear), "type.*model"),
    "trains a name": (lambda b: b.fit(model="cnn"), "str.*model"),
    "trains what has no weights": (lambda b: b.fit(model=nn.Flatten()), "no weights"),
    "trains what answers with a pair": (lambda b: b.fit(model=Deep(lambda z: (z, z))), r"tuple.*\(B, classes\)"),
    "trains what answers with maps": (lambda b: b.fit(model=Deep(lambda z: z[:, :, None])), r"\(B, classes\)"),
    "trains what answers once a batch": (lambda b: b.fit(model=Deep(lambda z: z[:1])), r"\(B, classes\)"),
    "evaluates a model on meta": (lambda b: b.evaluate(model=meta()), "meta"),
    "evaluates a model of half precision": (lambda b: b.evaluate(model=new().half()), "float16"),
    "evaluates a Descendant": (lambda b: b.evaluate(model=b.heir), r"Descendant.*\.model"),
    "evaluates what has no weights": (lambda b: b.evaluate(model=nn.Flatten()), "no weights"),
    "evaluates what answers with a pair": (lambda b: b.evaluate(model=Deep(lambda z: (z, z))), "tuple"),
    "evaluates what answers with maps": (
        lambda b: b.evaluate(model=Deep(lambda z: z[:, :, None])), r"\(B, classes\)",
    ),
    "evaluates in batches of 0": (lambda b: b.evaluate(batch_size=0), "batch_size 0.*positive"),
    "asks for the layers of a plain module": (
        lambda b: blocks.layers(nn.Sequential(nn.Linear(2, 2))), "Sequential.*timm",
    ),
    "asks for the layers of an Ancestor": (lambda b: blocks.layers(b.ancestor), r"Ancestor.*\.model"),
    "asks for the layers of a Descendant": (lambda b: blocks.block_names(b.heir), r"Descendant.*\.model"),
    "asks for the layers of a parallel model": (
        lambda b: blocks.layers(nn.DataParallel(b.model)), r"DataParallel.*\.module",
    ),
    "asks for the layers of a compiled model": (
        lambda b: blocks.layers(torch.compile(b.model)), r"OptimizedModule.*\._orig_mod",
    ),
    "taps one name": (lambda b: blocks.tapped(b.model, "features.4").__enter__(), "'features.4'.*tuple"),
    "checks the input of an Ancestor": (lambda b: models.check_input(b.ancestor, (3, 16, 16)), r"\.model"),
    "distils into a Descendant": (lambda b: distill.distilling(b.heir, b.ancestor), r"Descendant.*\.model"),
    "distils from a model": (lambda b: distill.distilling(b.model, b.ancestor.model), "VGG.*Ancestor"),
}  # fmt: skip

FITTING: dict[str, Case] = {
    "trains with a dictionary": (lambda b: b.fit({"epochs": 3}), "dict.*FitConfig"),
    "trains with a preset's name": (lambda b: b.fit("quick"), "str.*FitConfig"),
    "normalises by a pair": (lambda b: b.fit(normalize=(0.5, 0.5)), "tuple.*Normalize"),
    "goes on with no memory": (lambda b: b.fit(optimizer_state={}), "optimizer_state is no memory.*'state'"),
    "goes on with 3": (lambda b: b.fit(optimizer_state=3), "optimizer_state is no memory"),
    "goes on with another model's memory": (
        lambda b: b.fit(optimizer_state=b.fit(model=new(widths=(4, 4))).optimizer_state), "another shape",
    ),
    "evaluates after one epoch": (lambda b: b.fit(log_at=1), "log_at 1.*epochs"),
    "evaluates after epoch 'last'": (lambda b: b.fit(log_at=("last",)), "log_at.*last"),
    "trains on the meta device": (lambda b: b.fit(device_name="meta"), "'meta'.*'cpu'"),
    "trains on device 0": (lambda b: b.fit(device_name=0), "device 0.*'cpu'"),
    "trains until the last step breaks the weights": (
        lambda b: b.fit(STEEP, model=Deep(lambda z: z), normalize=Normalize((0.5,) * 3, (1e-3,) * 3)),
        "no longer numbers.*learning rate",
    ),
    "trains until the model answers with nan": (
        lambda b: b.fit(STEEP, test=(b.x, b.y)), "answers with nan.*learning rate",
    ),
}  # fmt: skip

GENES: dict[str, Case] = {
    "a budget of '3'": (lambda b: learngene.choose(b.scores, b.sizes, "3"), "budget '3'.*number of layers"),
    "a budget of True": (lambda b: learngene.choose(b.scores, b.sizes, True), "budget True.*number of layers"),
    "a budget of nan": (lambda b: learngene.choose(b.scores, b.sizes, NAN), "budget of nan"),
    "a budget of inf": (lambda b: learngene.choose(b.scores, b.sizes, INF), "budget of inf"),
    "a budget of None": (lambda b: learngene.choose(b.scores, b.sizes, None), "budget None"),
    "sizes of other layers": (lambda b: learngene.choose(b.scores, [1], 0.5), "1 sizes.*4 layers"),
    "names for scores": (lambda b: learngene.choose(b.scores.layers, b.sizes, 1), "tuple.*Scores"),
    "agreement of the top '3'": (lambda b: learngene.agreement(b.scores, "3"), "k '3'"),
    "agreement of the top True": (lambda b: learngene.agreement(b.scores, True), "k True"),
    "extracts from a model": (lambda b: learngene.extract(b.model, ["features.4"]), "VGG.*Ancestor"),
    "extracts one name": (lambda b: learngene.extract(b.ancestor, "features.4"), "'features.4'.*tuple"),
    "extracts a number": (lambda b: learngene.extract(b.ancestor, [4]), r"\[4\].*tuple"),
    "extracts a layer twice": (lambda b: learngene.extract(b.ancestor, ["features.4"] * 2), "'features.4'.*twice"),
    "one role that travels": (lambda b: learngene.extract(b.ancestor, ["features.4"], travels="stem"), "'stem'.*tuple"),
    "chooses for a model": (lambda b: learngene.condense_to(b.model, b.scores, 2), "VGG.*Ancestor"),
    "inherits an Ancestor": (lambda b: b.inherit(b.ancestor), "Ancestor.*Learngene"),
    "inherits a path": (lambda b: b.inherit("gene.safetensors"), "str.*Learngene"),
    "inherits for no classes": (lambda b: b.inherit(num_classes=0), "num_classes 0"),
    "inherits with a negative depth": (lambda b: b.inherit(arch="learngene_vit", depth=-1), "depth -1"),
    "inherits with a seed of -1": (lambda b: b.inherit(seed=-1), "seed -1"),
    "inherits with stages of text": (lambda b: b.inherit(stages="121"), "stages '121'"),
    "descends from a model": (
        lambda b: inherit.descend("random layers", b.ancestor.model, b.gene, num_classes=3), "VGG.*Ancestor",
    ),
    "descends by no method": (lambda b: inherit.descend(None, b.ancestor, b.gene, num_classes=3), "method None"),
    "condenses a model": (lambda b: b.condense(ancestor=b.ancestor.model), "VGG.*Ancestor"),
    "condenses with a dictionary": (lambda b: b.condense(config={"lr": 0.1}), "dict.*CondenseConfig"),
    "condenses over 3 seeds": (
        lambda b: condense.condense_seeds(b.ancestor, (b.x, b.y), PSEUDO, 3), r"seeds 3.*range\(3\)",
    ),
    "condenses over no seeds": (lambda b: condense.condense_seeds(b.ancestor, (b.x, b.y), PSEUDO, ()), "seeds"),
    "condenses over a seed twice": (
        lambda b: condense.condense_seeds(b.ancestor, (b.x, b.y), PSEUDO, (1, 1)), "1.*twice",
    ),
    "scores in 0 runs": (lambda b: condense.score("random", b.ancestor, (b.x, b.y), PSEUDO, 0), "runs 0"),
    "scores in '3' runs": (lambda b: condense.score("random", b.ancestor, (b.x, b.y), PSEUDO, "3"), "runs '3'"),
    "scores a model": (lambda b: condense.score("first", b.model, (b.x, b.y), PSEUDO), "VGG.*Ancestor"),
    "scores one class": (lambda b: condense.score("cka", b.ancestor, (b.x, b.y * 0), PSEUDO), "1 class"),
    "scores floats": (lambda b: condense.score("cka", b.ancestor, (b.unit, b.y), PSEUDO), "float32"),
    "combines no run": (lambda b: condense.from_condensed([]), "one run"),
}  # fmt: skip

FLEET: dict[str, Case] = {
    "an axis of one number": (lambda b: fleet.grid(tiny.job(), lr=0.1), r"lr=0.1.*lr=\(0.1,\)"),
    "an axis of one word": (lambda b: fleet.grid(tiny.job(), method="scratch"), r"'scratch'.*\('scratch',\)"),
    "an axis of nothing": (lambda b: fleet.grid(tiny.job(), lr=()), "lr.*no values"),
    "an axis with a value twice": (lambda b: fleet.grid(tiny.job(), lr=(0.1, 0.1)), "0.1.*twice"),
    "an axis with a task twice": (lambda b: fleet.grid(tiny.job(), task=(0, 0)), "0.*twice"),
    "an axis of learning rates in text": (lambda b: fleet.grid(tiny.job(), lr=("0.1",)), "lr '0.1'.*number"),
    "an axis of broken tasks": (lambda b: fleet.grid(tiny.job(), task=(2.5,)), "task 2.5"),
    "an axis of true tasks": (lambda b: fleet.grid(tiny.job(), task=(True,)), "task True"),
    "an axis of negative tasks": (lambda b: fleet.grid(tiny.job(), task=(-1,)), "seed -1"),
    "a grid over a family": (lambda b: fleet.grid("cnn", lr=(0.1,)), "str.*Job"),
    "runs one job": (lambda b: fleet.run(tiny.job()), r"Job.*\[job\]"),
    "stores in a name": (lambda b: fleet.run([tiny.job()], results="r.sqlite"), "str.*Results"),
    "runs with -1 workers": (lambda b: fleet.run([tiny.job()], workers=-1), "workers -1"),
    "runs with '2' workers": (lambda b: fleet.run([tiny.job()], workers="2"), "workers '2'"),
    "runs on no backend": (lambda b: fleet.run([tiny.job()], backend=None), "backend None"),
    "runs names": (lambda b: fleet.run(["cnn"]), "str was given"),
}  # fmt: skip

STATISTICS: dict[str, Case] = {
    "the mean of nan": (lambda b: stats.mean([0.1, NAN]), "1 values are not finite"),
    "the mean of inf": (lambda b: stats.mean([0.1, INF]), "1 values are not finite"),
    "the mean of one value": (lambda b: stats.mean([0.1]), "at least 2 values"),
    "the mean of no value": (lambda b: stats.mean([]), "at least 2 values"),
    "the mean of a number": (lambda b: stats.mean(0.1), "1 axes"),
    "the mean of text": (lambda b: stats.mean(["a", "b"]), "numbers"),
    "the mean of numbers in text": (lambda b: stats.mean(["0.1", "0.2"]), "numbers"),
    "the mean of complex numbers": (lambda b: stats.mean([1j, 2j]), "numbers"),
    "pairs of unequal length": (lambda b: stats.paired([1, 2, 3], [1, 2]), "Paired.*3 and 2"),
    "a ratio of unequal length": (lambda b: stats.ratio([1, 2, 3], [1, 2]), "Paired.*3 and 2"),
    "a geometric mean of nothing": (lambda b: stats.geometric([], []), "at least 2 values"),
    "a geometric mean of unequal length": (lambda b: stats.geometric([1, 2, 3], [1, 2]), "3 and 2"),
    "equivalence of unequal length": (lambda b: stats.equivalent([1, 2, 3], [1, 2], 0.1), "3 and 2"),
    "a margin in text": (lambda b: stats.equivalent([1, 2], [1, 2], "0.1"), "margin.*'0.1'"),
    "a bootstrap of unequal length": (
        lambda b: stats.bootstrap([1, 2, 3], [1, 2], statistic=lambda x, y, axis: x.mean(axis)), "3 and 2",
    ),
    "a bootstrap of 0 resamples": (
        lambda b: stats.bootstrap([1, 2, 3], statistic=np.mean, resamples=0), "resamples 0",
    ),
    "a bootstrap without a statistic": (lambda b: stats.bootstrap([1, 2], statistic="mean"), "statistic.*'mean'"),
    "a hierarchy of one axis": (lambda b: stats.hierarchical([1, 2]), "2 axes"),
    "a hierarchy of 0 resamples": (lambda b: stats.hierarchical([[1], [2]], resamples=0), "resamples 0"),
    "a hierarchy seeded by -1": (lambda b: stats.hierarchical([[1], [2]], seed=-1), "seed -1"),
    "the best cell in text": (lambda b: stats.sensitivity(np.eye(3), best="1"), "best '1'"),
    "the best cell as a fraction": (lambda b: stats.sensitivity(np.eye(3), best=1.5), "best 1.5"),
    "the best cell as True": (lambda b: stats.sensitivity(np.eye(3), best=True), "best True"),
    "Holm over a list": (lambda b: stats.holm([0.1, 0.2]), "list.*name"),
    "Holm over nan": (lambda b: stats.holm({"a": NAN}), "not finite"),
    "a permutation test against nothing": (lambda b: stats.permutation_p(0.5, []), "empty"),
    "a permutation test of many": (lambda b: stats.permutation_p([0.5, 0.6], [0.1]), "axes"),
    "Wilcoxon's test of nan": (lambda b: stats.wilcoxon_p([NAN, 1.0]), "not finite"),
    "variances of a table": (lambda b: stats.components(np.eye(3)), "4 axes"),
    "a curve that is shorter than its steps": (lambda b: curves.area([1, 2, 3], [0.1, 0.2], 0.0), "2 values for 3"),
}  # fmt: skip

GROUPS = (
    IMAGES, LABELS, FIT_CONFIG, OTHER_CONFIGS, DRAWS, MODELS, FITTING, GENES, FLEET, STATISTICS,
)  # fmt: skip
WRONG = {name: case for group in GROUPS for name, case in group.items()}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_use_is_told_in_one_sentence(name, bench):
    call, words = WRONG[name]
    with pytest.raises(UserError, match=words) as caught:
        call(bench)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_no_two_wrong_uses_share_a_name():
    assert sum(map(len, GROUPS)) == len(WRONG)


# --- and no check refuses what is good ------------------------------------------------------------

RIGHT: dict[str, Callable] = {
    "trains on a list of images and labels": lambda b: train.fit(b.model, [b.x, b.y], NORM, ONCE),
    "trains a part of a model": lambda b: b.fit(model=half_frozen()),
    "trains a parallel model": lambda b: b.fit(model=nn.DataParallel(new())),
    "trains a compiled model": lambda b: b.fit(model=torch.compile(new(), backend="eager")),
    "trains a plain module": lambda b: b.fit(model=Deep(lambda z: z), test=(b.x, b.y)),
    "trains for more classes than there are labels": lambda b: b.fit(y=b.y // 3),
    "trains with a loss of one's own": lambda b: b.fit(
        model=Deep(lambda z: (z, z)), objective=lambda m, x, y: m(x)[0].square().mean()
    ),
    "trains a model of float64 that converts": lambda b: b.fit(model=Double()),
    "evaluates after a set of epochs": lambda b: b.fit(test=(b.x, b.y), log_at={1}),
    "evaluates after numpy's epochs": lambda b: b.fit(test=(b.x, b.y), log_at=np.arange(1, 2)),
    "evaluates after a range of epochs": lambda b: b.fit(test=(b.x, b.y), log_at=range(1, 2)),
    "evaluates a bfloat16 model that converts": lambda b: b.evaluate(model=Half()),
    "trains by torch's numbers": lambda b: FitConfig(epochs=torch.tensor(1), lr=torch.tensor(0.1)),
    "a job with a range of epochs": lambda b: replace(tiny.job(), log_at=range(1, 2)),
    "an axis of more epochs than before": lambda b: fleet.grid(
        tiny.job(), log_at=((99,),), epochs=(99,)
    ),
    "splits a model whose trunk is called module": lambda b: blocks.layers(Wrapped()),
    "trains on the device of a tensor": lambda b: b.fit(device_name=b.x.device),
    "evaluates one image": lambda b: b.evaluate(x=b.x[:1], y=b.y[:1]),
    "evaluates a frozen model": lambda b: b.evaluate(model=new().requires_grad_(False)),
    "evaluates a parallel model": lambda b: b.evaluate(model=nn.DataParallel(b.model)),
    "condenses six images of two classes": lambda b: b.condense(x=b.x[:6], y=b.y[:6] % 2),
    "condenses classes with a gap": lambda b: b.condense(y=b.y % 2 * 3),
    "condenses over a range of seeds": lambda b: condense.condense_seeds(
        b.ancestor, (b.x, b.y), PSEUDO, range(2), progress=False
    ),
    "names pairs in lists": lambda b: replace(PSEUDO, pairs=[[0, 1]], taps=["features.4", "features.7"]),
    "chooses a share in numpy": lambda b: learngene.choose(b.scores, b.sizes, np.float32(0.5)),
    "chooses a number in numpy": lambda b: learngene.choose(b.scores, b.sizes, np.int64(2)),
    "chooses all": lambda b: learngene.choose(b.scores, b.sizes, 1.0),
    "extracts the stem alone": lambda b: learngene.extract(b.ancestor, ()),
    "extracts nothing for a control": lambda b: learngene.extract(b.ancestor, (), travels=()),
    "extracts by numpy's names": lambda b: learngene.extract(b.ancestor, list(np.array(["features.4"]))),
    "inherits by numpy's sizes": lambda b: b.inherit(stages=(np.int64(1), 2, 1)),
    "builds one output": lambda b: new(seed=2**32 - 1),
    "builds by numpy's numbers": lambda b: models.create("learngene_vgg", np.int64(5), seed=np.int32(3)),
    "builds without hidden layers": lambda b: new(hidden=()),
    "draws from a range": lambda b: b.draw(range(5)),
    "draws from a tensor": lambda b: b.draw(torch.arange(5)),
    "draws from an array": lambda b: b.draw(np.arange(5)),
    "draws without a test": lambda b: b.draw(
        images=replace(b.images, held_out=torch.zeros(200, dtype=torch.bool)), max_test=0
    ),
    "picks no class": lambda b: b.images.of((), held_out=False),
    "normalises by vectors": lambda b: Normalize(np.array([0.5]), torch.tensor([0.25]))(b.x[:, :1]),
    "normalises by lists": lambda b: Normalize([0.5], [0.25])(b.x[:, :1]),
    "an axis of an array": lambda b: fleet.grid(tiny.job(), lr=np.geomspace(0.001, 0.1, 3)),
    "an axis of a generator": lambda b: fleet.grid(tiny.job(), task=(seed for seed in range(3))),
    "an axis of tasks": lambda b: fleet.grid(tiny.job(), task=(Task(2, 1), Task(2, 2))),
    "an axis of layers": lambda b: fleet.grid(tiny.job(), layers=(("features.4",), ("features.7",))),
    "an axis with 1 and True": lambda b: fleet.grid(tiny.job(), flip=(True, False)),
    "runs no job": lambda b: fleet.run(iter(())),
    "the mean of whole numbers": lambda b: stats.mean(range(3)),
    "the mean of right and wrong": lambda b: stats.mean([True, False, True]),
    "the best cell in numpy": lambda b: stats.sensitivity(np.eye(3), best=np.int64(1)),
    "Holm over nothing": lambda b: stats.holm({}),
    "the steepest legal rate": lambda b: FitConfig(lr=1e30, clip=None, warmup=1, weight_decay=0),
}  # fmt: skip


class Double(Deep):
    """Weights of float64, which converts its input by itself."""

    def __init__(self):
        super().__init__(lambda z: z)
        self.double()

    def forward(self, x):
        return super().forward(x.double())


class Half(Deep):
    """Weights of bfloat16, which converts its input by itself."""

    def __init__(self):
        super().__init__(lambda z: z)
        self.bfloat16()

    def forward(self, x):
        return super().forward(x.bfloat16())


class Wrapped(nn.Module):
    """A classifier whose trunk is called as that of DataParallel."""

    def __init__(self):
        super().__init__()
        self.module, self.head = (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)),
            nn.Linear(4, 2),
        )

    def get_classifier(self):
        return self.head


def half_frozen():
    model = new()
    next(model.parameters()).requires_grad_(False)
    return model


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_use_passes(name, bench):
    RIGHT[name](bench)


@pytest.mark.parametrize(
    ("mine", "same"),
    [
        (
            FitConfig(epochs=np.int64(3), lr=np.float64(0.1), flip=np.bool_(True)),
            FitConfig(3, lr=0.1, flip=True),
        ),
        (Task(np.int32(5), np.int64(3), np.uint8(7)), Task(5, 3, 7)),
        (
            replace(PSEUDO, pairs=[[0, 1]], taps=["stem"]),
            replace(PSEUDO, pairs=((0, 1),), taps=("stem",)),
        ),
        (
            job_with(layers=["features.4"], seed=np.int64(3)),
            job_with(layers=("features.4",), seed=3),
        ),
        (job_with(arch_kwargs={"stages": [np.int64(1)]}), job_with(arch_kwargs={"stages": [1]})),
        (ancestry_with(seed=np.int64(3)), ancestry_with(seed=3)),
        (Normalize([0.5], [np.float64(0.25)]), Normalize((0.5,), (0.25,))),
    ],
    ids=lambda config: type(config).__name__,
)
def test_numpys_numbers_and_lists_are_the_same_setting(mine, same):
    assert mine == same
    assert json.dumps(dataclasses.asdict(mine)) == json.dumps(dataclasses.asdict(same))
    assert getattr(mine, "key", "") == getattr(same, "key", "")


def test_a_whole_number_stays_one_so_that_old_keys_hold():
    assert json.dumps(FitConfig(lr=1, weight_decay=0).told()["lr"]) == "1"


@pytest.mark.parametrize(
    "config", [FitConfig, CondenseConfig, Task, LifeConfig, distill.DistillConfig]
)
@pytest.mark.parametrize(
    "value", [len, {"a": 1}, "x" * 1000, [[]], b"1"], ids=lambda v: type(v).__name__
)
def test_every_field_refuses_what_it_cannot_be(config, value):
    for field in dataclasses.fields(config):
        if field.type is str or (isinstance(value, dict) and field.name == "arch_kwargs"):
            continue  # names are looked up where they are used
        with pytest.raises(UserError, match=field.name):
            config(**{field.name: value})


def test_a_broken_device_is_not_blamed_on_the_images(bench):
    def breaks(_):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(torch.AcceleratorError, match="device-side"):
        train.predict(Deep(breaks), bench.x, NORM)
