"""One mask for several images: said, with their names; refused where nearly all have it."""

from __future__ import annotations

import numpy as np
import pytest
from packed import EMPTY, FRAME, MASK, Content
from tree import add, refused

MASKS = [np.roll(MASK, shift, axis=1) for shift in range(16)]


def files(masks: list[np.ndarray], *, same_image: bool = False) -> dict[str, Content]:
    """Images 0, 1, ... with these masks, as PNG and BMP in turn."""
    made: dict[str, Content] = {}
    for n, mask in enumerate(masks):
        made[f"images/{n}.png"] = FRAME if same_image else FRAME + np.uint8(n)
        made[f"masks/{n}.{'bmp' if n % 2 else 'png'}"] = mask
    return made


def test_a_mask_that_several_images_share_is_said_with_their_names(tmp_path):
    masks = [*MASKS[:6], MASKS[0], MASKS[4], MASKS[0]]
    dataset, printed = add(tmp_path, files(masks))
    assert "5 images have exactly the same mask as other images (0, 6, 8; 4, 7)" in printed.replace("\n", " ")
    assert any("(0, 6, 8; 4, 7)" in remark for remark in dataset.remarks)


@pytest.mark.parametrize(
    "masks", [MASKS[:4], [EMPTY] * 6 + MASKS[:2], [MASKS[0]] * 3], ids=["own", "empty", "copies"]
)
def test_masks_of_their_own_empty_masks_and_copies_of_an_image_are_no_repeats(tmp_path, masks):
    dataset, _ = add(tmp_path, files(masks, same_image=masks[0] is masks[-1]), "--allow-empty")
    assert dataset.remarks == ()


@pytest.mark.parametrize(("num_same", "num_own"), [(50, 0), (50, 5)])
def test_one_mask_for_nearly_all_images_is_refused_with_the_way_out(tmp_path, num_same, num_own):
    made = files([MASKS[0]] * num_same + MASKS[1 : num_own + 1] + [EMPTY])
    found = refused(tmp_path, made, "--allow-empty")
    assert f"{num_same} of {num_same + num_own} images with a polyp have exactly the same mask" in found
    dataset, _ = add(tmp_path, made, "--allow-empty", "--mask-values", "128-255")
    assert any(f"{num_same} images have exactly the same mask" in remark for remark in dataset.remarks)


def test_few_images_with_one_mask_are_no_refusal(tmp_path):
    dataset, _ = add(tmp_path, files([MASKS[0]] * 4))
    assert dataset.remarks[0].startswith(
        "4 images have exactly the same mask as other images (0, 1, 2 and 1 more)"
    )


def test_a_copy_of_an_image_in_another_format_may_have_the_same_mask(tmp_path):
    dataset, _ = add(
        tmp_path, {"images/0.png": FRAME, "images/1.bmp": FRAME, "masks/0.png": MASK, "masks/1.png": MASK}
    )
    assert dataset.remarks == ()
