"""Pipelines of albumentations that a user names: by a list of transforms, or by a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.common.errors import BadSpace
from orchestrator.data.augmentation.library_pipelines import canonical, problems
from orchestrator.data.augmentation.pipelines import pipeline
from orchestrator.search.space.builds import check_builds, override
from orchestrator.search.space.space import checked_before
from orchestrator.search.space.space_file import load_space
from orchestrator.training.recipe import Recipe

FLIP_AND_NOISE = "albumentations:[HorizontalFlip(p=0.5), OneOf([GaussNoise(), ISONoise()], p=0.5)]"
SPACE = """
network = "unet"
[search]
learning_rate = { log_uniform = [1e-5, 1e-1] }
[fixed]
image_size = 64
augmentation = "NAME"
[baseline]
learning_rate = 1e-3
"""


def saved(folder: Path, name: str, *transforms: str) -> str:
    """A file as `albumentations.save` writes it."""
    import albumentations

    composed = albumentations.Compose([eval(one, vars(albumentations)) for one in transforms])
    albumentations.save(composed, folder / name, data_format=name.rpartition(".")[2])  # type: ignore[arg-type]
    return f"file:{name}"


def space_with(folder: Path, augmentation: str):
    (folder / "own.toml").write_text(SPACE.replace("NAME", augmentation))
    return load_space(folder / "own.toml")


def frame(size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).integers(256, size=(size, size, 3), dtype=np.uint8)
    return image, (np.hypot(*np.mgrid[:size, :size]) < size / 2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_saved_compose_is_what_a_recipe_holds_wherever_the_file_lies(tmp_path, suffix):
    name = saved(tmp_path, f"mine.{suffix}", "VerticalFlip(p=1)", "RandomCrop(48, 48)")
    space = space_with(tmp_path, name)
    (tmp_path / f"mine.{suffix}").unlink()
    again = checked_before(space.text, tmp_path / "elsewhere.toml")
    assert again.digest == space.digest
    recipe = again.configuration(again.baseline_params()).recipe
    assert json.loads(recipe.augmentation.removeprefix("albumentations:"))["transforms"][1]["height"] == 48
    image, mask = pipeline(recipe.augmentation, 64)(*frame(), seed=1)
    assert image.shape == (64, 64, 3) and set(np.unique(mask)) == {0, 1}


def test_the_same_transforms_mean_the_same_however_they_are_given(tmp_path):
    name = saved(tmp_path, "mine.json", "HorizontalFlip(p=0.5)", "GaussNoise()")
    listed = canonical("albumentations: [ HorizontalFlip( ), GaussNoise(p=0.5)]", tmp_path)
    assert canonical(name, tmp_path) == listed == canonical(listed, tmp_path)
    assert Recipe(augmentation=listed) != Recipe(augmentation="flips")


def test_a_listed_pipeline_gives_the_same_for_the_same_seed_and_changes_both_sides():
    augment = pipeline(canonical(FLIP_AND_NOISE, Path()), 64)
    image, mask = frame()
    found = [augment(image, mask, seed) for seed in (1, 1, *range(2, 20))]
    assert all(map(np.array_equal, found[0], found[1]))
    flipped = [np.array_equal(changed, mask[:, ::-1]) for _, changed in found]
    assert any(flipped) and not all(flipped)


def test_a_choice_of_pipelines_is_searched(tmp_path):
    text = SPACE.replace("[search]", f"[search]\naugmentation = {{ choice = ['flips', '{FLIP_AND_NOISE}'] }}")
    (tmp_path / "own.toml").write_text(
        text.replace('augmentation = "NAME"\n[', "[") + 'augmentation = "flips"\n'
    )
    space = load_space(tmp_path / "own.toml")
    check_builds(space)
    changed = override(space.baseline_params(), [f"augmentation='{FLIP_AND_NOISE}'"], space)
    assert changed["augmentation"] == space.search["augmentation"].extremes[1]


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        ("Foo()", "has no transform Foo"),
        ("HorizontalFlip(q=1)", "'q' are not valid"),
        ("HorizontalFlip(p=7)", "less than or equal to 1"),
        ("RandomCrop(500, 500)", "arguments are given by name"),
        ("Lambda(image=print)", "malformed node"),
        ("HorizontalFlip", r"expected Transform\(argument=value\)"),
    ],
)
def test_what_albumentations_cannot_build_is_refused_where_the_file_is_read(tmp_path, transforms, words):
    with pytest.raises(BadSpace, match=words):
        space_with(tmp_path, f"albumentations:[{transforms}]")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("{", "expected JSON"),
        ("[1]", "albumentations.save writes"),
        (
            '{"transform": {"__class_fullname__": "HorizontalFlip", "p": 1, "q": 2}}',
            "does not know HorizontalFlip.q",
        ),
        ('{"transform": {"__class_fullname__": "os.system"}}', "cannot build it"),
    ],
)
def test_a_file_that_holds_no_pipeline_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "mine.json").write_text(content)
    with pytest.raises(BadSpace, match=words):
        space_with(tmp_path, "file:mine.json")


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        ("Normalize(p=0.01)", "Normalize makes images of float32"),
        ("ToGray(num_output_channels=1)", "ToGray makes an image"),
        ("Affine(fill_mask=255, translate_percent=(0.5, 0.5))", "masks with values up to 255"),
        ("RandomCrop(height=500, width=500, p=0.01)", "RandomCrop fails on frames of 64 pixels"),
    ],
)
def test_a_transform_that_masks_or_networks_cannot_take_is_refused_before_it_is_trained(
    tmp_path, transforms, words
):
    with pytest.raises(BadSpace, match=words):
        check_builds(space_with(tmp_path, f"albumentations:[{transforms}]"))


def test_transforms_that_fit_together_alone_are_not_refused(tmp_path):
    listed = "albumentations:[ToFloat(), FromFloat(dtype='uint8'), PadIfNeeded(min_height=90, min_width=90)]"
    assert problems(canonical(listed, tmp_path), 64) == ()
