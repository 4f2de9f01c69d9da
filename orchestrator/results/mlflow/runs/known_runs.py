"""Runs of one study in MLflow, read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FIRST_EPOCH = "first_epoch"  # the tag that says what the first epoch of a run is called
# The tag that says by which version of this program a run was completed; one of another version is completed again.
LAYOUT_TAG, LAYOUT = "layout", "3"


class Key(NamedTuple):
    """The tags by which a run is found again."""

    role: str
    trial: str = ""
    fit_id: str = ""


@dataclass
class KnownRun:
    """A run as MLflow has it, kept so that the server need not be asked again."""

    key: Key
    run_id: str
    status: str
    metrics: dict[str, float] = field(default_factory=dict)  # the last values
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    has_datasets: bool = False
    steps: dict[str, set[int]] = field(default_factory=dict)  # of its curves, as far as they were looked up

    @property
    def num_values(self) -> int:
        return len(self.metrics) + len(self.params) + len(self.tags)

    @property
    def first_epoch(self) -> int:
        """Step of the run's first epoch."""
        return int(self.tags.get(FIRST_EPOCH, "0"))

    @property
    def is_cut(self) -> bool:
        """Whether the run is of a fit that was cut before its end."""
        return self.tags.get("cut") == "true"

    @property
    def is_whole(self) -> bool:
        """Whether the run has ended, and has all that this version of the program writes."""
        return self.status in ("FINISHED", "FAILED") and self.tags.get(LAYOUT_TAG) == LAYOUT


def read_runs(client: MlflowClient, experiment_id: str, study_tags: Mapping[str, str]) -> Iterator[KnownRun]:
    """The runs of this study: another one may have had its name before."""
    token = None
    while True:
        page = client.search_runs([experiment_id], "tags.role != ''", max_results=1000, page_token=token)
        for run in page:
            if run.data.tags.get("study_id") == study_tags.get("study_id"):
                yield _known(run)
        token = page.token
        if not token:
            return


def _known(run: Run) -> KnownRun:
    tags = dict(run.data.tags)
    return KnownRun(
        Key(tags["role"], tags.get("trial", ""), tags.get("fit_id", "")),
        run.info.run_id,
        run.info.status,
        dict(run.data.metrics),
        dict(run.data.params),
        tags,
        has_datasets=bool(run.inputs and run.inputs.dataset_inputs),
    )
