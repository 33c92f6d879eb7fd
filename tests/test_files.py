"""Facts about files: whole or absent, checked when read, never unpickled."""

import errno
import json
import os
import pickle
import stat

import pytest
import torch
from safetensors.torch import save_file

from lgutils import files, scratch
from lgutils.errors import UserError, unknown

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).view(2, 3),
    "b.half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "c": torch.tensor(7),
}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def raises(error):
    def call(*_, **__):
        raise error

    return call


@pytest.fixture
def saved(tmp_path):
    return files.save_tensors(tmp_path / "x.safetensors", "learngene", TENSORS, {"note": [1, "ä"]})


@pytest.fixture
def small_files():
    """No file may grow beyond 8 MiB: the kernel refuses the write, as it does on a full disk.

    The limit holds for the whole process, so it is far above any log that pytest writes to.
    """
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * 2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- atomic ---------------------------------------------------------------------------------------


def test_the_file_is_absent_while_it_is_written(tmp_path):
    with files.atomic(tmp_path / "x") as temporary:
        temporary.write_text("half")
        assert not (tmp_path / "x").exists()


def test_the_temporary_file_becomes_the_file(tmp_path):
    with files.atomic(tmp_path / "x") as temporary:
        temporary.write_text("whole")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"x": "whole"}


@pytest.mark.skipif(scratch.fcntl is None, reason="this system has no such locks")
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    (tmp_path / f".x.{scratch.HOST}456789ab.part").write_text("half")
    files.write_text(tmp_path / "x", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_another_writer_still_writes_stays(tmp_path):
    with files.atomic(tmp_path / "x") as first:
        files.write_text(tmp_path / "x", "second")
        assert first.exists()


def test_missing_folders_are_made(tmp_path):
    assert files.write_text(tmp_path / "a" / "b" / "x", "ä").read_bytes() == "ä".encode()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_rights_that_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        path = files.write_text(tmp_path / "x", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_file_that_is_replaced_keeps_its_rights(tmp_path):
    path = files.write_text(tmp_path / "x", "old")
    path.chmod(0o640)
    assert stat.S_IMODE(files.write_text(path, "new").stat().st_mode) == 0o640


def test_where_a_folder_sets_all_rights_itself_a_file_is_replaced_too(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    path = files.write_text(tmp_path / "x", "old")
    monkeypatch.setattr(os, "chmod", refuse)
    assert files.write_text(path, "new").read_text() == "new"


def test_a_full_memory_does_not_tell_to_delete_a_checkpoint(tmp_path):
    path = files.save_checkpoint(tmp_path / "x", "key", {})
    with pytest.raises(torch.OutOfMemoryError), files.taken_up(path, "key"):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "link").symlink_to("folder/file")
    files.write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_text() == "text"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/null", path)])
def test_what_is_no_regular_file_is_never_replaced(tmp_path, make):
    make(tmp_path / "x")
    before = (tmp_path / "x").lstat()
    with pytest.raises(UserError, match=r"a folder|a device, a pipe"):
        files.write_text(tmp_path / "x", "text")
    assert (tmp_path / "x").lstat() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_read_only_file_is_kept(tmp_path):
    path = files.write_text(tmp_path / "x", "old")
    path.chmod(0o444)
    with pytest.raises(UserError, match="is read-only"):
        files.write_text(path, "new")
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path, name):
    assert files.write_text(tmp_path / name, "text").read_text() == "text"


def test_a_name_with_a_null_byte_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="Cannot write"):
        files.write_text(f"{tmp_path}/a\0b", "text")


def test_text_that_utf_8_cannot_hold_is_escaped(tmp_path):
    assert files.write_text(tmp_path / "x", "a\udcffb").read_text() == "a\\udcffb"


# --- outputs, before hours are spent --------------------------------------------------------------


def test_a_target_is_checked_without_a_trace(tmp_path):
    files.target(tmp_path / "new" / "x", "ancestor")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_same_kind_may_be_replaced(saved):
    assert files.target(saved, "learngene") == saved


@pytest.mark.parametrize("content", [b"", b"text"])
def test_a_foreign_file_may_be_replaced_if_it_is_empty(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    if content:
        with pytest.raises(UserError, match="is no learngene that lgutils wrote"):
            files.target(tmp_path / "x", "learngene")
    else:
        files.target(tmp_path / "x", "learngene")


@pytest.mark.parametrize("metadata", [{"lgutils": "[" * 10**5}, {"lgutils": "1"}, {"a": "b"}, None])
def test_a_header_of_any_content_is_a_foreign_file(tmp_path, metadata):
    save_file(TENSORS, tmp_path / "x", metadata=metadata)
    with pytest.raises(UserError, match="is no learngene"):
        files.target(tmp_path / "x", "learngene")


def test_force_replaces_a_foreign_file_but_not_an_input(tmp_path):
    (tmp_path / "x").write_text("text")
    files.target(tmp_path / "x", "learngene", force=True)
    with pytest.raises(UserError, match="is read by this command"):
        files.target(tmp_path / "x", "learngene", inputs=[tmp_path / "x"], force=True)


def test_the_home_folder_may_be_meant(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.target("~/x") == tmp_path / "x"
    files.write_text("~/x", "text")
    assert (tmp_path / "x").read_text() == "text"


def test_a_folder_with_foreign_files_of_our_names_is_refused(tmp_path):
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(UserError, match=r"holds report\.md, which is not from lgutils"):
        files.target_folder(tmp_path, ["report.md"], ["*.sqlite"])


def test_a_folder_of_ours_is_known_by_its_mark(tmp_path):
    for name in ("report.md", "runs.sqlite"):
        (tmp_path / name).write_text("ours")
    assert files.target_folder(tmp_path, ["report.md"], ["*.sqlite"]) == tmp_path


def write_half(path, error):
    """Write some text, then fail before the end."""
    with files.atomic(path) as temporary:
        temporary.write_text("half")
        raise error


def test_nothing_is_left_after_an_exception(tmp_path):
    with pytest.raises(KeyError):
        write_half(tmp_path / "x", KeyError())
    assert list(tmp_path.iterdir()) == []


def test_an_exception_keeps_the_old_file(tmp_path):
    files.write_text(tmp_path / "x", "old")
    with pytest.raises(KeyError):
        write_half(tmp_path / "x", KeyError())
    assert (tmp_path / "x").read_text() == "old"


def test_nothing_is_left_when_the_disk_is_full(tmp_path):
    with pytest.raises(UserError):
        write_half(tmp_path / "x", FULL)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_to_be_full(tmp_path):
    with pytest.raises(UserError, match=r"disk is full: .*x was not written"):
        write_half(tmp_path / "x", FULL)


@pytest.mark.parametrize("step", ["replace", "close"])
def test_a_disk_may_be_full_at_any_step(tmp_path, monkeypatch, step):
    if step == "close":
        monkeypatch.setattr(files.os, "open", raises(FULL))
    else:
        monkeypatch.setattr(files.os, "replace", raises(FULL))
    with pytest.raises(UserError, match="disk is full"):
        files.write_text(tmp_path / "x", "text")


def test_a_folder_that_is_a_file_is_a_user_error(tmp_path):
    (tmp_path / "x").write_text("I am a file")
    with pytest.raises(UserError, match=r"Cannot write .*Choose another folder"):
        files.write_text(tmp_path / "x" / "y", "text")


WRITERS = {
    "text": lambda path: files.write_text(path, "x" * 10_000_000),
    "tensors": lambda path: files.save_tensors(path, "ancestor", {"w": torch.zeros(3_000_000)}, {}),
    "checkpoint": lambda path: files.save_checkpoint(path, "key", {"w": torch.zeros(3_000_000)}),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_write_that_the_kernel_refuses_is_a_user_error(tmp_path, small_files, writer):
    with pytest.raises(UserError, match="Cannot write"):
        WRITERS[writer](tmp_path / "x")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_write_that_the_kernel_refuses_leaves_nothing(tmp_path, small_files, writer):
    with pytest.raises(UserError):
        WRITERS[writer](tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


# --- the cache folder -----------------------------------------------------------------------------


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LGUTILS_CACHE", str(tmp_path))
    assert files.cache_dir() == tmp_path


def test_the_cache_is_in_the_xdg_folder_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("LGUTILS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_dir() == tmp_path / "lgutils"


def test_a_cache_that_cannot_be_written_is_named_by_its_variable(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LGUTILS_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="Set LGUTILS_CACHE to a folder that can be written"):
        files.target(files.cache_dir() / "x")


def test_a_cache_in_an_unknown_home_is_named_by_its_variable(monkeypatch):
    monkeypatch.setenv("LGUTILS_CACHE", "~nobody-of-this-name")
    with pytest.raises(UserError, match="LGUTILS_CACHE '~nobody-of-this-name' begins with"):
        files.cache_dir()


# --- tensors --------------------------------------------------------------------------------------


def test_tensors_come_back_bit_for_bit(saved):
    tensors, _ = files.load_tensors(saved)
    assert {n: (t.dtype, t.tolist()) for n, t in tensors.items()} == {
        n: (t.dtype, t.tolist()) for n, t in TENSORS.items()
    }


def test_metadata_comes_back(saved):
    _, meta = files.load_tensors(saved, "learngene")
    assert (meta["note"], meta["kind"], meta["format"]) == ([1, "ä"], "learngene", files.FORMAT)


def test_the_same_content_gives_the_same_bytes(saved, tmp_path):
    reverse = dict(reversed(TENSORS.items()))
    again = files.save_tensors(tmp_path / "y", "learngene", reverse, {"note": [1, "ä"]})
    assert again.read_bytes() == saved.read_bytes()


def test_views_and_channels_last_are_saved_whole(tmp_path):
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    path = files.save_tensors(tmp_path / "x", "ancestor", {"w": weight, "v": weight[1]}, {})
    assert torch.equal(files.load_tensors(path)[0]["w"], weight)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no file .*nowhere\.safetensors"):
        files.load_tensors(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_truncated_file_is_damaged(saved, size):
    os.truncate(saved, size % saved.stat().st_size)
    with pytest.raises(UserError, match="is damaged"):
        files.load_tensors(saved)


@pytest.mark.parametrize("content", [b"\x93random bytes" * 99, pickle.dumps({"a": 1}), b"{}"])
def test_other_bytes_are_not_a_safetensors_file(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match="not a safetensors file"):
        files.load_tensors(tmp_path / "x")


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"lgutils": "[1]"}, {"lgutils": "{}"}]
)
def test_a_foreign_safetensors_file_is_told_apart(tmp_path, metadata):
    save_file(TENSORS, tmp_path / "x", metadata=metadata)
    with pytest.raises(UserError, match="was not written by lgutils"):
        files.load_tensors(tmp_path / "x")


def test_another_kind_is_named_beside_the_expected_one(saved):
    with pytest.raises(UserError, match="is of kind 'learngene', but 'ancestor' is expected"):
        files.load_tensors(saved, "ancestor")


def test_a_newer_format_asks_for_an_update(saved, monkeypatch):
    monkeypatch.setattr(files, "FORMAT", files.FORMAT - 1)
    with pytest.raises(UserError, match=r"has format 1, this lgutils reads up to 0. Update"):
        files.load_tensors(saved)


def test_a_flipped_bit_in_a_tensor_is_found(saved):
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    with pytest.raises(UserError, match="do not match their hash"):
        files.load_tensors(saved)


def test_a_renamed_tensor_is_found(saved):
    content = saved.read_bytes()
    saved.write_bytes(content.replace(b'"b.half"', b'"b.hulf"'))
    with pytest.raises(UserError, match="do not match their hash"):
        files.load_tensors(saved)


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_comes_back(tmp_path):
    path = files.save_checkpoint(tmp_path / "x", "key", {"w": torch.ones(2), "losses": [1.0]})
    state = files.load_checkpoint(path, "key")
    assert (state["w"].tolist(), state["losses"]) == ([1.0, 1.0], [1.0])


def test_a_checkpoint_with_another_key_is_refused(tmp_path):
    path = files.save_checkpoint(tmp_path / "x", "key", {})
    with pytest.raises(UserError, match="belongs to another model"):
        files.load_checkpoint(path, "another key")


def test_a_checkpoint_is_not_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"key": "key", "evil": Evil()}, tmp_path / "x")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        files.load_checkpoint(tmp_path / "x", "key")
    assert not (tmp_path / "ran").exists()


# --- hints ----------------------------------------------------------------------------------------


def test_an_unknown_name_lists_the_nearest():
    assert str(unknown("fruit", "aple", ["kiwi", "apple"])) == (
        "Unknown fruit 'aple'. Nearest: 'apple'."
    )


def test_a_name_like_no_other_lists_the_options():
    assert str(unknown("fruit", "x", ["pear", "apple"])).endswith("Choose one of 'apple', 'pear'.")


def test_a_long_list_of_options_is_cut():
    assert str(unknown("n", "x", map(str, range(99)))).endswith("'19', ...")


def test_no_options_are_said_to_be_none():
    assert str(unknown("fruit", "x", [])) == "Unknown fruit 'x'. There are none."


def test_header_is_plain_json(saved):
    from safetensors import safe_open

    with safe_open(saved, framework="pt") as handle:
        assert json.loads(handle.metadata()["lgutils"])["kind"] == "learngene"


def test_weights_that_could_not_be_read_again_are_not_written(tmp_path):
    broken = {"a": torch.tensor([1.0, float("nan")])}
    with pytest.raises(
        UserError, match=r"was not written: the tensor 'a' holds values that are not"
    ):
        files.save_tensors(tmp_path / "x.safetensors", "learngene", broken, {})
    assert not list(tmp_path.iterdir())
