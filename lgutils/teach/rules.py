"""What a notebook may not do while it is graded: rules for Python's audit events.

`seal` runs a private copy of this module, with builtins of its own, so that names which a notebook
changes later are not the names that the rules use.
"""

import json
import os
import re
import sys
from collections.abc import Callable
from os import fspath, getcwd, getpid, lstat, stat, walk, write
from os.path import basename, dirname, join, normpath, realpath
from stat import S_ISDIR

PREFIX = "lgutils-grade-"  # of the folders of all kernels
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NEAR = ("localhost", "127.0.0.1", "::1")
PROCESS = (
    "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "os.startfile", "pty.spawn",
)  # fmt: skip
# Libraries ask these where other libraries lie (`ctypes.util.find_library`), and do without the answer.
HELPERS = ("ldconfig", "gcc", "cc", "objdump", "ld", "uname")
OPENING = ("open", "os.listdir", "os.scandir", "os.chdir", "os.symlink", "os.link")
CHANGING = (
    "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "os.utime",
)  # fmt: skip


def reporter(channel: int) -> Callable[[str, str], None]:
    """A function that writes a kind and a sentence to a file descriptor, as a JSON line."""

    def report(kind: str, sentence: str) -> None:
        # One write of less than PIPE_BUF bytes: lines of several threads do not mix.
        write(channel, json.dumps([kind, sentence[:500]]).encode() + b"\n")

    return report


def install(
    report: Callable[[str, str], None], home: str, cache: str, closed: list[str], compiled: Callable
) -> None:
    """Install the audit hook; it cannot be removed.

    Args:
        report: is told kind and sentence of each refusal.
        home: the notebook's own folder, where it may write.
        cache: lgutils' cache; new files may be written there, old ones not changed.
        closed: folders and files in which nothing may be opened or listed.
        compiled: rule for code that is read; see `guard`.
    """

    def refuse(kind: str, sentence: str) -> None:
        if kind != "quiet":
            report(kind, sentence)
        raise PermissionError(sentence)

    rules = {**_files(refuse, home, cache, closed), **_network(refuse), **_processes(refuse)}
    rules["compile"] = compiled

    def hook(event, args):
        rule = rules.get(event)
        if rule is not None:
            rule(event, args)

    sys.addaudithook(hook)


def _text(path) -> str | None:
    """A path as text; None for a file descriptor and the like."""
    if isinstance(path, bytes):
        return str(path, "utf-8", "surrogateescape")
    if hasattr(path, "__fspath__"):
        return _text(fspath(path))
    return path if isinstance(path, str) else None


def _end(path: str) -> str:
    """The last parts of a path: students see the sentence, and not where the teacher's files lie."""
    return "/".join(path.rstrip("/").split("/")[-2:])


def _files(refuse, home: str, cache: str, closed: list[str]) -> dict:
    """Rules for opening, listing and changing files; files are known by place and by identity."""
    roots = tuple(join(realpath(root), "") for root in closed)
    own, kernels = join(home, ""), join(dirname(home), PREFIX)
    secret, shared = _identities(roots), _identities((cache,))
    writable = (own, join(cache, ""), "/dev/null/")
    process = re.compile(r"/proc/(\d+)/").match
    opened = set()  # folders that the notebook has opened: a path may start there (`dir_fd`)

    def reading(event: str, path: str, quiet: bool) -> None:
        place = _plain(path)
        kind = "quiet" if quiet else "solution"
        other = place.startswith(kernels) and not (place + "/").startswith(own)
        if other or (place + "/").startswith(roots) or _identity(path) in secret:
            refuse(kind, f"This notebook may not read {_end(path)}: it is closed while grading.")
        other = process(place)
        memory = place.startswith("/proc/") and place.endswith("/mem")
        if memory or (other and other.group(1) != str(getpid())):
            refuse(kind, f"This notebook may not look into processes ({path}).")
        if event == "open" and (about := _stat(path)) and S_ISDIR(about.st_mode):
            opened.add(place)

    def changing(path: str) -> None:
        if not (_plain(path) + "/").startswith(writable) or _identity(path) in shared:
            refuse("write", f"This notebook may write only in its own folder, not to {_end(path)}.")

    def writes(event, args, path) -> bool:
        if event == "open":
            flags = args[2] if len(args) > 2 else 0
            return isinstance(flags, int) and bool(flags & WRITING)
        if event == "os.mkdir":
            return _identity(path) is None
        return event in CHANGING or event in ("os.link", "os.symlink")

    def rule(event, args):
        quiet = event == "open" and args[1:2] == ("guard",)  # as `guard.PROBE`
        count = 2 if event in ("os.link", "os.symlink", "os.rename") else 1
        for given in map(_text, args[:count]):
            if given is None:
                continue
            for path in dict.fromkeys(join(folder, given) for folder in (getcwd(), *opened)):
                if event in OPENING:
                    reading(event, path, quiet)
                if writes(event, args, path):
                    changing(path)

    return dict.fromkeys((*OPENING, *CHANGING), rule)


def _plain(path: str) -> str:
    """An absolute path without `..`, and with one slash where there were several."""
    return "/" + normpath(path).lstrip("/")


def _stat(path: str):
    try:
        return stat(path)
    except (OSError, ValueError):
        return None


def _identity(path: str):
    about = _stat(path)
    return about and (about.st_dev, about.st_ino)


def _identities(roots) -> frozenset:
    """Device and number of some folders or files, and of everything below them."""
    found = {_identity(root.rstrip("/")) for root in roots} - {None}
    for root in roots:
        for folder, _, files in walk(root):
            for path in (folder, *(join(folder, name) for name in files)):
                try:
                    about = lstat(path)
                except OSError:
                    continue
                found.add((about.st_dev, about.st_ino))
    return frozenset(found)


def _network(refuse) -> dict:
    """Rules for sockets: this computer only."""
    import socket

    near = (*NEAR, socket.gethostname(), "", None)

    def check(host) -> None:
        if isinstance(host, bytes | bytearray):
            host = bytes(host).decode("utf-8", "replace")
        if host not in near:
            refuse("network", f"This notebook may not use the network while grading ({host}).")

    def by_address(event, args):
        address = args[1]
        if address is not None:
            check(address[0] if isinstance(address, tuple) else address)

    def by_name(event, args):
        check(args[0][0] if isinstance(args[0], tuple) else args[0])

    return {
        **dict.fromkeys(
            ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"), by_address
        ),
        **dict.fromkeys(
            (
                "socket.getaddrinfo",
                "socket.gethostbyname",
                "socket.gethostbyaddr",
                "socket.getnameinfo",
            ),
            by_name,
        ),
    }


def _processes(refuse) -> dict:
    """Rules against other programs, signals to them, wider limits, and taking the seal off."""

    def start(event, args):
        what = _text(args[0]) if args else None
        kind = "quiet" if basename(what or "") in HELPERS else "process"
        refuse(kind, f"This notebook may not start other programs while grading ({what or event}).")

    def signal(event, args):
        if args[0] != getpid():
            refuse("process", "This notebook may not send signals to other processes.")

    def limit(event, args):
        refuse("process", "This notebook may not change its limits.")

    def trace(event, args):
        refuse("process", "This notebook may not trace the code that is run (sys.settrace).")

    def inspect(event, args):
        refuse("seal", "This notebook may not search the objects of the kernel (gc).")

    def database(event, args):  # one that is open can attach any other without an event
        refuse("write", "This notebook may not open databases (sqlite3) while grading.")

    def share(event, args):  # not counted by the limit of memory
        if args[0] == -1:
            refuse("write", "This notebook may not make shared memory (mmap).")

    _close_back_door(start)
    rules = dict.fromkeys(PROCESS, start) | dict.fromkeys(("os.kill", "os.killpg"), signal)
    rules |= dict.fromkeys(("gc.get_objects", "gc.get_referrers", "gc.get_referents"), inspect)
    return rules | {
        "resource.setrlimit": limit, "resource.prlimit": limit, "sys.settrace": trace,
        "sqlite3.connect": database, "mmap.__new__": share,
    }  # fmt: skip


def _close_back_door(start) -> None:
    """`multiprocessing` starts programs by a function that raises no audit event: replace it."""
    import _posixsubprocess
    import subprocess

    def fork_exec(*args, **kwargs):
        start("subprocess.Popen", args)

    _posixsubprocess.fork_exec = fork_exec
    for module in (subprocess, sys.modules.get("multiprocessing.util")):
        if hasattr(module, "_fork_exec"):
            module._fork_exec = fork_exec
