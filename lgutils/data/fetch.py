"""Downloads, only on request: resumable, checked before they count, unpacked inside one folder."""

import errno
import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lgutils import reading, scratch
from lgutils.data.listing import FLOWERS_FOLDER
from lgutils.data.names import FETCHED, Dataset
from lgutils.errors import UserError

TRIES = 4  # connections, each going on where the last one was cut
TIMEOUT = 60  # seconds without a byte
BLOCK = 1 << 20
MOST, MANY = 2**33, 10**6  # bytes and files of an unpacked archive


@dataclass(frozen=True)
class Remote:
    """A file to fetch.

    Attributes:
        url: where it is.
        md5: of the whole file.
        path: where it goes, below the dataset's folder.
        unpack: where its content goes, below the dataset's folder; None for no archive.
    """

    url: str
    md5: str
    path: str
    unpack: str | None = None


def remotes(name: str) -> tuple[Remote, ...]:
    """The official files of a dataset, as torchvision knows them."""
    from torchvision import datasets  # slow to import

    if name == "cifar100":
        cifar = datasets.CIFAR100
        return (Remote(cifar.url, cifar.tgz_md5, cifar.filename, "."),)
    if name == "fashion-mnist":
        mirror, raw = datasets.FashionMNIST.mirrors[0], "FashionMNIST/raw"
        return tuple(
            Remote(mirror + file, md5, f"{raw}/{file}")
            for file, md5 in datasets.FashionMNIST.resources
        )
    prefix, known = datasets.Flowers102._download_url_prefix, datasets.Flowers102._file_dict
    return tuple(
        Remote(
            prefix + file,
            md5,
            f"{FLOWERS_FOLDER}/{file}",
            FLOWERS_FOLDER if file.endswith(".tgz") else None,
        )
        for file, md5 in (known[part] for part in ("image", "label"))
    )


def download(dataset: str, progress: bool = True) -> Path:
    """Fetch a dataset from its official address into the data folder.

    A download that was cut goes on where it stopped; files that are there and whole are not fetched
    again. Archives stay beside what was unpacked from them.

    Args:
        dataset: "cifar100", "fashion-mnist" or "flowers102", perhaps with :PATH.
        progress: show bars.
    Returns:
        The folder that the files are in.
    Raises:
        UserError: no network, nothing at the address, a wrong checksum, a full disk.
    """
    wanted = Dataset.parse(dataset)
    if wanted.name not in FETCHED:
        raise UserError(
            f"{wanted.name} cannot be fetched; {', '.join(FETCHED)} can. glyphs and digits need no files, "
            "folders are brought by you."
        )
    for remote in remotes(wanted.name):
        fetch(remote, wanted.root, progress)
    return wanted.root


def fetch(remote: Remote, folder: Path, progress: bool = True) -> Path:
    """Fetch one file below `folder` and unpack it if it is an archive; see `download`."""
    target = folder / remote.path
    try:
        if not (target.is_file() and _md5(target) == remote.md5):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(target.name + ".part")
            _receive(remote.url, part, progress)
            found = _md5(part)
            if found != remote.md5:
                part.unlink()
                raise UserError(
                    f"{remote.url} gave a file with the md5 {found}, {remote.md5} is expected. It was "
                    "removed; run again, and if that does not help, fetch the file by other means."
                )
            os.replace(part, target)
        if remote.unpack is not None:
            unpack(target, folder / remote.unpack)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"The disk is full: {target} is not whole. Free some space and run again."
            ) from error
        raise UserError(
            f"Cannot write {target}: {error.strerror or error}. Choose another folder."
        ) from error
    return target


def _md5(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _receive(url: str, part: Path, progress: bool) -> None:
    """Bring `part` to its full length, over several connections if need be."""
    for _ in range(TRIES):
        had = part.stat().st_size if part.is_file() else 0
        if _connection(url, part, had, progress):
            return
    raise UserError(
        f"The connection to {url} was cut {TRIES} times; {part.stat().st_size:,} bytes are here. Run "
        "again: it goes on where it stopped."
    )


def _connection(url: str, part: Path, had: int, progress: bool) -> bool:
    """Append what one connection brings; True if the file has its full length then."""
    headers = {"User-Agent": "lgutils", **({"Range": f"bytes={had}-"} if had else {})}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and had:  # nothing lies beyond what is here
                return True
            raise UserError(
                f"{url} answered {error.code} ({error.reason}). Try again later, or fetch the file by "
                f"other means and put it into {part.parent}."
            ) from error
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"{url} cannot be reached ({getattr(error, 'reason', error)}). Is there a network? The file "
            f"can also be put into {part.parent} by hand."
        ) from error
    with response:
        resumed = response.status == 206
        had = had if resumed else 0
        length = response.headers.get("Content-Length")
        total = had + int(length) if length else None
        bar = tqdm(
            desc=part.name.removesuffix(".part"), total=total, initial=had, unit="B",
            unit_scale=True, disable=not progress,
        )  # fmt: skip
        with part.open("ab" if resumed else "wb") as handle, bar:
            while block := _block(response):
                handle.write(block)
                bar.update(len(block))
                had += len(block)
    return block is not None if total is None else had == total


def _block(response: http.client.HTTPResponse) -> bytes | None:
    """Some bytes; none at the end; None where the connection was cut.

    Only the network is read here, so an OSError (reset, timeout, TLS, no route) is the line's and not
    the disk's.
    """
    try:
        return response.read(BLOCK)
    except (OSError, http.client.HTTPException):
        return None


@dataclass
class _Bounded:
    """tarfile's filter "data", which lets nothing out of the folder, up to `MOST` bytes and `MANY` files."""

    size: int = 0
    count: int = 0

    def __call__(self, member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
        self.size, self.count = self.size + member.size, self.count + 1
        if self.size > MOST or self.count > MANY:
            raise UserError(
                f"The archive holds more than {MOST >> 30} GiB or {MANY:,} files; no dataset here does. "
                "It was not unpacked: delete it and fetch it again."
            )
        return tarfile.data_filter(member, folder)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive into `folder`; nothing of it can get outside.

    Files appear in the folder only when the whole archive was read.

    Raises:
        UserError: damaged, or with a path that leaves the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with scratch.folder(folder, ".unpacking.") as temporary:
        reading.regular(archive, MOST)
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter=_Bounded())
        except Exception as error:  # of many kinds; those of the disk have a number
            if isinstance(error, UserError) or getattr(error, "errno", None):
                raise
            raise UserError(
                f"{archive} was not unpacked: {reading.reason(error)}. Delete it and fetch it again."
            ) from error
        for path in sorted(temporary.rglob("*")):
            place = folder / path.relative_to(temporary)
            if path.is_dir():
                place.mkdir(exist_ok=True)
            else:
                os.replace(path, place)
