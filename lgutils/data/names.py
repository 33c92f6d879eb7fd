"""Names of datasets, NAME[:PATH][@PIXELS], and where their files are looked for."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lgutils import files
from lgutils.errors import UserError, unknown

DATASETS = ("glyphs", "digits")  # need no files
NAMES = (*DATASETS, "cifar100", "fashion-mnist", "flowers102", "mini-imagenet", "folder")
FETCHED = ("cifar100", "fashion-mnist", "flowers102")  # torchvision knows where they are
_FORM = re.compile(r"(?P<name>[^:@]*)(:(?P<path>.*?))?(@(?P<pixels>\d+))?")


def folder() -> Path:
    """The data folder: `$LGUTILS_DATA`, else `data` in the cache folder."""
    given = os.environ.get("LGUTILS_DATA")
    return Path(os.path.expanduser(given)) if given else files.cache_dir() / "data"


def shown(name: str) -> str:
    """A file's name as text that any file takes: bytes that are not UTF-8 become \\x.. in it."""
    return os.fsencode(name).decode(errors="backslashreplace")


@dataclass(frozen=True)
class Dataset:
    """A dataset's name, taken apart.

    Attributes:
        name: one of `NAMES`.
        path: where it is: absolute, or relative to the data folder or, if it is not there, to the current
            folder; None for the usual place. For "folder" and "mini-imagenet" the folder of pictures
            itself, else the folder that holds what torchvision would have put there.
        pixels: height and width that the pictures are scaled to; None leaves them as they are.
    """

    name: str
    path: str | None = None
    pixels: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Dataset":
        """Read NAME[:PATH][@PIXELS], for example `glyphs`, `cifar100@64` or `folder:birds@84`.

        Raises:
            UserError: an unknown name, a path where none can be, too few or too many pixels.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise UserError(f"{text!r} is no dataset; NAME, NAME:PATH or NAME:PATH@84 is expected.")
        name, path, pixels = match["name"], match["path"], match["pixels"]
        if name not in NAMES:
            raise unknown("dataset", name, NAMES)
        if path == "" or (name == "folder" and path is None):
            raise UserError(
                f"{text!r} names no folder. Write {name}:PATH, for example folder:birds."
            )
        if path is not None and name in DATASETS:
            raise UserError(
                f"{name} needs no files, but the path {path!r} was given. Leave it out."
            )
        if pixels is not None and not 8 <= int(pixels) <= 1024:
            raise UserError(f"Pictures of {pixels} pixels were asked for; 8 to 1024 are possible.")
        return cls(name, path, int(pixels) if pixels else None)

    def __str__(self) -> str:
        path = "" if self.path is None else f":{self.path}"
        return self.name + path + ("" if self.pixels is None else f"@{self.pixels}")

    @property
    def places(self) -> tuple[Path, ...]:
        """The folders in which the files are looked for; the first that is there counts."""
        if self.path is None:
            return (folder() / self.name if self.name == "mini-imagenet" else folder(),)
        path = os.path.expanduser(self.path)  # unlike Path's, it takes any name
        return tuple(dict.fromkeys((folder() / path, Path.cwd() / path)))

    @property
    def root(self) -> Path:
        """The one of `places` that is there; the first if none is."""
        places = self.places
        return next((place for place in places if os.path.isdir(place)), places[0])

    def missing(self, *places: Path) -> UserError:
        """Build the error for files that are not there (not raised)."""
        looked = " and ".join(shown(str(place)) for place in places)
        if self.name in FETCHED:
            where = self.root if self.path is not None else folder()
            advice = f"Fetch it with `lgutils data {self.name} --download --data-dir {where}`"
        elif self.name == "folder":
            advice = "Check the name, or write folder:PATH with an absolute path"
        else:
            advice = "It must be brought: put its folders or csv files there"
        return UserError(f"{self} was not found; it was looked for in {looked}. {advice}.")
