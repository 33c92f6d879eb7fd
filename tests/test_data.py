"""Facts about splits, tasks, the image cache and batches."""

import dataclasses
import os
from collections import Counter

import numpy as np
import pytest
import torch

from lgutils import data, files, glyphs
from lgutils.data import Batches, Normalize, Split, Task
from lgutils.errors import UserError

NOVEL = data.split("glyphs").novel
# Neither may ever change: reports name tasks by their key.
FIRST_NOVEL = (7, 29, 31, 33, 38)
TASK_KEY = "c9bf9bf7b202cee9836ba9cc821629bb0c131ff76db26f4789cad71e13339091"


def rows_of(episode_part, images):
    """Row numbers of a task's images; images of a set are all different."""
    row = {image.numpy().tobytes(): i for i, image in enumerate(images)}
    return [row[image.numpy().tobytes()] for image in episode_part[0]]


# --- splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_split_has_64_16_and_20_classes(seed):
    split = data.split("glyphs", seed)
    assert [len(part) for part in (split.base, split.open_world, split.novel)] == [64, 16, 20]


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_split_uses_every_class_once(seed):
    split = data.split("glyphs", seed)
    assert sorted(split.base + split.open_world + split.novel) == list(range(100))


def test_a_split_follows_its_seed():
    assert data.split("glyphs", 5) == data.split("glyphs", 5) != data.split("glyphs", 6)


def test_the_default_split_never_changes():
    assert data.split("glyphs").novel[:5] == FIRST_NOVEL


def test_every_digit_is_novel():
    assert data.split("digits") == Split(novel=tuple(range(10)))


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"base": (1, 2), "open_world": (2,)}, "2 .*base and open-world"),
        ({"open_world": (4,), "novel": (4,)}, "4 .*open-world and novel"),
        ({"base": (3,), "novel": (3,)}, "3 .*base and novel"),
        ({"base": (6, 6)}, "6 .*base and base"),
    ],
)
def test_a_class_in_two_parts_is_refused(parts, named):
    with pytest.raises(UserError, match=f"Class {named}"):
        Split(**parts)


@pytest.mark.parametrize("call", [data.split, data.load])
def test_an_unknown_dataset_names_the_nearest(call):
    with pytest.raises(UserError, match=r"Unknown dataset 'glyph'. Nearest: 'glyphs'"):
        call("glyph")


def test_an_unknown_size_names_the_nearest():
    with pytest.raises(UserError, match=r"Unknown size 'quik'. Nearest: 'quick'"):
        data.load("glyphs", "quik")


# --- datasets -------------------------------------------------------------------------------------


def test_quick_has_240_images_of_each_class(quick_glyphs):
    assert torch.bincount(quick_glyphs.labels).tolist() == [240] * 100


def test_every_sixth_image_of_a_class_is_held_out(quick_glyphs):
    assert torch.bincount(quick_glyphs.labels[quick_glyphs.held_out]).tolist() == [40] * 100


def test_describe_counts_images_and_classes(quick_glyphs):
    assert data.describe(quick_glyphs, data.split("glyphs")) == {
        "images": 24000,
        "held-out images": 4000,
        "base classes": 64,
        "open-world classes": 16,
        "novel classes": 20,
    }


def test_of_relabels_in_the_order_given(digits):
    images, labels = digits.of((7, 2), held_out=False)
    wanted = digits.images[(digits.labels == 7) & ~digits.held_out]
    assert torch.equal(images[labels == 0], wanted)


def test_of_keeps_training_and_held_out_apart(digits):
    counts = [len(digits.of((7, 2), held_out=held)[1]) for held in (False, True)]
    assert sum(counts) == int(((digits.labels == 7) | (digits.labels == 2)).sum())


def test_there_are_1797_digits(digits):
    assert digits.images.shape == (1797, 3, 32, 32)


def test_every_digit_has_images_in_both_pools(digits):
    for held in (True, False):
        assert torch.bincount(digits.labels[digits.held_out == held]).min() >= 80


def test_digits_are_grey(digits):
    assert torch.equal(digits.images[:, 0], digits.images[:, 2])


def test_two_sizes_share_their_images_and_roles(own_cache, monkeypatch):
    monkeypatch.setattr(data.sources, "SIZES", {"quick": 7, "full": 12})
    monkeypatch.setattr(glyphs, "CHARACTERS", glyphs.CHARACTERS[:2])
    small, big = (data.load("glyphs", size) for size in ("quick", "full"))
    for attribute in ("images", "held_out", "labels"):
        few, many = (getattr(s, attribute).unflatten(0, (2, -1)) for s in (small, big))
        assert torch.equal(few, many[:, :7])


@pytest.fixture
def two_classes(own_cache, monkeypatch):
    """The images of two classes, three each, now in a cache of their own; and its two files."""
    monkeypatch.setattr(glyphs, "CHARACTERS", glyphs.CHARACTERS[:2])
    images = data.sources._cached_glyphs(3, False)
    return images, own_cache / "glyphs-3-v1.npy", own_cache / "glyphs-3-v1.sha256"


def test_drawn_images_come_back_from_the_cache(two_classes, monkeypatch):
    monkeypatch.setattr(glyphs, "render", None)
    np.testing.assert_array_equal(data.sources._cached_glyphs(3, False), two_classes[0])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "truncated": lambda path, stamp: os.truncate(path, 500),
    "empty": lambda path, stamp: os.truncate(path, 0),
    "one wrong byte": lambda path, stamp: flip_a_byte(path),
    "not an array": lambda path, stamp: path.write_bytes(b"\x80\x04nonsense"),
    "another array": lambda path, stamp: np.save(path, np.zeros(3)),
    "wrong stamp": lambda path, stamp: stamp.write_text("0" * 64),
    "binary stamp": lambda path, stamp: stamp.write_bytes(b"\xff\xfe"),
    "no stamp": lambda path, stamp: stamp.unlink(),
    "no images": lambda path, stamp: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_drawn_again(two_classes, damage):
    images, path, stamp = two_classes
    DAMAGE[damage](path, stamp)
    np.testing.assert_array_equal(data.sources._cached_glyphs(3, False), images)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_whole_afterwards(two_classes, damage):
    images, path, stamp = two_classes
    DAMAGE[damage](path, stamp)
    data.sources._cached_glyphs(3, False)
    np.testing.assert_array_equal(np.load(path), images)
    assert stamp.read_text().strip() == files.sha256(images.data)


def test_exported_images_are_the_images(digits, tmp_path):
    from PIL import Image

    data.export(digits, tmp_path, (3,), per_class=2)
    first = digits.images[(digits.labels == 3).nonzero()[0, 0]].permute(1, 2, 0)
    with Image.open(tmp_path / "003_3" / "000.png") as image:
        np.testing.assert_array_equal(np.asarray(image), first.numpy())


def test_exported_glyphs_lie_under_their_code(quick_glyphs, tmp_path):
    data.export(quick_glyphs, tmp_path, (0,), per_class=1)
    code = f"U+{ord(quick_glyphs.classes[0][0]):04X}"
    assert [p.name for p in tmp_path.iterdir()] == [f"000_{code}"]


def test_names_of_classes_cannot_leave_the_folder_of_an_export(little, tmp_path):
    named = dataclasses.replace(little, classes=("../../up/T-shirt", *little.classes[1:]))
    data.export(named, tmp_path / "out", (0,), per_class=1)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["000_.._.._up_T-shirt"]


# --- tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 3])
def test_five_shots_are_among_ten_among_twenty(quick_glyphs, seed):
    shots = [
        set(rows_of(Task(5, k, seed).draw(quick_glyphs, NOVEL).train, quick_glyphs.images))
        for k in (5, 10, 20)
    ]
    assert shots[0] < shots[1] < shots[2]


def test_the_test_images_are_the_same_for_every_k(quick_glyphs):
    few, many = (Task(5, k).draw(quick_glyphs, NOVEL) for k in (1, 20))
    assert all(map(torch.equal, few.test, many.test))


def test_the_classes_are_the_same_for_every_k(quick_glyphs):
    few, many = (Task(5, k).draw(quick_glyphs, NOVEL) for k in (1, 20))
    assert few.classes == many.classes


def test_no_image_is_in_both_train_and_test(quick_glyphs):
    episode = Task(5, 20).draw(quick_glyphs, NOVEL)
    train, test = (rows_of(part, quick_glyphs.images) for part in (episode.train, episode.test))
    assert not set(train) & set(test)


def test_shots_are_never_held_out_and_tests_always_are(quick_glyphs):
    episode = Task(5, 20).draw(quick_glyphs, NOVEL)
    for part, held in ((episode.train, False), (episode.test, True)):
        rows = rows_of(part, quick_glyphs.images)
        assert set(quick_glyphs.held_out[rows].tolist()) == {held}


def test_a_task_draws_k_shots_a_class(quick_glyphs):
    episode = Task(4, 7).draw(quick_glyphs, NOVEL)
    assert torch.bincount(episode.train[1]).tolist() == [7] * 4


def test_max_test_limits_the_test_images_of_a_class(quick_glyphs):
    episode = Task(4, 7).draw(quick_glyphs, NOVEL, max_test=9)
    assert torch.bincount(episode.test[1]).tolist() == [9] * 4


def test_task_labels_follow_the_task_classes(quick_glyphs):
    episode = Task(3, 2).draw(quick_glyphs, NOVEL)
    labels = quick_glyphs.labels[rows_of(episode.train, quick_glyphs.images)]
    assert [episode.classes[i] for i in episode.train[1]] == labels.tolist()


def test_task_classes_come_from_those_given(quick_glyphs):
    assert set(Task(20, 1).draw(quick_glyphs, NOVEL).classes) == set(NOVEL)


def test_the_key_of_a_task_never_changes(quick_glyphs):
    assert Task().draw(quick_glyphs, NOVEL).key == TASK_KEY


def test_other_seeds_and_shots_have_other_keys(quick_glyphs):
    tasks = [Task(5, k, seed) for k in (5, 10) for seed in range(4)]
    assert len({task.draw(quick_glyphs, NOVEL).key for task in tasks}) == 8


def test_too_few_images_are_refused_with_their_number(digits):
    with pytest.raises(UserError, match=r"\d+ training images.*400 shots.*between 1 and \d+"):
        Task(5, 400).draw(digits, tuple(range(10)))


def test_zero_shots_are_refused(digits):
    with pytest.raises(UserError, match="k_shot 0 was given, but it must be positive"):
        Task(5, 0).draw(digits, tuple(range(10)))


@pytest.mark.parametrize("ways", [1, 11])
def test_a_wrong_number_of_ways_is_refused_with_the_number(digits, ways):
    with pytest.raises(
        UserError,
        match=f"n_way {ways} .*2 ways are the least|A {ways}-way task .* there are 10 classes",
    ):
        Task(ways, 5).draw(digits, tuple(range(10)))


# --- normalisation, augmentation, batches ---------------------------------------------------------


def noise(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)


def test_measured_means_and_deviations_are_numpys():
    images = noise(50, 3, 9, 7) // torch.tensor([1, 2, 3], dtype=torch.uint8).view(1, 3, 1, 1)
    found, array = Normalize.measured(images), images.numpy() / 255
    np.testing.assert_allclose(found.mean, array.mean((0, 2, 3)), atol=5.1e-5)
    np.testing.assert_allclose(found.std, array.std((0, 2, 3)), atol=5.1e-5)


def test_normalised_images_have_no_mean_and_unit_deviation():
    images = noise(50, 3, 9, 7)
    out = Normalize.measured(images)(images)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(out.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_a_constant_channel_does_not_divide_by_zero():
    images = torch.full((2, 3, 4, 4), 128, dtype=torch.uint8)
    assert Normalize.measured(images)(images).isfinite().all()


def test_grey_images_for_a_colour_model_are_refused():
    with pytest.raises(UserError, match="1 channels, the model expects 3"):
        Normalize((0.5,) * 3, (0.2,) * 3)(noise(2, 1, 8, 8))


@pytest.mark.parametrize("pixels", [1, 2, 5])
def test_shifting_equals_padding_and_cropping_image_by_image(pixels):
    images = noise(40, 3, 8, 11)
    moves = torch.randint(0, 2 * pixels + 1, (2, 40), generator=torch.Generator().manual_seed(4))
    shifted = data.shifted(images, pixels, torch.Generator().manual_seed(4))
    sides = ((0, 0), (pixels, pixels), (pixels, pixels))
    for image, down, right, found in zip(images.numpy(), *moves.tolist(), shifted.numpy()):
        padded = np.pad(image, sides, mode="reflect")
        np.testing.assert_array_equal(found, padded[:, down : down + 8, right : right + 11])


def test_no_shift_changes_nothing():
    images = noise(4, 3, 8, 8)
    assert torch.equal(data.shifted(images, 0, torch.Generator()), images)


@pytest.mark.parametrize("pixels", [-1, 8])
def test_a_shift_beyond_the_image_is_refused(pixels):
    with pytest.raises(UserError, match="8x9 allow 0 to 7"):
        data.shifted(noise(4, 3, 8, 9), pixels, torch.Generator())


def test_flipping_mirrors_about_half_of_the_images():
    images = noise(400, 1, 4, 5)
    flipped = data.flipped(images, torch.Generator().manual_seed(0))
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    assert 150 < int(mirrored.sum()) < 250


def batches(n=23, **options):
    """Batches whose images are constant, so that each image can be told from its value."""
    images = torch.arange(n, dtype=torch.uint8).view(-1, 1, 1, 1).expand(n, 1, 6, 6)
    options = {"batch_size": 5, **options}
    return Batches(images.contiguous(), torch.arange(n), Normalize((0.0,), (1 / 255,)), **options)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_epoch_visits_every_image_once(number):
    seen = [y for _, labels in batches(shift=2, flip=True).epoch(number) for y in labels.tolist()]
    assert Counter(seen) == Counter(range(23))


def test_images_keep_their_labels():
    for x, y in batches(shift=2, flip=True).epoch(1):
        torch.testing.assert_close(x[:, 0, 0, 0], y.float())


def test_the_last_batch_may_be_smaller():
    assert [len(y) for _, y in batches().epoch(1)] == [5, 5, 5, 5, 3]


def test_the_length_is_the_number_of_batches():
    assert [len(batches(n)) for n in (1, 5, 6, 23)] == [1, 1, 2, 5]


def augmented(number, seed=0):
    made = Batches(
        noise(23, 3, 8, 8), torch.arange(23), Normalize((0.5,) * 3, (0.2,) * 3), 5, 3, True, seed
    )
    return torch.cat([x for x, _ in made.epoch(number)])


def test_an_epoch_is_a_function_of_seed_and_number():
    assert torch.equal(augmented(4, seed=2), augmented(4, seed=2))


def test_epochs_differ():
    assert not torch.equal(augmented(4), augmented(5))


def test_seeds_differ():
    assert not torch.equal(augmented(4, seed=1), augmented(4, seed=2))


def test_an_epoch_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    augmented(1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("images", "labels"), [(0, 0), (3, 2)])
def test_images_without_labels_are_refused(images, labels):
    with pytest.raises(UserError, match=f"{images} images and {labels} labels"):
        Batches(noise(images, 3, 4, 4), torch.zeros(labels), Normalize((0.5,) * 3, (0.2,) * 3))


def test_a_turned_image_equals_scipys():
    from scipy.ndimage import rotate

    image = torch.zeros(1, 1, 15, 15, dtype=torch.uint8)
    image[0, 0, 3:12, 6:9] = 200
    angle = 30.0
    generator = torch.Generator().manual_seed(4)
    turn = float(torch.rand(1, generator=torch.Generator().manual_seed(4))) * 2 - 1
    turned = data.rotated(image, angle, generator)[0, 0].numpy()
    expected = rotate(image[0, 0].numpy().astype(float), turn * angle, reshape=False, order=1)
    assert abs(turned - expected).max() <= 1


def test_zero_degrees_change_nothing():
    images = torch.randint(0, 256, (3, 3, 8, 6), dtype=torch.uint8)
    assert torch.equal(data.rotated(images, 0.0, torch.Generator().manual_seed(0)), images)
