"""Export a network of a run: written aside, checked against the original, then put in place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from evenseg import __version__
from evenseg.config import Config
from evenseg.data.build import build_scored
from evenseg.data.image_io import decode_image
from evenseg.data.resize import resize_image
from evenseg.data.synthetic import SyntheticStreets
from evenseg.errors import InputError
from evenseg.export.check import Agreement, check
from evenseg.export.formats import FORMATS, Format, Handler, require, torch_predictor
from evenseg.export.graph import smallest_side, untraceable
from evenseg.export.pretrained import TrainedModel, described_classes
from evenseg.inference.inputs import expand_inputs
from evenseg.methods.base import Predictor
from evenseg.networks.base import SegmentationNetwork
from evenseg.training.folder import RunFacts, read_run, write_json
from evenseg.training.use import Which, load_method, predictor_of

DESCRIPTION = "model.json"
CHECKED = 4  # images


class Exported(NamedTuple):
    """files: written, the description last. images: which ones the agreement was found on, in words."""

    files: list[Path]
    images: str
    agreement: Agreement


def load_run(
    folder: str | Path, *, checkpoint: Which = "last", network: Literal["teacher", "student", "second"] | None = None
) -> TrainedModel:
    """One network of a run folder, on the CPU; default: the headline of the last checkpoint.

    Raises:
        InputError: no run, no such checkpoint or network, or a predictor that is more than a network.
    """
    return _load(Path(folder), *read_run(Path(folder)), checkpoint, network)


def export_run(
    folder: Path,
    format: Format,
    output: Path,
    *,
    which: Which = "last",
    network: Literal["teacher", "student", "second"] | None = None,
    check_on: Sequence[str] = (),
    overwrite: bool = False,
) -> Exported:
    """Write one network of a run in a format, and ``model.json`` that tells how to use it.

    Args:
        folder: the run folder.
        format: one of ``FORMATS``.
        output: folder to write to; made if missing. Files of an earlier export there are replaced.
        which, network: as in ``load_run``.
        check_on: images, folders and patterns to check on; default: the run's val or test images where
            they can be read, else synthetic scenes.
        overwrite: whether an earlier export may be replaced.

    Raises:
        InputError: anything wrong with the arguments or the run, a network that the format cannot hold,
            or a written model that labels images otherwise than the trained one. Nothing is written then.
    """
    require(format)
    _refuse(output, overwrite)
    config, facts = read_run(folder)
    model = _load(folder, config, facts, which, network)
    images, source = _images(config, model, check_on)
    handler = FORMATS[format]
    place = next(parent for parent in output.absolute().parents if parent.is_dir())
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".evenseg-export-") as name:
            written = Path(name)
            handler.write(model, written)
            agreement = _checked(handler, written, model, images)
            write_json(written / DESCRIPTION, _description(model, format, source, agreement))
            return Exported(_put_in_place(written, output), source, agreement)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror or error}); choose another --output") from None


def _load(folder: Path, config: Config, facts: RunFacts, which: Which, role: str | None) -> TrainedModel:
    name, predictor = predictor_of(load_method(folder, config, facts, which), role)
    network = predictor.network if isinstance(predictor, Predictor) else None
    if not isinstance(network, SegmentationNetwork):
        raise InputError(
            f"{folder}: the {name} of {config.method_name} is more than one network and cannot be taken away alone; "
            "choose the other --network"
        )
    resize = config.data.resize if config.data.dataset == "folder" else None
    return TrainedModel(network.eval(), facts.classes, resize, f"{which}_{name} of {folder.resolve().name}")


def _checked(handler: Handler, written: Path, model: TrainedModel, images: Sequence[np.ndarray]) -> Agreement:
    network = model.network
    try:
        return check(
            handler.read(written),
            torch_predictor(model),
            images,
            multiple=network.multiple,
            smallest=smallest_side(network),
        )
    except InputError:
        raise
    except Exception as error:  # runtimes raise errors of many types
        raise untraceable(network, error) from None


def _refuse(output: Path, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file, not a folder; choose another --output")
    for name in _own_files():
        if (output / name).exists() and not overwrite:
            raise InputError(f"{output / name}: exists already; add --overwrite, or choose another --output")


def _own_files() -> list[str]:
    return [DESCRIPTION, *(name for handler in FORMATS.values() for name in handler.files)]


def _put_in_place(written: Path, output: Path) -> list[Path]:
    """Move the files to where they belong; those of an earlier export in another format go."""
    output.mkdir(parents=True, exist_ok=True)
    names = sorted((path.name for path in written.iterdir()), key=lambda name: (name == DESCRIPTION, name))
    for name in names:
        os.replace(written / name, output / name)
    for name in _own_files():
        if name not in names:
            (output / name).unlink(missing_ok=True)
    return [output / name for name in names]


def _images(config: Config, model: TrainedModel, named: Sequence[str]) -> tuple[list[np.ndarray], str]:
    """Some images as the network would see them, (H, W, 3) uint8, and which they are."""
    if named:
        paths = [source.path for source in expand_inputs(named)]
        chosen = [paths[index] for index in _spread(len(paths))]
        return [resize_image(decode_image(path), model.resize) for path in chosen], f"{len(chosen)} images of --check"
    splits: tuple[Literal["val", "test"], ...] = ("val", "test")
    for split in splits:
        try:
            dataset = build_scored(config.data, split, seed=config.seed)
            chosen_images = [dataset.image(index) for index in _spread(len(dataset))]
        except InputError:  # not set, moved away, or changed: the run can be taken away all the same
            continue
        return chosen_images, f"{len(chosen_images)} {split} images of the run"
    scenes = SyntheticStreets(seed=0, first=0, count=CHECKED, size=(192, 256))
    return [scenes.image(index) for index in range(CHECKED)], (
        f"{CHECKED} synthetic scenes, as the run's val and test images cannot be read"
    )


def _spread(count: int) -> list[int]:
    """Up to ``CHECKED`` positions among ``count``, evenly."""
    return sorted({index * count // CHECKED for index in range(CHECKED)})


def _description(model: TrainedModel, format: Format, source: str, agreement: Agreement) -> dict[str, Any]:
    network, handler = model.network, FORMATS[format]
    scale, shift = network.scale.flatten().tolist(), network.shift.flatten().tolist()
    count = model.classes.num_classes
    return {
        "format": format,
        "file": handler.files[0],
        "evenseg": __version__,
        "origin": model.origin,
        "architecture": network.architecture,
        "encoder": network.encoder_name,
        "input": {
            "name": "image",
            "shape": ["batch", 3, "height", "width"],
            "dtype": "uint8" if handler.graph else "float32",
            "channels": "RGB",
            "smallest_side": smallest_side(network),
        },
        "output": {"name": "logits", "shape": ["batch", count, "height", "width"], "dtype": "float32"},
        "resize": model.resize,
        "preprocessing": {
            "inside": handler.graph,
            "divide_by": 255,
            "mean": [round(-offset / factor, 6) for factor, offset in zip(scale, shift, strict=True)],
            "std": [round(1 / factor, 6) for factor in scale],
            "pad_to_multiple_of": network.multiple,
            "pad_at": "right and bottom, the edge continued; logits are cut back to the image",
        },
        **described_classes(model.classes),
        "check": {"images": source, "pixels": agreement.pixels, "lowest_agreement": agreement.lowest},
    }
