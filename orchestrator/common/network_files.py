"""Files of networks that do not come with the program: their names, where they are found and stored.

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
_given: dict[tuple[str, str], Path] = {}  # module and digest of files that the user gave to this process


@dataclass(frozen=True)
class NetworkFile:
    """A function that builds a network, and the file that defines it."""

    module: str
    function: str
    digest: str
    path: Path

    @property
    def name(self) -> str:
        """Name by content: `module:function#digest`."""
        return f"{self.module}:{self.function}#{self.digest}"


def is_pinned(name: str) -> bool:
    """Whether a name is `module:function#digest`."""
    return bool((match := NAME.fullmatch(name)) and match[3])


def look_in(home: Path) -> None:
    """Add a home; networks whose files it keeps are found from now on in this process."""
    if home not in _homes:
        _homes.append(home)


def keep_networks(names: Iterable[str], home: Path) -> None:
    """Copy the files of networks that are named with a digest into the home, unless they are there."""
    for name in filter(is_pinned, names):
        found = find(name)
        copy = _copy(home, found.module, found.digest)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(copy, found.path.read_bytes())


def given(name: str, folder: Path) -> NetworkFile:
    """The file of `module:function` or `module:function#digest` in a folder or on Python's path; or kept in a home.

    For names that the user gives: the file may be run. ValueError: not such a name, no file, or none with
    that digest.
    """
    module, function, digest = _parts(name)
    path = Path(*module.split(".")).with_suffix(".py")
    places = [*_kept(module, digest), folder / path, _on_path(module)]
    files = {file: _digest(file) for file in places if file is not None and file.is_file()}
    if not files:
        raise ValueError(f"{name}: expected {path} in {folder.absolute()} or on PYTHONPATH, found none")
    file = next((file for file, its in files.items() if digest in (None, its)), None)
    if file is None:
        file, its = next(iter(files.items()))
        raise ValueError(f"{name}: expected that content, found {file} with other content, #{its}")
    found = NetworkFile(module, function, files[file], file)
    _given[module, found.digest] = file
    return found


def find(name: str) -> NetworkFile:
    """The file of `module:function#digest` that a home keeps, or that the user gave to this process before.

    For names in bundles, jobs and records, which are data: nothing else is looked at, so that they cannot have a file
    run. ValueError: no such file has that digest, or the name has none.
    """
    module, function, digest = _parts(name)
    places = [*_kept(module, digest), _given.get((module, digest or ""))]
    file = next((one for one in places if one and one.is_file() and _digest(one) == digest), None)
    if digest is None or file is None:
        raise ValueError(f"{name}: expected a network that the study's home keeps in {FOLDER}/, found none")
    return NetworkFile(module, function, digest, file)


def _parts(name: str) -> tuple[str, str, str | None]:
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"expected module:function, such as my_networks:small_net, found {name!r}")
    return match[1], match[2], match[3]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _kept(module: str, digest: str | None) -> list[Path]:
    return [_copy(home, module, digest) for home in _homes] if digest else []


def _copy(home: Path, module: str, digest: str) -> Path:
    return home / FOLDER / digest / f"{module}.py"


def _on_path(module: str) -> Path | None:
    """The file that `import module` would run; parent packages are not imported."""
    path = Path(*module.split(".")).with_suffix(".py")
    if "." in module:
        return next((file for folder in sys.path if (file := Path(folder) / path).is_file()), None)
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None
