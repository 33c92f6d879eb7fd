"""Temporary files and folders: gone at the end, and after a kill with the next one of their kind."""

import os
import subprocess
import sys
import time

import pytest

from lgutils import scratch

HOLD = """
import sys, time
from pathlib import Path
from lgutils import scratch
with scratch.{kind}(Path(sys.argv[1]), ".a.") as path:
    print(path, flush=True)
    time.sleep(600)
"""
KINDS = {"file": scratch.file, "folder": scratch.folder}
needs_locks = pytest.mark.skipif(scratch.fcntl is None, reason="this system has no such locks")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def holder(kind, tmp_path):
    """A process that holds a temporary file or folder."""
    code = HOLD.format(kind=kind)
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    with process:
        process.stdout.readline()
        yield process
        process.kill()


def test_it_is_gone_at_the_end(kind, tmp_path):
    with KINDS[kind](tmp_path, ".a.") as path:
        assert list(tmp_path.iterdir()) == [path]
    assert not list(tmp_path.iterdir())


def test_a_folder_is_removed_with_what_is_in_it(tmp_path):
    with scratch.folder(tmp_path, ".a.") as path:
        (path / "b").mkdir()
        (path / "b" / "c").write_text("x")
    assert not list(tmp_path.iterdir())


def test_a_file_may_have_been_moved_away(tmp_path):
    with scratch.file(tmp_path, ".a.") as path:
        path.rename(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@needs_locks
def test_what_a_killed_process_left_is_removed_by_the_next(holder, kind, tmp_path):
    holder.kill()
    holder.wait()
    assert len(list(tmp_path.iterdir())) == 1
    with KINDS[kind](tmp_path, ".a.") as path:
        assert list(tmp_path.iterdir()) == [path]


def test_what_another_process_uses_stays(holder, kind, tmp_path):
    with KINDS[kind](tmp_path, ".a."):
        assert len(list(tmp_path.iterdir())) == 2


def test_what_this_process_uses_stays(kind, tmp_path):
    with KINDS[kind](tmp_path, ".a.") as first, KINDS[kind](tmp_path, ".a."):
        assert first.exists()


def test_what_is_named_otherwise_stays(kind, tmp_path):
    (tmp_path / "a.").mkdir()
    (tmp_path / ".b.part").touch()
    (tmp_path / ".a.old").mkdir()
    (tmp_path / ".a.env").touch()
    with KINDS[kind](tmp_path, ".a."):
        assert len(list(tmp_path.iterdir())) == 5


@needs_locks
@pytest.mark.parametrize(("hours", "left"), [(23, 2), (25, 1)])
def test_what_another_computer_made_is_left_for_a_day(kind, tmp_path, monkeypatch, hours, left):
    monkeypatch.setattr(scratch, "HOST", "0000" if scratch.HOST != "0000" else "1111")
    with KINDS[kind](tmp_path, ".a.") as path:
        name = path.name
    monkeypatch.undo()
    (tmp_path / name).mkdir()
    os.utime(tmp_path / name, (time.time() - hours * 3600,) * 2)
    with KINDS[kind](tmp_path, ".a."):
        assert len(list(tmp_path.iterdir())) == left


@needs_locks
def test_a_new_one_that_a_sweep_took_first_is_made_again(kind, tmp_path, monkeypatch):
    lock, taken = scratch._locked, []

    def late(path, wait):
        if wait and not taken:
            taken.append(path)
            scratch._remove(path)
        return lock(path, wait)

    monkeypatch.setattr(scratch, "_locked", late)
    with KINDS[kind](tmp_path, ".a.") as path:
        assert path.exists()
        assert path not in taken


def test_without_locks_nothing_is_swept(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "fcntl", None)
    (tmp_path / f".a.{scratch.HOST}01234567").touch()
    with KINDS[kind](tmp_path, ".a."):
        assert len(list(tmp_path.iterdir())) == 2
