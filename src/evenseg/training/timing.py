"""``timing.json`` of a run folder: what the run cost; ``result.json`` is the same in every repetition, this is not."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from evenseg.training.folder import write_json

FILE = "timing.json"


class Timing:
    """Seconds of training steps, without validation, over all processes that have worked on a run.

    Args:
        folder: the run folder; what earlier processes have noted there is added to.
        device: whose memory counts: a GPU's own, else that of this process.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._path, self._device = folder / FILE, device
        before = read_timing(folder)
        self._steps = int(before.get("steps", 0))
        self._seconds = float(before.get("seconds", 0.0))
        self._peak = int(before.get("peak_memory_bytes", 0))

    def add(self, steps: int, seconds: float) -> None:
        """So many steps took so long."""
        self._steps += steps
        self._seconds += seconds

    def write(self) -> None:
        """Writes the file; steps that a kill makes repeat count twice, in both figures."""
        self._peak = max(self._peak, peak_memory(self._device))
        content: dict[str, Any] = {"steps": self._steps, "seconds": round(self._seconds, 3)}
        if self._steps:
            content["seconds_per_step"] = round(self._seconds / self._steps, 5)
        write_json(self._path, {**content, "peak_memory_bytes": self._peak})


def read_timing(folder: Path) -> dict[str, Any]:
    """The content of the file; empty where there is none or it is damaged, since nothing depends on it."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: allocated on a GPU, or resident in this process (loading processes not counted)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
