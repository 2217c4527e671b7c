"""A trained model, and its form as a folder of ``config.json`` and ``model.safetensors``.

Both files are read as data: nothing in them is run.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from evenseg import __version__
from evenseg.config import NetworkConfig
from evenseg.data.classes import Classes, load_classes
from evenseg.data.resize import Resize
from evenseg.errors import InputError
from evenseg.export import hub
from evenseg.inference.pictures import make_picture, predict_pictures
from evenseg.inference.predict import Protocol, evaluating
from evenseg.methods.base import Predictor
from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.prototypes import PrototypeHead, PrototypeOptions
from evenseg.training.folder import write_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
WHOLE = Protocol()
_TRAINING_ONLY = ("auxiliary_head.", "heads.", "branches.")  # parts of a network that predictions do not depend on


class TrainedModel(NamedTuple):
    """A network, and what its users need beside the weights.

    network: from images (B, 3, H, W) in [0, 1] to ``NetworkOutput``, in evaluation mode. classes:
    names, colours, ignore index. resize: what images are resized to before the network sees them,
    as ``data.resize``. origin: where it comes from, such as ``last_teacher of first``.
    """

    network: SegmentationNetwork
    classes: Classes
    resize: Resize = None
    origin: str = ""

    def predict(self, image: np.ndarray, protocol: Protocol = WHOLE) -> np.ndarray:
        """The label map of an image, by the network where it is.

        Args:
            image: (H, W, 3) uint8 RGB.
            protocol: how to predict, see ``evenseg.inference.make_protocol``.

        Returns:
            (H, W) int32.

        Raises:
            ValueError: the image has another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"image: need (H, W, 3) uint8, not {image.shape} {image.dtype}")
        picture = make_picture("image", image, self.resize)
        device = self.network.scale.device
        with evaluating(self.network):
            (prediction,) = predict_pictures(Predictor(self.network), [picture], protocol, device=device)
        return prediction.label

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; files of these names are replaced.

        Heads that serve training alone are left out. The normalisation of images is among the weights.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = Path(folder)
        state = self.network.state_dict()
        weights = {
            # shared memory cannot be saved, nor can channels-last
            name: tensor.cpu().contiguous().clone()
            for name, tensor in state.items()
            if not name.startswith(_TRAINING_ONLY)
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        except (OSError, SafetensorError) as error:
            raise InputError(f"{folder}: cannot be written ({error}); choose another folder") from None
        write_json(folder / CONFIG, self._described())

    @classmethod
    def from_pretrained(cls, source: str | Path) -> TrainedModel:
        """A model that ``save_pretrained`` or ``push_to_hub`` wrote, on the CPU.

        Args:
            source: a folder, or ``OWNER/NAME`` on the hub, which is downloaded unless cached.

        Raises:
            InputError: nothing there, or a file is damaged or does not fit the other.
        """
        folder = Path(source).expanduser()
        if not folder.is_dir():
            folder = hub.download(str(source), [CONFIG, WEIGHTS])
        for name in (CONFIG, WEIGHTS):
            if not (folder / name).is_file():
                raise InputError(f"{folder}: holds no {name}; give a folder that save_pretrained wrote")
        described = _read_config(folder / CONFIG)
        classes = load_classes(folder / CONFIG)
        options = described.network
        network = SegmentationNetwork(
            options.architecture,
            options.encoder,
            num_classes=classes.num_classes,
            output_stride=options.output_stride,
            norm=options.norm,
            aspp_branches=options.aspp_branches,
        )
        if described.prototypes is not None:
            network.use_prototypes(described.prototypes)
        try:
            network.load_state_dict(load_file(folder / WEIGHTS))
        except (RuntimeError, SafetensorError, OSError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise InputError(
                f"{folder / WEIGHTS}: damaged, or not the weights of the {CONFIG} beside it ({reason}); "
                "write or download it again"
            ) from None
        return cls(network.eval(), classes, described.resize, described.origin)

    def push_to_hub(self, repository: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the model to the Hugging Face hub.

        Args:
            repository: ``OWNER/NAME``, made if missing.
            private: whether a new repository is.
            token: access token; default: that of ``hf auth login``.

        Returns:
            The address of the commit.

        Raises:
            InputError: the hub refuses or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return hub.upload(Path(folder), repository, private=private, token=token)

    def _described(self) -> dict[str, Any]:
        network, head = self.network, self.network.segmentation_head
        return {
            "format": 1,
            "evenseg": __version__,
            "origin": self.origin,
            "network": {
                "architecture": network.architecture,
                "encoder": network.encoder_name,
                "output_stride": network.output_stride,
                "norm": network.norm,
                "aspp_branches": network.aspp_branches,
            },
            "prototypes": head.options._asdict() if isinstance(head, PrototypeHead) else None,
            "resize": self.resize,
            **described_classes(self.classes),
        }


def described_classes(classes: Classes) -> dict[str, Any]:
    """Names, colours and ignore index under the keys of ``classes.json``."""
    return {
        "names": list(classes.names),
        "colors": [list(color) for color in classes.colors],
        "ignore_index": classes.ignore_index,
        "tail": None if classes.tail is None else list(classes.tail),
    }


class _Described(BaseModel):
    """What ``config.json`` says beside the classes, which ``load_classes`` reads."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal[1]
    network: NetworkConfig
    prototypes: PrototypeOptions | None = None
    resize: Resize = None
    origin: str = ""


def _read_config(path: Path) -> _Described:
    try:
        return _Described.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InputError(f"{path}: is not that of a model ({reason}); write or download it again") from None
