"""SHA256SUMS of an export, as `sha256sum` writes it: whether every file is still the one that was exported."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.common.errors import BadBundle
from orchestrator.results.export.bundle import FILES, ExportedModel, is_bundle
from orchestrator.results.export.bundle_files import require_folder, sha256

NAME = "SHA256SUMS"
ALWAYS = {"formats.json", "predict.py"}  # in every export that has digests
LARGEST = 1 << 20  # bytes
LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True)
class Verified:
    """An export of which every file is what it was."""

    folder: Path
    num_files: int
    digest: str | None  # of SHA256SUMS itself; None: an earlier export, which has none
    unchecked: tuple[str, ...] = ()  # files of such an export that nothing is known of

    def as_dict(self) -> dict[str, Any]:
        """The result as plain values for JSON."""
        return asdict(self) | {"folder": str(self.folder), "unchecked": list(self.unchecked)}

    def sentence(self) -> str:
        """Result of the verification in one sentence, with the digest to compare with the sender's."""
        if self.digest is None:
            return (
                f"{self.folder}: {self.num_files} files of weights are those of config.json; the export was made by an "
                f"earlier version, which kept no digests of {', '.join(self.unchecked)}"
            )
        return (
            f"{self.folder}: all {self.num_files} files are as exported. Whoever changes a file can change {NAME} too, "
            f"so compare its SHA-256 with the sender's: {self.digest}"
        )


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS of all files below a folder."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in sorted(_files(folder))]
    (folder / NAME).write_text("".join(lines), encoding="utf-8")


def verify(folder: Path) -> Verified:
    """Raises `BadBundle` naming every file that was changed, is missing, or was added."""
    require_folder(folder)
    if not (folder / NAME).exists():
        return _verify_without(folder)
    recorded = _read(folder)
    found = _files(folder)
    problems = [f"{name}: missing" for name in sorted(recorded.keys() - found)]
    problems += [
        f"{name}: added; it is not a file of this export" for name in sorted(found - recorded.keys())
    ]
    problems += [
        f"{name}: changed; its SHA-256 is not the one in {NAME}"
        for name in sorted(recorded.keys() & found)
        if not _is_plain(folder / name) or sha256(folder / name) != recorded[name]
    ]
    problems += [
        f"{name}: not in {NAME}, where every export lists it" for name in FILES if name not in recorded
    ]
    if problems:
        raise BadBundle(str(folder), problems)
    ExportedModel.load(folder)  # config.json has digests of its own
    return Verified(folder, len(recorded), sha256(folder / NAME))


def _verify_without(folder: Path) -> Verified:
    """Verify an export that was made before there was SHA256SUMS."""
    if not is_bundle(folder):
        raise BadBundle(str(folder), f"expected an exported model, found neither {NAME} nor its config.json")
    found = _files(folder)
    if ALWAYS & found:
        raise BadBundle(str(folder), f"{NAME}: missing; without it changes of files cannot be found")
    problems = [f"{name}: added; it is not a file of this export" for name in sorted(found - set(FILES))]
    try:
        ExportedModel.load(folder)
    except BadBundle as bad:
        problems += bad.problems
    if problems:
        raise BadBundle(str(folder), problems)
    return Verified(folder, 2, None, ("config.json", "model_card.md"))


def _read(folder: Path) -> dict[str, str]:
    """File name -> digest in SHA256SUMS. Raises `BadBundle` if it is no list of digests."""
    path = folder / NAME
    if not _is_plain(path) or path.stat().st_size > LARGEST:
        raise BadBundle(str(path), "expected a list of digests")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    recorded = {match[2]: match[1] for line in lines if (match := LINE.fullmatch(line))}
    if len(recorded) != len(lines) or not recorded:
        raise BadBundle(
            str(path), "expected one line per file, with 64 hex digits and its name, found other lines"
        )
    return recorded


def _files(folder: Path) -> set[str]:
    """Names of all files below a folder except SHA256SUMS; links are not followed."""
    return {
        Path(place, name).relative_to(folder).as_posix()
        for place, folders, files in os.walk(folder)
        for name in (*files, *(one for one in folders if Path(place, one).is_symlink()))
    } - {NAME}


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
