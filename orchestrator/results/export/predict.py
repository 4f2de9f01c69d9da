"""A bundle at work on image files: a mask and an overlay for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.common.errors import BadData
from orchestrator.common.files import write_atomically
from orchestrator.data.images import read_image, refuse_animated
from orchestrator.results.export.bundle import Bundle
from orchestrator.results.export.inputs import Inputs, find_inputs
from orchestrator.results.views.overlay import outlined, png


@dataclass(frozen=True)
class Predicted:
    """What was written for one image."""

    image: Path
    mask: Path  # PNG of 0 and 255, at the image's size
    overlay: Path
    polyp_fraction: float  # share of the frame, 0 to 1


@dataclass(frozen=True)
class Predictions:
    """What became of all that was given: done, failed with the reason, or passed over."""

    out: Path
    done: tuple[Predicted, ...]
    failed: Mapping[Path, str]
    inputs: Inputs

    def refuse_failed(self) -> None:
        """Raises `BadData` naming every image that failed, if one did."""
        if self.failed:
            where = (
                f"{len(self.done)} of {len(self.inputs.images)} images are done, in {self.out}; these are not"
            )
            raise BadData(where, [f"{image}: {why}" for image, why in self.failed.items()])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "out": str(self.out),
            "images": [
                {
                    "image": str(one.image),
                    "mask": str(one.mask),
                    "overlay": str(one.overlay),
                    "polyp_fraction": one.polyp_fraction,
                }
                for one in self.done
            ],
            "failed": [{"image": str(image), "problem": why} for image, why in self.failed.items()],
            "passed_over": [
                {"file": str(file), "reason": why} for file, why in self.inputs.passed_over.items()
            ],
        }


def predict_files(
    bundle: Bundle,
    paths: Sequence[Path],
    out: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Write NAME_mask.png and NAME_overlay.png for every image; see `find_inputs` and `unique_names`.

    A folder stands for all images below it, and results lie below `out` as images do below the folder. Paths that
    do not exist, no image at all, and results that would replace an image are refused before anything is written
    (BadData). One bad file in a thousand does not cost the rest: it is among those that failed.
    """
    inputs = find_inputs(paths, out)
    places = [(out / f"{name}_mask.png", out / f"{name}_overlay.png") for name in inputs.names]
    _refuse_to_replace(inputs.images, [path for pair in places for path in pair])
    out.mkdir(parents=True, exist_ok=True)
    done: list[Predicted] = []
    failed: dict[Path, str] = {}
    for number, (file, (mask_file, overlay_file)) in enumerate(
        zip(inputs.images, places, strict=True), start=1
    ):
        try:
            refuse_animated(file)
            image = read_image(file)
        except BadData as bad:
            failed[file] = "; ".join(bad.problems)
        else:
            _, mask = bundle.predict(image)
            mask_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(mask_file, png(mask.astype(np.uint8) * 255), sync=False)
            write_atomically(overlay_file, png(outlined(image, mask)), sync=False)
            done.append(Predicted(file, mask_file, overlay_file, float(mask.mean())))
        if on_progress:
            on_progress(number, len(inputs.images))
    return Predictions(out, tuple(done), failed, inputs)


def _refuse_to_replace(images: Sequence[Path], written: Sequence[Path]) -> None:
    """Raise BadData naming every image that is also to be written."""
    known = {image.resolve() for image in images}
    if lost := [path for path in written if path.resolve() in known]:
        raise BadData("--out", [f"{path} is one of the images, and would be replaced" for path in lost])
