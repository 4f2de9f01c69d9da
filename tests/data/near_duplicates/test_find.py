"""Frames that show the same place are found, whatever was done to them; frames that do not are left alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from orchestrator.common.errors import BadData
from orchestrator.data.cases import Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.near_duplicates import result_files as answers_module
from orchestrator.data.near_duplicates.find import count_between, find_near_duplicates

SIDE = 300


def gut(seed: int) -> np.ndarray:
    """A place that no other seed shows: folds, blood vessels and stains, uint8 (SIDE, SIDE, 3)."""
    rng = np.random.default_rng(seed)
    noise = sum(
        cv2.resize(rng.normal(size=(n, n)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        * (8 / n)
        for n in (6, 12, 24, 48)
    )
    base = np.array([170, 90, 70], np.float32) + 22 * noise[..., None] * np.array([1, 0.8, 0.6], np.float32)
    frame = base.clip(60, 185).astype(np.uint8)
    for _ in range(25):
        points = rng.integers(0, SIDE, size=(4, 2)).cumsum(axis=0) // 2
        cv2.polylines(
            frame, [points.astype(np.int32)], False, (120, 40, 40), int(rng.integers(1, 4)), cv2.LINE_AA
        )
    return frame


def changed(frame: np.ndarray) -> dict[str, np.ndarray]:
    """The same place as somebody else would publish it."""
    crop = frame[25:280, 20:285]
    turned = cv2.warpAffine(frame, cv2.getRotationMatrix2D((150, 150), 8, 1.1), (SIDE, SIDE))
    labelled = frame.copy()
    cv2.putText(labelled, "12/03/2015 10:44", (10, 25), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2)
    return {
        "crop": cv2.resize(crop, (400, 360)),
        "smaller": cv2.resize(frame, (200, 190), interpolation=cv2.INTER_AREA),
        "turned": turned,
        "text": labelled,
    }


def dataset(home: Path, name: str, frames: dict[str, np.ndarray]) -> Dataset:
    source = home / f"{name}-source"
    for folder in ("images", "masks"):
        (source / folder).mkdir(parents=True)
    for stem, frame in frames.items():
        cv2.imwrite(str(source / "images" / f"{stem}.jpg"), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        mask = np.zeros(frame.shape[:2], np.uint8)
        mask[40:90, 50:120] = 255
        cv2.imwrite(str(source / "masks" / f"{stem}.png"), mask)
    return add_dataset(home, name, source)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def ours(home: Path) -> Dataset:
    """Eight places, none twice."""
    return dataset(home, "ours", {f"place{seed}": gut(seed) for seed in range(8)})


@pytest.fixture(scope="module")
def theirs(home: Path) -> Dataset:
    """Place 3 in four other forms, and six places of their own."""
    return dataset(home, "theirs", changed(gut(3)) | {f"other{seed}": gut(100 + seed) for seed in range(6)})


def test_places_that_differ_are_not_joined(home: Path, ours: Dataset):
    leaks = find_near_duplicates([ours], home / "cache")
    assert leaks.near_duplicates == () and leaks.groups() == ()


def test_a_place_is_known_again_cropped_scaled_turned_and_written_on(
    home: Path, ours: Dataset, theirs: Dataset
):
    leaks = find_near_duplicates([theirs, ours], home / "cache")
    found = {pair.other for pair in leaks.between("ours", "theirs") if pair.one == "ours/place3"}
    assert found == {f"theirs/{form}" for form in ("crop", "smaller", "turned", "text")}
    assert leaks.groups() == (
        ("ours/place3", "theirs/crop", "theirs/smaller", "theirs/text", "theirs/turned"),
    )
    kinds = {pair.other: pair.kind for pair in leaks.between("ours", "theirs")}
    assert kinds["theirs/smaller"] == "same frame"
    assert [row[:2] for row in count_between(leaks)] == [
        ("ours", "ours"),
        ("ours", "theirs"),
        ("theirs", "theirs"),
    ]


def test_a_blurred_frame_of_a_video_goes_with_those_around_it(home: Path):
    """Six views of one place in a pan, a frame of nothing among them, then another place: its end is not guessed."""
    pan, after = gut(7), gut(8)
    frames = {f"frame{number}": pan[:, 10 * number : 220 + 10 * number] for number in range(1, 8)}
    frames |= {f"frame{number}": after[:, 10 * number - 70 : 150 + 10 * number] for number in range(8, 13)}
    frames["frame4"] = frames["frame12"] = np.full((SIDE, 220, 3), (150, 80, 60), np.uint8)
    leaks = find_near_duplicates([dataset(home, "video", frames)], home / "cache")
    assert {frozenset(group) for group in leaks.groups()} == {
        frozenset(f"video/frame{number}" for number in range(1, 8)),
        frozenset(f"video/frame{number}" for number in range(8, 12)),
    }
    tied = [(pair.one, pair.other) for pair in leaks.near_duplicates if pair.kind == "same video"]
    assert tied == [("video/frame3", "video/frame4"), ("video/frame4", "video/frame5")]
    shown, seen = (
        count_between(leaks)[0][2],
        sum(pair.num_places > 0 for pair in leaks.near_duplicates),
    )
    assert sum(shown) == seen + 2 and shown[2] == 2


def symmetric(frame: np.ndarray, symmetry: int) -> np.ndarray:
    """0 to 7: so many quarter turns, from 4 on of the mirrored frame."""
    return np.ascontiguousarray(np.rot90(frame[:, ::-1] if symmetry >= 4 else frame, symmetry % 4))


def altered(frame: np.ndarray, symmetry: int) -> np.ndarray:
    """One change, another one for each symmetry, of what mirrored and turned copies are published with."""
    height, width = frame.shape[:2]
    cropped = frame[height // 8 :, : -width // 8]
    bright = (frame * 1.35).clip(0, 255).astype(np.uint8)
    forms = (
        cv2.resize(frame, (224, 224)),
        cropped,
        bright,
        cv2.GaussianBlur(frame, (0, 0), 1.2),
        changed(frame)["text"],
    )
    return forms[symmetry % len(forms)]


@pytest.mark.parametrize("place", [pytest.param(21, marks=pytest.mark.slow), 22])
def test_mirrored_and_turned_copies_are_found_alone_and_altered(tmp_path: Path, place: int):
    wide = gut(place)[:220]  # not square: a quarter turn makes it portrait
    copies = {f"plain{k}": symmetric(wide, k) for k in range(8)}
    copies |= {f"altered{k}": altered(symmetric(wide, k), k) for k in range(1, 8)}
    found = find_near_duplicates(
        [dataset(tmp_path, "copies", copies | {"other": gut(50)})], tmp_path / "cache"
    )
    partner = {pair.other: pair for pair in found.near_duplicates if pair.one == "copies/plain0"}
    partner |= {pair.one: pair for pair in found.near_duplicates if pair.other == "copies/plain0"}
    assert {id: pair.mirrored for id, pair in partner.items()} == {
        f"copies/{stem}": stem[-1] in "4567" for stem in copies if stem != "plain0"
    }
    assert count_between(found)[0][3] == sum(pair.mirrored for pair in found.near_duplicates) > 20


def test_what_is_found_does_not_depend_on_what_else_is_named(home: Path, ours: Dataset, theirs: Dataset):
    exclusive, seen = find_near_duplicates([theirs], home / "alone"), list[tuple[int, int]]()
    assert len(exclusive.near_duplicates) >= 6
    before = {path: path.stat().st_mtime_ns for path in (home / "alone").rglob("*.[jl]*")}
    both = find_near_duplicates(
        [ours, theirs], home / "alone", lambda done, total: seen.append((done, total))
    )
    assert both.between("theirs", "theirs") == exclusive.near_duplicates
    assert both == find_near_duplicates([theirs, ours], home / "cache")
    num_ours, num_theirs = len(ours.cases), len(theirs.cases)
    assert seen[-1][1] == num_ours + num_ours + (
        num_ours + num_theirs
    )  # looks, ours with itself, and with theirs
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_what_was_found_is_read_the_next_time_and_does_not_depend_on_the_order(
    home: Path, ours: Dataset, theirs: Dataset, monkeypatch: pytest.MonkeyPatch
):
    first = find_near_duplicates([ours, theirs], home / "cache")
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(answers_module, "FileLock", None)  # the cache may be read-only by now
    again = find_near_duplicates(
        [theirs, ours], home / "cache", lambda done, total: seen.append((done, total))
    )
    assert again == first and seen == []


def test_an_interrupted_search_goes_on_where_it_was_and_says_beforehand_how_long_it_takes(
    home: Path, ours: Dataset, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(done: int, total: int) -> None:
        if done > len(ours.cases):
            raise KeyboardInterrupt

    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        find_near_duplicates(
            [ours], home / "interrupted", interrupt, said.append, "; --no-near-duplicates skips it"
        )
    monkeypatch.setattr(
        "orchestrator.data.near_duplicates.comparing.landmark_record", None
    )  # landmarks are there
    assert find_near_duplicates([ours], home / "interrupted").near_duplicates == ()
    (line,) = said
    assert re.fullmatch(
        r"comparing 8 frames for near-duplicates: about \d+ s on \d+ cores?; --no-near-duplicates skips it",
        line,
    )


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-50], lambda content: content.replace(b"a", b"b"), lambda _: b""]
)
@pytest.mark.parametrize("kind", ["json", "landmarks"])
def test_a_damaged_file_of_the_cache_is_made_again_and_reported(
    home: Path, theirs: Dataset, kind: str, damage: Callable[[bytes], bytes]
):
    cache, said = home / "damaged", list[str]()
    whole = find_near_duplicates([theirs], cache)
    for answer in cache.rglob("*.json"):
        answer.write_bytes(damage(answer.read_bytes())) if kind == "json" else answer.unlink()
    (landmarks,) = cache.rglob("*.landmarks")
    if kind == "landmarks":
        landmarks.write_bytes(damage(landmarks.read_bytes()))
    assert find_near_duplicates([theirs], cache, None, said.append) == whole
    assert f".{kind} is damaged" in said[0] and str(cache) in said[0]


def test_a_dataset_that_is_named_twice_is_refused(home: Path, ours: Dataset):
    with pytest.raises(BadData, match="found ours again"):
        find_near_duplicates([ours, ours], home / "cache")
