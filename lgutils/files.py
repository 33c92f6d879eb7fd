"""Files that are either whole or absent, and hashes of their content."""

import contextlib
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lgutils.errors import UserError

FORMAT = 1  # of the safetensors metadata


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success rename it to `path`, on any error remove it.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise _explain(error, path) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def _explain(error: OSError, path: Path) -> UserError:
    if error.errno == errno.ENOSPC:
        return UserError(
            f"The disk is full: {path} was not written. Free some space and run again."
        )
    return UserError(f"Cannot write {path}: {error.strerror or error}. Choose another folder.")


def write_text(path: Path | str, text: str) -> Path:
    """Write `text` (UTF-8) to `path` atomically and return the path."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def cache_dir() -> Path:
    """Folder for things that can be made again: `$LGUTILS_CACHE`, else the user's cache folder."""
    if given := os.environ.get("LGUTILS_CACHE"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser() / "lgutils"


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
    """
    from safetensors.torch import save

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
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no file {path}. Check the name, or make it first.")
    try:
        with safe_open(path, framework="pt") as handle:
            header = json.loads((handle.metadata() or {}).get("lgutils", "null"))
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or not a safetensors file ({error}). Copy or make it again."
        ) from error
    if not isinstance(header, dict) or "kind" not in header:
        raise UserError(
            f"{path} is a safetensors file, but was not written by lgutils. Use `lgutils accumulate` "
            "and `lgutils condense` to make one."
        )
    if header.get("format", 0) > FORMAT:
        raise UserError(
            f"{path} has format {header['format']}, this lgutils reads up to {FORMAT}. Update lgutils."
        )
    if kind is not None and header["kind"] != kind:
        raise UserError(f"{path} is of kind {header['kind']!r}, but {kind!r} is expected here.")
    if _tensor_hash(tensors) != header.get("sha256"):
        raise UserError(f"{path} is damaged: its tensors do not match their hash. Make it again.")
    return tensors, header


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

    try:
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
