"""What a notebook imports: `import orchestrator as po`; a study to run is in `api_study`.

Nothing here needs torch or Ray, but a dataset that is added and a network that predicts need what they are read with.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from orchestrator.common.display import Display
    from orchestrator.data.cases import Dataset
    from orchestrator.results.bundle_scores import BundleScores
    from orchestrator.results.export.bundle import Bundle as ExportedNetwork
    from orchestrator.results.report.files import Report
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.search.choices import DeviceName
    from orchestrator.selection.comparison import Comparison

PathLike = str | Path
DEFAULT_HOME = Path.home() / ".orchestrator"


def home_folder(home: PathLike | None = None) -> Path:
    """Where datasets and studies live: as given, else ORCHESTRATOR_HOME, else ~/.orchestrator."""
    return Path(home or os.environ.get("ORCHESTRATOR_HOME") or DEFAULT_HOME).expanduser().resolve()


def datasets(home: PathLike | None = None) -> dict[str, Dataset]:
    """Name -> dataset, of all that were added to this home.

    >>> import orchestrator as po
    >>> {name: len(one.cases) for name, one in po.datasets().items()}
    {'drawn': 24}
    """
    from orchestrator.data.cases import list_datasets

    return {one.name: one for one in list_datasets(home_folder(home))}


def add_dataset(
    name: str,
    source: PathLike,
    *,
    home: PathLike | None = None,
    groups: PathLike | None = None,
    allow_empty: bool = False,
    skip_bad: bool = False,
) -> Dataset:
    """Copy the images and masks of a folder or an archive into this home, checked; the same again changes nothing.

    `groups`: a CSV file that says which images belong together (a video sequence, a patient), and their centers.
    `allow_empty` accepts masks without a polyp; `skip_bad` leaves out pairs that cannot be used, and lists them.
    Raises `BadData` with every problem of every file.

    >>> import orchestrator as po
    >>> po.add_dataset("drawn", "frames", groups="frames/groups.csv", allow_empty=True).name
    'drawn'
    """
    from orchestrator.data.importing.dataset import add_dataset as import_dataset
    from orchestrator.data.sources.sets import Reading

    return import_dataset(
        home_folder(home),
        name,
        Path(source).expanduser(),
        groups=None if groups is None else Path(groups).expanduser(),
        allow_empty=allow_empty,
        reading=Reading(skip_bad=skip_bad),
    )


def load_study(name: str | None = None, *, home: PathLike | None = None) -> StoredStudy:
    """A study of this home, None for the one that was worked on last. Raises `BadStudy` if there is none."""
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.search.store.study_store import find_study

    return StoredStudy(find_study(home_folder(home), name))


def report(
    *studies: str | StoredStudy, page: PathLike = "report.html", home: PathLike | None = None
) -> Report:
    """Write one page on several studies, by name or as `load_study` gives them; all are compared with the first.

    As `Study.report`, which is for one. Raises `BadStudy`.

    >>> import orchestrator as po
    >>> made = po.report("demo", page="demo.html")
    >>> made.text("methods")[:22]
    'We trained unet on dra'
    """
    from orchestrator.results.report.files import write_report

    found = [load_study(one, home=home) if isinstance(one, str) else one for one in studies or (None,)]
    snapshots = [(one or load_study(home=home)).store.snapshot() for one in found]
    return write_report(snapshots, Path(page).expanduser().absolute())


def evaluate(
    bundle: PathLike,
    data: str | Sequence[str],
    *,
    metric: str = "dice",
    paper_scores: Sequence[str] = (),
    near_duplicates: bool = True,
    device: DeviceName = "auto",
    home: PathLike | None = None,
    cache: PathLike | None = None,
    display: Display | None = None,
) -> BundleScores:
    """Score an exported network on datasets of this home, image by image, as `orchestrator evaluate` does.

    Of the datasets that it was trained on, only hold-out cases are scored; of others, no near-duplicate of a case that
    it has seen. Raises `BadBundle`, and `BadData` for datasets or metrics that are not known.

    >>> import orchestrator as po
    >>> scores = po.evaluate("exported", "drawn", device="cpu")
    >>> mean, (low, high) = scores.means["dice"]
    >>> low <= mean <= high and len(scores.scored) == scores.as_dict()["cases"]
    True
    """
    from orchestrator.common.display import Display
    from orchestrator.results.bundle_scores import BundleScores, Eligible, checked_metric
    from orchestrator.results.export.bundle import Bundle as ExportedNetwork
    from orchestrator.results.export.prediction.device import on_device

    shown = display or Display()
    metric = checked_metric(metric)
    network, _ = on_device(ExportedNetwork.load(Path(bundle).expanduser()), device)
    eligible = Eligible.of(
        network.config,
        (data,) if isinstance(data, str) else tuple(data),
        home_folder(home),
        cache=Path(cache) if cache else None,
        near_duplicates=near_duplicates,
        display=shown,
    )
    return BundleScores.of(network, eligible, metric, paper_scores, shown)


def compare(*systems: str, metric: str = "dice", home: PathLike | None = None) -> list[Comparison]:
    """How much better each of several systems is than the first, paired image by image, and how sure that is.

    `systems`: names of studies of this home, or "STUDY:TRIAL". Raises `BadStudy`.
    """
    from orchestrator.selection import comparison

    parts = [system.partition(":") for system in systems]
    snapshots = {name: load_study(name, home=home).store.snapshot() for name, _, _ in parts}
    return comparison.compare(
        [comparison.compared_system(snapshots[name], number, metric) for name, _, number in parts]
    )


class Bundle:
    """A network that was exported, ready to predict.

    >>> import orchestrator as po
    >>> bundle = po.load_bundle("exported")
    >>> image = sorted(Path("frames/images").iterdir())[0]
    >>> bundle.predict(image).dtype
    dtype('bool')
    """

    def __init__(self, network: ExportedNetwork) -> None:
        self.network = network

    def predict(self, image: NDArray[np.uint8] | PathLike) -> NDArray[np.bool_]:
        """RGB uint8 (H, W, 3), or the path of an image -> mask bool (H, W), True where a polyp is."""
        return self.network.predict(self._pixels(image))[1]

    def probability(self, image: NDArray[np.uint8] | PathLike) -> NDArray[np.float32]:
        """RGB uint8 (H, W, 3), or the path of an image -> probability of a polyp float32 (H, W) in [0, 1]."""
        return self.network.predict(self._pixels(image))[0]

    def _pixels(self, image: NDArray[np.uint8] | PathLike) -> NDArray[np.uint8]:
        from orchestrator.data.images import read_image

        return read_image(Path(image).expanduser()) if isinstance(image, (str, Path)) else image


def load_bundle(folder: PathLike) -> Bundle:
    """A network that `export` wrote. Raises `BadBundle` with every file that is missing or damaged."""
    from orchestrator.results.export.bundle import Bundle as ExportedNetwork

    return Bundle(ExportedNetwork.load(Path(folder).expanduser()))
