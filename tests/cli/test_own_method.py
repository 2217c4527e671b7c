"""The classes of CONTRIBUTING.md and docs/extending.md: one file each, run without touching evenseg."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from evenseg import registry
from evenseg.functional import random
from evenseg.networks import SegmentationNetwork
from evenseg.types import Batch, LabeledBatch, Step, UnlabeledBatch

from .conftest import Cli, Folder

ROOT = Path(__file__).parents[2]


def shown(page: str, start: str, path: Path) -> Path:
    """The file that a page shows, with the class that starts so, written to ``path``."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    path.write_text(next(block for block in blocks if start in block))
    return path


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The shortest method."""
    return shown("CONTRIBUTING.md", "class MyMethod(Method)", tmp_path / "my_method.py")


def test_it_trains_and_scores(mine: Path, folder: Folder, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    method = (f"method={mine}:MyMethod", "method.threshold=0.3")
    outcome = cli("train", folder.config, *method, "--output", run)
    assert (outcome.code, outcome.err) == (0, "")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["split"] == "train"]
    assert all(line["loss/unsupervised"] > 0 and line["selected_pixels"] > 0 for line in steps)
    scored = cli("evaluate", run)
    assert scored.code == 0
    assert scored.out.startswith("last_teacher on 2 images of val")


def test_it_is_described_and_checked(
    mine: Path, folder: Folder, cli: Cli, refused: Callable[..., str], tmp_path: Path
) -> None:
    text = cli("describe", f"{mine}:MyMethod").out
    assert "(method): The teacher's confident labels" in text
    assert re.search(r"^threshold +0\.9 +a number from 0 to 1 +confidence that", text, flags=re.MULTILINE)
    command = ("train", folder.config, f"method={mine}:MyMethod", "--output", tmp_path / "run")
    assert "did you mean threshold?" in refused(*command, "method.treshold=0.3")
    assert "must be a number from 0 to 1, not 2" in refused(*command, "method.threshold=2")


def test_class_255_teaches_where_it_is_a_class(mine: Path) -> None:
    network = SegmentationNetwork("linknet", "tu-mobilenetv3_small_050", num_classes=300)
    with torch.no_grad():  # 0.95 for class 255 everywhere
        network.segmentation_head.weight.zero_()
        network.segmentation_head.bias.copy_(torch.zeros(300).index_fill_(0, torch.tensor(255), math.log(299 * 19)))
    method = registry.build("method", {"name": f"{mine}:MyMethod"}, network=network)
    image, label, valid = torch.rand(2, 3, 32, 32), torch.zeros(2, 32, 32).long(), torch.ones(2, 32, 32).bool()
    valid[0, :16] = False
    batch = Batch(LabeledBatch(image, label, torch.arange(2)), UnlabeledBatch(image, (image,), valid, torch.arange(2)))
    loss = method(batch, Step(0, 10, random.generator(0, "step", 0))).losses["unsupervised"]
    assert loss.item() == pytest.approx(-math.log(0.95), rel=1e-4)


def test_the_classes_of_the_long_page_train_together(folder: Folder, cli: Cli, tmp_path: Path) -> None:
    method = shown("docs/extending.md", "class TwoViews(Method)", tmp_path / "two_views.py")
    component = shown("docs/extending.md", "class ClassThreshold(Component)", tmp_path / "class_threshold.py")
    parts = f"method.components=[{{name: {component}:ClassThreshold, threshold: 0.3, early_weight: 0.4}}]"
    run = tmp_path / "run"
    arguments = (f"method={method}:TwoViews", "method.threshold=0.3", parts)
    outcome = cli("train", folder.config, *arguments, "--output", run)
    assert (outcome.code, outcome.err) == (0, "")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["split"] == "train"]
    assert all(line["loss/unsupervised"] > 0 and line["loss/early"] > 0 for line in steps)
