"""A small whole file of every format that the library reads."""

import gzip
import json
import pickle
import struct
from pathlib import Path

import numpy as np
from safetensors.torch import save
from tiny import jobs

from lgutils import files, fleet, inherit, learngene, ship
from lgutils.condense.criteria import Scores
from lgutils.fleet import Results, Row

CURVE = ((3, 0.5), (6, 0.75))
ABOUT = {"device": "1 CPU thread", "backend": "one at a time", "code": "0"}

CELLS = [
    {"cell_type": "code", "id": "a", "source": "1 + 1", "outputs": [], "execution_count": None,
     "metadata": {"nbgrader": {"grade_id": "a", "solution": True}}},
    {"cell_type": "markdown", "id": "b", "metadata": {}, "source": ["x"],
     "attachments": {"p.png": {"image/png": "AAAA"}}},
]  # fmt: skip
RECORD = {"key": "k", "flags": ["a flag"], "messages": {"a": "told"}, "suspect": False,
          "earned": 1.0, "seconds": 2.0, "unrun": False}  # fmt: skip
BOOK = {"cells": CELLS, "metadata": {"lgutils": RECORD}, "nbformat": 4, "nbformat_minor": 5}


class Content(dict):
    """Files by name; silent, as hypothesis writes down what a test is given."""

    def __repr__(self) -> str:
        return "..."


def row(job, accuracy: float = 0.75) -> Row:
    """A finished row of a job."""
    return Row(job, accuracy, (*CURVE[:-1], (6, accuracy)), 0.5, 1.5, "task", ABOUT)


def idx(array: np.ndarray) -> bytes:
    """Bytes as an idx file."""
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes()


def _scores() -> Scores:
    runs = np.array([[0.1, 0.9, 0.4, 0.2, 0.3]] * 2)
    return Scores("lambda", tuple(f"features.{i}" for i in (0, 4, 7, 11, 14)), runs, None, ())


def made(folder: Path, sources: dict) -> Content:
    """Name -> content. The tensors are those of tests/tiny.py."""
    for family, (ancestor, gene) in sources.items():
        ancestor.save(folder / f"ancestor-{family}")
        gene.save(folder / f"learngene-{family}")
    ancestor, gene = sources["cnn"]
    heir = inherit.inherit(gene, num_classes=3)
    files.save_tensors(folder / "descendant", "descendant", heir.model.state_dict(),
                       {"arch": gene.arch, "settings": {"stages": [1, 2, 2]}, "classes": (4, 5, 6),
                        "dataset": "glyphs", "accuracy": 0.5, "task": "key"})  # fmt: skip
    learngene.save_scores(_scores(), folder / "scores", about="lambda")
    with Results(folder / "rows") as results:
        results.add([row(job) for job in jobs(3)])
    (folder / "weights").write_bytes(save(ancestor.model.state_dict()))
    (folder / "rates").write_bytes(fleet.tuned_path().read_bytes())
    stored = ship.results_folder() / "digits-quick"
    for name in ("claims.json", "subjects.json"):
        (folder / name).write_bytes((stored / name).read_bytes())
    lines = (stored / "runs.csv").read_bytes().splitlines(keepends=True)
    (folder / "runs.csv").write_bytes(b"".join(lines[:30]))
    pictures = idx(np.random.default_rng(0).integers(0, 256, (20, 28, 28)))
    (folder / "images").write_bytes(pictures)
    (folder / "images.gz").write_bytes(gzip.compress(pictures, mtime=0))
    (folder / "labels").write_bytes(idx(np.arange(20) % 10))
    cifar = {"data": np.zeros((4, 3072), np.uint8), "fine_labels": [0, 1, 2, 3]}
    (folder / "cifar").write_bytes(pickle.dumps(cifar, protocol=2))
    (folder / "notebook").write_text(json.dumps(BOOK))
    return Content({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
