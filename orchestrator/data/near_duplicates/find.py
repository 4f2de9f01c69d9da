"""Which frames show the same place, within and between datasets: what must not lie on both sides of a split.

Three steps. Landmarks of every frame (landmarks.py), kept on disk (landmark_files.py). A shortlist for every frame of
those that look most alike, also when mirrored (shortlist.py). Then the check: one affine map has to explain so many
landmarks that chance does not (align.py). Quarter turns are maps as any other; a mirror image is found by mirroring the
landmarks. Where the numbers of a dataset follow a video, neighbours are checked as well, by a second look where it
seems cut, and frames that show nothing known are tied to those around them (numbering.py): they may not show the same
place, but are of the same recording.

The answer for a dataset, and for two, depends on nothing else that is named. cache/leaks/VERSION holds each in a file
of its own, which appears by one rename and is read the next time: an interrupted search goes on with what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

from orchestrator.common.errors import BadData
from orchestrator.data.cases import Dataset
from orchestrator.data.importing.verify import NUM_THREADS, Progress
from orchestrator.data.near_duplicates.answers import Answers, DatasetPair, Row
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
    look_at,
    workers,
)
from orchestrator.data.near_duplicates.descriptors import Floats
from orchestrator.data.near_duplicates.landmark_files import LandmarkFiles, Say
from orchestrator.data.near_duplicates.numbering import beside, in_between
from orchestrator.data.splits.assign import merge

FOLDER = "leaks"  # of the cache
VERSION = "v6"  # raise it when the same pictures shall give other near-duplicates


@dataclass(frozen=True, order=True, slots=True)
class NearDuplicate:
    """Two cases that show the same place, or are of one recording."""

    one: str  # case id
    other: str
    kind: Kind
    num_places: int  # that one affine map explains
    likeness: float  # correlation of the two pictures, one laid over the other, -1 to 1
    overlap: float  # share of the smaller picture that both show, 0 to 1
    mirrored: bool = False  # one shows the mirror image of the other


@dataclass(frozen=True)
class Leaks:
    """Everything that was found; twins sorted by their ids."""

    datasets: tuple[Dataset, ...]
    near_duplicates: tuple[NearDuplicate, ...]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Case ids of twins, as splits take them."""
        return tuple((pair.one, pair.other) for pair in self.near_duplicates)

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Cases that belong together by their own groups and by twins, two or more of them; largest first."""
        members: dict[str, list[str]] = {}
        cases = [case for dataset in self.datasets for case in dataset.cases]
        for case_id, group in merge(cases, self.pairs).items():
            members.setdefault(group, []).append(case_id)
        several = [tuple(sorted(group)) for group in members.values() if len(group) > 1]
        return tuple(sorted(several, key=lambda group: (-len(group), group)))

    def between(self, one: str, other: str) -> tuple[NearDuplicate, ...]:
        """Twins of which one case is of the one dataset and one of the other; the same name twice: within it."""
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
    way_out: str = "",
) -> Leaks:
    """Compare all frames of these datasets; what was found before, of each and of each two, is read from the cache.

    About 0.1 CPU seconds a frame; the same on every run. Progress counts frames, looked at and compared. `say` is given
    a line on how long it will take, which ends in `way_out`, and one for whatever is damaged and made again.
    Raises `BadData` where a dataset is named twice, or a file is gone or damaged.
    """
    names = [dataset.name for dataset in datasets]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise BadData("leaks", f"expected each dataset once, found {', '.join(repeated)} again")
    datasets = tuple(sorted(datasets, key=lambda dataset: dataset.name))
    answers = Answers(cache / FOLDER / VERSION, say or (lambda line: None))
    by_content = sorted(datasets, key=lambda dataset: (dataset.fingerprint, dataset.name))
    pairs = list(combinations_with_replacement(by_content, 2))
    known = answers.read_all(pairs)
    if len(known) < len(pairs):
        with answers.alone():  # another process may have found them meanwhile
            known |= answers.read_all([pair for pair in pairs if pair not in known])
            missing = [pair for pair in pairs if pair not in known]
            known |= _answer(missing, answers, on_progress, way_out) if missing else {}
    return Leaks(
        datasets,
        tuple(sorted(found for pair in pairs for found in _near_duplicates(*pair, known[pair]))),
    )


def _near_duplicates(one: Dataset, other: Dataset, rows: Sequence[Row]) -> Iterator[NearDuplicate]:
    ids = [{name: f"{dataset.name}/{name}" for name in _names(dataset)} for dataset in (one, other)]
    for row in rows:
        low, high = sorted((ids[0][row.one], ids[1][row.other]))
        yield NearDuplicate(low, high, *row[2:])


def _answer(
    missing: Sequence[DatasetPair], answers: Answers, on_progress: Progress | None, way_out: str
) -> dict[DatasetPair, list[Row]]:
    """Compare these pairs of datasets, and keep each answer as soon as it is there."""
    found = {}
    datasets = {dataset.fingerprint: dataset for pair in missing for dataset in pair}
    files = {mark: LandmarkFiles(answers.folder, mark, len(one.cases)) for mark, one in datasets.items()}
    shards = {mark: files[mark].missing(answers.say) for mark in files}
    num_frames = sum(file.num_frames for file in files.values())
    num_compared = sum(len(dataset.cases) for pair in missing for dataset in set(pair))

    def forecast(seconds: float) -> None:
        cores = f"{NUM_THREADS} core{'s'[: NUM_THREADS > 1]}"
        frames = f"comparing {num_frames:,} frames for near-duplicates"
        answers.say(f"{frames}: about {_duration(seconds)} on {cores}{way_out}")

    num_looks = sum(len(shard) for gone in shards.values() for shard in gone)
    meter = Meter(num_looks, num_compared, on_progress, forecast)
    with workers(num_frames) as run:
        for mark, dataset in datasets.items():
            look_at(dataset.cases, files[mark], shards[mark], run, meter)
        for one, other in missing:
            if one == other:
                rows = _within(one, files[one.fingerprint], run, meter)
            else:
                matches = compare(files[one.fingerprint], files[other.fingerprint], run, meter)
                rows = [_row(match, _names(one), _names(other)) for match in matches]
            answers.write(one, other, rows)
            found[one, other] = rows
    return found


def _within(dataset: Dataset, files: LandmarkFiles, run: Run, meter: Meter) -> list[Row]:
    """By what frames show, and by their numbers where these follow a video."""
    names, looks = _names(dataset), files.looks()
    index = {name: number for number, name in enumerate(names)}

    def likeness(rows: Sequence[str], columns: Sequence[str]) -> Floats:
        return looks.likeness([index[name] for name in rows], [index[name] for name in columns])

    matches = compare_within(files, looks, run, meter)
    matches += compare_neighbours(files, names, matches, run, meter)
    matches += compare_at_seams(dataset.cases, names, matches, run)
    rows = sorted(_row(match, names, names) for match in matches)
    told = in_between(names, [row[:2] for row in rows])
    told += beside(names, [*(row[:2] for row in rows), *told], likeness)
    return rows + [Row(one, other, "same video", 0, 0.0, 0.0, False) for one, other in told]


def _row(match: Match, names: Sequence[str], others: Sequence[str]) -> Row:
    alignment = match.alignment
    facts = alignment.num_matches, round(alignment.likeness, 4), round(alignment.overlap, 4)
    return Row(names[match.i], others[match.j], match.kind, *facts, match.mirrored)


def _names(dataset: Dataset) -> list[str]:
    return [case.id.partition("/")[2] for case in dataset.cases]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def count_between(leaks: Leaks) -> list[tuple[str, str, tuple[int, ...], int]]:
    """(dataset, dataset, pairs of each kind, mirrored pairs) of every pair of datasets, each with itself first."""
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
