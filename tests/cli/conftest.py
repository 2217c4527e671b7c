"""The command line as a function, and a small folder of images to be spoilt."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from evenseg.cli import main


class Outcome(NamedTuple):
    """What a command line left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or fills the user's cache, and none leaves the process silenced."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = dict(os.environ)
    with warnings.catch_warnings():
        yield
    logging.disable(logging.NOTSET)
    for name in set(os.environ) - set(before):
        del os.environ[name]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line in this process."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def refused(cli: Cli) -> Callable[..., str]:
    """Run a command line that must end with exit code 2 and one plain line, and return the line."""

    def run(*arguments: object) -> str:
        outcome = cli(*arguments)
        assert outcome.code == 2, outcome
        return plain_line(outcome.err)

    return run


def plain_line(text: str) -> str:
    """The message in what a refused command wrote on standard error, which is nothing else."""
    assert text.startswith("evenseg: error: "), text
    assert text.count("\n") == 1, text
    assert text.endswith("\n")
    assert text.isprintable() or text[:-1].isprintable(), text
    return text.removeprefix("evenseg: error: ").rstrip("\n")


class Folder(NamedTuple):
    """A data set of ten images of 48x40 pixels and three classes, with lists, and a config for it."""

    root: Path
    config: Path

    def image(self, index: int) -> Path:
        """Image 0 to 5 is labeled, 6 and 7 unlabeled, 8 and 9 for validation."""
        return self.root / "images" / f"{index}.png"

    def label(self, index: int) -> Path:
        """The label map of an image."""
        return self.root / "labels" / f"{index}.png"


CONFIG = """\
method: fixmatch
network: {{architecture: unet, encoder: resnet18}}
data:
  root: {root}
  labeled: labeled.txt
  unlabeled: unlabeled.txt
  val: val.txt
  crop: [32, 32]
  workers: 0
train: {{steps: 2, labeled_batch: 2, unlabeled_batch: 2, precision: 32, validate_every: 2, log_every: 1}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A sound data set."""
    return make_folder(tmp_path)


def make_folder(parent: Path) -> Folder:
    """Write the data set and its config below ``parent``."""
    root = parent / "data"
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for index in range(10):
        label = np.kron(random.integers(0, 3, (5, 6)), np.ones((8, 8))).astype(np.uint8)
        image = (80 * label[..., None] + random.integers(0, 60, (40, 48, 3))).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"{index}.png")
        Image.fromarray(label).save(root / "labels" / f"{index}.png")
    (root / "classes.json").write_text(json.dumps({"names": ["road", "car", "sign"], "ignore_index": 255}))
    for name, indices in {"labeled": range(6), "unlabeled": (6, 7), "val": (8, 9)}.items():
        pairs = name != "unlabeled"
        lines = [f"images/{i}.png" + (f" labels/{i}.png" if pairs else "") for i in indices]
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    config = parent / "run.yaml"
    config.write_text(CONFIG.format(root=root))
    return Folder(root, config)
