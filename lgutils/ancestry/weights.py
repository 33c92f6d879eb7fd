"""Weights that others saved: what a file holds, what is said beside it, and which tensor is which."""

import argparse
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import torch
from safetensors import safe_open
from timm.models import clean_state_dict
from torch import Tensor

from lgutils import files, reading
from lgutils.checks import Finite, Positive
from lgutils.errors import UserError

# What a fetched file may be instead; none of them begins as weights do.
INSTEAD = {
    b"version https://git-lfs": "it is a pointer of git LFS: fetch the file itself",
    b"<": "it is a web page: fetch the file itself",
    b"{": "it is JSON: name the file of weights",
    b"\x89HDF": "it is HDF5, of another framework",
}
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # in timm's order
COUNT = "num_batches_tracked"
KINDS = {
    name: kind
    for kind, names in {
        "weight": "weight gamma kernel scale",
        "bias": "bias beta offset",
        "mean": "running_mean moving_mean",
        "variance": "running_var moving_variance moving_var",
        COUNT: COUNT,
    }.items()
    for name in names.split()
}


class _Told(msgspec.Struct):
    """The part of a `config.json` that timm's hub files have in common; an older form has it flat."""

    architecture: str = ""
    num_classes: int | None = None
    mean: tuple[Finite, ...] = ()
    std: tuple[Positive, ...] = ()
    pretrained_cfg: "_Told | None" = None


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        tensors: by the names in the file.
        ordered: whether they stand in the order in which the model has them.
        arch: the architecture that they were trained as; "" where nothing says it.
        said: what says so.
        classes: outputs of the head by `config.json`; None where there is none.
        mean, std: of the input, in units of the [0, 1] intensity; () where nothing tells them.
    """

    tensors: dict[str, Tensor]
    ordered: bool = True
    arch: str = ""
    said: str = ""
    classes: int | None = None
    mean: tuple[float, ...] = field(default=())
    std: tuple[float, ...] = field(default=())

    @classmethod
    def read(cls, path: Path) -> "Weights":
        """Read a file by its content, whatever its ending: safetensors, or what `torch.save` wrote.

        A state dict stands alone or under one of `WRAPPERS`. Of what was pickled only tensors, plain
        values and `argparse.Namespace` (of timm's training script) are taken; nothing else is unpickled.
        A `config.json` of timm beside the file tells architecture and normalisation.

        Raises:
            UserError: no such file, damaged, something to unpickle, no state dict.
        """
        reading.regular(path, files.LIMIT)
        try:
            found, ordered = _opened(path)
        except (
            Exception
        ) as error:  # safetensors and torch raise many kinds for damaged or unsafe files
            raise UserError(
                f"{path.name} holds no weights that can be read without unpickling ({_why(path, error)}). "
                "Save the model's state dict."
            ) from error
        arch = found.get("arch") if isinstance(found, dict) else None
        if isinstance(found, dict):
            inner = next((found[k] for k in WRAPPERS if isinstance(found.get(k), dict)), found)
            found = clean_state_dict({str(name): value for name, value in inner.items()})
        if not isinstance(found, dict) or not found:
            raise UserError(f"{path.name} is no state dict: it holds no tensors by name.")
        if strange := [name for name, value in found.items() if not _dense(value)]:
            raise UserError(
                f"{path.name} is no state dict: {strange[0]!r} is not a tensor of numbers."
            )
        weights = cls(found, ordered)
        if isinstance(arch, str):
            weights = replace(weights, arch=arch, said=path.name)
        return weights._beside(path.with_name("config.json"))

    def _beside(self, path: Path) -> "Weights":
        """With what a `config.json` of timm says; one of another library is passed over."""
        if not path.is_file():
            return self
        fields = reading.json_file(path, dict, "Repair or remove it.")
        if not {"architecture", "pretrained_cfg"} & fields.keys():
            return self
        outer = reading.checked(fields, _Told, path, "Repair or remove it.")
        told = outer.pretrained_cfg or outer
        return replace(
            self, arch=outer.architecture or self.arch, said=path.name,
            classes=told.num_classes if outer.num_classes is None else outer.num_classes,
            mean=told.mean or outer.mean, std=told.std or outer.std,
        )  # fmt: skip


def _dense(value: object) -> bool:
    """Whether it is a tensor whose numbers are all there: neither sparse nor on the device meta."""
    if not isinstance(value, Tensor):
        return False
    return value.layout == torch.strided and value.device.type == "cpu"


def _opened(path: Path) -> tuple[object, bool]:
    """(content, whether it keeps an order): a safetensors file sorts its tensors by name."""
    with path.open("rb") as handle:
        head = handle.read(9)
    if head[8:] == b"{":
        if int.from_bytes(head[:8], "little") > files.HEADER_LIMIT:
            raise ValueError(f"a header of more than {files.HEADER_LIMIT >> 20} MiB")
        with safe_open(path, framework="pt") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}, False  # noqa: SIM118
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise ValueError("a packed archive, which torch does not write")
    # By a handle: torch goes by the ending of a name.
    with torch.serialization.safe_globals([argparse.Namespace]), path.open("rb") as handle:
        return torch.load(handle, weights_only=True, map_location="cpu"), True


def _why(path: Path, error: Exception) -> str:
    with suppress(OSError), path.open("rb") as handle:
        head = handle.read(32)
        for start, what in INSTEAD.items():
            if head.startswith(start) and head[8:9] != b"{":
                return what
    with suppress(Exception):  # no archive of torch's
        asked = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        if asked := asked - {"argparse.Namespace"}:
            return f"it asks for {min(asked)}"
    return str(error) if type(error) is ValueError else type(error).__name__


# --- which is which -------------------------------------------------------------------------------


def completed(tensors: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[dict, list[str]]:
    """Add what a file may lack without losing anything.

    Second names of tensors that the model uses twice (safetensors' `save_model` leaves them out), and
    BatchNorm's counters of batches, which nothing here reads.

    Args:
        wanted: the state of the model, tensors that are used twice under both names.
    Returns:
        (tensors, what to tell).
    """
    whole, places = dict(tensors), {}
    for name, tensor in wanted.items():
        if name in tensors and tensor.numel():
            places.setdefault((tensor.data_ptr(), tensor.shape), name)
    for name, tensor in wanted.items():
        if name not in whole and (twin := places.get((tensor.data_ptr(), tensor.shape))):
            whole[name] = tensors[twin]
    shared = len(whole) - len(tensors)
    counters = [name for name in wanted if name.endswith(COUNT) and name not in whole]
    whole |= {name: torch.zeros_like(wanted[name]) for name in counters}
    told = []
    if shared:
        told.append(f"{shared} tensors that the model uses twice stand in the file once")
    if counters:
        told.append(f"{len(counters)} counters {COUNT} are not in the file: set to 0")
    return whole, told


def in_order(
    weights: Weights, wanted: Mapping[str, Tensor], is_head: Callable[[str], bool]
) -> dict[str, str]:
    """Pair a file's tensors with a model's by their order, shapes and kinds, whatever their names.

    A file that keeps no order, or another one, is paired by names where these agree, and the rest only if
    no two tensors of the rest have the same shape and kind. Counters of batches may be absent, and the
    head as a whole; the head's first dimension, its classes, may differ.

    Returns:
        Name in the model by name in the file.
    Raises:
        UserError: they do not fit; the first misfit is named.
    """
    given = weights.tensors
    try:
        if weights.ordered:
            return _paired(given, given, wanted, wanted, is_head)
        raise UserError("a safetensors file sorts its tensors by name")
    except UserError as error:
        with suppress(UserError):
            return _by_look(given, wanted, is_head)
        raise UserError(f"it does not fit in order ({error})") from error


def _by_look(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], is_head: Callable[[str], bool]
) -> dict[str, str]:
    """Pair by names, and what is left by shape and kind, if no two of it look alike."""
    old = [name for name in given if name not in wanted]
    new = [name for name in wanted if name not in given]
    if len({(_kind(name), given[name].shape) for name in old}) < len(old):
        raise UserError("two tensors look alike")
    old.sort(key=lambda name: (_kind(name), given[name].shape))
    new.sort(key=lambda name: (_kind(name), wanted[name].shape))
    same = {name: name for name in given if name in wanted}
    return same | _paired(old, given, new, wanted, is_head)


def _paired(
    old: Iterable[str], given: Mapping[str, Tensor], new: Iterable[str], wanted: Mapping[str, Tensor],
    is_head: Callable[[str], bool],
) -> dict[str, str]:  # fmt: skip
    old, new = list(old), list(new)
    if not any(name.endswith(COUNT) for name in old):
        new = [name for name in new if not name.endswith(COUNT)]
    body = [name for name in new if not is_head(name)]
    new = body if len(body) == len(old) else new
    for here, there in zip(old, new, strict=False):
        a, b = tuple(given[here].shape), tuple(wanted[there].shape)
        fits = a == b or (is_head(there) and len(a) == len(b) and a[1:] == b[1:])
        if not fits or _kind(here) != _kind(there):
            raise UserError(f"{here!r} {a} stands where {there!r} {b} is expected")
    if len(old) != len(new):
        raise UserError(f"{len(old)} tensors stand where {len(new)} are expected")
    return dict(zip(old, new, strict=True))


def _kind(name: str) -> str:
    """ "weight", "bias", ... by the end of a name."""
    last = name.rpartition(".")[2]
    return KINDS.get(last, last)
