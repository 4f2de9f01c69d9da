"""`orchestrator predict`: masks of images, by an exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console.options import AsJson
from orchestrator.cli.console.printing import bar, err, out, plain, print_json


def predict(
    bundle: Annotated[Path, typer.Argument(help="Folder that `best --export` made.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders with images at any depth.")],
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder for masks and overlays, in subfolders as the images are.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write a mask and an overlay for every image, from the exported model alone.

    Files that are no images are passed over, and named. Exit code 2 if an image could not be read. Masks lie on
    the image as viewers show it: upright, where EXIF says that its stored pixels are not.
    """
    from orchestrator.data.images import orientation
    from orchestrator.results.export.bundle import Bundle
    from orchestrator.results.export.predict import predict_files

    loaded = Bundle.load(bundle)
    with bar("predicting") as on_progress:
        found = predict_files(loaded, images, out_folder, on_progress)
    if line := found.inputs.passed_over_line():
        err.print(plain(line), markup=False, highlight=False)
    if num_turned := sum(orientation(one.image) != 1 for one in found.done):
        err.print(
            f"EXIF: {num_turned} of {len(found.done)} images are not stored upright; their masks are",
            highlight=False,
        )
    if as_json:
        print_json(found.as_dict())
    elif not found.failed:
        out.print(f"{len(found.done)} masks and overlays in {out_folder}", highlight=False)
    found.refuse_failed()
