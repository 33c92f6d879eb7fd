"""Facts about files that were damaged or made by hand: one sentence, or the right content."""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lgutils import ancestry, checks, data, files, fleet, learngene, reading, replicate, train
from lgutils.condense.criteria import Scores
from lgutils.data import Normalize, archives, decode, fetch
from lgutils.errors import UserError
from lgutils.learngene import Learngene
from lgutils.report import Claim, Interval, read_claims


@dataclass(frozen=True)
class Size:
    side: checks.Whole
    share: checks.Share = 0.5


@dataclass(frozen=True)
class Box:
    names: tuple[str, ...]
    size: Size


def saved(tmp_path, text):
    path = tmp_path / "box.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path, kind=Box):
    with pytest.raises(UserError) as caught:
        reading.json_file(path, kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the reader -----------------------------------------------------------------------------------


def test_json_becomes_the_type(tmp_path):
    path = saved(tmp_path, '{"names": ["a"], "size": {"side": 3}, "later": 1}')
    assert reading.json_file(path, Box) == Box(("a",), Size(3))


def test_whole_numbers_may_stand_for_shares(tmp_path):
    assert reading.json_file(saved(tmp_path, '{"side": 1, "share": 1}'), Size).share == 1.0


def test_the_place_of_a_wrong_value_is_told(tmp_path):
    path = saved(tmp_path, '{"names": ["a", null], "size": {"side": 3}}')
    assert refused(path) == (
        f"{path} is damaged or not such a file (expected `str`, got `null` at `$.names[1]`). "
        "Copy or make it again."
    )


def test_a_missing_entry_is_told(tmp_path):
    assert "missing required field `size`" in refused(saved(tmp_path, '{"names": []}'))


@pytest.mark.parametrize(
    "share", ["7.5", "-0.1", "NaN", "Infinity", "1e999", "true", '"0.5"', "null"]
)
def test_a_share_lies_between_0_and_1(tmp_path, share):
    path = saved(tmp_path, f'{{"side": 1, "share": {share}}}')
    assert "at `$.share`" in refused(path, Size)


@pytest.mark.parametrize("side", ["1.5", "-1", "1" * 30, "1" * 5000, "1" * 400, "[1]", "{}"])
def test_a_count_is_a_whole_number_that_can_be(tmp_path, side):
    refused(saved(tmp_path, f'{{"side": {side}}}'), Size)


ODD = {
    "empty": b"",
    "cut": b'{"names": ["a"',
    "nested lists": b"[" * 10_000 + b"]" * 10_000,
    "open lists": b"[" * 10_000,
    "nested objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "nested a little": b'{"names": ' + b"[" * 500 + b"]" * 500 + b"}",
    "not UTF-8": b'{"names": ["\xff"]}',
    "UTF-16": '{"names": []}'.encode("utf-16-le"),
    "null bytes": b"\0" * 100,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(50),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_json_of_ours_is_one_sentence(tmp_path, what):
    assert "is damaged or not such a file" in refused(saved(tmp_path, ODD[what]))


def test_a_file_is_refused_by_its_size_before_it_is_read(tmp_path, monkeypatch):
    path = saved(tmp_path, "{}")
    os.truncate(path, 2**40)  # a hole: it takes no space
    monkeypatch.setattr(reading.json, "loads", None)
    assert "has 1,048,576.0 MiB; at most 32.0 are read" in refused(path)


def test_a_missing_file_is_named(tmp_path):
    assert refused(tmp_path / "nowhere") == (
        f"There is no file {tmp_path / 'nowhere'}. Check the name, or make it first."
    )


def test_a_folder_is_no_file(tmp_path):
    assert "is a folder, but a file is expected" in refused(tmp_path)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe or a device" in refused(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_one_sentence(tmp_path, name):
    assert "cannot be read" in refused(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_one_sentence(tmp_path):
    path = saved(tmp_path, "{}")
    path.chmod(0)
    assert "cannot be read (Permission denied)" in refused(path)


def test_a_file_whose_folder_tells_no_sizes_is_bounded():
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("no /proc")
    with pytest.raises(UserError, match="at most"):
        reading.content("/proc/self/maps", 10)


def test_a_long_reason_is_cut():
    assert len(reading.reason(ValueError("a\n" * 1000))) == 300


def test_a_value_that_refuses_itself_says_why(tmp_path):
    path = saved(tmp_path, json.dumps({"mean": [0.5, 0.5], "std": [0.5]}))
    assert "each for every channel" in refused(path, Normalize)


# --- files of tensors -----------------------------------------------------------------------------


def layers(names=("a", "b")):
    return [
        {"name": n, "role": "block", "tensors": [f"{n}.weight"], "num_params": 4, "tap": n}
        for n in names
    ]


def gene_meta():
    return {
        "arch": "learngene_vgg", "arch_kwargs": {}, "layers": layers(), "depths": [0.0, 1.0],
        "normalize": {"mean": [0.5] * 3, "std": [0.2] * 3}, "travels": ["stem"], "card": {},
        "scores": {"method": "lambda", "layers": ["a", "b", "c"], "seeds": 2,
                   "mean": [1.0, 2.0, float("nan")], "runs": [[1.0, 2.0, float("nan")]] * 2},
    }  # fmt: skip


def gene_tensors(**other):
    return {"a.weight": torch.ones(2, 2), "b.weight": torch.zeros(2, 2), **other}


@pytest.fixture(scope="session")
def card():
    return reading.checked(
        files.load_tensors(ancestry.shipped_path("cnn"))[1]["card"], dict, "card"
    )


def test_a_learngene_whose_scores_lack_a_layer_is_read(tmp_path):
    path = files.save_tensors(tmp_path / "g", "learngene", gene_tensors(), gene_meta())
    assert "score 2.000" in str(Learngene.load(path))


def changed(meta, at, value):
    """The metadata with something else at a path such as "layers.0.tensors"."""
    meta = json.loads(json.dumps(meta))
    *way, last = (int(name) if name.isdigit() else name for name in at.split("."))
    place = meta
    for name in way:
        place = place[name]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return meta


GONE = object()
NAN, INF = float("nan"), float("inf")
WRONG = [
    ("arch", 5), ("arch", ""), ("arch", GONE), ("arch_kwargs", []), ("arch_kwargs", {"seed": 1}),
    ("arch_kwargs", {"depth": 10**9}), ("arch_kwargs", {"pretrained": True}),
    ("layers", None), ("layers", {}), ("layers.0", None), ("layers.0.name", 3),
    ("layers.0.tensors", "a.weight"), ("layers.0.tensors", ["no"]), ("layers.0.tensors", [1]),
    ("layers.0.tensors", ["b.weight"]), ("layers.0.tensors", ["a.weight", "a.weight"]),
    ("layers.0.name", "b"), ("layers.0.role", "king"), ("layers.0.num_params", -1),
    ("layers.0.num_params", 99), ("layers.0.num_params", 1.5), ("layers.0.tap", 3),
    ("depths", [0.0]), ("depths", [0.0, 2.0]), ("depths", [0.0, NAN]), ("depths", "01"),
    ("normalize", None), ("normalize.mean", None), ("normalize.std", [0.2, 0.2, 0.0]),
    ("normalize.std", [0.2]), ("normalize.mean", [INF, 0, 0]), ("normalize.mean", []),
    ("travels", ["king"]), ("travels", "stem"), ("card", [1]), ("card", {"classes": ["a"]}),
    ("scores", []), ("scores.mean", [1.0]), ("scores.mean", None), ("scores.layers", ["a", "a", "a"]),
    ("scores.runs", [[1.0]]), ("scores.runs", []), ("scores.seeds", 3), ("scores.seeds", "2"),
    ("scores.matrix", [[1.0]]), ("scores.method", None), ("scores.runs.0.0", INF),
]  # fmt: skip


@pytest.mark.parametrize(("at", "value"), WRONG)
def test_a_learngene_with_wrong_metadata_is_one_sentence(tmp_path, at, value):
    path = tmp_path / "g.safetensors"
    files.save_tensors(path, "learngene", gene_tensors(), changed(gene_meta(), at, value))
    with pytest.raises(UserError) as caught:
        Learngene.load(path)
    assert "\n" not in str(caught.value)


WRONG_CARD = [
    ("accuracy.accuracy", 7.5), ("accuracy.accuracy", NAN), ("accuracy.low", -0.1), ("accuracy", 1),
    ("accuracy.n", 1.5), ("classes", []), ("classes", "abc"), ("classes.3", None), ("classes", GONE),
    ("normalize.std.0", 0), ("normalize.mean", [0.1]), ("normalize", {}), ("seconds", -1),
    ("seconds", "fast"), ("images_seen", -5), ("images_seen", 1.5), ("versions", []),
    ("weight_hash", 5), ("arch", "no_such"), ("arch_kwargs", {"num_classes": 3}),
    ("arch_kwargs", {"widths": [10**9] * 4}), ("arch_kwargs", {"widths": [1, 2, 3, 4]}),
    ("arch_kwargs", {"stages": "x"}), ("arch_kwargs", None), ("seed", None), ("fresh_head", 1),
]  # fmt: skip


@pytest.mark.parametrize(("at", "value"), WRONG_CARD)
def test_an_ancestor_with_a_wrong_card_is_one_sentence(tmp_path, card, at, value):
    meta = {"card": changed(card, at, value), "losses": [], "curve": []}
    tensors, _ = files.load_tensors(ancestry.shipped_path("cnn"))
    path = files.save_tensors(tmp_path / "a.safetensors", "ancestor", tensors, meta)
    with pytest.raises(UserError) as caught:
        ancestry.Ancestor.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("at", "value"),
    [("losses", None), ("losses", [NAN]), ("curve", [[1]]), ("curve", [[1, 1.5]]), ("card", GONE)],
)
def test_an_ancestor_with_a_wrong_history_is_one_sentence(tmp_path, card, at, value):
    meta = changed({"card": card, "losses": [1.0], "curve": [[1, 0.5]]}, at, value)
    tensors, _ = files.load_tensors(ancestry.shipped_path("cnn"))
    path = files.save_tensors(tmp_path / "a.safetensors", "ancestor", tensors, meta)
    with pytest.raises(UserError, match=rf"at `\$\.{at}|required field `{at}`"):
        ancestry.Ancestor.load(path)


def test_an_ancestor_that_lacks_a_tensor_names_it(tmp_path, card):
    tensors, meta = files.load_tensors(ancestry.shipped_path("cnn"))
    del tensors["features.4.weight"]
    told = {name: meta[name] for name in ("card", "losses", "curve")}
    path = files.save_tensors(tmp_path / "a", "ancestor", tensors, told)
    with pytest.raises(
        UserError, match=r"does not fit learngene_vgg: it lacks 'features.4.weight'"
    ):
        ancestry.Ancestor.load(path)


def save_unsound(*given):
    """Write a file of tensors that `files.save_tensors` would not write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "unsound", lambda tensors: "")
        return files.save_tensors(*given)


@pytest.mark.parametrize("kind", ["ancestor", "learngene", "descendant"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_weights_that_are_not_finite_are_refused_though_their_hash_is_right(tmp_path, kind, value):
    other = {"b.weight": torch.tensor([[1.0, value]])}
    path = save_unsound(tmp_path / "x", kind, gene_tensors(**other), {})
    with pytest.raises(UserError, match=r"the tensor 'b.weight' holds values that are not finite"):
        files.load_tensors(path)


def test_info_refuses_a_learngene_with_nan(tmp_path):
    from typer.testing import CliRunner

    from lgutils.cli import app

    other = {"b.weight": torch.full((2, 2), NAN)}
    path = save_unsound(tmp_path / "x", "learngene", gene_tensors(**other), gene_meta())
    assert "not finite" in str(CliRunner().invoke(app, ["info", str(path)]).exception)


def test_a_tensor_of_a_type_that_no_model_has_is_refused(tmp_path):
    other = {"b.weight": torch.ones(2, 2).to(torch.float8_e4m3fn)}
    path = save_unsound(tmp_path / "x", "learngene", gene_tensors(**other), gene_meta())
    with pytest.raises(UserError, match=r"'b.weight' has the type torch.float8_e4m3fn"):
        files.load_tensors(path)


HEADERS = {
    "a format that is a word": {"format": "abc"},
    "a format that is a list": {"format": [1]},
    "no format": {"format": None},
    "a kind that is a number": {"kind": 5},
    "an unknown kind": {"kind": "king"},
    "a hash that is a number": {"sha256": 5},
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_of_other_types_is_one_sentence(tmp_path, what):
    path = files.save_tensors(tmp_path / "x", "learngene", gene_tensors(), HEADERS[what])
    with pytest.raises(UserError, match=r"is damaged or not such a file .* at `\$\.|do not match"):
        files.load_tensors(path)


def test_metadata_nested_deep_is_one_sentence(tmp_path):
    save_file(gene_tensors(), tmp_path / "x", metadata={"lgutils": "[" * 10_000})
    with pytest.raises(UserError, match="is damaged"):
        files.load_tensors(tmp_path / "x")


def test_a_header_that_claims_to_be_huge_is_refused(tmp_path):
    (tmp_path / "x").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(UserError, match="a header of more than 16 MiB"):
        files.load_tensors(tmp_path / "x")


# --- scores ---------------------------------------------------------------------------------------


def test_scores_with_a_layer_that_was_not_compared_come_back(tmp_path):
    scores = Scores("lambda", ("a", "b"), np.array([[1.0, np.nan]]))
    path = learngene.save_scores(scores, tmp_path / "s.json", note="x")
    found, about = learngene.load_scores(path)
    assert (found.layers, about) == (scores.layers, {"note": "x"})
    np.testing.assert_array_equal(found.runs, scores.runs)


@pytest.mark.parametrize(
    ("at", "value"),
    [("scores", GONE), ("scores.runs", []), ("scores.runs", [[1.0]]), ("scores.runs.0.0", "x"),
     ("scores.layers", ["a", "a"]), ("scores.layers", []), ("scores.layers", None),
     ("scores.matrix", [[1.0, 2.0]]), ("scores.matrix", [[1.0], [2.0]]), ("scores.slots", [1]),
     ("scores.runs.0.0", INF), ("scores.method", 1)],
)  # fmt: skip
def test_damaged_scores_are_one_sentence(tmp_path, at, value):
    scores = Scores("lambda", ("a", "b"), np.array([[1.0, 2.0]]))
    stored = json.loads(learngene.save_scores(scores, tmp_path / "s.json").read_text())
    (tmp_path / "s.json").write_text(json.dumps(changed(stored, at, value)))
    with pytest.raises(UserError, match="is damaged or not such a file"):
        learngene.load_scores(tmp_path / "s.json")


# --- tables, learning rates -----------------------------------------------------------------------


def test_a_value_outside_its_column_names_its_line(tmp_path):
    (tmp_path / "t.csv").write_text("task,accuracy\n0,0.5\n1,7.5\n")
    with pytest.raises(UserError, match=r"t.csv, line 3, column 'accuracy', is damaged"):
        reading.table(tmp_path / "t.csv", {"accuracy": checks.Share})


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"\xff\xfe\x00", b"accuracy\n\n", b'a,"b\nc', b"\0" * 50, b"accuracy\nx\n"]
)
def test_what_is_no_such_table_is_one_sentence(tmp_path, text):
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(UserError) as caught:
        reading.table(tmp_path / "t.csv", {"accuracy": checks.Share, "task": int})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"best": []}', '{"best": {"cnn": {"scratch": "fast"}}}', "[" * 10_000,
     '{"best": {"cnn": {"scratch": NaN}}}', '{"best": {"cnn": {"scratch": -1}}}',
     '{"best": {}, "means": {"cnn": {"scratch": {"fast": 0.5}}}}',
     '{"best": {}, "means": {"cnn": {"scratch": {"0.1": 5}}}}',
     '{"best": {}, "means": {"cnn": {"scratch": {}}}}'],
)  # fmt: skip
def test_damaged_learning_rates_are_one_sentence(tmp_path, text):
    (tmp_path / "rates.json").write_text(text)
    with pytest.raises(
        UserError, match=r"is damaged or not such a file .* Delete it, and tune again"
    ):
        fleet.tuned_fit("cnn", "scratch", path=tmp_path / "rates.json")


def test_an_arm_that_was_not_tuned_is_named(tmp_path):
    (tmp_path / "rates.json").write_text('{"best": {"cnn": {}}}')
    with pytest.raises(UserError, match="No learning rate was tuned for 'scratch' of 'cnn'"):
        fleet.tuned_fit("cnn", "scratch", path=tmp_path / "rates.json")


# --- checkpoints ----------------------------------------------------------------------------------


IMAGES = (torch.zeros(8, 3, 4, 4, dtype=torch.uint8), torch.arange(8) % 2)


def trained(path, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    normalize = Normalize((0.5,) * 3, (0.5,) * 3)
    return train.fit(
        model,
        IMAGES,
        normalize,
        train.FitConfig(epochs=2, batch_size=4),
        checkpoint=path,
        **options,
    )


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A checkpoint as `train.fit` leaves it when it is stopped, and its state."""
    with monkeypatch.context() as patch:
        patch.setattr(files.Path, "unlink", lambda *_, **__: None)
        trained(tmp_path / "c.ckpt")
    return tmp_path / "c.ckpt", torch.load(tmp_path / "c.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("at", "value"),
    [("losses", None), ("losses", [NAN]), ("curve", [[1]]), ("curve", [[1, 7.5]]), ("seconds", "x"),
     ("model", {}), ("model", None), ("model", {"1.weight": torch.ones(1)}), ("model", [1]),
     ("optimizer", {}), ("optimizer", None), ("optimizer", {"state": 1, "param_groups": 2}),
     ("losses", GONE), ("model", GONE)],
)  # fmt: skip
def test_a_checkpoint_of_another_shape_is_one_sentence(checkpoint, at, value):
    path, state = checkpoint
    key = state.pop("key")
    state = {k: v for k, v in {**state, at: value}.items() if v is not GONE}
    files.save_checkpoint(path, key, state)
    with pytest.raises(UserError, match="Delete it to start anew") as caught:
        trained(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [torch.ones(3), [], 1.5, "x"])
def test_an_optimizers_memory_of_another_shape_is_one_sentence(checkpoint, value):
    path, state = checkpoint
    state["optimizer"]["state"][0]["exp_avg"] = value
    files.save_checkpoint(path, state.pop("key"), state)
    with pytest.raises(UserError, match="Delete it to start anew"):
        trained(path)


def test_a_checkpoint_whose_bytes_changed_is_refused_though_torch_would_read_it(tmp_path):
    path = files.save_checkpoint(tmp_path / "c", "key", {"w": torch.full((999,), 1.0)})
    content = path.read_bytes()
    one = bytes(torch.ones(9).numpy())
    path.write_bytes(content.replace(one, bytes(torch.full((9,), 2.0).numpy()), 1))
    assert torch.load(path, weights_only=True)["w"].max() == 2
    with pytest.raises(UserError, match="not a readable checkpoint"):
        files.load_checkpoint(path, "key")


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "{}", '{"metadata": 3}', '{"metadata": {"lgutils": {"flags": 3}}}']
)
def test_a_record_that_cannot_be_read_is_an_empty_one(tmp_path, text):
    from lgutils.teach.records import Record, record_of

    (tmp_path / "n.ipynb").write_text(text)
    assert record_of(tmp_path / "n.ipynb").key == Record().key == ""


# --- every byte -----------------------------------------------------------------------------------


def same(a, b):
    """Whether two contents are equal, tensors and arrays included."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor | np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tolist() == b.tolist()
    return a == b


def write_gene(folder):
    return files.save_tensors(folder / "g.safetensors", "learngene", gene_tensors(), gene_meta())


def write_checkpoint(folder):
    state = {"model": {"w": torch.arange(50.0)}, "losses": [0.5]}
    return files.save_checkpoint(folder / "c.ckpt", "key", state)


def write_idx(folder):
    path = folder / "i.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x02\0\0\0\3\0\0\0\5" + bytes(range(15)), mtime=0))
    return path


def write_claims(folder):
    claim = Claim("a", Interval(0.2, 0.1, INF, 20), number=1).to_json()
    return files.write_text(
        folder / "claims.json", json.dumps({"claims": [claim], "provenance": {}})
    )


def write_scores(folder):
    scores = Scores("cka", ("a", "b"), np.array([[1.0, np.nan]]), np.ones((2, 1)), ("x",))
    return learngene.save_scores(scores, folder / "s.json")


FORMATS = {  # name -> (writes a file, reads it, whether any other content is noticed)
    "tensors": (write_gene, lambda p: files.load_tensors(p, "learngene")[0], True),
    "learngene": (write_gene, lambda p: str(Learngene.load(p)), False),
    "checkpoint": (write_checkpoint, lambda p: files.load_checkpoint(p, "key"), True),
    "idx": (write_idx, archives.read_idx, True),
    "claims": (write_claims, lambda p: str(read_claims(p)), False),
    "scores": (write_scores, lambda p: str(learngene.load_scores(p)[0]), False),
}


@pytest.mark.parametrize("name", FORMATS)
def test_no_damage_does_more_than_be_refused(tmp_path, name):
    """Cut at many places and with one byte changed at many: a `UserError`, or the right content.

    Text that carries no checksum may read as another text: there only the kind of the error counts.
    """
    write, read, checksummed = FORMATS[name]
    path = write(tmp_path)
    whole, right = path.read_bytes(), read(path)
    dice = random.Random(name)
    places = sorted(dice.sample(range(len(whole)), min(len(whole), 80)))
    cut = [whole[:at] for at in places]
    flipped = [
        whole[:at] + bytes([whole[at] ^ 1 << dice.randrange(8)]) + whole[at + 1 :] for at in places
    ]
    for content in (*cut, *flipped, whole + b"\0", b"", whole[::-1]):
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            found = read(path)
            assert not checksummed or same(found, right)


# --- datasets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_idx_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(archives, "LIMIT", 1000)
    content = b"\0\0\x08\x01" + (5000).to_bytes(4, "big") + bytes(5000)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(UserError, match=r"at most|damaged or no idx file"):
        archives.read_idx(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", b"\0\0\x08\x03", b"\0\0\x08\x03\0\0", b"\0\0\x08\x00", b"\0\0\x08\xff" * 2,
     b"\0\0\x08\x02" + b"\xff" * 8, b"\0\0\x0d\x01\0\0\0\1\0"],
)  # fmt: skip
def test_an_idx_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match="damaged or no idx file"):
        archives.read_idx(tmp_path / "x")


def idx_file(path, *shape):
    head = b"\0\0\x08" + bytes([len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    path.write_bytes(head + bytes(int(np.prod(shape))))


@pytest.mark.parametrize(
    ("images", "labels"), [((4, 28), (4,)), ((4, 5, 5), (4,)), ((4, 28, 28), (3,)), ((0, 28, 28), (0,)),
                           ((4, 28, 28), (2, 2)), ((4,), (4,))],
)  # fmt: skip
def test_fashion_files_of_other_dimensions_are_one_sentence(tmp_path, images, labels):
    idx_file(tmp_path / "t10k-images-idx3-ubyte", 4, 28, 28)
    idx_file(tmp_path / "t10k-labels-idx1-ubyte", 4)
    idx_file(tmp_path / "train-images-idx3-ubyte", *images)
    idx_file(tmp_path / "train-labels-idx1-ubyte", *labels)
    with pytest.raises(UserError, match=r"images of 28x28 as labels are expected|damaged or no"):
        data.load(f"fashion-mnist:{tmp_path}")


def tar_of(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("limit", ["MOST", "MANY"])
def test_an_archive_that_unpacks_to_too_much_leaves_nothing(tmp_path, monkeypatch, limit):
    archive = tar_of(tmp_path / "a.tgz", *((f"{i}.png", bytes(10_000)) for i in range(5)))
    monkeypatch.setattr(fetch, limit, {"MOST": 30_000, "MANY": 3}[limit])
    with pytest.raises(UserError, match="It was not unpacked"):
        fetch.unpack(archive, tmp_path / "set")
    assert list((tmp_path / "set").iterdir()) == []


def test_a_damaged_archive_leaves_nothing(tmp_path):
    whole = tar_of(
        tmp_path / "a.tgz", *((f"{i}.png", os.urandom(300)) for i in range(3))
    ).read_bytes()
    dice = random.Random(0)
    for at in dice.sample(range(len(whole)), 60):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]):
            (tmp_path / "b.tgz").write_bytes(content)
            with contextlib.suppress(UserError):
                fetch.unpack(tmp_path / "b.tgz", tmp_path / "set")
            assert not list((tmp_path / "set").glob(".unpacking*"))


def test_a_pipe_among_the_pictures_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(UserError, match="is a pipe or a device"):
        decode.decode(tmp_path / "x.png")


# --- results folders ------------------------------------------------------------------------------


RESULTS = Path(__file__).parent.parent / "results" / "digits-quick"


@pytest.fixture
def results(tmp_path):
    return Path(shutil.copytree(RESULTS, tmp_path / "results"))


def edited(path, at, value):
    path.write_text(json.dumps(changed(json.loads(path.read_text()), at, value)))


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [("claims.json", "provenance.tasks", "many"), ("claims.json", "provenance.tasks", str(10**12)),
     ("claims.json", "provenance.tasks", 20), ("claims.json", "provenance.claims", "9"),
     ("claims.json", "provenance.families", "cnn elephant"), ("claims.json", "provenance", GONE),
     ("claims.json", "provenance.scale", GONE), ("claims.json", "claims.0.effect.n", "x"),
     ("claims.json", "claims.0.p", 7), ("claims.json", "claims.0.verdict", "perhaps"),
     ("subjects.json", "cnn", GONE), ("subjects.json", "cnn.layers", None),
     ("subjects.json", "cnn.fits.scratch.lr", "fast"), ("subjects.json", "cnn.fits.scratch", GONE),
     ("subjects.json", "cnn.fits.scratch.epochs", -1), ("subjects.json", "cnn.fits", []),
     ("subjects.json", "cnn.layers", ["no.such"]), ("subjects.json", "cnn.arch_kwargs", {"x": 1}),
     ("subjects.json", "cnn.family", "elephant")],
)  # fmt: skip
def test_a_results_folder_of_another_shape_is_one_sentence(results, name, at, value):
    edited(results / name, at, value)
    with pytest.raises(UserError) as caught:
        replicate.load(results)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (",0.86", ",7.5"),
        ("2:0.", "2:x"),
        (",accuracy,", ",accurate,"),
        (",key", ",kee"),
        ("\n", ""),
    ],
)
def test_a_damaged_table_of_runs_is_one_sentence(results, old, new):
    text = (results / "runs.csv").read_text()
    assert old in text
    (results / "runs.csv").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=r"runs\.csv"):
        replicate.load(results)


def test_a_row_that_stands_twice_is_told(results):
    lines = (results / "runs.csv").read_text().splitlines()
    (results / "runs.csv").write_text("\n".join([*lines, lines[-1]]))
    with pytest.raises(UserError, match="twice"):
        replicate.load(results)


def test_the_file_of_a_descendant_with_an_odd_accuracy_is_refused_by_info(tmp_path):
    from typer.testing import CliRunner

    from lgutils.cli import app

    meta = {"arch": "x", "settings": {}, "classes": [1], "dataset": "digits", "task": "y"}
    path = files.save_tensors(
        tmp_path / "d", "descendant", gene_tensors(), {**meta, "accuracy": 7.5}
    )
    assert "at `$.accuracy`" in str(CliRunner().invoke(app, ["info", str(path)]).exception)
