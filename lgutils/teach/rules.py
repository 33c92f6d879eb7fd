"""What a notebook may not do while it is graded: rules for Python's audit events.

`seal` runs a private copy of this module, with builtins of its own, so that names which a notebook
changes later are not the names that the rules use.
"""

import json
import os
import re
import sys
from os import fspath, getcwd, getpid, lstat, stat, walk, write
from os.path import basename, join, normpath, realpath

GUARD = "assert 0 > 1, 'guard "  # start of the cell that must fail
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NEAR = ("localhost", "127.0.0.1", "::1")
PROCESS = (
    "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "os.startfile", "pty.spawn",
)  # fmt: skip
# Libraries ask these where other libraries lie (`ctypes.util.find_library`), and do without the answer.
HELPERS = ("ldconfig", "gcc", "cc", "objdump", "ld", "uname")
SESSION = ("input", "_", "exit", "quit", "display", "get_ipython", "open")  # Jupyter has its own
OPENING = (
    "open",
    "sqlite3.connect",
    "os.listdir",
    "os.scandir",
    "os.chdir",
    "os.symlink",
    "os.link",
)
CHANGING = (
    "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "os.utime",
)  # fmt: skip


def install(channel: int, home: str, cache: str, closed: list[str], names: dict) -> None:
    """Install the audit hook; it cannot be removed.

    Args:
        channel: open file descriptor; each refusal is written there as a JSON line [kind, sentence].
        home: the notebook's own folder, where it may write.
        cache: lgutils' cache; new files may be written there, old ones not changed.
        closed: folders in which nothing may be opened or listed.
        names: the notebook's global names, for putting redefined builtins back.
    """

    def refuse(kind: str, sentence: str) -> None:
        if kind != "quiet":
            report(kind, sentence)
        raise PermissionError(sentence)

    def report(kind: str, sentence: str) -> None:
        # One write of less than PIPE_BUF bytes: lines of several threads do not mix.
        write(channel, json.dumps([kind, sentence[:500]]).encode() + b"\n")

    rules = {**_files(refuse, home, cache, closed), **_network(refuse), **_processes(refuse)}
    rules["compile"] = _restorer(report, names)

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
    secret = _identities(roots)
    shared = _identities((cache,))
    writable = (join(home, ""), join(cache, ""), "/dev/")
    process = re.compile(r"/proc/(\d+)/|/proc/(?:self|thread-self)/.*mem$").match

    def full(path: str) -> str:
        return normpath(path if path[:1] == "/" else getcwd() + "/" + path)

    def identity(path: str):
        try:
            found = stat(path)
        except (OSError, ValueError):
            return None
        return found.st_dev, found.st_ino

    def reading(path: str) -> None:
        place = full(path)
        if (place + "/").startswith(roots) or identity(path) in secret:
            refuse(
                "solution", f"This notebook may not read {_end(path)}: it is closed while grading."
            )
        other = process(place)
        if other and other.group(1) != str(getpid()):
            refuse("solution", f"This notebook may not look into other processes ({path}).")

    def changing(path: str) -> None:
        if not (full(path) + "/").startswith(writable) or identity(path) in shared:
            refuse("write", f"This notebook may write only in its own folder, not to {_end(path)}.")

    def writes(event, args, path) -> bool:
        if event == "open":
            flags = args[2] if len(args) > 2 else 0
            return isinstance(flags, int) and bool(flags & WRITING)
        if event == "os.mkdir":
            return identity(path) is None
        return event in CHANGING or event in ("os.link", "os.symlink")

    def rule(event, args):
        for path in map(
            _text, args[:2] if event in ("os.link", "os.symlink", "os.rename") else args[:1]
        ):
            if path is None:
                continue
            if event in OPENING:
                reading(path)
            if writes(event, args, path):
                changing(path)

    return dict.fromkeys((*OPENING, *CHANGING), rule)


def _identities(roots) -> frozenset:
    """Device and number of each folder and file below some folders."""
    found = set()
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
    """Rules against other programs, signals to them, wider limits, and stepping through the tests."""

    def start(event, args):
        what = _text(args[0]) if args else None
        kind = "quiet" if basename(what or "") in HELPERS else "process"
        which = f" ({what})" if what else ", as lines with ! do"
        refuse(kind, f"This notebook may not start other programs while grading{which}.")

    def signal(event, args):
        if args[0] != getpid():
            refuse("process", "This notebook may not send signals to other processes.")

    def limit(event, args):
        refuse("process", "This notebook may not change its limits.")

    def trace(event, args):
        refuse("seal", "This notebook may not trace the code that is run (sys.settrace).")

    _close_back_door(start)
    rules = dict.fromkeys(PROCESS, start) | dict.fromkeys(("os.kill", "os.killpg"), signal)
    return rules | {"resource.setrlimit": limit, "resource.prlimit": limit, "sys.settrace": trace}


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


def _restorer(report, names: dict):
    """A rule that puts redefined builtins back when the guard, sent before a test, is compiled."""
    live = _live()
    original = {name: value for name, value in live.items() if name not in SESSION}
    started = {name: names[name] for name in original if name in names}

    def restore(event, args):
        source = args[0]
        text = source if isinstance(source, str | bytes) else b""
        if not text.startswith(GUARD if isinstance(text, str) else GUARD.encode()):
            return
        changed = [name for name, value in original.items() if live.get(name) is not value]
        live.update({name: original[name] for name in changed})
        hidden = [
            name for name in original
            if name in names and names[name] is not started.get(name) and callable(names[name])
        ]  # fmt: skip
        for name in hidden:
            del names[name]
        names.update({name: started[name] for name in hidden if name in started})
        if changed or hidden:
            which = ", ".join(sorted({*changed, *hidden}))
            report(
                "builtins", f"Python's own {which} was redefined; it was put back before the tests."
            )

    return restore


def _live() -> dict:
    """The namespace of builtins that everybody uses (here `builtins` may be a private copy)."""
    return vars(sys.modules["builtins"])
