"""Networks of segmentation-models-pytorch and timm by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import timm
from segmentation_models_pytorch.encoders import encoders as smp_encoders
from torch import nn

from evenseg.errors import InputError
from evenseg.networks.deeplab_v2 import DeepLabV2
from evenseg.networks.depthwise import use_planes
from evenseg.networks.dpt import DPT
from evenseg.networks.outline import is_plain_transformer
from evenseg.networks.vit_pyramid import ViTPyramid
from evenseg.schema import nearest

_CONSTRUCTORS: dict[str, Any] = {**smp.MODEL_ARCHITECTURES_MAPPING, "deeplabv2": DeepLabV2, "dpt": DPT}

# Output strides of the architectures that dilate their encoder; the first is the one of their paper.
_OUTPUT_STRIDES = {
    "deeplabv2": (8, 16, 32),
    "deeplabv3": (8, 16),
    "deeplabv3plus": (16, 8),
    "pan": (16, 32),
    "pspnet": (8, 16, 32),
}

# Architectures for plain vision transformers
_FOR_PLAIN = ("dpt", "segformer", "upernet")

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Parts(NamedTuple):
    """encoder, decoder, segmentation_head: a network without its final upsampling.
    multiple: image sides must be multiples of it. mean, std: of RGB images in [0, 1]."""

    encoder: nn.Module
    decoder: nn.Module
    segmentation_head: nn.Module
    multiple: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def architecture_names() -> list[str]:
    """Names of all architectures."""
    return sorted(_CONSTRUCTORS)


def encoder_names() -> list[str]:
    """Names of all encoders: smp's own and, with the prefix ``tu-``, timm's."""
    return sorted(smp_encoders) + [f"tu-{name}" for name in timm.list_models()]


def resolve_architecture(name: str) -> str:
    """``DeepLabV3+``, ``deeplab-v3-plus`` and the like to ``deeplabv3plus``; InputError if unknown."""
    resolved = re.sub(r"[-_ ]", "", name.lower()).replace("+", "plus")
    if resolved not in _CONSTRUCTORS:
        raise InputError(
            f"network.architecture: there is no {name!r}{nearest(resolved, architecture_names())}; "
            f"choose one of {', '.join(architecture_names())}"
        )
    return resolved


def resolve_encoder(name: str) -> str:
    """The name in lower case; InputError if unknown."""
    resolved = name.lower()
    if resolved in smp_encoders:
        return resolved
    if resolved.startswith("tu-") and timm.is_model(resolved[3:]):
        base, _, tag = resolved[3:].partition(".")
        if tag and tag not in _timm_tags(base):
            choice = ", ".join(f"tu-{base}.{known}" for known in _timm_tags(base)) or f"tu-{base}"
            raise InputError(f"network.encoder: tu-{base} has no weights {tag!r}; choose one of {choice}")
        return resolved
    if timm.is_model(resolved):
        raise InputError(f"network.encoder: {name!r} is an encoder of timm, write 'tu-{resolved}'")
    raise InputError(
        f"network.encoder: there is no {name!r}{nearest(resolved, encoder_names())}; "
        "choose an encoder of segmentation-models-pytorch, or one of timm with the prefix tu-"
    )


def build_parts(
    architecture: str,
    encoder: str,
    *,
    num_classes: int,
    output_stride: int | None,
    hub_tag: str | None,
    aspp_branches: int = 4,
) -> Parts:
    """Build a network from resolved names.

    Args:
        architecture, encoder: as the ``resolve_`` functions return them.
        num_classes: C.
        output_stride: as in :class:`evenseg.networks.SegmentationNetwork`.
        hub_tag: pretrained weights of the encoder, downloaded unless cached; None: random weights.
        aspp_branches: as in :class:`evenseg.networks.SegmentationNetwork`.

    Raises:
        InputError: an output stride or tag that does not exist, weights that cannot be downloaded, or an
            encoder that does not fit the architecture.
    """
    strides = _OUTPUT_STRIDES.get(architecture)
    if strides and output_stride is not None and output_stride not in strides:
        choice = " or ".join(map(str, sorted(strides)))
        raise InputError(f"network.output_stride: {architecture} takes {choice}, not {output_stride}")
    if hub_tag is not None:
        encoder = _with_tag(encoder, hub_tag)
    options = _architecture_options(architecture, (output_stride or strides[0]) if strides else None)
    if architecture == "deeplabv2":
        options["aspp_branches"] = aspp_branches
    weights = None if hub_tag is None else True if encoder.startswith("tu-") else hub_tag
    try:
        with _quiet_hub():
            model = _construct(architecture, encoder, encoder_weights=weights, classes=num_classes, **options)
            mean, std = _normalisation(encoder, hub_tag)
    except OSError as error:
        raise InputError(
            f"network.weights: {hub_tag!r} of {encoder} could not be downloaded; check the connection, or give "
            f"the path of a local file (.safetensors, .pth), or null for random weights ({type(error).__name__})"
        ) from error
    except Exception as error:  # smp and timm refuse combinations with errors of many types
        raise unfit(architecture, encoder, error) from error
    head = model.segmentation_head
    if isinstance(head, smp.base.SegmentationHead):
        head = head[0]  # the convolution; upsampling is the wrapper's business
    use_planes(model)
    multiple = getattr(model, "multiple", None) or model.encoder.output_stride
    return Parts(model.encoder, model.decoder, head, multiple, mean, std)


def unfit(architecture: str, encoder: str, error: Exception) -> InputError:
    """The error for an encoder that does not go with an architecture."""
    remedy = "choose another encoder"
    if architecture in _OUTPUT_STRIDES:
        remedy += " that can be dilated (such as resnet50), or an architecture that does not dilate (such as upernet)"
    elif architecture == "dpt":
        remedy += ", a vision transformer such as tu-vit_small_patch16_224"
    elif is_plain_transformer(encoder):
        remedy += f", or an architecture for plain transformers ({', '.join(_FOR_PLAIN)})"
    return InputError(f"network.encoder: {encoder} does not go with {architecture}: {first_line(error)}; {remedy}")


def first_line(error: Exception) -> str:
    """The first line of an error message, short enough to quote."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return text if len(text) <= 200 else f"{text[:197]}..."


def _architecture_options(architecture: str, stride: int | None) -> dict[str, Any]:
    if stride is None:
        return {}
    if architecture == "pspnet":
        # the paper's: all stages of a dilated encoder; smp's default would stop after the third
        return {"encoder_depth": 5, "output_stride": stride}
    options: dict[str, Any] = {"encoder_output_stride": stride}
    if architecture in ("deeplabv3", "deeplabv3plus"):
        # Chen et al., 2017 and 2018: rates 6, 12, 18 at output stride 16, doubled at 8
        options["decoder_atrous_rates"] = tuple(rate * 16 // stride for rate in (6, 12, 18))
    return options


def _construct(architecture: str, encoder: str, **options: Any) -> Any:
    """Call the constructor; transformers made for one image size are asked to take any."""
    constructor = _CONSTRUCTORS[architecture]
    if architecture in ("segformer", "upernet") and is_plain_transformer(encoder):
        constructor = partial(ViTPyramid, architecture)
    config = timm.get_pretrained_cfg(encoder[3:]) if encoder.startswith("tu-") else None
    if config is not None and config.fixed_input_size:
        for any_size in ({"dynamic_img_size": True}, {"strict_img_size": False}):
            try:
                return constructor(encoder, **options, **any_size)
            except TypeError as error:  # timm's classes have one of the two options, or none
                if not any(name in str(error) for name in any_size):
                    raise
    return constructor(encoder, **options)


def _with_tag(encoder: str, tag: str) -> str:
    """The encoder's name for weights ``tag`` (timm carries the tag in the name); InputError if there are none."""
    if encoder.startswith("tu-"):
        base = encoder[3:].partition(".")[0]
        known = _timm_tags(base)
        if tag == "imagenet" and known:
            return encoder
        if tag in known:
            return f"tu-{base}.{tag}"
    else:
        known = list(smp_encoders[encoder]["pretrained_settings"])
        if tag in known:
            return encoder
    choice = f"choose one of {', '.join(known)}" if known else "use null"
    raise InputError(f"network.weights: {encoder} has no weights {tag!r}, and there is no such file; {choice}")


def _timm_tags(base: str) -> list[str]:
    """Tags of the pretrained weights of a timm encoder."""
    return [name.partition(".")[2] for name in timm.list_models(f"{base}.*", pretrained=True)]


def _normalisation(encoder: str, hub_tag: str | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the encoder's preprocessing; ImageNet's where they are not known offline."""
    if encoder.startswith("tu-"):
        config = timm.get_pretrained_cfg(encoder[3:])
        return (tuple(config.mean), tuple(config.std)) if config else _IMAGENET
    if hub_tag is None:
        return _IMAGENET
    settings = smp.encoders.get_preprocessing_params(encoder, pretrained=hub_tag)
    largest = settings["input_range"][1]  # 1, or 255
    return tuple(v / largest for v in settings["mean"]), tuple(v / largest for v in settings["std"])


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Without the hub's warnings about retries: what fails is reported in one line."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
