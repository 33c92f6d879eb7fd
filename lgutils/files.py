"""Files that are either whole or absent, and hashes of their content."""

import contextlib
import errno
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from lgutils import reading
from lgutils.errors import UserError

FORMAT = 1  # of the safetensors metadata
LIMIT = 2**34  # bytes of a file of tensors: four thousand million weights
HEADER_LIMIT = 2**24  # bytes of its header
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")


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
    from safetensors import safe_open

    path = Path(path)
    reading.regular(path, LIMIT)
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
    for name, tensor in tensors.items():
        if str(tensor.dtype).removeprefix("torch.") not in DTYPES:
            return f"the tensor {name!r} has the type {tensor.dtype}, which no model here has"
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
    state = load_checkpoint(path, key)
    try:
        yield state
    except UserError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        why = f"{type(error).__name__}: {reading.reason(error)}"
        raise UserError(
            f"The checkpoint {path} does not fit this run ({why}). Delete it to start anew."
        ) from error
