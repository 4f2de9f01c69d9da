"""Files of networks that do not come with the program: how they are named, found, and kept.

`module:function` names a function in a Python file; `module:function#digest` names it in that very content, by the
first twelve hex digits of the file's SHA-256. A study keeps the second form, and the file below its home, so that a
fit is of one content for ever, and every process that sees the home can build it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.common.files import write_atomically

NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)(?:#([0-9a-f]{12}))?")
FOLDER = "networks"  # of a home
_homes: list[Path] = []
_folders: list[Path] = []  # where networks were found in this process


@dataclass(frozen=True)
class NetworkFile:
    """A function that builds a network, and the file that defines it."""

    module: str
    function: str
    digest: str
    path: Path

    @property
    def name(self) -> str:
        """`module:function#digest`."""
        return f"{self.module}:{self.function}#{self.digest}"


def is_pinned(name: str) -> bool:
    """Whether a name is `module:function#digest`."""
    return bool((match := NAME.fullmatch(name)) and match[3])


def look_in(home: Path) -> None:
    """Networks whose files this home keeps are found from now on in this process."""
    if home not in _homes:
        _homes.append(home)


def keep_networks(names: Iterable[str], home: Path) -> None:
    """Copy into the home the files of those that are named by content, unless they are there."""
    for name in filter(is_pinned, names):
        found = find(name)
        copy = _copy(home, found.module, found.digest)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(copy, found.path.read_bytes())


def find(name: str, beside: Path | None = None) -> NetworkFile:
    """The file of `module:function` or `module:function#digest`.

    With a digest: the first file of that content in a home, in the folder `beside` (default: the current one) and on
    Python's path. ValueError: not such a name, no file, or none of that content.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"expected module:function, such as my_networks:small_net, found {name!r}")
    module, function, digest = match.groups()
    path = Path(*module.split(".")).with_suffix(".py")
    places = [(beside or Path()) / path, _on_path(module)]
    if digest:
        places = [_copy(home, module, digest) for home in _homes] + places + [one / path for one in _folders]
    files = [file for file in places if file and file.is_file()]
    if not files:
        raise ValueError(
            f"{name}: expected {path} in {(beside or Path()).absolute()} or on PYTHONPATH, found none"
        )
    digests = [hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in files]
    if digest is None:
        _folders.append((beside or Path()).absolute())
        return NetworkFile(module, function, digests[0], files[0])
    if digest not in digests:
        raise ValueError(f"{name}: expected that content, found {files[0]} with another, #{digests[0]}")
    return NetworkFile(module, function, digest, files[digests.index(digest)])


def _copy(home: Path, module: str, digest: str) -> Path:
    return home / FOLDER / digest / f"{module}.py"


def _on_path(module: str) -> Path | None:
    """The file that `import module` would run; parent packages are not imported."""
    path = Path(*module.split(".")).with_suffix(".py")
    if "." in module:
        return next((file for folder in sys.path if (file := Path(folder) / path).is_file()), None)
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None
