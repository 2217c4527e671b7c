"""Two processes compute what one computes: losses, gradients, states, to 1e-5."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ..contract.conftest import VARIANTS
from .worker import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.distributed.worker", str(folder / "rendezvous")]
    processes = [
        subprocess.Popen(
            [*command, str(rank), "2", str(folder / "result.pt")], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return torch.load(folder / "result.pt", weights_only=True)


@pytest.mark.parametrize("norm", ["frozen", "group"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_ranks_compute_what_one_does(two_ranks, variant, norm):
    one, two = run(variant, norm, 0, 1), two_ranks[variant, norm]
    assert one.keys() == two.keys()
    for name, value in one.items():
        # relative to the largest entry where that exceeds 1: single entries are sums that cancel
        error = (two[name].double() - value.double()).abs().max().item()
        assert error <= 1e-5 * max(1.0, value.double().abs().max().item()), name
