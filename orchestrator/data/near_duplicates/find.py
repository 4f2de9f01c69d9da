"""Near-duplicates within and between datasets: frames of one place, which must not lie on both sides of a split.

Three steps. Landmarks of every frame (landmarks.py), kept on disk (landmark_files.py). A shortlist of the most similar
frames for each frame, also when mirrored (shortlist.py). Then the check: one affine map must explain more landmarks
than chance does (align.py). Quarter turns are maps like any other; a mirror image is found by mirroring the landmarks.
Where the numbers of a dataset follow a video, neighbours are checked as well, with a second pass at apparent cuts, and
frames without recognisable content are tied to those around them (numbering.py): they need not show the same place,
but belong to the same recording.

The result for one dataset, and for two, depends on no other dataset. cache/leaks/VERSION holds each in a file of its
own, written atomically and read the next time: an interrupted search continues with what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

from orchestrator.common.display import Progress
from orchestrator.common.errors import BadData
from orchestrator.data.cases import Dataset
from orchestrator.data.importing.verify import NUM_THREADS
from orchestrator.data.near_duplicates.comparing import (
    KINDS,
    Kind,
    Match,
    Meter,
    Run,
    compare,
    compare_at_seams,
    compare_neighbours,
    compare_within,
    find_all_landmarks,
    workers,
)
from orchestrator.data.near_duplicates.descriptors import Floats
from orchestrator.data.near_duplicates.landmark_files import LandmarkFiles, Say
from orchestrator.data.near_duplicates.numbering import ties_between, ties_of_lone_frames
from orchestrator.data.near_duplicates.result_files import DatasetPair, NearDuplicateRow, ResultFiles
from orchestrator.data.splits.assign import merge
from orchestrator.scoring.formatting import duration

FOLDER = "leaks"  # of the cache
VERSION = "v6"  # to be raised whenever the same images give other near-duplicates


@dataclass(frozen=True, order=True, slots=True)
class NearDuplicate:
    """Two cases that show the same place, or belong to one recording."""

    one: str  # case id
    other: str
    kind: Kind
    num_places: int  # that one affine map explains
    likeness: float  # correlation of the aligned pictures, -1 to 1
    overlap: float  # common area as a share of the smaller field of view, 0 to 1
    mirrored: bool = False  # whether one shows the mirror image of the other


@dataclass(frozen=True)
class Leaks:
    """All near-duplicates of some datasets, sorted by case ids."""

    datasets: tuple[Dataset, ...]
    near_duplicates: tuple[NearDuplicate, ...]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Case ids of near-duplicates, in the form that splits take."""
        return tuple((pair.one, pair.other) for pair in self.near_duplicates)

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Groups of cases, merged across near-duplicates, with two or more cases; largest first."""
        members: dict[str, list[str]] = {}
        cases = [case for dataset in self.datasets for case in dataset.cases]
        for case_id, group in merge(cases, self.pairs).items():
            members.setdefault(group, []).append(case_id)
        several = [tuple(sorted(group)) for group in members.values() if len(group) > 1]
        return tuple(sorted(several, key=lambda group: (-len(group), group)))

    def between(self, one: str, other: str) -> tuple[NearDuplicate, ...]:
        """Near-duplicates with one case in each of these datasets; of one dataset where both names are equal."""
        wanted = sorted((one, other))
        return tuple(
            pair
            for pair in self.near_duplicates
            if sorted(id.split("/")[0] for id in (pair.one, pair.other)) == wanted
        )


def find_near_duplicates(
    datasets: Sequence[Dataset],
    cache: Path,
    on_progress: Progress | None = None,
    say: Say | None = None,
    hint: str = "",
) -> Leaks:
    """The near-duplicates of these datasets; results of earlier searches are read from the cache.

    About 0.1 CPU seconds per frame; deterministic. Progress counts frames described and compared. `say` receives one
    line with the expected duration, which ends in `hint`, and one line for each damaged file that is made again.
    Raises `BadData` for a dataset that is named twice, and for a missing or damaged image.
    """
    names = [dataset.name for dataset in datasets]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise BadData("leaks", f"expected each dataset once, found {', '.join(repeated)} again")
    datasets = tuple(sorted(datasets, key=lambda dataset: dataset.name))
    result_files = ResultFiles(cache / FOLDER / VERSION, say or (lambda line: None))
    by_content = sorted(datasets, key=lambda dataset: (dataset.fingerprint, dataset.name))
    pairs = list(combinations_with_replacement(by_content, 2))
    known = result_files.read_all(pairs)
    if len(known) < len(pairs):
        with result_files.exclusive():  # another process may have finished them meanwhile
            known |= result_files.read_all([pair for pair in pairs if pair not in known])
            missing = [pair for pair in pairs if pair not in known]
            known |= _compare_missing(missing, result_files, on_progress, hint) if missing else {}
    return Leaks(
        datasets,
        tuple(sorted(found for pair in pairs for found in _near_duplicates(*pair, known[pair]))),
    )


def _near_duplicates(
    one: Dataset, other: Dataset, rows: Sequence[NearDuplicateRow]
) -> Iterator[NearDuplicate]:
    ids = [{name: f"{dataset.name}/{name}" for name in _names(dataset)} for dataset in (one, other)]
    for row in rows:
        low, high = sorted((ids[0][row.one], ids[1][row.other]))
        yield NearDuplicate(low, high, *row[2:])


def _compare_missing(
    missing: Sequence[DatasetPair], result_files: ResultFiles, on_progress: Progress | None, hint: str
) -> dict[DatasetPair, list[NearDuplicateRow]]:
    """Compare these pairs of datasets, and write each result as soon as it is known."""
    found = {}
    datasets = {dataset.fingerprint: dataset for pair in missing for dataset in pair}
    files = {mark: LandmarkFiles(result_files.folder, mark, len(one.cases)) for mark, one in datasets.items()}
    shards = {mark: files[mark].missing(result_files.say) for mark in files}
    num_frames = sum(file.num_frames for file in files.values())
    num_compared = sum(len(dataset.cases) for pair in missing for dataset in set(pair))

    def forecast(seconds: float) -> None:
        cores = f"{NUM_THREADS} core{'s'[: NUM_THREADS > 1]}"
        frames = f"comparing {num_frames:,} frames for near-duplicates"
        result_files.say(f"{frames}: about {duration(max(1, seconds))} on {cores}{hint}")

    num_described = sum(len(shard) for gone in shards.values() for shard in gone)
    meter = Meter(num_described, num_compared, on_progress, forecast)
    with workers(num_frames) as run:
        for mark, dataset in datasets.items():
            find_all_landmarks(dataset.cases, files[mark], shards[mark], run, meter)
        for one, other in missing:
            if one == other:
                rows = _within(one, files[one.fingerprint], run, meter)
            else:
                matches = compare(files[one.fingerprint], files[other.fingerprint], run, meter)
                rows = [_row(match, _names(one), _names(other)) for match in matches]
            result_files.write(one, other, rows)
            found[one, other] = rows
    return found


def _within(dataset: Dataset, files: LandmarkFiles, run: Run, meter: Meter) -> list[NearDuplicateRow]:
    """Near-duplicates within a dataset: by image content, and by frame numbers where these follow a video."""
    names, global_descriptors = _names(dataset), files.global_descriptors()
    index = {name: number for number, name in enumerate(names)}

    def likeness(rows: Sequence[str], columns: Sequence[str]) -> Floats:
        return global_descriptors.likeness([index[name] for name in rows], [index[name] for name in columns])

    matches = compare_within(files, global_descriptors, run, meter)
    matches += compare_neighbours(files, names, matches, run, meter)
    matches += compare_at_seams(dataset.cases, names, matches, run)
    rows = sorted(_row(match, names, names) for match in matches)
    tied = ties_between(names, [row[:2] for row in rows])
    tied += ties_of_lone_frames(names, [*(row[:2] for row in rows), *tied], likeness)
    return rows + [NearDuplicateRow(one, other, "same video", 0, 0.0, 0.0, False) for one, other in tied]


def _row(match: Match, names: Sequence[str], others: Sequence[str]) -> NearDuplicateRow:
    alignment = match.alignment
    facts = alignment.num_matches, round(alignment.likeness, 4), round(alignment.overlap, 4)
    return NearDuplicateRow(names[match.i], others[match.j], match.kind, *facts, match.mirrored)


def _names(dataset: Dataset) -> list[str]:
    return [case.id.partition("/")[2] for case in dataset.cases]


def count_between(leaks: Leaks) -> list[tuple[str, str, tuple[int, ...], int]]:
    """(dataset, dataset, number of pairs by kind, mirrored pairs) for all pairs of datasets, also with themselves."""
    names = [dataset.name for dataset in leaks.datasets]
    counts = []
    for one, other in combinations_with_replacement(names, 2):
        found = leaks.between(one, other)
        kinds = [pair.kind for pair in found]
        counts.append(
            (
                one,
                other,
                tuple(map(kinds.count, KINDS)),
                sum(pair.mirrored for pair in found),
            )
        )
    return counts
