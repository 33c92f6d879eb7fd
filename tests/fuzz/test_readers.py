"""Every file that is read, damaged in every way: whole content, or a refusal in one sentence."""

import hashlib
import io
import json
import math
import os
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
import torch
from damage import bytes_damage, changes, dumped, safetensors, taken_apart
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from samples import Content, idx
from tiny import FIT, jobs
from yard import share

from lgutils import condense, data, files, fleet, inherit, learngene, replicate, train
from lgutils.ancestry import Ancestor, AncestryConfig, adopt
from lgutils.compare import compare
from lgutils.condense import CondenseConfig
from lgutils.data import archives
from lgutils.errors import UserError
from lgutils.fleet import Results
from lgutils.learngene import Learngene
from lgutils.teach import assemble, records
from lgutils.train import loop


def _ancestor(path):
    found = Ancestor.load(path)
    assert str(found.card)
    return found.model.state_dict()


def _learngene(path):
    found = Learngene.load(path)
    assert str(found)
    inherit.scratch(None, found)
    return dict(found.tensors)


def _descendant(path):
    return files.load_tensors(path, "descendant")[0]


READERS = {
    "ancestor-cnn": _ancestor, "ancestor-vit": _ancestor, "learngene-cnn": _learngene,
    "learngene-vit": _learngene, "descendant": _descendant,
}  # fmt: skip


def same(found, whole):
    return found.keys() == whole.keys() and all(torch.equal(found[k], whole[k]) for k in whole)


def finite(found):
    return all(bool(torch.isfinite(t.float()).all()) for t in found.values())


@pytest.fixture(scope="session")
def whole(samples, desk):
    """Name -> tensors of the undamaged files."""
    (desk / "whole").mkdir()
    found = Content()
    for name, reader in READERS.items():
        (desk / "whole" / name).write_bytes(samples[name])
        found[name] = reader(desk / "whole" / name)
    return found


def put(desk, content, name="case"):
    path = desk / name
    path.write_bytes(content)
    return path


@settings(max_examples=share(0.1))
@given(name=st.sampled_from(sorted(READERS)), damage=bytes_damage())
def test_damaged_bytes_of_our_tensors(samples, whole, desk, figures, name, damage):
    path = put(desk, damage(samples[name]))
    case = (name, damage)
    found = figures.reader(lambda: READERS[name](path), case)
    figures.claim(found is None or same(found, whole[name]), "other tensors", case)


@settings(max_examples=share(0.14))
@given(name=st.sampled_from(sorted(READERS)), change=changes())
def test_odd_metadata_of_our_tensors(samples, whole, desk, figures, name, change):
    header, body = taken_apart(samples[name])
    meta = json.loads(header["__metadata__"]["lgutils"])
    header["__metadata__"]["lgutils"] = dumped(change(meta)).decode()
    path, case = put(desk, safetensors(header, body)), (name, change)
    found = figures.reader(lambda: READERS[name](path), case)
    figures.claim(found is None or same(found, whole[name]), "other tensors", case)


@settings(max_examples=share(0.04))
@given(name=st.sampled_from(sorted(READERS)), change=changes())
def test_odd_headers_of_safetensors(samples, whole, desk, figures, name, change):
    header, body = taken_apart(samples[name])
    path, case = put(desk, safetensors(change(header), body)), (name, change)
    found = figures.reader(lambda: READERS[name](path), case)
    figures.claim(found is None or same(found, whole[name]), "other tensors", case)


# --- JSON beside tensors: scores, learning rates, results folders, notebooks --------------------------


def _scores(path):
    found, _ = learngene.load_scores(path)
    assert found.runs.shape[1:] == (len(found.layers),)
    learngene.choose(found, [1] * len(found.layers), 2)
    learngene.agreement(found, 1)
    return found


def _rates(path):
    fit = fleet.tuned_fit("cnn", "learngene", path=path)
    assert math.isfinite(fit.lr)
    return fit


def _submission(path):
    try:
        return assemble.read(path)
    except assemble.Unreadable as why:
        raise UserError(str(why)) from why


def _record(path):
    found = records.record_of(path)
    assert all(isinstance(flag, str) for flag in found.flags)
    assert f"{found.earned:g} {found.seconds:.1f}"
    return found


def _compared(path):
    return compare(path.parent, path.parent)


def _replication(path):
    return replicate.load(path.parent)


PLAIN = {
    "scores": _scores, "rates": _rates, "notebook": _submission, "claims.json": _compared,
    "subjects.json": _replication,
}  # fmt: skip
MORE = {
    **PLAIN,
    "runs.csv": _compared,
    "notebook record": _record,
    "claims.json loaded": _replication,
}


@pytest.fixture(scope="session")
def folder(samples, desk):
    """A results folder, to which every case puts back what it changed."""
    (desk / "results").mkdir()
    for name in ("claims.json", "subjects.json", "runs.csv"):
        (desk / "results" / name).write_bytes(samples[name])
    return desk / "results"


def read_plain(figures, folder, samples, name, content, case):
    file = name.partition(" ")[0]
    path = folder / file
    path.write_bytes(content)
    try:
        return figures.reader(lambda: MORE[name](path), case)
    finally:
        path.write_bytes(samples[file])


@settings(max_examples=share(0.14))
@given(name=st.sampled_from(sorted({*MORE} - {"runs.csv"})), change=changes())
def test_odd_json(samples, folder, figures, name, change):
    stored = json.loads(samples[name.partition(" ")[0]])
    content = dumped(change(stored))
    read_plain(figures, folder, samples, name, content, (name, change))


@settings(max_examples=share(0.05))
@given(name=st.sampled_from(sorted(MORE)), damage=bytes_damage())
def test_damaged_bytes_of_text(samples, folder, figures, name, damage):
    content = damage(samples[name.partition(" ")[0]])
    read_plain(figures, folder, samples, name, content, (name, damage))


# --- rows ----------------------------------------------------------------------------------------------


def _rows(path):
    with Results(path) as results:
        found = results.find(jobs(3))
    assert all(0 <= row.accuracy <= 1 for row in found.values())
    fleet.table(list(found.values()))
    return found


@settings(max_examples=share(0.05))
@given(damage=bytes_damage())
def test_damaged_bytes_of_results(samples, desk, figures, damage):
    path = put(desk, damage(samples["rows"]), "rows.sqlite")
    figures.reader(lambda: _rows(path), damage)


@settings(max_examples=share(0.06))
@given(
    change=changes(),
    raw=st.one_of(st.none(), st.none(), st.binary(max_size=9), st.just("[" * 9999)),
)
@example(change=dict, raw="[" * 9999).via("a row that is nested deep")
@example(change=dict, raw=b"\xff").via("a row that is no text")
@example(change=lambda row: {**row, "accuracy": None}, raw=None).via("a row without accuracy")
@example(change=lambda row: {**row, "accuracy": 7.5}, raw=None).via("more than all right")
def test_odd_rows(samples, desk, figures, change, raw):
    path = put(desk, samples["rows"], "rows.sqlite")
    with sqlite3.connect(path) as db:
        key, outcome = db.execute("SELECT key, outcome FROM rows").fetchone()
        text = raw or dumped(change(json.loads(outcome))).decode()
        db.execute("UPDATE rows SET outcome = ? WHERE key = ?", (text, key))
    db.close()
    figures.reader(lambda: _rows(path), (change, raw))


# --- checkpoints ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def half(sources, coloured, desk):
    """Name -> (a function that goes on from a checkpoint, the state in it)."""
    ancestor, _ = sources["cnn"]
    training = (coloured.images[:96:6], coloured.labels[:96:6])
    fit = replace(FIT, epochs=2)
    small = CondenseConfig(
        arch_kwargs={"stages": (1, 1), "widths": (4, 4)}, iterations=2, batch_size=8
    )

    def trained(path):
        return train.fit(ancestor.model, training, ancestor.card.normalize, fit, checkpoint=path)

    def condensed(path):
        return condense.condense(
            ancestor, training, small, checkpoint=path, keep=True, progress=False
        )

    epoch = loop._epoch

    def once(run, batches, number, config):
        if number == 2:
            raise KeyboardInterrupt
        return epoch(run, batches, number, config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_epoch", once)
        with pytest.raises(KeyboardInterrupt):
            trained(desk / "fit.ckpt")
    condensed(desk / "condense.ckpt")
    calls = {"fit": trained, "condense": condensed}
    return Content(
        {n: (c, torch.load(desk / f"{n}.ckpt", weights_only=True)) for n, c in calls.items()}
    )


@settings(max_examples=share(0.05))
@given(name=st.sampled_from(["fit", "condense"]), change=changes())
def test_odd_checkpoints(half, desk, figures, name, change):
    call, state = half[name]
    path = desk / "odd.ckpt"
    torch.save(change(state), path)
    figures.reader(lambda: call(path), (name, change))


@settings(max_examples=share(0.03))
@given(name=st.sampled_from(["fit", "condense"]), damage=bytes_damage())
def test_damaged_checkpoints(half, desk, figures, name, damage):
    call, state = half[name]
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = put(desk, damage(buffer.getvalue()), "odd.ckpt")
    figures.reader(lambda: call(path), (name, damage))


# --- arrays that others wrote --------------------------------------------------------------------------


def _fashion(place):
    found = data.load(f"fashion-mnist:{place}", "full")
    assert found.images.shape[1:] == (3, 32, 32)
    return found


@settings(max_examples=share(0.05))
@given(name=st.sampled_from(["images", "images.gz", "labels"]), damage=bytes_damage())
def test_damaged_idx_files(samples, desk, figures, name, damage):
    place = desk / "fashion-mnist"
    place.mkdir(exist_ok=True)
    for part in ("train", "t10k"):
        for what, content in (("images-idx3", "images"), ("labels-idx1", "labels")):
            put(place, samples[content], f"{part}-{what}-ubyte")
    (place / "train-images-idx3-ubyte.gz").unlink(missing_ok=True)
    target = {"images": "train-images-idx3-ubyte", "labels": "train-labels-idx1-ubyte"}.get(name)
    if target is None:
        target = "train-images-idx3-ubyte.gz"
        (place / "train-images-idx3-ubyte").unlink()
    put(place, damage(samples[name]), target)
    figures.reader(lambda: _fashion(desk), (name, damage))


@settings(max_examples=share(0.04))
@given(
    shape=st.lists(st.integers(0, 40), max_size=5), other=st.integers(0, 9), kind=st.integers(7, 15)
)
@example(shape=[0, 34, 0], other=0, kind=8).via("an idx file without pictures")
@example(shape=[39, 29, 4], other=9, kind=8).via("an idx file of other pictures")
def test_idx_files_of_any_dimensions(desk, samples, figures, shape, other, kind):
    place = desk / "fashion-mnist"
    place.mkdir(exist_ok=True)
    (place / "train-images-idx3-ubyte.gz").unlink(missing_ok=True)
    content = bytearray(idx(np.zeros(shape, np.uint8)))
    content[2] = kind if kind < 9 else 8
    for part in ("train", "t10k"):
        put(place, bytes(content), f"{part}-images-idx3-ubyte")
        put(place, idx(np.arange((shape or [3])[0]) % (other + 1)), f"{part}-labels-idx1-ubyte")
    figures.reader(lambda: _fashion(desk), (shape, other, kind))


@settings(max_examples=share(0.02))
@given(damage=bytes_damage())
def test_odd_pickles_of_cifar(samples, desk, figures, damage):
    content = damage(samples["cifar"])
    path = put(desk, content)
    md5 = hashlib.md5(content).hexdigest()
    figures.reader(lambda: archives.read_pickle(path, md5), damage)


# --- foreign weights -----------------------------------------------------------------------------------


class Bomb:
    """Something that acts when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


TENSORS = {
    "nan": lambda t: t.float() * math.nan, "half": lambda t: t.half(), "integers": lambda t: t.long(),
    "flat": lambda t: t.flatten(), "empty": lambda t: t[:0] if t.ndim else t, "double": lambda t: t.double(),
    "complex": lambda t: t.to(torch.complex64), "longer": lambda t: torch.cat([t, t]) if t.ndim else t,
    "parameter": lambda t: torch.nn.Parameter(t.float()), "more axes": lambda t: t[None],
    "sparse": lambda t: t.to_sparse() if t.ndim else t, "bfloat16": lambda t: t.bfloat16(),
}  # fmt: skip
FORMS = ("alone", "state_dict", "model", "list", "with an epoch", "module.", "bomb", "nested")


def _form(tensors, form, bomb):
    return {
        "alone": tensors, "state_dict": {"state_dict": tensors}, "model": {"model": tensors},
        "list": list(tensors.items()), "with an epoch": {**tensors, "epoch": 3},
        "module.": {f"module.{k}": t for k, t in tensors.items()},
        "bomb": {**tensors, "extra": Bomb(bomb)}, "nested": {"model": {"state_dict": tensors}},
    }[form]  # fmt: skip


@settings(max_examples=share(0.08))
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from(["gone", "renamed", *TENSORS])), max_size=3
    ),
    form=st.sampled_from(FORMS),
    suffix=st.sampled_from(
        [".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".pth.tar", ".npz", ""]
    ),
    damage=st.one_of(st.none(), st.none(), bytes_damage()),
)
@example(steps=[(55, "sparse")], form="alone", suffix=".pth", damage=None).via("a sparse tensor")
@example(steps=[(3, "nan")], form="alone", suffix=".pth", damage=None).via("no numbers")
@example(steps=[], form="bomb", suffix=".pth", damage=None).via("a pickle that acts")
def test_odd_foreign_weights(sources, desk, figures, steps, form, suffix, damage):
    card, case = sources["cnn"][0].card, (steps, form, suffix, damage)
    tensors = {k: t.clone() for k, t in sources["cnn"][0].model.state_dict().items()}
    for number, how in steps:
        name = list(tensors)[number % len(tensors)]
        old = tensors.pop(name).to_dense()
        if how != "gone":
            new = TENSORS[how](old) if how in TENSORS else old
            tensors[name if how in TENSORS else f"{name}x"] = new
    bomb = desk / "bomb"
    if suffix == ".safetensors":
        whole = {k: t.detach().contiguous() for k, t in tensors.items() if not t.is_sparse}
        content = save(whole)
    else:
        buffer = io.BytesIO()
        torch.save(_form(tensors, form, bomb), buffer)
        content = buffer.getvalue()
    path = put(desk, damage(content) if damage else content, f"weights{suffix}")
    config = AncestryConfig("custom", card.arch, card.arch_kwargs, weights=str(path))
    found = figures.reader(lambda: adopt(config), case)
    assert not bomb.exists(), "executed"
    figures.claim(
        found is None or finite(found.model.state_dict()), "weights that are no numbers", case
    )


@settings(max_examples=share(0.05))
@given(
    name=st.sampled_from(sorted(READERS)),
    number=st.integers(0, 99),
    how=st.sampled_from(["gone", *TENSORS]),
)
def test_odd_tensors_with_a_right_hash(samples, desk, figures, name, number, how):
    path = put(desk, samples[name])
    tensors, meta = files.load_tensors(path)
    which = list(tensors)[number % len(tensors)]
    old = tensors.pop(which)
    if how in TENSORS and how != "sparse":
        tensors[which] = TENSORS[how](old)
    kind = meta.pop("kind")
    if kind == "ancestor":
        digest = hashlib.sha256()
        for key, tensor in sorted(tensors.items()):
            digest.update(key.encode())
            digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())
        meta["card"]["weight_hash"] = digest.hexdigest()
    tensors = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
    told = {**meta, "kind": kind, "sha256": files._tensor_hash(tensors)}
    put(desk, save(tensors, metadata={"lgutils": json.dumps(told)}))  # ours would not write it
    case = (name, number, how)
    found = figures.reader(lambda: READERS[name](path), case)
    figures.claim(found is None or finite(found), "tensors that are no numbers", case)
