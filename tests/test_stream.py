"""Facts about pictures that are decoded when they are used: they equal the tensor they stand for."""

import copy
import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lgutils import data, files, train
from lgutils.data import Batches, Normalize, Pictures, Task, pictures, settle
from lgutils.errors import UserError

NORMALIZE = Normalize((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """JPEGs of other sizes than they are asked for: six classes of 24."""
    monkeypatch.setenv("LGUTILS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LGUTILS_DATA", str(tmp_path))
    random = np.random.default_rng(0)
    for c in "abcdef":
        (tmp_path / "x" / c).mkdir(parents=True)
        for i in range(24):
            height, width = random.integers(12, 40, 2).tolist()
            image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "x" / c / f"{i:02d}.jpg")
    return tmp_path / "x"


@pytest.fixture
def both(root, monkeypatch):
    """The same dataset in memory, and as files."""
    eager = data.load("folder:x@16")
    monkeypatch.setattr(settle, "LIMIT", 1000)
    lazy = data.load("folder:x@16")
    assert isinstance(eager.images, torch.Tensor)
    assert isinstance(lazy.images, Pictures)
    return eager, lazy


def equal(eager, lazy):
    return torch.equal(eager, data.decoded(lazy))


def test_the_stack_looks_like_the_tensor(both):
    eager, lazy = (s.images for s in both)
    assert (len(lazy), lazy.shape, lazy.dtype, lazy.device, lazy.numel()) == (
        len(eager), eager.shape, eager.dtype, eager.device, eager.numel(),
    )  # fmt: skip


def test_the_stack_decodes_to_the_tensor(both):
    assert equal(*(s.images for s in both))


@pytest.mark.parametrize(
    "index",
    [torch.tensor([7, 3, 3, 100]), torch.arange(144) % 5 == 2, slice(4, 90, 7), torch.tensor([], dtype=int)],
    ids=["rows", "mask", "slice", "nothing"],
)  # fmt: skip
def test_an_index_gives_another_stack(both, index):
    eager, lazy = (s.images for s in both)
    assert isinstance(lazy[index], Pictures)
    assert equal(eager[index], lazy[index])


def test_a_part_of_a_part_is_the_right_part(both):
    eager, lazy = (s.images[10:90][torch.tensor([5, 2])] for s in both)
    assert equal(eager, lazy)


@pytest.mark.parametrize("row", [0, 143, -1])
def test_one_row_gives_one_picture(both, row):
    eager, lazy = (s.images[row] for s in both)
    assert torch.equal(eager, lazy)


def test_split_gives_tensors_in_order(both):
    eager, lazy = (list(s.images.split(50)) for s in both)
    assert all(map(torch.equal, eager, lazy))
    assert len(lazy) == 3


def test_images_of_some_classes_are_the_same(both):
    eager, lazy = (s.of((4, 1), held_out=True) for s in both)
    assert equal(eager[0], lazy[0])
    assert torch.equal(eager[1], lazy[1])


def test_tasks_are_plain_tensors_with_the_same_key(both):
    eager, lazy = (Task(3, 5).draw(s, (0, 2, 3, 5)) for s in both)
    assert all(map(torch.equal, eager.train + eager.test, lazy.train + lazy.test))
    assert eager.key == lazy.key


def test_normalising_is_the_same(both):
    eager, lazy = (s.images for s in both)
    assert Normalize.measured(lazy) == Normalize.measured(eager)
    assert torch.equal(NORMALIZE(lazy[3:9]), NORMALIZE(eager[3:9]))


def test_exported_pictures_are_the_same(both, tmp_path):
    found = [data.export(s, tmp_path / n, (2,), 2) for s, n in zip(both, ("eager", "lazy"))]
    content = [[p.read_bytes() for p in sorted(f.rglob("*.png"))] for f in found]
    assert content[0] == content[1]
    assert len(content[0]) == 2


def epochs(images, numbers=(0, 1), **options):
    labels = torch.arange(len(images))
    batches = Batches(images, labels, NORMALIZE, 50, 2, True, rotate=10.0, **options)
    parts = [part for number in numbers for part in batches.epoch(number)]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


@pytest.mark.parametrize("seed", [0, 3])
def test_epochs_are_the_same(both, seed):
    eager, lazy = (epochs(s.images, seed=seed) for s in both)
    assert all(map(torch.equal, eager, lazy))


@pytest.fixture
def workers(monkeypatch):
    """A worker process, however few the pictures."""
    monkeypatch.setattr(pictures, "_workers", lambda source, count: 1)


def test_epochs_of_two_worker_processes_are_the_same(both, monkeypatch):
    monkeypatch.setattr(pictures, "_workers", lambda source, count: 2)
    eager, lazy = (epochs(s.images) for s in both)
    assert all(map(torch.equal, eager, lazy))


def test_workers_outlive_an_epoch_even_one_that_was_left(both, workers):
    eager, lazy = (Batches(s.images, s.labels, NORMALIZE, 20) for s in both)
    first = lazy.epoch(0)
    next(first)
    alive = {w.pid for w in lazy.images._reader.loader._iterator._workers}
    del first
    assert all(torch.equal(a[0], b[0]) for a, b in zip(eager.epoch(1), lazy.epoch(1), strict=True))
    assert {w.pid for w in lazy.images._reader.loader._iterator._workers} == alive
    assert len(alive) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_two_epochs_can_run_side_by_side(both, monkeypatch, count):
    monkeypatch.setattr(pictures, "_workers", lambda *_: count)
    eager, lazy = (Batches(s.images, s.labels, NORMALIZE, 20) for s in both)
    numbers = (1, 2)
    for a, b in zip(zip(*map(eager.epoch, numbers)), zip(*map(lazy.epoch, numbers)), strict=True):
        assert all(torch.equal(x[0], y[0]) for x, y in zip(a, b, strict=True))


def test_an_epoch_of_files_leaves_the_global_generator_alone(both):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    epochs(both[1].images)
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_know_their_device(both):
    for images in (s.images for s in both):
        assert Batches(images, torch.zeros(144), NORMALIZE).device == torch.device("cpu")


def test_placed_pictures_send_their_batches_to_the_device(both):
    lazy = both[1].images
    assert data.placed(lazy, torch.device("cpu")) is lazy
    there = data.placed(lazy, torch.device("meta"))
    assert there.device.type == next(there[:5].split(2)).device.type == "meta"


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(196, 6)
    )


def fit(source, **options):
    config = train.FitConfig(epochs=3, batch_size=40, shift=2, flip=True)
    parts = [source.of(tuple(range(6)), held_out=held) for held in (False, True)]
    return train.fit(
        model(), parts[0], NORMALIZE, config, test=parts[1], device_name="cpu", **options
    )


def test_training_on_files_gives_the_same_weights_and_scores(both):
    eager, lazy = map(fit, both)
    assert train.weight_hash(eager.model) == train.weight_hash(lazy.model)
    assert (eager.losses, eager.score) == (lazy.losses, lazy.score)


def test_training_on_files_resumes_exactly(both, tmp_path, monkeypatch):
    path, save = tmp_path / "run.ckpt", files.save_checkpoint

    def stop(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(both[1], checkpoint=path)
    monkeypatch.undo()
    resumed = fit(both[1], checkpoint=path)
    assert train.weight_hash(resumed.model) == train.weight_hash(fit(both[0]).model)


def test_the_checksum_tells_files_and_rows_apart(both, root):
    lazy = both[1].images
    sums = {data.checksum(lazy), data.checksum(lazy[:100]), data.checksum(lazy[1:101])}
    Image.new("RGB", (50, 50)).save(root / "a" / "00.jpg")
    assert len(sums | {data.checksum(lazy)}) == 4


def test_the_checksum_does_not_depend_on_where_the_folder_is(both, root, tmp_path):
    shutil.copytree(root, tmp_path / "elsewhere")
    moved = data.load("folder:elsewhere@16")
    assert data.checksum(moved.images) == data.checksum(both[1].images)


def test_a_file_that_is_damaged_later_is_named(both, root):
    (root / "c" / "04.jpg").write_bytes(b"gone")
    with pytest.raises(UserError, match=r"c/04.jpg cannot be read any more"):
        epochs(both[1].images)


@pytest.fixture
def damaged(root):
    """One of 144 pictures truncated in the middle of its pixels; that many are let pass here."""
    path = root / "b" / "05.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    return "b/05.jpg"


def test_large_and_small_sets_leave_out_the_same_pictures(damaged, monkeypatch):
    eager = data.load("folder:x@16")
    monkeypatch.setattr(settle, "LIMIT", 1000)
    lazy = data.load("folder:x@16")
    assert eager.skipped == lazy.skipped == (damaged,)
    assert equal(eager.images, lazy.images)
    assert torch.equal(eager.held_out, lazy.held_out)


def test_a_large_set_is_read_once(damaged, monkeypatch):
    monkeypatch.setattr(settle, "LIMIT", 1000)
    first = data.load("folder:x@16")
    monkeypatch.setattr(settle, "_decode", None)
    assert data.load("folder:x@16").skipped == first.skipped == (damaged,)


def test_a_large_set_is_read_again_after_a_change(damaged, root, monkeypatch):
    monkeypatch.setattr(settle, "LIMIT", 1000)
    data.load("folder:x@16")
    shutil.copy(root / "a" / "00.jpg", root / damaged)
    assert data.load("folder:x@16").skipped == ()


def test_arrays_that_are_large_when_scaled_are_scaled_when_used(monkeypatch):
    eager = data.load("digits@40")
    monkeypatch.setattr(settle, "LIMIT", 1000)
    lazy = data.load("digits@40")
    assert isinstance(lazy.images, Pictures)
    some = torch.tensor([5, 900, 1796])
    assert equal(eager.images[some], lazy.images[some])
    assert data.checksum(lazy.images[:9]) != data.checksum(lazy.images[1:10])


def test_a_file_that_is_gone_is_named(both, root):
    (root / "c" / "04.jpg").unlink()
    with pytest.raises(UserError, match=r"c/04.jpg is gone"):
        data.checksum(both[1].images)


def test_a_damaged_memory_of_unreadable_files_is_made_again(damaged, tmp_path, monkeypatch):
    monkeypatch.setattr(settle, "LIMIT", 1000)
    data.load("folder:x@16")
    (memory,) = (tmp_path / "cache").glob("unreadable-*.json")
    memory.write_text("{")
    assert data.load("folder:x@16").skipped == (damaged,)


def test_pictures_can_be_copied_after_use(both):
    eager, lazy = (s.images for s in both)
    next(lazy.split(5))
    assert equal(eager, copy.deepcopy(lazy))


def test_pictures_are_frozen(both):
    with pytest.raises(dataclasses.FrozenInstanceError):
        both[1].images.rows = None
