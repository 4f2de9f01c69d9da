"""Check of a dataset against the files that were imported."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from orchestrator.common.cpus import pooled
from orchestrator.common.display import Progress
from orchestrator.common.errors import BadData
from orchestrator.common.stored_json import sha256_of
from orchestrator.data.cases import MANIFEST, Case, Dataset
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.importing.dataset import _fingerprint
from orchestrator.data.importing.verify import NUM_THREADS
from orchestrator.data.masks.inspection import pair_sha256
from orchestrator.data.sources.pairs import Membership


def check_dataset(dataset: Dataset, on_progress: Progress | None = None) -> list[str]:
    """Problems found by reading every file again; empty if nothing changed since the import."""
    problems = []
    with pooled(ThreadPoolExecutor(NUM_THREADS)) as pool:
        for done, found in enumerate(pool.map(_check_case, dataset.cases), start=1):
            problems += found
            if on_progress:
                on_progress(done, len(dataset.cases))
    expected = {path for case in dataset.cases for path in (case.image, case.mask)}
    present = {path for folder in ("images", "masks") for path in (dataset.folder / folder).glob("*")}
    problems += [f"{path.parent.name}/{path.name}: was not imported" for path in sorted(present - expected)]
    return problems + _check_record(dataset)


def _check_record(dataset: Dataset) -> list[str]:
    """Problems of dataset.json: other cases, groups or centers than imported, or another folder."""
    problems = []
    if dataset.name != dataset.folder.name:
        problems.append(
            f"{MANIFEST}: is of {dataset.name!r}, but in folder {dataset.folder.name!r}; rename the folder, or add the "
            "data under the other name"
        )
    stems = {case.id: case.id.removeprefix(f"{dataset.name}/") for case in dataset.cases}
    groups = {case.id: case.group.removeprefix(f"{dataset.name}/") for case in dataset.cases}
    members = {
        stem: Membership("" if groups[case.id] == f"image:{stem}" else groups[case.id], case.center or "")
        for case in dataset.cases
        for stem in [stems[case.id]]
    }
    if _fingerprint({stems[case.id]: case.sha256 for case in dataset.cases}, members) != dataset.fingerprint:
        problems.append(f"{MANIFEST}: cases, groups or centers are not those that were imported")
    return problems


def _check_case(case: Case) -> list[str]:
    missing = [
        f"{path.parent.name}/{path.name}: is missing" for path in (case.image, case.mask) if not path.exists()
    ]
    if missing:
        return missing
    problems = []
    for read, path in ((read_image, case.image), (read_mask, case.mask)):
        try:
            read(path)
        except BadData as error:
            problems += [f"{path.parent.name}/{path.name}: {problem}" for problem in error.problems]
    if problems:
        return problems
    same = pair_sha256(sha256_of(case.image), sha256_of(case.mask)) == case.sha256
    return [] if same else [f"{case.id}: the bytes are not those that were imported"]
