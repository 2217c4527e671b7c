"""The schema of a configuration: its sections, their keys, defaults and ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from evenseg.config.data import DataConfig
from evenseg.config.section import Count, NonNegative, Positive, Section, Size


class NetworkConfig(Section):
    """The network: an architecture on an encoder."""

    architecture: str = "deeplabv3plus"
    encoder: str = "resnet50"
    output_stride: Literal[8, 16, 32] | None = None  # None: the architecture's own, 8 or 16
    weights: str | None = None  # None: random; imagenet (or another hub tag); a local file
    auxiliary: bool = False  # an auxiliary head on the last-but-one encoder stage
    aspp_branches: Annotated[int, Field(ge=1, le=4)] = 4  # deeplabv2: how many of the rates 6, 12, 18, 24
    norm: Literal["batch", "frozen", "group"] = "batch"
    strong_statistics: Literal["shared", "separate"] = "shared"  # whether strong views count in running statistics
    frozen_encoder: bool = False  # never trained, its norm statistics kept


class OptimConfig(Section):
    """The optimiser and the schedule of its learning rate."""

    name: Literal["sgd", "adamw", "adam"] = "sgd"
    lr: Positive = 0.01
    head_lr: Positive = 1.0  # factor on `lr` for everything but the encoder
    # factor on the rate for every layer of the encoder further from the decoder; 1: one rate for all
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 1e-4
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    power: Positive = 0.9
    warmup_steps: Count = 0


class TrainConfig(Section):
    """The step loop."""

    steps: Size = 40000
    labeled_batch: Size = 8  # per optimiser step, whatever the number of processes
    unlabeled_batch: Size = 8
    pseudo_labeled_batch: Size | None = None  # default: `labeled_batch`
    pseudo_labeled_weight: NonNegative = 1.0  # of their loss
    pseudo_labeled_power: NonNegative = 0.0  # a pixel weighs the probability of its label to this power
    micro_batches: Size = 1  # parts a rank's batch is cut into, gradients accumulated
    precision: Literal["auto", "32", "bf16-mixed", "16-mixed"] = "auto"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    clip_norm: Positive | None = None
    compile: bool = False
    channels_last: bool = True
    sync_batchnorm: bool = False
    validate_every: Size = 1000
    checkpoint_every: Size = 500
    log_every: Size = 50
    max_skipped: Count = 0  # steps of non-finite loss that are left out before the run stops
    tensorboard: bool = False

    @field_validator("precision", mode="before")
    @classmethod
    def _number_or_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value

    @property
    def pseudo_batch(self) -> int:
        """Pseudo-labeled images per optimiser step, where there are any."""
        return self.labeled_batch if self.pseudo_labeled_batch is None else self.pseudo_labeled_batch


class EvaluateConfig(Section):
    """How images are scored: the protocol that is recorded with every result."""

    mode: Literal["whole", "sliding"] = "whole"
    window: tuple[Size, Size] | None = None  # sliding: default is the crop
    stride: tuple[Size, Size] | None = None  # sliding: default is two thirds of the window
    scales: list[Positive] = [1.0]  # noqa: RUF012 - pydantic copies it
    flip: bool = False
    batch: Size = 4


class HealthConfig(Section):
    """How closely the pseudo-labels are watched."""

    every: Count = 20  # examine those of every so many steps; 0: never
    pictures: Count = 4  # validation images drawn at every validation, and images as the student sees them
    holdout: Count = 0  # labeled images withheld from training, to hold pseudo-labels against; 0: those of `val` are
    views: Count | None = None  # of them at a validation; default: what 0.25 % of the training since pays for


# Recipes that can be named as a method, and the method that they then train with. Arguments are the recipe's.
STUDENTS = {"dars": "supervised", "usrn": "usrn_joint"}


class Config(Section):
    """A whole run."""

    method: str | dict[str, Any] = "supervised"
    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    health: HealthConfig = HealthConfig()
    seed: Count = 0
    recipe: str | dict[str, Any] | None = None  # several stages; null: one run
    # settings of single stages of the recipe, by dotted keys
    stages: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - as above

    @model_validator(mode="before")
    @classmethod
    def _method_may_be_a_recipe(cls, raw: object) -> object:
        method = raw.get("method") if isinstance(raw, dict) else None
        name = method.get("name") if isinstance(method, dict) else method
        if not isinstance(raw, dict) or not isinstance(name, str) or name not in STUDENTS:
            return raw
        if raw.get("recipe") is not None:
            raise ValueError(f"method: {name} is a recipe, and recipe names one too; choose the method it trains with")
        return {**raw, "recipe": method, "method": STUDENTS[name]}

    @model_validator(mode="after")
    def _method_has_a_name(self) -> Config:
        if isinstance(self.method, dict) and not isinstance(self.method.get("name"), str):
            raise ValueError("method needs a `name` beside its arguments, as in {name: fixmatch, threshold: 0.9}")
        if isinstance(self.recipe, dict) and not isinstance(self.recipe.get("name"), str):
            raise ValueError("recipe needs a `name` beside its arguments, as in {name: dars, ratios: [0.2, 0.5]}")
        if self.stages and self.recipe is None:
            raise ValueError("stages: a run without a recipe has no stages; set recipe, or leave them out")
        return self

    @property
    def method_name(self) -> str:
        """Name of the method, or ``file.py:Class``."""
        return self.method if isinstance(self.method, str) else str(self.method["name"])

    @property
    def recipe_name(self) -> str | None:
        """Name of the recipe, or ``file.py:Class``."""
        return str(self.recipe["name"]) if isinstance(self.recipe, dict) else self.recipe

    @property
    def method_arguments(self) -> dict[str, Any]:
        """Keyword arguments given for the method."""
        return {} if isinstance(self.method, str) else {k: v for k, v in self.method.items() if k != "name"}


# Keys that change how fast a run goes or how often it is saved, not what it computes: a run may be
# resumed with other values of them.
NEUTRAL_KEYS = frozenset(
    {
        "data.workers",
        "data.cache",
        "data.max_unreadable",
        "health.pictures",
        "train.checkpoint_every",
        "train.max_skipped",
        "train.tensorboard",
    }
)
