"""The means of the log: over the steps that had a value, through a checkpoint, the same on every rank."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from evenseg.training.meter import Meter


def reload(meter):
    other = Meter()
    other.load_state_dict(meter.state_dict(), torch.device("cpu"))
    return other


def test_means_are_over_the_steps_that_had_the_value_and_start_anew():
    meter = Meter()
    meter.add({"loss": torch.tensor(1.0), "table": torch.ones(2, 3)})
    meter = reload(meter)
    table = torch.arange(6).view(2, 3)
    meter.add({"loss": torch.tensor(2.0), "late": torch.tensor(5.0, dtype=torch.bfloat16), "table": table})
    means = meter.means()
    assert torch.equal(means.pop("table"), (1 + table) / 2)
    assert means == {"loss": 1.5, "late": 5.0}
    assert meter.means() == {}


def work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    meter = Meter()
    meter.add({"loss": torch.tensor(1.0 + rank), "table": torch.full((2, 2), float(rank))})
    meter.share()
    first = Meter()
    state = [meter.state_dict() if rank == 0 else None]
    dist.broadcast_object_list(state)  # as a checkpoint does, which the first rank writes and all read
    first.load_state_dict(state[0], torch.device("cpu"))
    for resumed in (meter, first):
        resumed.add({"loss": torch.tensor(3.0 + 2 * rank), "table": torch.full((2, 2), 10.0 * rank)})
    torch.save([meter.means(), first.means()], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_ranks_agree_whether_resumed_or_not(tmp_path):
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        for means in torch.load(tmp_path / f"{rank}.pt"):
            assert means["loss"].item() == pytest.approx((1.5 + 4.0) / 2)
            assert torch.equal(means["table"], torch.full((2, 2), (0.5 + 5.0) / 2, dtype=torch.float64))
