"""Alarms: named once, when they should be, and not before; the same after a resume."""

import json

import pytest

from evenseg.training.alarms import Alarms

from .helpers import SMALL, train

NAMES, LABELED = ("road", "car", "pole"), (700, 290, 10)


def health(step, shares, kept=0.8):
    share = dict(zip(NAMES, shares, strict=True)) if kept else dict.fromkeys(NAMES)
    return {"step": step, "split": "health", "kept": kept, "per_class_share": share}


def validation(step, student, teacher=None):
    lines = [{"step": step, "split": "val", "network": "student", "miou": student}]
    return [*lines, {**lines[0], "network": "teacher", "miou": teacher}] if teacher is not None else lines


def prototypes(step, cosine):
    nearest = dict(zip(NAMES, (cosine, 0.97, 0.5), strict=True))
    return {"step": step, "split": "train", "prototype_cosine": cosine, "per_class_prototype_nearest": nearest}


def told(records, past=()):
    alarms = Alarms(NAMES, LABELED, past)
    return [(each["step"], each["alarm"]) for record in records for each in alarms.see(record)]


EVEN, ONE_CLASS, NO_POLE = (0.7, 0.29, 0.01), (0.99, 0.01, 0.0), (0.7, 0.3, 0.0)
BACK = [health(step, EVEN) for step in range(5, 8)]
STORIES = {
    "healthy": ([health(step, EVEN) for step in range(40)], []),
    "one class": (
        [health(0, EVEN), *(health(step, ONE_CLASS) for step in range(1, 5)), *BACK]
        + [health(step, ONE_CLASS) for step in range(8, 12)],
        [(3, "swallowing road"), (10, "swallowing road")],
    ),
    "nothing kept": (
        [health(0, EVEN, 0.0), health(1, EVEN, 0.0), health(2, EVEN), *(health(s, EVEN, 0.0) for s in range(3, 9))],
        [(5, "nothing kept")],
    ),
    "a class goes": (
        [health(step, EVEN) for step in range(10)] + [health(step, NO_POLE) for step in range(10, 30)],
        [(19, "vanished pole")],
    ),
    "a class that never was": ([health(step, NO_POLE) for step in range(30)], []),
    "a class that was said everywhere once": (
        [health(0, (0.0, 0.3, 0.7))] + [health(step, NO_POLE) for step in range(1, 30)],
        [],
    ),
    "teacher worse": (
        [line for step in range(8) for line in validation(step, 0.5, 0.6 if step < 2 else 0.4)],
        [(5, "teacher worse")],
    ),
    "teacher lags behind": (
        [line for step in range(8) for line in validation(step, 0.1 * step, 0.08 * step)],
        [],
    ),
    "teacher a little worse": ([line for step in range(8) for line in validation(step, 0.5, 0.48)], []),
    "harmful": (
        [health(0, EVEN), *(line for step in range(6) for line in validation(step, 0.5 - 0.05 * step))],
        [(3, "harmful")],
    ),
    "falls without unlabeled images": ([line for step in range(6) for line in validation(step, 0.5 - 0.05 * step)], []),
    "prototypes collapse": (
        [prototypes(step, 0.9 if step in (1, 2, *range(4, 9)) else 0.2) for step in range(12)],
        [(6, "prototypes collapse")],
    ),
    "prototypes apart": ([prototypes(step, 0.69) for step in range(9)], []),
    "ups and downs": (
        [health(0, EVEN), *(line for step in range(12) for line in validation(step, 0.5 - 0.1 * (step % 3)))],
        [],
    ),
}


@pytest.mark.parametrize(("records", "expected"), STORIES.values(), ids=STORIES.keys())
def test_each_alarm_once_until_it_ends_whether_resumed_or_not(records, expected):
    assert told(records) == expected
    for cut in range(len(records)):
        assert told(records[:cut]) + told(records[cut:], past=records[:cut]) == expected


def test_an_alarm_says_what_to_do():
    alarms = Alarms(NAMES, LABELED, [health(step, ONE_CLASS) for step in range(2)])
    (alarm,) = alarms.see(health(2, ONE_CLASS))
    assert alarm["text"].startswith("road is 99 % of the pseudo-labels and 70 % of the labeled pixels; lower ")


def test_a_collapse_of_prototypes_is_named():
    alarms = Alarms(NAMES, LABELED, [prototypes(step, 0.83) for step in range(2)])
    (alarm,) = alarms.see(prototypes(2, 0.83))
    assert alarm["text"].startswith(
        "the prototypes collapse: their mean pairwise cosine is 0.83 (nearest to another: car 0.97, road 0.83); "
    )
    assert "method.proto_hold" in alarm["text"]


COLLAPSE = """
import torch
from evenseg.components.base import Component

class OneClass(Component):
    \"\"\"The teacher says that everything is of class 0.\"\"\"

    def refine(self, target, weak, step):
        prob = torch.zeros_like(target.prob)
        prob[:, 0] = 1
        return target._replace(prob=prob)
"""
RUN = [
    *SMALL,
    "method=cutmix_seg",
    "method.loss=cross_entropy",
    "method.weighting=confidence",
    "method.supervised_steps=100",  # without, the first pseudo-labels are all road, and stay so
    "method.supervised_loss=class_weighted",
    "network.architecture=linknet",
    "network.encoder=tu-mobilenetv3_small_050",
    "optim.name=adamw",
    "optim.lr=0.002",
    "train.labeled_batch=4",
    "train.unlabeled_batch=4",
    "train.steps=300",
    "train.log_every=25",
    "train.validate_every=50",
    "train.checkpoint_every=1000",
]


@pytest.mark.slow
def test_a_healthy_run_raises_none_and_a_collapse_is_named(tmp_path, capsys):
    (tmp_path / "collapse.py").write_text(COLLAPSE)
    collapse = f"method.components=[{{name: {tmp_path}/collapse.py:OneClass}}]"
    alarms = {}
    for name, options in {"healthy": [], "sick": [collapse]}.items():
        assert train(tmp_path, tmp_path / name, *RUN, *options) == 0
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").open())
        alarms[name] = [line for line in lines if line["split"] == "alarm"]
    assert alarms["healthy"] == []
    first = alarms["sick"][0]
    assert first["alarm"] == "swallowing road"
    assert 100 < first["step"] <= 300
    assert capsys.readouterr().out.count(f"alarm: {first['text']}") == 1
