"""`orchestrator predict`: masks of images, by an exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console.options import AsJson, PredictDevice
from orchestrator.terminal.live import CONSOLE
from orchestrator.terminal.printing import err, out, plain, print_json


def predict(
    bundle: Annotated[Path, typer.Argument(help="Folder that `best --export` made.")],
    images: Annotated[
        list[Path], typer.Argument(help="Images and videos, or folders that hold them at any depth.")
    ],
    out_folder: Annotated[
        Path,
        typer.Option("--out", help="Folder for masks and overlays, with the same subfolders as the images."),
    ],
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Also write the map of probabilities: a 16-bit PNG in which 65535 is 1; for videos, FFV1.",
        ),
    ] = False,
    device: PredictDevice = "auto",
    as_json: AsJson = False,
) -> None:
    """Write a mask and an overlay for every image and video, with nothing but the exported model.

    polyps.csv in the same folder gives the pixels of polyps, their share of the frame and their number, for each image
    and each frame of a video. Videos keep their frame rate; their masks are lossless. Files of other kinds are named
    and skipped. The exit code is 2 if a file could not be read. Masks match the image as viewers show it: upright, if
    EXIF says that its stored pixels are not.
    """
    from orchestrator.api import exports
    from orchestrator.data.images import orientation

    found = exports.predict(
        bundle, images, out_folder, probabilities=probabilities, device=device, display=CONSOLE
    )
    if line := found.inputs.passed_over_line():
        err.print(plain(line), markup=False, highlight=False)
    if num_turned := sum(orientation(one.image) != 1 for one in found.done):
        err.print(
            f"EXIF: {num_turned} of {len(found.done)} images are not stored upright; their masks are",
            highlight=False,
        )
    if as_json:
        print_json(found.as_dict())
    else:
        for line in found.lines():
            out.print(line, markup=False, highlight=False)
    found.refuse_failed()
