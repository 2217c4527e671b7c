"""What a run ran on, for whoever wants to repeat it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from evenseg import __version__
from evenseg.data.dataset import DataSplits
from evenseg.data.image_ids import ids_sha256
from evenseg.data.split_registry import registry

LIBRARIES = (
    "torch",
    "torchvision",
    "segmentation-models-pytorch",
    "timm",
    "lightning-fabric",
    "numpy",
    "opencv-python-headless",
    "pillow",
)


def environment(precision: str, world_size: int, splits: DataSplits) -> dict[str, Any]:
    """Versions, hardware, git commit and fingerprints of the lists: of their lines, and of the ids of their images.

    ``published_split`` names the published lists that hold the labeled images and no others, however they were given.
    """
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    ids = _ids_sha256(splits)
    return {
        "evenseg": __version__,
        "git": _git_commit(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "cpu": torch.cpu.get_capabilities().get("cpu_name") if hasattr(torch.cpu, "get_capabilities") else None,
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": gpus,
        "precision": precision,
        "processes": world_size,
        "split_sha256": splits.split_sha256,
        "ids_sha256": ids,
        "published_split": registry().with_images(ids["labeled"]),
    }


def _ids_sha256(splits: DataSplits) -> dict[str, str]:
    """By list name, as ``split_sha256``: the images themselves, wherever they lie."""
    parts = {key: getattr(splits, key) for key in ("labeled", "unlabeled", "pseudo_labeled", "val", "test")}
    return {
        key: ids_sha256(part.name(index) for index in range(len(part)))
        for key, part in parts.items()
        if part is not None
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of the checkout evenseg is imported from, with ``+`` where it has been edited; None if installed."""
    here = Path(__file__).parent
    try:
        commit = _run("git", "-C", str(here), "rev-parse", "HEAD")
        return commit + ("+" if _run("git", "-C", str(here), "status", "--porcelain", "--", str(here.parent)) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
