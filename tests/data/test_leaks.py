"""Frames that show the same place are found, whatever was done to them; frames that do not are left alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from orchestrator.data import leaks as leaks_module
from orchestrator.data.cases import Dataset, add_dataset
from orchestrator.data.leaks import count_between, find_twins
from orchestrator.errors import BadData

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
    leaks = find_twins([ours], home / "cache")
    assert leaks.twins == () and leaks.groups() == ()


def test_a_place_is_known_again_cropped_scaled_turned_and_written_on(
    home: Path, ours: Dataset, theirs: Dataset
):
    leaks = find_twins([theirs, ours], home / "cache")
    found = {twin.other for twin in leaks.between("ours", "theirs") if twin.one == "ours/place3"}
    assert found == {f"theirs/{form}" for form in ("crop", "smaller", "turned", "text")}
    assert leaks.groups() == (
        ("ours/place3", "theirs/crop", "theirs/smaller", "theirs/text", "theirs/turned"),
    )
    kinds = {twin.other: twin.kind for twin in leaks.between("ours", "theirs")}
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
    leaks = find_twins([dataset(home, "video", frames)], home / "cache")
    assert {frozenset(group) for group in leaks.groups()} == {
        frozenset(f"video/frame{number}" for number in range(1, 8)),
        frozenset(f"video/frame{number}" for number in range(8, 12)),
    }
    told = [(twin.one, twin.other) for twin in leaks.twins if twin.kind == "same video"]
    assert told == [("video/frame3", "video/frame4"), ("video/frame4", "video/frame5")]
    shown, seen = count_between(leaks)[0][2], sum(twin.num_places > 0 for twin in leaks.twins)
    assert sum(shown) == seen + 2 and shown[2] == 2


def test_what_was_found_is_read_the_next_time_and_does_not_depend_on_the_order(
    home: Path, ours: Dataset, theirs: Dataset, monkeypatch: pytest.MonkeyPatch
):
    first = find_twins([ours, theirs], home / "cache")
    seen: list[tuple[int, int]] = []
    with monkeypatch.context() as patched:
        patched.setattr(leaks_module, "FileLock", None)  # the cache may be read-only by now
        again = find_twins([theirs, ours], home / "cache", lambda done, total: seen.append((done, total)))
    assert again == first and seen == []
    anew = find_twins([ours, theirs], home / "another cache", lambda done, total: seen.append((done, total)))
    assert anew == first and seen


def test_a_dataset_that_is_named_twice_is_refused(home: Path, ours: Dataset):
    with pytest.raises(BadData, match="found ours again"):
        find_twins([ours, ours], home / "cache")
