"""Compiled networks compute what the others do, and their checkpoints fit both."""

import json
import shutil

import pytest

from .helpers import checkpoint, train

OPTIONS = [
    "method=supervised",
    "method.ema_decay=0.5",
    "train.steps=2",
    "train.checkpoint_every=1",
    "train.precision=32",
    "network.architecture=linknet",
    "network.encoder=tu-test_resnet",
    "data.workers=0",
]


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    return [line["loss"] for line in lines if line["split"] == "train"]


@pytest.mark.slow
@pytest.mark.timeout(1800)  # minutes of the C++ compiler, unless its cache is warm
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_compiled_steps_give_the_losses_of_the_others(tmp_path):
    assert train(tmp_path, tmp_path / "plain", *OPTIONS) == 0
    assert train(tmp_path, tmp_path / "compiled", *OPTIONS, "train.compile=true") == 0
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)
    plain, compiled = (checkpoint(tmp_path / name)["method"] for name in ("plain", "compiled"))
    assert compiled.keys() == plain.keys()
    for name, value in plain.items():  # the teacher's too: it followed the compiled student
        assert (compiled[name].double() - value.double()).abs().max() <= 1e-3, name
