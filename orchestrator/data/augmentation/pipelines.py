"""Augmentation pipelines by name, seeded: the same image, mask and seed give the same result, always.

The docstring of a paper's pipeline gives what the paper states, what its code does, and what both leave open. Numbers
in pixels hold for frames of 256, the papers' size, and scale with `image_size`. Networks without a pipeline use `none`:
PraNet and Parallel-Res2Net (which train at several scales: the recipe's `scales`), and MSRF-Net as published; the code
of GMSRF-Net and ColonSegNet does not augment either, although their papers say so.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable

import cv2
import numpy as np

from orchestrator.data.augmentation.color import Blur, ChannelShift, Light, Sharpen, Value, gray
from orchestrator.data.augmentation.geometry import (
    Affine,
    Corners,
    Crop,
    Cutout,
    Elastic,
    Flip,
    MaskEdge,
    Move,
    Resize,
    RotateWhole,
)
from orchestrator.data.augmentation.library_pipelines import build
from orchestrator.data.augmentation.names import BY_STRENGTH, NAMES, STRENGTH, is_of_library, name_problem
from orchestrator.data.augmentation.steps import (
    Chain,
    Frame,
    Library,
    OneOf,
    Pixels,
    Step,
    pack,
    resize_frame,
    unpack,
)

# A frame of 576 pixels for one of 256: Kvasir-SEG frames have a median size of 621 x 530, here made square.
KVASIR_SIDE = 576


class Pipeline:
    """A callable: image uint8 (R, R, 3), mask uint8 (R, R) and a seed -> image and mask (S, S), transformed together.

    R is `source_size`, to which frames must be resized before; larger than S, the `image_size`, where windows are
    cropped. The input arrays are not changed.
    """

    def __init__(self, name: str, image_size: int, strength: float = STRENGTH) -> None:
        """`strength`: from 0 to 1, of pipelines whose magnitudes follow one number; others do not use it."""
        if (problem := name_problem(name)) is not None:
            raise ValueError(problem)
        self.name = name
        self.image_size = image_size
        self.strength = strength
        self.source_size = round(image_size * _SOURCES.get(name, 1))
        own = (Library(1.0, lambda _: build(name)),) if is_of_library(name) else ()
        steps = own or (random_operations(strength) if name == BY_STRENGTH else _PIPELINES[name](image_size))
        self._move = steps[0] if steps and isinstance(steps[0], Move) else None
        self._steps = Chain(steps if self._move is None else steps[1:])

    def __reduce__(self) -> tuple[type, tuple[str, int, float]]:
        return type(self), (self.name, self.image_size, self.strength)

    def __call__(self, image: Pixels, mask: Pixels, seed: int) -> Frame:
        return self.of_packed(pack(image, mask), seed)

    def of_packed(self, frame: Pixels, seed: int) -> Frame:
        """Result for a frame (R, R, 4) as cached: most pipelines move all four channels first."""
        rng = np.random.default_rng(seed)
        image, mask = unpack(frame) if self._move is None else self._move.of_packed(frame, rng)
        return resize_frame(*self._steps(image, mask, rng), self.image_size)


def pipeline(name: str, image_size: int, strength: float = STRENGTH) -> Pipeline:
    """The pipeline with this name for square images; ValueError lists the known names."""
    return Pipeline(name, image_size, strength)


def summary(name: str) -> str:
    """Description of a pipeline in one line."""
    if is_of_library(name):
        return "Transforms of albumentations, as given."
    return (inspect.getdoc(_PIPELINES[name]) or name).splitlines()[0]


def case_seed(seed: int, epoch: int, case_id: str) -> int:
    """Seed of 32 bits that differs between epochs and cases, and is the same on every machine."""
    digest = hashlib.blake2b(f"{seed} {epoch} {case_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


_PIPELINES: dict[str, Callable[[int], tuple[Step, ...]]] = {}
_SOURCES: dict[str, float] = {}  # size of the frames that a pipeline reads, relative to its result


def _named(name: str, source: float = 1) -> Callable[[Callable[[int], tuple[Step, ...]]], None]:
    def add(steps: Callable[[int], tuple[Step, ...]]) -> None:
        assert name in NAMES, name
        _PIPELINES[name], _SOURCES[name] = steps, source

    return add


@_named("none")
def _none(image_size: int) -> tuple[Step, ...]:
    """No augmentation."""
    return ()


@_named("flips")
def _flips(image_size: int) -> tuple[Step, ...]:
    """Horizontal and vertical flips, each with probability 0.5."""
    return (Move(flip=0.5),)


@_named("standard")
def _standard(image_size: int) -> tuple[Step, ...]:
    """Flips, quarter turns, shift, scale and rotation, color jitter, slight blur. Ours, from no paper."""
    blur = max(3, image_size // 100 * 2 + 1)  # odd: 5 pixels at 256
    moved = Affine(p=0.7, shift=(-0.1, 0.1), scale=(0.75, 1.25), rotate=(-30, 30))
    wide = (0.75, 1.25)
    return (
        Move(flip=0.5, turn=0.5, affine=(moved,)),
        Light(p=0.8, brightness=wide, contrast=wide, saturation=wide, hue=(-10.8, 10.8)),
        Blur(p=0.2, most=blur),
    )


@_named("gmsrf_net")
def _gmsrf_net(image_size: int) -> tuple[Step, ...]:
    """GMSRF-Net (arXiv:2111.10614): flips, crops, color jitter.

    The paper prints the three words and no number, and its code does not augment. Ours: flips with probability 0.5,
    windows of 3/4 to all of the side with probability 0.5, and jitter by a fifth.
    """
    fifth = (0.8, 1.2)
    return (
        Move(flip=0.5),
        Crop(share=(0.75, 1), p=0.5),
        Light(p=0.8, brightness=fifth, contrast=fifth, saturation=fifth, hue=(-10, 10)),
    )


@_named("resunet_pp", source=KVASIR_SIDE / 256)
def _resunet_pp(image_size: int) -> tuple[Step, ...]:
    """ResUNet++ (arXiv:1911.07067): crops of 320 resized to 256, flips, scale, rotation, cutout, brightness.

    The paper's list with its crop of 320 pixels; it prints no other number, so the others are those of its code, as in
    `resunet_pp_code`, without the grey copies, which the paper does not mention.
    """
    return (OneOf(*_stored_copies(image_size, crop=320)),)


@_named("resunet_pp_code", source=KVASIR_SIDE / 256)
def _resunet_pp_code(image_size: int) -> tuple[Step, ...]:
    """ResUNet++ as in its code, and Ali et al.'s DASPP variants: one of 31 copies of each frame.

    The code stores the frame and 30 copies, each with one change: six windows of 300 pixels (one in the middle), both
    flips, three times a window of 300 out of the frame at 512 to 768, 540 to 820 or 720 to 1024 pixels, five rotations
    by 0 to 90 degrees that keep the whole frame, three squares of 256 pixels cut out (mean value, no polyp), value of
    HSV times 0.3 to 1.3, 0.6 to 1.6 and 0.9 to 1.9, and grey copies of eight of these. Here one of the 31 is sampled
    each time, so an epoch of theirs is 31 of ours. They crop frames of many sizes; ours are square first, 576 pixels
    for 256, near the 621 x 530 of Kvasir-SEG. They rotate with splines and store JPEG; we do neither.
    """
    greyed: tuple[Step, ...] = (
        Chain(()),
        Crop(share=_share(300), centered=True),
        Crop(share=_share(300)),
        Flip(0),
        Flip(1),
        _scaled(300, 512, 768),
        Chain((Resize(image_size), Value((0.6, 1.6)))),
        Chain((Resize(image_size), Value((0.9, 1.9)))),
    )
    grey = ((1, Chain((step, Resize(image_size), gray))) for step in greyed)
    return (OneOf(*_stored_copies(image_size, crop=300), *grey),)


@_named("att_unet")
def _att_unet(image_size: int) -> tuple[Step, ...]:
    """Attention U-Net of MediaEval 2020: flips, rotation by 5 degrees, elastic, channel shift, sun flare.

    The paper has the list and +-5 degrees; the rest is from its code: flips and rotation with probability 0.5, the
    others 0.2; channels shifted by up to 10 of 255; one or two flare circles and a source of radius 160; elastic with
    alpha 2 and sigma 15, which moves a pixel by 0.02, after three points were displaced by up to 25 pixels each, which
    is the visible effect. The code also augments its validation frames; here they are not changed.
    """
    unit = image_size / 256
    turned, astray = Affine(p=0.5, rotate=(-5, 5)), Corners(p=1, share=25 / 256)
    mirror = cv2.BORDER_REFLECT_101
    return (
        Move(flip=0.5, affine=(turned,), border=mirror),
        Library(
            0.2,
            lambda A: A.RandomSunFlare(  # noqa: N803
                num_flare_circles_range=(1, 2), src_radius=max(2, round(160 * unit)), p=1
            ),
        ),
        ChannelShift(p=0.2, limit=10),
        OneOf(
            (0.8, Chain(())),
            (
                0.2,
                Chain((Move(affine=(astray,), border=mirror), Elastic(p=1, alpha=2 * unit, sigma=15 * unit))),
            ),
        ),
    )


@_named("uacanet")
def _uacanet(image_size: int) -> tuple[Step, ...]:
    """UACANet (arXiv:2107.02368), by its code: scale, flips, any rotation, light, sharpness, and edges of masks.

    Each with probability 0.5: scale 0.75 to 1.25 about the middle, flips both ways, rotation by 0 to 358 degrees,
    contrast, brightness and sharpness times 1 to 1.1. The mask grows in a third of the frames and shrinks in a third,
    by an ellipse of 2 to 4 pixels at any size. The code rotates without interpolation, scales before it flips, and
    shuffles the order of contrast, brightness and sharpness.
    """
    scaled, rotated = Affine(p=0.5, scale=(0.75, 1.25)), Affine(p=0.5, rotate=(0, 358))
    tenth = (1.0, 1.1)
    return (
        Move(flip=0.5, affine=(scaled, rotated)),
        Light(p=0.5, contrast=tenth),
        Light(p=0.5, brightness=tenth),
        Sharpen(p=0.5, factor=tenth),
        MaskEdge(p=1 / 3, pixels=(2, 4)),
    )


@_named("colonsegnet")
def _colonsegnet(image_size: int) -> tuple[Step, ...]:
    """ColonSegNet (arXiv:2011.07631): flips, rotation, scale, crop.

    The paper has the four words and no number; its code's script for stored copies is called with augmentation off.
    Ours, each with probability 0.5: flips, a rotation by up to 90 degrees, scale 0.75 to 1.25, and windows of 448 of
    512 pixels, the one crop size in that script.
    """
    rotated, scaled = Affine(p=0.5, rotate=(-90, 90)), Affine(p=0.5, scale=(0.75, 1.25))
    return (Move(flip=0.5, affine=(rotated, scaled)), Crop(share=(448 / 512, 448 / 512), p=0.5))


@_named(BY_STRENGTH)
def _rand_augment(image_size: int) -> tuple[Step, ...]:
    """Flips, then two of eleven operations at one strength, as RandAugment (arXiv:1909.13719); numbers ours.

    The recipe's `augmentation_strength`, from 0 (flips alone) to 1, is the largest magnitude of each: rotation by up to
    45 degrees, shift by 0.25 of the side, scale 0.6 to 1.4, corners moved by 0.15, brightness, contrast and saturation
    times 0.2 to 1.8, hue by 30 degrees, channels by 60 of 255, sharpness 0.1 to 1.9; or nothing. Each magnitude is
    sampled up to its largest, where RandAugment uses that itself; its posterize, solarize, equalize and cutout are left
    out, which change what a polyp looks like or hide it. Masks move along.
    """
    return random_operations(STRENGTH)


def random_operations(strength: float) -> tuple[Step, ...]:
    """Steps of `rand_augment` at this strength, from 0 to 1."""
    around = (1 - 0.8 * strength, 1 + 0.8 * strength)
    moves = (
        Affine(p=1, rotate=(-45 * strength, 45 * strength)),
        Affine(p=1, shift=(-0.25 * strength, 0.25 * strength)),
        Affine(p=1, scale=(1 - 0.4 * strength, 1 + 0.4 * strength)),
        Corners(p=1, share=0.15 * strength),
    )
    lights = (
        Light(p=1, brightness=around),
        Light(p=1, contrast=around),
        Light(p=1, saturation=around),
        Light(p=1, hue=(-30 * strength, 30 * strength)),
        ChannelShift(p=1, limit=60 * strength),
        Sharpen(p=1, factor=(1 - 0.9 * strength, 1 + 0.9 * strength)),
    )
    operations: tuple[Step, ...] = (Chain(()), *(Move(affine=(move,)) for move in moves), *lights)
    one = OneOf(*((1, operation) for operation in operations))
    return Move(flip=0.5), one, one


def _stored_copies(image_size: int, crop: int) -> tuple[tuple[float, Step], ...]:
    """Weights and steps of the frame and its 22 copies that keep their color."""
    whole = Resize(image_size)
    return (
        (1, whole),
        (1, Crop(share=_share(crop), centered=True)),
        (5, Crop(share=_share(crop))),
        *((1, Chain((whole, Flip(axis)))) for axis in (0, 1)),
        *((1, _scaled(crop, low, high)) for low, high in ((512, 768), (540, 820), (720, 1024))),
        (5, Chain((whole, RotateWhole(degrees=(0, 90))))),
        (3, Chain((whole, Cutout(share=256 / KVASIR_SIDE)))),
        *((1, Chain((whole, Value((low, low + 1))))) for low in (0.3, 0.6, 0.9)),
    )


def _share(crop: int) -> tuple[float, float]:
    return crop / KVASIR_SIDE, crop / KVASIR_SIDE


def _scaled(crop: int, low: int, high: int) -> Crop:
    """A window of `crop` pixels out of a frame that was resized to a side of `low` to `high` pixels."""
    return Crop(share=(crop / high, crop / low))
