"""Frozen, validated configuration of one fit, and the id that is its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from orchestrator.data.augmentation.names import BY_STRENGTH, NAMES, STRENGTH, name_problem
from orchestrator.training.jobs import job_kind
from orchestrator.training.sampling import Sampling

FIT_VERSION = 3  # to be raised when a change of data, training or networks changes the numbers of a fit

Tta = Literal["none", "flips"]
# The views whose probabilities are averaged, by the axes of (B, C, H, W) that each flips: 2 vertically, 3 horizontally.
VIEWS: dict[Tta, tuple[tuple[int, ...], ...]] = {"none": ((),), "flips": ((), (2,), (3,), (2, 3))}
# What each is: losses/registry.py, whose registry has an entry for every name.
LossName = Literal[
    "bce_dice",
    "bce_iou",
    "bce",
    "mse",
    "dice",
    "iou",
    "bce_squared_dice",
    "structure",
    "structure_unweighted_bce",
    "structure_pixel_iou",
    "tversky",
    "focal_tversky",
    "lovasz_hinge",
    "dice_boundary",
    "bce_dice_boundary_f1",
]

# Values with which a field leaves training as it was before the field.
OFF: dict[str, Any] = {
    "tta": "none",
    "weight_averaging": "none",
    "encoder_learning_rate_factor": 1.0,
    "freeze_epochs": 0,
    "sampling": "cases",
}
# Fields that need a network with an encoder from timm.
ENCODER = ("encoder_learning_rate_factor", "freeze_epochs")
# Of time and memory alone.
NO_RESULT = ("gradient_checkpointing",)
# Fields that act with some values of another alone.
USED_WITH: dict[str, tuple[str, tuple[str, ...]]] = {
    "averaging_start": ("weight_averaging", ("swa", "ema")),
    "ema_decay": ("weight_averaging", ("ema",)),
    "momentum": ("optimizer", ("sgd",)),
    "nesterov": ("optimizer", ("sgd",)),
    "restart_period": ("schedule", ("warm_restarts",)),
    "restart_multiplier": ("schedule", ("warm_restarts",)),
    "poly_power": ("schedule", ("poly",)),
    "augmentation_strength": ("augmentation", (BY_STRENGTH,)),
}


def acts_with(name: str) -> list[tuple[str, Callable[[object], bool]]]:
    """Other fields that decide whether a field has any effect, each with a test of its value."""
    used = USED_WITH | {
        "plateau_patience": ("schedule", ("plateau",))
    }  # whose value has been in ids of fits ever since
    found: list[tuple[str, Callable[[object], bool]]] = []
    if name in used:
        other, values = used[name]
        found.append((other, lambda value: value in values))
    if name == "freeze_epochs":
        found.append(("encoder_learning_rate_factor", bool))  # one of 0 holds the encoder all along
    return found


SMALLEST_SCALE, LARGEST_SCALE = 0.25, 4.0


def _scales(value: object) -> object:
    """Scales of "0.75, 1, 1.25", sorted, each once: values in a search-space file are scalars."""
    try:
        scales = [float(part) for part in value.split(",")] if isinstance(value, str) else value
    except ValueError:
        scales = None
    if not isinstance(scales, list | tuple) or not all(isinstance(scale, int | float) for scale in scales):
        raise PydanticCustomError(
            "scales", "Input should be numbers with commas between, such as '0.75, 1, 1.25'"
        )
    if not scales or not all(SMALLEST_SCALE <= scale <= LARGEST_SCALE for scale in scales):
        raise PydanticCustomError(
            "scales", f"Input should be one or more numbers from {SMALLEST_SCALE} to {LARGEST_SCALE}"
        )
    return tuple(sorted({float(scale) for scale in scales}))


Scales = Annotated[
    tuple[float, ...],
    BeforeValidator(_scales),
    WithJsonSchema({"type": "string", "pattern": r"^\s*[0-9.]+\s*(,\s*[0-9.]+\s*)*$"}),
]


def _augmentation(value: object) -> object:
    if (problem := name_problem(value)) is not None:
        expected = problem.removeprefix("expected ").partition("; found ")[0]
        raise PydanticCustomError("augmentation", "Input should be {expected}", {"expected": expected})
    return value


Augmentation = Annotated[
    str,
    BeforeValidator(_augmentation),
    WithJsonSchema(
        {"anyOf": [{"enum": list(NAMES)}, {"type": "string", "pattern": "^(albumentations|file):"}]}
    ),
]


class Recipe(BaseModel):
    """Configuration of training. Every field can be fixed or searched by a search-space file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(256, ge=32, le=2048, description="input side in pixels, square")
    epochs: int = Field(60, ge=1, le=10_000, description="passes over the training cases of a fold")
    batch_size: int = Field(16, ge=1, le=4096, description="images per optimizer step, over all workers")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="peak rate of the schedule")
    optimizer: Literal["adam", "adamw", "nadam", "sgd", "lion", "muon"] = Field(
        "adamw", description="optimizer; lion needs a tenth of the learning rate of the others"
    )
    weight_decay: float = Field(
        1e-4, ge=0, le=1, description="decoupled for adamw, lion and muon, L2 for adam, nadam and sgd"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    nesterov: bool = Field(False, description="for sgd, use Nesterov's form of momentum")
    schedule: Literal["cosine", "plateau", "constant", "warm_restarts", "poly"] = Field(
        "cosine",
        description="cosine to zero over all epochs, warm_restarts to zero in cycles, poly by a power; plateau divides "
        "by ten; or constant",
    )
    restart_period: int = Field(10, ge=1, description="for warm_restarts, epochs of the first cycle")
    restart_multiplier: int = Field(
        2, ge=1, description="for warm_restarts, length of a cycle relative to the one before"
    )
    poly_power: float = Field(0.9, gt=0, le=10, description="for poly, power of the share of epochs left")
    warmup_epochs: int = Field(0, ge=0, description="epochs of linear warm-up from a tenth of the rate")
    encoder_learning_rate_factor: float = Field(
        1.0,
        ge=0,
        le=1,
        description="learning rate of a pretrained encoder as a share of the peak rate; 0 freezes it",
    )
    freeze_epochs: int = Field(
        0, ge=0, description="first epochs during which a pretrained encoder is frozen"
    )
    plateau_patience: int = Field(
        5, ge=1, description="epochs without a better validation Dice before plateau acts"
    )
    loss: LossName = Field(
        "bce_dice", description="loss on logits; summed over side outputs where a network has them"
    )
    augmentation: Augmentation = Field(
        "standard",
        description="pipeline by name, or 'albumentations:[...]', 'file:NAME.json' of albumentations",
    )
    augmentation_strength: float = Field(
        STRENGTH,
        ge=0,
        le=1,
        description="for augmentation rand_augment, largest magnitude of every operation",
    )
    sampling: Sampling = Field(
        "cases",
        description="cases of an epoch: each once; or as many, drawn in equal shares by center, or by presence of a "
        "polyp",
    )
    scales: Scales = Field(
        (1.0,),
        description='multi-scale training, as "0.75, 1, 1.25": each batch is resized to one of these times image_size',
        json_schema_extra={"default": "1"},
    )
    clip_norm: float = Field(1.0, gt=0, description="largest L2 norm of the gradient")
    gradient_checkpointing: bool = Field(
        False,
        description="compute parts of the network again in the backward pass: less memory, the same result",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where native, fp16 with a scaler on other GPUs, fp32 on CPUs"
    )
    patience: int = Field(
        0, ge=0, description="stop after this many epochs without a better validation Dice; 0: never"
    )
    tta: Tta = Field(
        "none",
        description="test-time augmentation: flips averages the probabilities of an image and its three flips",
    )
    weight_averaging: Literal["none", "swa", "ema"] = Field(
        "none",
        description="average the weights: swa after each epoch, ema after each step with decaying weights",
    )
    averaging_start: float = Field(
        0.75, ge=0, lt=1, description="share of the epochs after which weight averaging begins"
    )
    ema_decay: float = Field(0.99, gt=0, lt=1, description="for ema, weight of the old mean at each step")
    seed: int = Field(0, ge=0, lt=2**31, description="initial weights, order of cases, augmentation")

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum above 0, found 0")
        if self.warmup_epochs and self.schedule == "plateau":
            raise ValueError("warmup_epochs needs a schedule other than 'plateau'")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs needs to be below epochs = {self.epochs}, found {self.warmup_epochs}"
            )
        if self.freeze_epochs >= self.epochs:
            raise ValueError(
                f"freeze_epochs needs to be below epochs = {self.epochs}, found {self.freeze_epochs}; "
                "encoder_learning_rate_factor = 0 freezes the encoder all along"
            )
        return self

    @property
    def idle(self) -> frozenset[str]:
        """Fields without effect, given the others: momentum with Adam, for example."""
        names = type(self).model_fields
        return frozenset(
            name for name in names if not all(acts(getattr(self, other)) for other, acts in acts_with(name))
        )

    @property
    def departures(self) -> dict[str, Any]:
        """Fields that act and have another value than the default, in the order of the class."""
        fields = type(self).model_fields.items()
        values = ((name, getattr(self, name), one.default) for name, one in fields if name not in self.idle)
        return {name: value for name, value, default in values if value != default}

    @property
    def treats_encoder(self) -> bool:
        """Whether the recipe needs a network with a pretrained encoder."""
        return any(getattr(self, name) != OFF[name] for name in ENCODER)


@job_kind
class FitSpec(BaseModel):
    """Everything that determines the result of one fit; other values cannot change it.

    Threshold, white level and reference area are not included: they act on the histograms of a fit, so configurations
    that differ only in them share their fits. Filters act on maps, before pixels are counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    network_params: dict[str, Any] = {}
    recipe: Recipe
    datasets: dict[str, str]  # name -> fingerprint
    train: tuple[str, ...]  # case ids
    val: tuple[str, ...]  # case ids; empty for a refit, which then runs all its epochs
    fold: str  # "0" ... "4" or "refit": a label for people
    # of the file that the network starts from, if any: `network_params["weights"]`, or one of a package
    weights_sha256: str | None = None
    fill_holes: bool = False
    min_component_area: float = 0.0  # share of the frame
    stop_after: int | None = None  # epochs to run of the recipe's, for a refit; the schedule still spans all
    version: int = FIT_VERSION

    @property
    def fit_id(self) -> str:
        """Twenty hex digits of a hash of this specification.

        Options that a fit does not use are excluded, so that ids of fits from before these options stay valid.
        """
        meaning = self.model_dump(exclude={"fold"})
        for name in self._without():
            del meaning["recipe"][name]
        content = json.dumps(meaning, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:20]

    def _without(self) -> list[str]:
        """Fields of the recipe that this fit does not use."""
        recipe = self.recipe
        off = [name for name, value in OFF.items() if getattr(recipe, name) == value]
        return [*NO_RESULT, *off] + [
            name for name, (other, values) in USED_WITH.items() if getattr(recipe, other) not in values
        ]
