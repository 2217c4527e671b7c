"""The formats of an export: how each is written, and how the file is run again."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from evenseg.errors import InputError
from evenseg.export.graph import trace, untraceable
from evenseg.export.pretrained import TrainedModel

Format = Literal["onnx", "torch-export", "safetensors"]
Run = Callable[[np.ndarray], np.ndarray]  # images (B, 3, H, W) uint8 to logits (B, C, H, W)

LARGEST_PROTOBUF = 1.8e9  # bytes; beyond 2 GiB the weights of an ONNX model need a file of their own


class Handler(NamedTuple):
    """write: into a folder. read: the written file as a function. files: names that may be written.

    graph: whether the file takes bytes of any size; else images are prepared as ``model.json`` says.
    needs: packages beside evenseg's own.
    """

    write: Callable[[TrainedModel, Path], None]
    read: Callable[[Path], Run]
    files: tuple[str, ...]
    graph: bool
    needs: tuple[str, ...] = ()


def require(format: Format) -> None:
    """Raise InputError where a package that the format needs is not installed."""
    for package in FORMATS[format].needs:
        try:
            importlib.import_module(package)
        except ImportError:
            raise InputError(
                f"--format {format}: the package {package} is not installed; run pip install 'evenseg[onnx]', "
                "or choose another format"
            ) from None


def _write_onnx(model: TrainedModel, folder: Path) -> None:
    program = trace(model.network)
    weights = sum(tensor.nbytes for tensor in program.state_dict.values())
    try:
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
            verbose=False,
        )
    except Exception as error:  # as with the tracer
        raise untraceable(model.network, error) from None
    assert exported is not None
    exported.save(folder / "model.onnx", external_data=weights > LARGEST_PROTOBUF)


def _read_onnx(folder: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised too
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])

    def run(image: np.ndarray) -> np.ndarray:
        (logits,) = session.run(["logits"], {"image": image})
        return np.asarray(logits)

    return run


def _write_program(model: TrainedModel, folder: Path) -> None:
    torch.export.save(trace(model.network), folder / "model.pt2")


def _read_program(folder: Path) -> Run:
    module = torch.export.load(folder / "model.pt2").module()

    def run(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits: Any = module(torch.from_numpy(image))
        return np.asarray(logits)

    return run


def _write_pretrained(model: TrainedModel, folder: Path) -> None:
    model.save_pretrained(folder)


def _read_pretrained(folder: Path) -> Run:
    return torch_predictor(TrainedModel.from_pretrained(folder))


def torch_predictor(model: TrainedModel) -> Run:
    """The network itself, as training, evaluation and prediction call it."""

    def run(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits = model.network(torch.from_numpy(image).float() / 255).logits
        return np.asarray(logits)

    return run


FORMATS: dict[Format, Handler] = {
    "onnx": Handler(
        _write_onnx, _read_onnx, ("model.onnx", "model.onnx.data"), True, ("onnx", "onnxscript", "onnxruntime")
    ),
    "torch-export": Handler(_write_program, _read_program, ("model.pt2",), True),
    "safetensors": Handler(_write_pretrained, _read_pretrained, ("model.safetensors", "config.json"), False),
}
