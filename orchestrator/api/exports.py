"""Exported networks: loading, scoring on datasets, prediction of files, verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.api.home import PathLike, as_names, cache_folder, home_folder
from orchestrator.common.errors import python_errors, python_errors_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from orchestrator.common.display import Display
    from orchestrator.results.bundle_scores import BundleScores
    from orchestrator.results.export.bundle import ExportedModel
    from orchestrator.results.export.checksums import Verified
    from orchestrator.results.export.predict import PredictionOutcome
    from orchestrator.search.choices import DeviceName


@python_errors()
def evaluate(
    bundle: PathLike,
    data: str | Sequence[str],
    *,
    metric: str = "dice",
    against: PathLike | None = None,
    paper_scores: Sequence[str] = (),
    near_duplicates: bool = True,
    device: DeviceName = "auto",
    home: PathLike | None = None,
    cache: PathLike | None = None,
    display: Display | None = None,
) -> BundleScores:
    """Score an exported network on datasets of this home, image by image, as `orchestrator evaluate` does.

    Of the datasets that it was trained on, only hold-out cases are scored; of others, no near-duplicate of a
    case that it has seen. `against`: another exported network, scored on the same images and compared with,
    pair by pair, in `compared` of the result; cases it has seen are left out too. `write(folder)` of the
    result writes scores.csv and worst.png, `log(tracking_uri)` a run in MLflow. Raises `BadBundle`, and
    `BadData` for datasets or metrics that are not known.

    >>> import orchestrator as po
    >>> scores = po.evaluate("exported", "drawn", device="cpu")
    >>> mean, (low, high) = scores.means["dice"]
    >>> low <= mean <= high and len(scores.scored) == scores.as_dict()["cases"]
    True
    """
    from orchestrator.common.display import Display
    from orchestrator.results.bundle_scores import BundleScores, Eligible, check_compared, checked_metric

    shown, folder = display or Display(), home_folder(home)
    metric = checked_metric(metric)
    if against is not None:
        check_compared(Path(bundle).expanduser(), Path(against).expanduser(), metric)
    loaded = load_bundle(bundle, device)
    reference = None if against is None else load_bundle(against, device)
    all_of = partial(
        Eligible.of,
        data=as_names(data),
        home=folder,
        cache=cache_folder(cache, folder),
        near_duplicates=near_duplicates,
    )
    eligible = all_of(loaded.network.config, display=shown)
    if reference is None:
        return BundleScores.of(loaded.network, eligible, metric, paper_scores, shown, device=loaded.device)
    name = reference.network.name
    other = all_of(
        reference.network.config, display=replace(shown, note=lambda line: shown.note(f"{name}: {line}"))
    )
    eligible = eligible.without_seen_by(other, name, shown)
    scores = BundleScores.of(loaded.network, eligible, metric, paper_scores, shown, device=loaded.device)
    return scores.against(
        BundleScores.of(reference.network, eligible, metric, display=shown, device=reference.device)
    )


@python_errors()
def predict(
    bundle: PathLike,
    images: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    probabilities: bool = False,
    device: DeviceName = "auto",
    display: Display | None = None,
) -> PredictionOutcome:
    """Write a mask and an overlay for every image and video, from the exported network alone.

    `images`: files, or folders with these at any depth. `out`: the folder of results, in which polyps.csv has areas and
    counts. Files that could not be read are in `failed` of the result, and `refuse_failed()` raises them. Raises
    `BadBundle`, and `BadData` for missing paths, no image at all, and results that would replace an image.

    >>> import orchestrator as po
    >>> done = po.predict("exported", "frames/images", "masks", device="cpu")
    >>> len(done.done), dict(done.failed), done.done[0].mask.exists()
    (24, {}, True)
    """
    from orchestrator.common.display import Display
    from orchestrator.results.export.predict import predict_files

    loaded = load_bundle(bundle, device)
    paths = [images] if isinstance(images, (str, Path)) else images
    with (display or Display()).bar("predicting") as on_progress:
        return predict_files(
            loaded.network,
            [Path(path).expanduser() for path in paths],
            Path(out).expanduser(),
            on_progress,
            probabilities=probabilities,
            device=loaded.device,
        )


@python_errors()
def verify_export(bundle: PathLike) -> Verified:
    """Compare every file of an export with its digest. Raises `BadBundle` with those changed, missing or added.

    >>> import orchestrator as po
    >>> po.verify_export("exported").unchecked
    ()
    """
    from orchestrator.results.export.checksums import verify

    return verify(Path(bundle).expanduser())


@python_errors_of
class Bundle:
    """An exported network that is loaded for prediction.

    >>> import orchestrator as po
    >>> bundle = po.load_bundle("exported")
    >>> image = sorted(Path("frames/images").iterdir())[0]
    >>> bundle.predict(image).dtype
    dtype('bool')
    """

    def __init__(self, network: ExportedModel, device: str) -> None:
        self.network = network
        self.device = device  # where it predicts, in words

    def predict(self, image: NDArray[np.uint8] | PathLike) -> NDArray[np.bool_]:
        """RGB uint8 (H, W, 3), or the path of an image -> mask bool (H, W), True where a polyp is."""
        return self.network.predict(self._pixels(image))[1]

    def probability(self, image: NDArray[np.uint8] | PathLike) -> NDArray[np.float32]:
        """RGB uint8 (H, W, 3), or the path of an image -> probability of a polyp float32 (H, W) in [0, 1]."""
        return self.network.predict(self._pixels(image))[0]

    def _pixels(self, image: NDArray[np.uint8] | PathLike) -> NDArray[np.uint8]:
        from orchestrator.data.images import read_image

        return read_image(Path(image).expanduser()) if isinstance(image, (str, Path)) else image


@python_errors()
def load_bundle(folder: PathLike, device: DeviceName = "cpu") -> Bundle:
    """Load a network that `export` wrote; device "auto": a GPU if there is one.

    Raises `BadBundle` with every file that is missing or damaged, and `BadMachine` for a GPU that is not there.
    """
    from orchestrator.results.export.bundle import ExportedModel
    from orchestrator.results.export.prediction.device import on_device

    return Bundle(*on_device(ExportedModel.load(Path(folder).expanduser()), device))
