"""The section ``data``: the data set, its splits, and the views made of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from evenseg.config.section import Count, Fraction, NonNegative, Positive, Section, Size

Range = tuple[Positive, Positive]  # low, high
Scale = Annotated[Range | Annotated[list[Positive], Field(min_length=1)], Field(union_mode="left_to_right")]

Operation = Literal[
    "identity",
    "autocontrast",
    "equalize",
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
    "posterize",
    "solarize",
    "invert",
    "solarize_add",
]


class StrongConfig(Section):
    """The strong view: what is done to the colours of the weak view, per image."""

    policy: Literal["color", "randaugment", "color_randaugment", "none"] = "color"
    probability: Fraction = 0.8  # of the colour jitter
    brightness: NonNegative = 0.5
    contrast: NonNegative = 0.5
    saturation: NonNegative = 0.5
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.25
    grey: Fraction = 0.2  # probability
    blur: Fraction = 0.5  # probability
    blur_sigma: Range = (0.1, 2.0)  # pixels
    operations: Size = 2  # randaugment: operations per image
    operation_names: Annotated[list[Operation], Field(min_length=1)] | None = None  # null: the first nine
    operation_probability: Fraction = 1.0  # randaugment: of each operation that is drawn
    magnitude: Fraction = 0.3  # randaugment: strength, 0 to 1
    magnitude_std: NonNegative = 0.0  # of a normal distribution around it, cut off at 0 and 1
    both_ways: bool = True  # randaugment: factors below 1 as often as above

    @field_validator("blur_sigma")
    @classmethod
    def _low_before_high(cls, value: Range) -> Range:
        if value[0] > value[1]:
            raise PydanticCustomError("descending", "the low end of a range comes first")
        return value


class DataConfig(Section):
    """The data set, its splits and the views made of it."""

    dataset: str = "folder"
    root: str | None = None
    classes: str | None = None  # folder: classes.json elsewhere than in root
    train: str | None = None  # list or folder that a fraction or count in `labeled` draws from
    labeled: str | int | float | None = None  # list, folder, fraction ("1/16", 0.0625) or count
    fold: Count = 0
    unlabeled: str | None = None  # list or folder; default: the rest of `train`
    pseudo_labeled: str | None = None  # list of images with labels that a network has made
    subclasses: str | None = None  # folder with subclass maps of the labeled images, made by evenseg cluster
    val: str | None = None
    test: str | None = None
    labels: str | None = None  # folder of label maps, where `labeled`, `val`, ... are folders of images
    resize: Size | tuple[Size, Size] | None = None  # [height, width] or short side, before any view and for scoring
    crop: tuple[Size, Size] = (512, 512)  # height, width; default for synthetic scenes: their size
    scale: Scale = (0.5, 2.0)  # a range, or (one, three or more) a list to choose from
    unlabeled_scale: Scale | None = None  # default: `scale`
    flip: Fraction = 0.5
    rotation: NonNegative = 0.0  # largest angle in degrees
    rotation_probability: Fraction = 0.5
    blur: Fraction = 0.0  # probability, of labeled and pseudo-labeled views
    strong: StrongConfig = StrongConfig()
    workers: Count = 2
    cache: bool = False
    max_unreadable: Count = 0
    # the synthetic data set
    size: tuple[Size, Size] = (96, 128)  # height, width
    train_images: Size = 512
    val_images: Size = 64
    test_images: Size = 128

    @field_validator("scale", "unlabeled_scale")
    @classmethod
    def _low_before_high(cls, value: object) -> object:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise PydanticCustomError("descending", "the low end of a range comes first")
        return value

    @model_validator(mode="after")
    def _synthetic_scenes_are_seen_whole(self) -> DataConfig:
        if self.dataset == "synthetic" and "crop" not in self.model_fields_set:
            object.__setattr__(self, "crop", self.size)  # past `frozen`: nobody has seen the section yet
        return self
