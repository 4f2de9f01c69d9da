"""A bundle at work on a video: the masks as a lossless video, and an overlay to look at, at the rate of the frames."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.common.errors import BadData
from orchestrator.common.files import partial_of
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.export.prediction.measured import Measured, measured
from orchestrator.results.views.overlay import outlined

LOSSLESS, SMALL = "FFV1", "mp4v"  # codecs that OpenCV's own ffmpeg writes everywhere
FEWEST = 0.98  # of the frames that a file announces, which may be an estimate
# ffmpeg writes lines of its own to the terminal, besides the messages of this program.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


@dataclass(frozen=True)
class PredictedVideo:
    """Files written for one video, its frame rate, and measurements of each frame."""

    video: Path
    mask: Path  # FFV1, gray, 0 and 255
    overlay: Path
    probability: Path | None  # FFV1, gray, 255 times the probability
    frames_per_second: float  # of the video, the mean where its rate varies
    predicted_per_second: float
    frames: tuple[Measured, ...]
    seconds: tuple[float, ...]  # when each frame is shown, as the file says; counted where it does not
    has_times: bool  # whether the file says it
    # Rows below and columns to the right that were repeated: writers take even sizes only.
    padding: tuple[int, int]

    @property
    def seconds_apart(self) -> float:
        """Longest time between a frame of the video and of the results, whose rate is constant; seconds."""
        counted = (number / self.frames_per_second for number in range(len(self.seconds)))
        return max(abs(own - one) for own, one in zip(self.seconds, counted, strict=True))

    @property
    def is_uneven(self) -> bool:
        """Whether results run ahead of the video, or behind it, by a frame or more."""
        return self.seconds_apart >= 1 / self.frames_per_second


def predict_video(
    bundle: ExportedModel,
    video: Path,
    name: Path,
    on_frame: Callable[[int], None],
    *,
    probabilities: bool = False,
) -> PredictedVideo:
    """Write NAME_mask.mkv, NAME_overlay.mp4 and, if asked for, NAME_probability.mkv; frames are upright.

    Raises `BadData` where nothing decodes, the rate is unknown, or frames are missing, and then writes nothing.
    """
    began, found, times = time.perf_counter(), [], []
    with opened(video) as (frames, rate, announced), ExitStack() as files:
        writers: dict[str, _Writer] = {}
        for number, (image, seconds) in enumerate(frames, start=1):
            if not writers:
                names = _names(name, probabilities)
                writers = {key: files.enter_context(_Writer(*one, rate, image)) for key, one in names.items()}
            probability, mask = bundle.predict(image)
            writers["mask"].write(mask.astype(np.uint8) * 255)
            writers["overlay"].write(cv2.cvtColor(outlined(image, mask), cv2.COLOR_RGB2BGR))
            if probabilities:
                writers["probability"].write(np.rint(probability * 255).astype(np.uint8))
            height, width = mask.shape
            found.append(measured(mask))
            times.append(seconds)
            on_frame(number)
        if len(found) < FEWEST * announced or not found:
            raise BadData(
                str(video), f"expected {announced} frames, as the file says, {len(found)} of them decode"
            )
    predicted_per_second = len(found) / (time.perf_counter() - began)
    paths = {key: one[0] for key, one in _names(name, probabilities).items()}
    return PredictedVideo(
        video,
        paths["mask"],
        paths["overlay"],
        paths.get("probability"),
        rate,
        predicted_per_second,
        tuple(found),
        *_times(times, rate),
        padding_of(height, width),
    )


def _times(read: list[float], rate: float) -> tuple[tuple[float, ...], bool]:
    """Times of frames in s, as read if these rise, else by the rate; and whether they are as read."""
    if all(earlier < later for earlier, later in itertools.pairwise(read)):
        return tuple(read), True
    return tuple(number / rate for number in range(len(read))), False


def padding_of(height: int, width: int) -> tuple[int, int]:
    """Rows and columns that make both sides even: OpenCV's writers cut off odd ones, and say nothing."""
    return height % 2, width % 2


def results_of(name: Path, probabilities: bool) -> list[Path]:
    """The files that `predict_video` writes."""
    return [path for path, _ in _names(name, probabilities).values()]


def num_frames(video: Path) -> int:
    """Number of frames that a file announces; 0 if it does not open."""
    capture = cv2.VideoCapture(str(video))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
    finally:
        capture.release()


@contextmanager
def opened(video: Path) -> Iterator[tuple[Iterator[tuple[NDArray[np.uint8], float]], float, int]]:
    """Frames as RGB uint8 (H, W, 3) with their seconds, frames a second, and how many frames the file announces."""
    if video.is_file() and video.stat().st_size == 0:
        raise BadData(str(video), "it is empty (0 bytes)")
    capture = cv2.VideoCapture(str(video))
    try:
        rate = float(capture.get(cv2.CAP_PROP_FPS)) if capture.isOpened() else math.nan
        if not capture.isOpened():
            raise BadData(str(video), "does not decode as a video")
        if not 0 < rate < 1000:
            raise BadData(str(video), f"expected its frames a second, found {rate:g}")
        yield _frames(capture), rate, num_frames(video)
    finally:
        capture.release()


def _frames(capture: cv2.VideoCapture) -> Iterator[tuple[NDArray[np.uint8], float]]:
    while True:
        is_there, frame = capture.read()
        if not is_there:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), capture.get(cv2.CAP_PROP_POS_MSEC) / 1000  # type: ignore[misc]


def _names(name: Path, probabilities: bool) -> dict[str, tuple[Path, str]]:
    """Kind of result ("mask", "overlay", "probability") -> path and codec."""
    named = {"mask": ("_mask.mkv", LOSSLESS), "overlay": ("_overlay.mp4", SMALL)}
    named |= {"probability": ("_probability.mkv", LOSSLESS)} if probabilities else {}
    return {key: (name.with_name(name.name + ending), codec) for key, (ending, codec) in named.items()}


class _Writer:
    """Writer of a video file that appears under its name when it is complete."""

    def __init__(self, path: Path, codec: str, rate: float, image: NDArray[np.uint8]) -> None:
        self.path, self.partial = path, partial_of(path).with_suffix(path.suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.padding = padding_of(*image.shape[:2])
        height, width = (side + more for side, more in zip(image.shape[:2], self.padding, strict=True))
        code = cv2.VideoWriter.fourcc(*codec)
        self.video = cv2.VideoWriter(str(self.partial), code, rate, (width, height), codec == SMALL)
        if not self.video.isOpened():
            raise BadData(str(path), f"this OpenCV writes no {codec} video of {width} x {height}")

    def __enter__(self) -> _Writer:
        return self

    def write(self, frame: NDArray[Any]) -> None:
        rows, columns = self.padding
        self.video.write(cv2.copyMakeBorder(frame, 0, rows, 0, columns, cv2.BORDER_REPLICATE))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.video.release()
        if kind is None:
            self.partial.replace(self.path)
        else:
            self.partial.unlink(missing_ok=True)
