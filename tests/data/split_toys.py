"""A registry of small published lists in place of the real one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evenseg.data import split_registry
from evenseg.data.image_ids import ids_sha256

COMMIT = "0123456789abcdef" * 2 + "01234567"


def toy_split(ids: Sequence[str], *files: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What the registry says of a list of these images."""
    standard = {"repository": "someone/Toy", "commit": COMMIT, "path": "lists/some.txt"}
    return {
        "images": len(ids),
        "ids_sha256": ids_sha256(ids),
        "papers": ["Toy"],
        "files": [standard | file for file in files or ({},)],
        **more,
    }


def use_registry(splits: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make these the published lists, until the end of the test."""
    content = {
        "papers": {"Toy": {"title": "Toys", "venue": "CVPR 2020", "url": "https://example.org"}},
        "datasets": {
            "toy": {"title": "Toy", "image": "images/{id}.png", "label": "labels/{id}.png", "train": 8},
            "city": {
                "title": "City",
                "image": "left/{city}/{id}_leftImg8bit.png",
                "label": "fine/{city}/{id}_label.png",
                "train": 9,
            },
            "slices": {"title": "Slices", "image": "data/{id}.h5", "label": None, "train": 9},
        },
        "splits": splits,
    }
    file = folder / "splits.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(split_registry, "FILE", file)
    known = split_registry.Registry.model_validate_json(file.read_text(encoding="utf-8"))
    for module in ("evenseg.data.split_registry", "evenseg.data.split_lists", "evenseg.training.environment"):
        monkeypatch.setattr(f"{module}.registry", lambda: known)
