"""Landmarks of datasets on disk: computed once, read frame by frame by any number of processes.

cache/leaks/VERSION/FINGERPRINT-NUMBER.landmarks holds SHARD frames of 63 kB each, and a checksum. It is written
atomically; a damaged or missing shard is detected before use, reported and made again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from orchestrator.common.files import write_atomically
from orchestrator.data.cases import Case
from orchestrator.data.images import read_image
from orchestrator.data.near_duplicates.align import FrameFeatures, frame_features
from orchestrator.data.near_duplicates.descriptors import NUM_WAVES, aggregate, expand, vocabulary
from orchestrator.data.near_duplicates.landmarks import (
    COLOR_SHARES,
    MAX_PICTURE,
    MAX_POINTS,
    Landmarks,
    find_landmarks,
)
from orchestrator.data.near_duplicates.shortlist import GlobalDescriptors

SHARD = 256  # frames
CHECKSUM = 4  # bytes at the end of a shard
KEPT = 64  # frames' features that a process caches, 0.2 MB each

Say = Callable[[str], None]


def _record() -> np.dtype[np.void]:
    num_words = len(vocabulary())
    return np.dtype(
        [
            ("num", "<u2"),
            ("height", "<u2"),
            ("width", "<u2"),
            ("colors", "<f4", (2 * len(COLOR_SHARES),)),
            ("vector", "<f2", (num_words * NUM_WAVES,)),
            ("points", "<f2", (MAX_POINTS, 4)),
            ("descriptors", "i1", (MAX_POINTS, NUM_WAVES)),
            ("picture", "u1", (MAX_PICTURE,)),
        ]
    )


RECORD = _record()


@dataclass(frozen=True)
class LandmarkFiles:
    """The shards of one dataset."""

    folder: Path
    fingerprint: str  # of the dataset
    num_frames: int

    def path(self, index: int) -> Path:
        """The shard with the case of this index."""
        return self.folder / f"{self.fingerprint}-{index // SHARD:05d}.landmarks"

    def missing(self, say: Say) -> list[range]:
        """Case indices of each missing shard; a damaged shard is removed and counts as missing."""
        gone = []
        for start in range(0, self.num_frames, SHARD):
            cases = range(start, min(start + SHARD, self.num_frames))
            path = self.path(start)
            if path.exists() and not _is_whole(path, len(cases)):
                say(f"{path} is damaged: the landmarks of its {len(cases)} frames are found again")
                path.unlink()
            if not path.exists():
                gone.append(cases)
        return gone

    def write(self, first: int, records: Sequence[bytes]) -> None:
        """Write the shard whose first case has index `first`."""
        path, content = self.path(first), b"".join(records)
        write_atomically(path, content + _checksum(content))

    def frame_features(self, index: int) -> FrameFeatures:
        """The features of the case of this index."""
        return _read_features(self.path(index), index % SHARD)

    def global_descriptors(self) -> GlobalDescriptors:
        """The global descriptors of all cases."""
        vectors = np.zeros((self.num_frames, *RECORD["vector"].shape), np.float16)
        colors = np.zeros((self.num_frames, *RECORD["colors"].shape), np.float32)
        for start in range(0, self.num_frames, SHARD):
            records = np.fromfile(self.path(start), RECORD, min(SHARD, self.num_frames - start))
            vectors[start : start + SHARD] = records["vector"]
            colors[start : start + SHARD] = records["colors"]
        return GlobalDescriptors(vectors, colors)


def landmark_record(case: Case) -> bytes:
    """The record of a frame, with landmarks that are found now."""
    return _pack(find_landmarks(read_image(case.image)))


def _pack(marks: Landmarks) -> bytes:
    record = np.zeros((), RECORD)
    num, (height, width) = len(marks.points), marks.picture.shape
    record["num"], record["height"], record["width"] = num, height, width
    record["colors"], record["vector"] = marks.colors, aggregate(expand(marks.descriptors))
    record["points"][:num], record["descriptors"][:num] = marks.points, marks.descriptors
    record["picture"][: height * width] = marks.picture.ravel()
    return record.tobytes()


@lru_cache(KEPT)
def _read_features(path: Path, place: int) -> FrameFeatures:
    """The features in the record at this index of a shard."""
    record = np.fromfile(path, RECORD, 1, offset=place * RECORD.itemsize)[0]
    num, height, width = (int(record[name]) for name in ("num", "height", "width"))
    return frame_features(
        Landmarks(
            points=record["points"][:num].astype(np.float32),
            descriptors=record["descriptors"][:num],
            colors=record["colors"],
            picture=record["picture"][: height * width].reshape(height, width),
        )
    )


def _is_whole(path: Path, num_frames: int) -> bool:
    content = path.read_bytes()
    return (
        len(content) == num_frames * RECORD.itemsize + CHECKSUM
        and _checksum(content[:-CHECKSUM]) == content[-CHECKSUM:]
    )


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(CHECKSUM, "little")
