"""What a run cost, added up over the processes that worked on it."""

import json

import torch

from evenseg.training.timing import Timing, read_timing

from .helpers import train


def test_a_run_notes_what_it_cost(tmp_path):
    run = tmp_path / "run"
    assert train(tmp_path, run, "method=supervised", "train.steps=4", "train.validate_every=4") == 0
    timing = json.loads((run / "timing.json").read_text())
    assert timing["steps"] == 4
    assert timing["seconds"] > 0
    assert timing["peak_memory_bytes"] > 50 * 2**20  # torch alone takes more


def test_processes_add_up(tmp_path):
    for steps, seconds in ((3, 1.5), (5, 2.5)):
        timing = Timing(tmp_path, torch.device("cpu"))
        timing.add(steps, seconds)
        timing.write()
    assert read_timing(tmp_path)["steps"] == 8
    assert read_timing(tmp_path)["seconds_per_step"] == 0.5


def test_damage_costs_nothing(tmp_path):
    (tmp_path / "timing.json").write_text("{")
    assert read_timing(tmp_path) == {}
    Timing(tmp_path, torch.device("cpu")).write()
    assert read_timing(tmp_path)["steps"] == 0
