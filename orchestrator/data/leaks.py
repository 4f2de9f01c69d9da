"""Which frames show the same place, within and between datasets: what must not lie on both sides of a split.

Three steps. Landmarks of every frame (landmarks.py). A shortlist of the frames that look most alike, by aggregated
landmarks (VLAD, Jegou et al. 2010) and by color. Then the check: one affine map has to explain so many landmarks that
chance does not (align.py). Frames that show nothing known are tied to those around them where the numbers of a dataset
follow a video (numbering.py): they may not show the same place, but are of the same recording.

cache/leaks/v5/FINGERPRINTS.json holds what the pictures of one set of datasets told: it appears by one rename, and is
read the next time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from orchestrator.data.align import Alignment, Sight, align, sight
from orchestrator.data.cases import Case, Dataset, read_image
from orchestrator.data.deal import merge
from orchestrator.data.landmarks import find_landmarks
from orchestrator.data.numbering import in_between
from orchestrator.data.verify import NUM_THREADS, Progress
from orchestrator.errors import BadData

VERSION = "v5"  # raise it when the same pictures shall give other twins
SHORTLIST = 50  # frames that each frame is compared with
NUM_WORDS = 64  # of the vocabulary
NUM_SAMPLES = 20_000  # descriptors that the vocabulary is made of
NUM_ROUNDS = 8  # of k-means
COLOR_WEIGHT = 0.01  # how much a difference of one in a and b of CIE Lab takes from a likeness of at most one
COLOR_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # quantiles
# Distinct places that one map must explain. On CVC-ClinicDB's 29 sequences pairs with 7 are the last that are false.
MIN_PLACES = 8
SAME_LIKENESS, SAME_OVERLAP = 0.9, 0.8  # from which two frames are one, cut or encoded in another way
CHUNK = 200  # pairs that a process takes at once
FEW = 1000  # pairs that are not worth starting processes for

Kind = Literal["same frame", "same scene", "same video"]  # the last: told by their numbers alone
KINDS = get_args(Kind)
Vectors = NDArray[np.float32]


@dataclass(frozen=True, order=True)
class Twin:
    """Two cases that show the same place, or are of one recording."""

    one: str  # case id
    other: str
    kind: Kind
    num_places: int  # that one affine map explains
    likeness: float  # correlation of the two pictures, one laid over the other, -1 to 1
    overlap: float  # share of the smaller picture that both show, 0 to 1


@dataclass(frozen=True)
class Leaks:
    """Everything that was found; twins sorted by their ids."""

    datasets: tuple[Dataset, ...]
    twins: tuple[Twin, ...]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Case ids of twins, as splits take them."""
        return tuple((twin.one, twin.other) for twin in self.twins)

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Cases that belong together by their own groups and by twins, two or more of them; largest first."""
        members: dict[str, list[str]] = {}
        cases = [case for dataset in self.datasets for case in dataset.cases]
        for case_id, group in merge(cases, self.pairs).items():
            members.setdefault(group, []).append(case_id)
        several = [tuple(sorted(group)) for group in members.values() if len(group) > 1]
        return tuple(sorted(several, key=lambda group: (-len(group), group)))

    def between(self, one: str, other: str) -> tuple[Twin, ...]:
        """Twins of which one case is of the one dataset and one of the other; the same name twice: within it."""
        wanted = sorted((one, other))
        return tuple(
            twin for twin in self.twins if sorted(id.split("/")[0] for id in (twin.one, twin.other)) == wanted
        )


def find_twins(datasets: Sequence[Dataset], cache: Path, on_progress: Progress | None = None) -> Leaks:
    """Compare all frames of these datasets; what was found before is read from the cache.

    Minutes for a thousand frames; the same on every run. Progress counts frames, then pairs.
    Raises `BadData` where a dataset is named twice, or a file is gone or damaged.
    """
    names = [dataset.name for dataset in datasets]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise BadData("leaks", f"expected each dataset once, found {', '.join(repeated)} again")
    datasets = tuple(sorted(datasets, key=lambda dataset: dataset.name))
    marks = json.dumps([(dataset.name, dataset.fingerprint) for dataset in datasets])
    path = cache / "leaks" / VERSION / f"{hashlib.sha256(marks.encode()).hexdigest()[:32]}.json"
    if not path.exists():  # else the cache may be read-only
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                found = _search([case for dataset in datasets for case in dataset.cases], on_progress)
                partial = path.with_suffix(f".{os.getpid()}.partial")
                partial.write_text(
                    json.dumps([asdict(twin) for twin in sorted(found)], indent=1), encoding="utf-8"
                )
                partial.replace(path)
    seen = [Twin(**twin) for twin in json.loads(path.read_text(encoding="utf-8"))]
    ids = [case.id for dataset in datasets for case in dataset.cases]
    told = in_between(ids, [(twin.one, twin.other) for twin in seen])
    return Leaks(datasets, tuple(sorted(seen + [Twin(*pair, "same video", 0, 0.0, 0.0) for pair in told])))


def _search(cases: Sequence[Case], on_progress: Progress | None) -> Iterator[Twin]:
    sights = []
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for done, seen in enumerate(pool.map(_look, cases), start=1):
            sights.append(seen)
            if on_progress:
                on_progress(done, len(cases))
    pairs = shortlist(sights)
    for done, (place, alignment) in enumerate(_aligned(sights, pairs), start=1):
        if on_progress:
            on_progress(done, len(pairs))
        if alignment is not None and alignment.num_matches >= MIN_PLACES:
            one, other = sorted(cases[index].id for index in pairs[place])
            same = alignment.likeness >= SAME_LIKENESS and alignment.overlap >= SAME_OVERLAP
            kind: Kind = "same frame" if same else "same scene"
            yield Twin(
                one,
                other,
                kind,
                alignment.num_matches,
                round(alignment.likeness, 4),
                round(alignment.overlap, 4),
            )


def _look(case: Case) -> Sight:
    return sight(find_landmarks(read_image(case.image)))


def shortlist(sights: Sequence[Sight]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of which one is among the SHORTLIST frames most like the other."""
    alike = _likeness(sights)
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, : min(SHORTLIST, len(sights) - 1)]
    return sorted({(min(i, int(j)), max(i, int(j))) for i, row in enumerate(nearest) for j in row})


def _aligned(
    sights: Sequence[Sight], pairs: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, Alignment | None]]:
    if len(pairs) <= FEW:
        yield from ((place, align(sights[i], sights[j])) for place, (i, j) in enumerate(pairs))
        return
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    with ProcessPoolExecutor(
        NUM_THREADS, mp_context=get_context("spawn"), initializer=_keep, initargs=(list(sights),)
    ) as pool:
        found = (alignment for chunk in pool.map(_align_chunk, chunks) for alignment in chunk)
        yield from enumerate(found)


_kept: list[Sight] = []  # in a process that aligns: what it was started with


def _keep(sights: list[Sight]) -> None:
    _kept[:] = sights
    threadpool_limits(1, "blas")  # for as long as the process lives: there is one for every core


def _align_chunk(pairs: Sequence[tuple[int, int]]) -> list[Alignment | None]:
    return [align(_kept[i], _kept[j]) for i, j in pairs]


def _likeness(sights: Sequence[Sight]) -> Vectors:
    """(N, N): cosine of aggregated landmarks, less the difference in color."""
    words = _vocabulary([one.roots for one in sights])
    vectors = np.stack([_vlad(one.roots, words) for one in sights])
    colors = np.stack([_color(one) for one in sights])
    apart = np.sqrt(((colors[:, None] - colors[None]) ** 2).mean(axis=2))
    return vectors @ vectors.T - COLOR_WEIGHT * apart


def _vocabulary(descriptors: Sequence[Vectors]) -> Vectors:
    """(NUM_WORDS, 128) by k-means from descriptors of all frames, evenly taken."""
    step = max(1, sum(map(len, descriptors)) // NUM_SAMPLES)
    sample = np.concatenate([one[::step] for one in descriptors])
    if len(sample) <= NUM_WORDS:
        return sample
    words = sample[np.random.default_rng(0).permutation(len(sample))[:NUM_WORDS]].copy()
    for _ in range(NUM_ROUNDS):
        word = _nearest(sample, words)
        counts = np.bincount(word, minlength=NUM_WORDS)
        sums = np.zeros_like(words)
        np.add.at(sums, word, sample)
        words = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], words).astype(np.float32)
    return words


def _vlad(descriptors: Vectors, words: Vectors) -> Vectors:
    """What the landmarks of a frame are off the words, summed by word, of length at most 1."""
    if not len(descriptors) or not len(words):
        return np.zeros(max(1, words.size), np.float32)
    word = np.eye(len(words), dtype=np.float32)[_nearest(descriptors, words)]
    rest = word.T @ descriptors - word.sum(axis=0)[:, None] * words
    rest /= np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6)
    return (rest / np.sqrt(len(words))).ravel()


def _nearest(descriptors: Vectors, words: Vectors) -> NDArray[np.intp]:
    return (descriptors @ words.T - 0.5 * (words**2).sum(axis=1)).argmax(axis=1)


def _color(one: Sight) -> Vectors:
    colors = one.marks.colors
    if not len(colors):
        return np.full(2 * len(COLOR_SHARES), 128, np.float32)
    return np.quantile(colors, COLOR_SHARES, axis=0).T.ravel().astype(np.float32)


def count_between(leaks: Leaks) -> list[tuple[str, str, tuple[int, ...]]]:
    """(dataset, dataset, pairs of each kind) of every pair of datasets, each with itself first."""
    names = [dataset.name for dataset in leaks.datasets]
    between = [(one, other) for index, one in enumerate(names) for other in names[index:]]
    kinds = [[twin.kind for twin in leaks.between(*pair)] for pair in between]
    return [
        (*pair, tuple(found.count(kind) for kind in KINDS))
        for pair, found in zip(between, kinds, strict=True)
    ]
