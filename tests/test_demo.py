"""``make demo`` in small: both runs, the table, the picture, and what a second call does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
# a demo of two steps a run: everything but the patience
SMALL = (
    "import demo; small = ['data.size=[48, 64]', 'data.crop=[32, 32]', 'data.train_images=16', 'data.labeled=4', "
    "'data.val_images=2', 'data.test_images=8', 'data.workers=0', 'train.steps=2', 'train.validate_every=2', "
    "'train.labeled_batch=2', 'train.unlabeled_batch=2']; "
    "demo.METHODS = {name: more + small for name, more in demo.METHODS.items()}; raise SystemExit(demo.main())"
)


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent / "src")])
    environment = {**os.environ, "PYTHONPATH": paths, "EVENSEG_CACHE": str(tmp_path / "cache"), "COLUMNS": "120"}

    def demo() -> str:
        command = [sys.executable, "-c", SMALL]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = demo()
    for text in ("evenseg train synthetic", "supervised", "cutmix_seg", "traffic sign (tail)", "tail mIoU", "gain"):
        assert text in first
    assert Image.open(tmp_path / "demo" / "predictions.png").size == (4 * (128 + 4) + 4, 4 + 30 + 6 * (96 + 4) + 30)
    again = demo()
    assert again.count("finished before") == 2
    table = first[first.index("IoU on the test images") :]
    assert table in again
    assert {path.name for path in tmp_path.iterdir()} == {"demo", "cache"}
