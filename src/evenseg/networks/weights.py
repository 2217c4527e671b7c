"""Weights from a local file: whatever matches by name and shape, and a report of what did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from evenseg.errors import InputError
from evenseg.networks.positions import is_position_embedding, resize_position_embedding

_SUFFIXES = {".safetensors", ".pth", ".pt", ".ckpt", ".bin"}


def is_path(weights: str) -> bool:
    """Whether ``weights`` means a file rather than a tag of the hub."""
    path = Path(weights).expanduser()
    return path.suffix in _SUFFIXES or len(path.parts) > 1 or path.is_file()


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by dotted name, however deep they are nested in dictionaries.

    Raises:
        InputError: the file is missing, or is not one of tensors alone.
    """
    if not path.is_file():
        raise InputError(f"network.weights: there is no file {path}; give a .safetensors or .pth file, a tag or null")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # broken files fail in as many ways as there are bytes
        raise InputError(
            f"network.weights: {path} cannot be read as weights; give a file of tensors written by "
            f"safetensors or torch.save ({type(error).__name__})"
        ) from error
    return dict(_tensors(content))


def load(network: nn.Module, weights: str) -> str:
    """Copy the tensors of a file into ``network`` where name and shape agree.

    The file may hold the state dict of a whole network, or of its encoder under the names of timm or
    torchvision, alone or inside a checkpoint, whose wrappings (``state_dict``, ``module.``, ...) are taken off.
    Where a checkpoint holds several copies of the weights, an averaged one (teacher, EMA) is preferred. Position
    embeddings of another grid of patches are interpolated.

    Args:
        network: a network with an attribute ``encoder``.
        weights: path of the file.

    Returns:
        The report: how many tensors matched, and which did not.

    Raises:
        InputError: the file cannot be read, nothing in it matches, or its position embeddings cannot be interpolated.
    """
    path = Path(weights).expanduser()
    found = read(path)
    state = network.state_dict()
    part, wrapping = _best_match(found, state)
    targets = {_canonical(name[len(part) :]): name for name in state if name.startswith(part)}
    matched: set[str] = set()  # names in the network
    mismatched: dict[str, str] = {}  # name in the network: what is wrong
    resized: list[str] = []  # names in the network: from and to which shape
    unused: list[str] = []  # names in the file
    for key, tensor in found.items():
        name = targets.get(_canonical(key[len(wrapping) :])) if key.startswith(wrapping) else None
        if name is None:
            unused.append(key)
        elif state[name].shape != tensor.shape and is_position_embedding(name):
            state[name].copy_(_resized(path, key, tensor, state[name]))
            matched.add(name)
            resized.append(f"{name} from {tuple(tensor.shape)} to {tuple(state[name].shape)}")
        elif state[name].shape != tensor.shape:
            mismatched[name] = f"{name} {tuple(tensor.shape)} for {tuple(state[name].shape)}"
        else:
            state[name].copy_(tensor)
            matched.add(name)
    if not matched:
        raise InputError(
            f"network.weights: no tensor of {path} matches the network in name and shape: it has "
            f"{_some(list(found)) or 'none'}; the encoder has {_some([name[len(part) :] for name in targets.values()])}"
        )
    wanted = [name for name in targets.values() if _counts(name)]
    lines = [
        f"{path}: matched {len(matched.intersection(wanted))} of {len(wanted)} tensors of the "
        f"{'encoder' if part else 'network'}",
        "not in the file: " + _some([name for name in wanted if name not in matched and name not in mismatched]),
        "resized: " + _some(resized),
        "of another shape: " + _some(list(mismatched.values())),
        "not used: " + _some([key for key in unused if _counts(key)]),
    ]
    return "; ".join(line for line in lines if not line.endswith(": "))


def _resized(path: Path, key: str, tensor: Tensor, ours: Tensor) -> Tensor:
    """A file's position embeddings for our grid. Raises InputError where they are not such of another grid."""
    fits = tensor.ndim == ours.ndim == 3 and (tensor.shape[0], tensor.shape[2]) == (ours.shape[0], ours.shape[2])
    resized = resize_position_embedding(tensor, ours.shape[1]) if fits else None
    if resized is None:
        raise InputError(
            f"network.weights: {key} of {path} has the shape {tuple(tensor.shape)}, which cannot be interpolated to "
            f"{tuple(ours.shape)}; give weights of this encoder, with the same class and register tokens"
        )
    return resized


def _tensors(content: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{prefix}.{key}" if prefix else str(key))


def _counts(name: str) -> bool:
    # old files lack these counters, and nothing depends on them
    return not name.endswith("num_batches_tracked")


def _canonical(name: str) -> str:
    # timm flattens `stages.0` to `stages_0` where it hands out feature maps
    return name.replace(".", "_")


def _best_match(found: dict[str, Tensor], state: dict[str, Tensor]) -> tuple[str, str]:
    """The part of the network and the wrapping in the file under which most tensors agree."""
    parts = [part for part in ("", "encoder.", "encoder.model.") if any(name.startswith(part) for name in state)]
    shapes = {
        part: {_canonical(n[len(part) :]): t.shape for n, t in state.items() if n.startswith(part)} for part in parts
    }
    agreeing: Counter[tuple[str, str]] = Counter()
    for key, tensor in found.items():
        for start in [0, *(i + 1 for i, letter in enumerate(key) if letter == ".")]:
            for part in parts:
                if shapes[part].get(_canonical(key[start:])) == tensor.shape:
                    agreeing[part, key[:start]] += 1

    def rank(match: tuple[str, str]) -> tuple[int, bool, int]:
        wrapping = match[1].lower()
        return agreeing[match], "teacher" in wrapping or "ema" in wrapping, -len(wrapping)

    return max(agreeing, key=rank, default=(parts[-1], ""))


def _some(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
