"""Files that are either whole or absent, and hashes of their content."""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from lgutils import reading, scratch
from lgutils.errors import UserError

FORMAT = 1  # of the safetensors metadata
LIMIT = 2**34  # bytes of a file of tensors: four thousand million weights
HEADER_LIMIT = 2**24  # bytes of its header
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")
LONGEST = 255  # bytes of a file's name, on the usual file systems
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def expand(path: Path | str, what: str = "") -> Path:
    """The path with `~` or `~name` replaced by the home folder; a `UserError` if there is none.

    Args:
        what: the path is, for the error.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{what}{str(path)!r} begins with '~', but that home folder is not known. Write the whole path."
        ) from error


def target(
    path: Path | str, kind: str = "", *, inputs: Iterable[Path | str] = (), force: bool = False
) -> Path:
    """Check, before hours are spent, that a file may be written; nothing is left or changed.

    Args:
        path: where the file is to be. A symbolic link stands for what it points to.
        kind: what `save_tensors` is to write there; a file of this kind may be replaced.
        inputs: files that are read; none of them may be the target, not even by another name.
        force: whatever file is there may be replaced.
    Returns:
        The path with `~` expanded.
    Raises:
        UserError: no name, a folder, a device, a read-only file, an input, a file that lgutils did not
            write with this kind, a folder that cannot be written or made.
    """
    place = _place(path)
    if kind:
        _legible(path)
    for given in inputs:
        with contextlib.suppress(OSError):
            if place.samefile(given):
                raise UserError(
                    f"{path} is read by this command. Choose another name for the output."
                )
    if not force and place.exists() and place.stat().st_size and _kind(place) != kind:
        raise UserError(
            f"{path} exists, and is no {kind or 'file'} that lgutils wrote. Choose another name, or "
            "replace it with --force."
        )
    folder = next(filter(os.path.lexists, place.parents), place.parent)
    try:
        with _part(folder, place.name):
            pass
    except OSError as error:
        raise _explain(error, place) from error
    return expand(path)


def _legible(path: Path | str) -> None:
    """Refuse a name that safetensors cannot open."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{path} is no name in UTF-8, which safetensors needs. Rename it."
        ) from error


def _kind(path: Path) -> str | None:
    """The kind that a file's header tells, read without its tensors; None for a foreign file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as handle:
            return json.loads((handle.metadata() or {})["lgutils"])["kind"]
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _place(path: Path | str) -> Path:
    """The regular file, there or not yet, that `path` leads to; anything else is refused."""
    if not expand(path).name:
        raise UserError(f"{str(path)!r} names no file. Give the output a name.")
    try:
        place = Path(os.path.realpath(expand(path)))
        if any(len(os.fsencode(part)) > LONGEST for part in place.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        mode = expand(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return place
    except (OSError, ValueError) as error:
        raise _explain(error, path) from error
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a folder. Name a file, for example one in it.")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is a device, a pipe or a socket. Name a file.")
    if not mode & 0o222 or not os.access(place, os.W_OK):
        raise UserError(f"{path} is read-only. Choose another name, or allow writing to it first.")
    return place


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success rename it to `path`, on any error remove it.

    A symbolic link stays, and what it points to is written. A new file has the rights that the umask
    leaves, one that is replaced keeps its own.

    Raises:
        UserError: a folder, a device or a read-only file is in the way, the folder cannot be written, or
            the disk is full.
    """
    place = _place(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _part(place.parent, place.name) as temporary:
            yield temporary
            if place.exists():
                with contextlib.suppress(PermissionError):  # some network folders set all rights
                    shutil.copymode(place, temporary)
            os.replace(temporary, place)
    except OSError as error:
        raise _explain(error, path) from error


def _part(folder: Path, name: str) -> contextlib.AbstractContextManager[Path]:
    return scratch.file(folder, f".{name[:40]}.", ".part")


def target_folder(path: Path | str, names: Iterable[str], marks: Iterable[str]) -> Path:
    """Check that a folder can be written, and that nothing foreign in it would be replaced.

    Args:
        names: files to be written there. They may be replaced where one of ours is recognised.
        marks: patterns of names by which a folder is recognised as ours.
    Returns:
        The path with `~` expanded.
    Raises:
        UserError: it cannot be written, or a file of one of these names is not ours.
    """
    folder, names = expand(path), tuple(names)
    for name in names:
        target(folder / name, force=True)
    ours = any(True for mark in marks for _ in folder.glob(mark))
    if found := [name for name in names if (folder / name).exists() and not ours]:
        raise UserError(
            f"{folder} holds {found[0]}, which is not from lgutils and would be replaced. Choose another "
            "folder, or move the file."
        )
    return folder


def _explain(error: OSError | ValueError, path: Path | str) -> UserError:
    code = getattr(error, "errno", None)
    if code in FULL:
        return UserError(
            f"The disk is full: {path} was not written. Free some space and run again."
        )
    advice = "Choose another folder."
    if code == errno.ENAMETOOLONG:
        advice = "Choose a shorter name."
    elif cache_dir() in Path(os.path.abspath(path)).parents:
        advice = "Set LGUTILS_CACHE to a folder that can be written."
    return UserError(f"Cannot write {path}: {getattr(error, 'strerror', None) or error}. {advice}")


def write_text(path: Path | str, text: str) -> Path:
    """Write `text` to `path` atomically, in UTF-8, and return the path.

    What UTF-8 cannot hold, as parts of file names that are not text, is written as an escape.
    """
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return Path(path)


def cache_dir() -> Path:
    """Folder for things that can be made again: `$LGUTILS_CACHE`, else the user's cache folder."""
    if given := os.environ.get("LGUTILS_CACHE"):
        return expand(given, "LGUTILS_CACHE ")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expand(base, "The cache folder ") / "lgutils"


def sha256(data: bytes | memoryview) -> str:
    """Hex SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def _tensor_hash(tensors: dict) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def save_tensors(path: Path | str, kind: str, tensors: dict, meta: dict) -> Path:
    """Write tensors and JSON metadata as one safetensors file, atomically.

    Args:
        kind: what the file holds, "ancestor" or "learngene"; checked when loading.
        tensors: torch tensors by name.
        meta: anything JSON can hold.
    Raises:
        UserError: a tensor that `load_tensors` would refuse, see `unsound`; or see `atomic`.
    """
    from safetensors.torch import save

    if wrong := unsound(tensors):
        raise UserError(f"{path} was not written: {wrong}.")
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    header = {"kind": kind, "format": FORMAT, "sha256": _tensor_hash(tensors), **meta}
    # Written by Python: safetensors' own writer hides a full disk behind an error of its own.
    data = save(tensors, metadata={"lgutils": json.dumps(header, sort_keys=True)})
    with atomic(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def load_tensors(path: Path | str, kind: str | None = None) -> tuple[dict, dict]:
    """Read what `save_tensors` wrote; nothing is ever unpickled.

    Returns:
        (tensors by name, metadata).
    Raises:
        UserError: missing, damaged, truncated or foreign file, another kind, a newer format.
    """
    from safetensors import safe_open

    path = Path(path)
    reading.regular(path, LIMIT)
    _legible(path)
    try:
        with path.open("rb") as handle:
            if int.from_bytes(handle.read(8), "little") > HEADER_LIMIT:
                raise ValueError(f"a header of more than {HEADER_LIMIT >> 20} MiB")
        with safe_open(path, framework="pt") as handle:
            text = (handle.metadata() or {}).get("lgutils", "null")
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors, torch and the disk raise many kinds
        raise UserError(
            f"{path} is damaged or not a safetensors file ({reading.reason(error)}). {reading.AGAIN}"
        ) from error
    meta = reading.parsed(text, object, path)
    if not isinstance(meta, dict) or "kind" not in meta:
        raise UserError(
            f"{path} is a safetensors file, but was not written by lgutils. Use `lgutils accumulate` "
            "and `lgutils condense` to make one."
        )
    header = reading.checked(meta, _Header, path)
    if header.format > FORMAT:
        raise UserError(
            f"{path} has format {header.format}, this lgutils reads up to {FORMAT}. Update lgutils."
        )
    if kind is not None and header.kind != kind:
        raise UserError(f"{path} is of kind {header.kind!r}, but {kind!r} is expected here.")
    if _tensor_hash(tensors) != header.sha256:
        raise UserError(f"{path} is damaged: its tensors do not match their hash. Make it again.")
    if wrong := unsound(tensors):
        raise UserError(f"{path}: {wrong}. Make it again.")
    return tensors, meta


class _Header(msgspec.Struct):
    """What every file of tensors says of itself."""

    kind: Literal["ancestor", "learngene", "descendant"]
    format: Annotated[int, msgspec.Meta(ge=1)]
    sha256: str


def unsound(tensors: Mapping[str, Any]) -> str:
    """Why some weights cannot be those of a model: the first that is not finite or of an odd type; or ""."""
    import torch

    for name, tensor in tensors.items():
        known = str(tensor.dtype).removeprefix("torch.") in DTYPES
        if (odd := tensor.layout if known else tensor.dtype) != torch.strided:
            return f"the tensor {name!r} has the type {odd}, which no model here has"
        if tensor.is_floating_point() and not tensor.isfinite().all():
            return f"the tensor {name!r} holds values that are not finite (NaN or infinite)"
    return ""


def save_checkpoint(path: Path | str, key: str, state: dict) -> Path:
    """Write a training checkpoint atomically; `key` says which run it belongs to."""
    import torch

    buffer = io.BytesIO()  # torch's own writer hides a full disk behind a RuntimeError
    torch.save({"key": key, **state}, buffer)
    with atomic(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
    return Path(path)


def load_checkpoint(path: Path | str, key: str) -> dict:
    """Read a training checkpoint (tensors and plain values only; nothing else is unpickled).

    Raises:
        UserError: damaged, or made by a run with another key.
    """
    import torch

    reading.regular(path, LIMIT)
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not check the sums
            packed = any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist())
            if packed or archive.testzip() is not None:
                raise ValueError("a checksum in it does not hold")
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many kinds for a damaged archive
        raise UserError(
            f"{path} is not a readable checkpoint ({type(error).__name__}). Delete it to start anew."
        ) from error
    if not isinstance(state, dict) or state.get("key") != key:
        raise UserError(
            f"The checkpoint {path} belongs to another model, other images or another configuration. "
            "Delete it, or name another file."
        )
    return state


@contextlib.contextmanager
def taken_up(path: Path | str, key: str) -> Iterator[dict]:
    """Give the state that `load_checkpoint` reads; what fails while it is taken up is a `UserError`."""
    import torch

    state = load_checkpoint(path, key)
    try:
        yield state
    except (UserError, torch.OutOfMemoryError):
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        why = f"{type(error).__name__}: {reading.reason(error)}"
        raise UserError(
            f"The checkpoint {path} does not fit this run ({why}). Delete it to start anew."
        ) from error
