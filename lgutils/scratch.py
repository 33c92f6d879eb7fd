"""Temporary files and folders that no killed process leaves for good.

Each is locked while it is in use; the system ends the lock with the process, however that dies. Whoever makes
the next one of the same kind removes those without a lock. Where a system has no such locks they stay. On some
shared folders a lock is seen by its own computer only, so what another one made is first left for a day.
"""

import contextlib
import glob
import os
import platform
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HOST = f"{zlib.crc32(platform.node().encode()) % 2**16:04x}"  # begins the names that this computer gives
DAY = 86_400  # seconds


@contextlib.contextmanager
def file(place: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """A new file in `place`, removed at the end if it is still there; its rights follow the umask.

    Raises:
        OSError: it cannot be made.
    """
    with _new(place, prefix, suffix, lambda path: path.touch(exist_ok=False)) as path:
        yield path


@contextlib.contextmanager
def folder(place: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `place` for this user only, removed with all that is in it at the end.

    Raises:
        OSError: it cannot be made.
    """
    with _new(place, prefix, "", lambda path: path.mkdir(0o700)) as path:
        yield path


@contextlib.contextmanager
def _new(place: Path, prefix: str, suffix: str, make: Callable[[Path], None]) -> Iterator[Path]:
    made = f"{glob.escape(prefix)}{'[0-9a-f]' * 12}{suffix}"  # a file of the user's is not named so
    for left in place.glob(made):
        with contextlib.suppress(OSError), _locked(left, wait=False):
            ours = left.name.startswith(prefix + HOST)
            if ours or time.time() - left.stat().st_mtime > DAY:
                _remove(left)
    path = None
    with contextlib.ExitStack() as locks:
        while path is None or not path.exists():  # a sweep may be faster than the lock
            path = place / f"{prefix}{HOST}{secrets.token_hex(4)}{suffix}"
            make(path)
            with contextlib.suppress(OSError):
                locks.enter_context(_locked(path, wait=True))
        try:
            yield path
        finally:
            _remove(path)


@contextlib.contextmanager
def _locked(path: Path, wait: bool) -> Iterator[None]:
    """Hold the only lock on a file or folder.

    Raises:
        OSError: it is gone, it is held and `wait` is false, or there are no locks here.
    """
    if fcntl is None:
        raise OSError("no locks on this system")
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
