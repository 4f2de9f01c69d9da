"""A bundle at work on files: a mask and an overlay for each, and a table of what is in the masks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.common.display import counted, plural
from orchestrator.common.errors import BadData
from orchestrator.common.files import refuse_as_output, write_atomically
from orchestrator.data.images import read_image, refuse_animated
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.export.prediction.inputs import TABLE, Inputs, find_inputs, is_video
from orchestrator.results.export.prediction.measured import Measured, measured, table
from orchestrator.results.export.prediction.videos import (
    PredictedVideo,
    num_frames,
    predict_video,
    results_of,
)
from orchestrator.results.views.overlay import outlined, png


@dataclass(frozen=True)
class Predicted:
    """Files written for one image, and measurements of its mask."""

    image: Path
    mask: Path  # PNG of 0 and 255, at the image's size
    overlay: Path
    probability: Path | None  # PNG of 16 bits, 65535 times the probability
    found: Measured

    @property
    def polyp_fraction(self) -> float:
        """Share of the frame that is polyp, 0 to 1."""
        return self.found.polyp_fraction


@dataclass(frozen=True)
class PredictionOutcome:
    """Outcome of a prediction over files: those done, failed (with the reason), or passed over."""

    out: Path
    done: tuple[Predicted, ...]
    videos: tuple[PredictedVideo, ...]
    failed: Mapping[Path, str]
    inputs: Inputs
    device: str = ""

    def refuse_failed(self) -> None:
        """Raises `BadData` naming every file that failed, if one did."""
        if self.failed:
            what = "files" if any(map(is_video, self.inputs.images)) else "images"
            num_done = len(self.done) + len(self.videos)
            where = f"{num_done} of {len(self.inputs.images)} {what} are done, in {self.out}; these are not"
            raise BadData(where, [f"{file}: {why}" for file, why in self.failed.items()])

    def lines(self) -> Iterator[str]:
        """Sentences that say which masks and overlays were written, and where."""
        for one in self.videos:
            with_polyp = sum(found.polyp_count > 0 for found in one.frames)
            yield (
                f"{one.video.name}: {counted(len(one.frames), 'frame')} at {one.frames_per_second:g} frames per "
                f"second, polyps in {with_polyp}; {one.predicted_per_second:.1f} frames predicted per second"
            )
            if not one.has_times:
                yield (
                    f"{one.video.name}: the times of its frames do not increase; seconds in {TABLE} follow from the "
                    "frame rate"
                )
            if one.is_uneven:
                yield (
                    f"{one.video.name}: its frame rate varies; seconds in {TABLE} are those of the file, and its "
                    f"results, at {one.frames_per_second:g} frames per second, are up to {one.seconds_apart:.2f} s off"
                )
            if any(one.padding):
                rows, columns = one.padding
                yield (
                    f"{one.video.name}: its results have {rows} more {plural(rows, 'row')} below and {columns} more "
                    f"{plural(columns, 'column')} to the right, repeated, because videos are written with even sides"
                )
        if not self.failed:
            what = [f"{len(self.done)} masks and overlays"] if self.done or not self.videos else []
            what += [f"masks and overlays of {counted(len(self.videos), 'video')}"] if self.videos else []
            yield f"{' and '.join(what)} in {self.out}, areas and counts in {TABLE}; on {self.device}"

    def rows(self) -> Iterator[tuple[str, int | None, float | None, Measured]]:
        """A row for each image, and for each frame of a video: file, frame, its time, and what is in its mask."""
        for one in self.done:
            yield str(one.image), None, None, one.found
        for video in self.videos:
            for number, (found, seconds) in enumerate(zip(video.frames, video.seconds, strict=True), start=1):
                yield str(video.video), number, seconds, found

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain values for JSON."""
        return {
            "out": str(self.out),
            "device": self.device,
            "table": str(self.out / TABLE),
            "images": [
                {
                    "image": str(one.image),
                    "mask": str(one.mask),
                    "overlay": str(one.overlay),
                    "probability": one.probability and str(one.probability),
                    "polyp_fraction": one.polyp_fraction,
                    "polyp_pixels": one.found.polyp_pixels,
                    "polyp_count": one.found.polyp_count,
                }
                for one in self.done
            ],
            "videos": [
                {
                    "video": str(one.video),
                    "mask": str(one.mask),
                    "overlay": str(one.overlay),
                    "probability": one.probability and str(one.probability),
                    "frames": len(one.frames),
                    "frames_with_polyp": sum(found.polyp_count > 0 for found in one.frames),
                    "frames_per_second": one.frames_per_second,
                    "predicted_per_second": one.predicted_per_second,
                    "has_times": one.has_times,
                    "seconds_apart": one.seconds_apart,
                }
                for one in self.videos
            ],
            "failed": [{"image": str(image), "problem": why} for image, why in self.failed.items()],
            "passed_over": [
                {"file": str(file), "reason": why} for file, why in self.inputs.passed_over.items()
            ],
        }


def predict_files(
    bundle: ExportedModel,
    paths: Sequence[Path],
    out: Path,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    probabilities: bool = False,
    device: str = "",
) -> PredictionOutcome:
    """Write NAME_mask.png and NAME_overlay.png for every image, videos for every video; see `find_inputs`.

    A folder stands for all that is below it, and results lie below `out` as files do below the folder. Paths that do
    not exist, no image at all, and results that would replace an image are refused before anything is written
    (BadData). One bad file in a thousand does not cost the rest: it is among those that failed. polyps.csv has a row
    for each image, and for each frame of a video. `device`: where it runs, in words.
    """
    inputs = find_inputs(paths, out)
    places = {file: out / name for file, name in zip(inputs.images, inputs.names, strict=True)}
    written = [path for file, place in places.items() for path in _results(file, place, probabilities)]
    _refuse_to_replace(inputs.images, [*written, out / TABLE])
    refuse_as_output(out, "--out", folder=True)
    steps = {file: max(1, num_frames(file)) if is_video(file) else 1 for file in places}
    done: list[Predicted] = []
    videos: list[PredictedVideo] = []
    failed: dict[Path, str] = {}
    before, total = 0, sum(steps.values())

    def tell(before: int, num: int) -> None:
        if on_progress:
            on_progress(min(before + num, total), total)

    for file, place in places.items():
        try:
            if is_video(file):
                tell_frame = functools.partial(tell, before)
                videos.append(predict_video(bundle, file, place, tell_frame, probabilities=probabilities))
            else:
                done.append(_predict_image(bundle, file, place, probabilities))
        except BadData as bad:
            failed[file] = "; ".join(bad.problems)
        before += steps[file]
        tell(before, 0)
    found = PredictionOutcome(out, tuple(done), tuple(videos), failed, inputs, device)
    if done or videos:
        write_atomically(out / TABLE, table(found.rows()), sync=False)
    return found


def _predict_image(bundle: ExportedModel, file: Path, place: Path, probabilities: bool) -> Predicted:
    refuse_animated(file)
    image = read_image(file)
    probability, mask = bundle.predict(image)
    mask_file, overlay_file, *more = _results(file, place, probabilities)
    mask_file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(mask_file, png(mask.astype(np.uint8) * 255), sync=False)
    write_atomically(overlay_file, png(outlined(image, mask)), sync=False)
    for path in more:
        write_atomically(path, png(np.rint(probability * 65535).astype(np.uint16)), sync=False)
    return Predicted(file, mask_file, overlay_file, more[0] if more else None, measured(mask))


def _results(file: Path, place: Path, probabilities: bool) -> list[Path]:
    """Files that are written for one input: mask, overlay, and the probabilities if they are asked for."""
    if is_video(file):
        return results_of(place, probabilities)
    endings = ("_mask.png", "_overlay.png", *["_probability.png"] * probabilities)
    return [place.with_name(place.name + ending) for ending in endings]


def _refuse_to_replace(images: Sequence[Path], written: Sequence[Path]) -> None:
    """Raise BadData naming every image that is also to be written."""
    known = {image.resolve() for image in images}
    if lost := [path for path in written if path.resolve() in known]:
        raise BadData(
            "--out",
            [f"{path} is one of the images, and would be replaced; name another folder" for path in lost],
        )
