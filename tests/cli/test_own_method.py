"""The method of CONTRIBUTING.md: one file, run and described without touching evenseg."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Cli, Folder

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The file that the page shows."""
    blocks = re.findall(r"```python\n(.*?)```", CONTRIBUTING.read_text(encoding="utf-8"), flags=re.DOTALL)
    path = tmp_path / "my_method.py"
    path.write_text(next(block for block in blocks if "class MyMethod(Method)" in block))
    return path


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
