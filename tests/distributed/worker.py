"""One rank of a two-rank run: trains every method on its share of fixed batches."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch import nn

from evenseg.types import Batch, LabeledBatch, PasteSource, UnlabeledBatch

from ..contract.conftest import VARIANTS, make_batch, make_method, make_step

STEPS = 3
GLOBAL_BATCH = 4


def share(batch: Batch, rank: int, world: int) -> Batch:
    size = GLOBAL_BATCH // world
    part = slice(rank * size, (rank + 1) * size)
    paste = batch.labeled.paste
    if paste is not None:
        paste = PasteSource(*(value[part] for value in paste[:3]), _maps(paste.maps, part))
    labeled = LabeledBatch(*(value[part] for value in batch.labeled[:3]), _maps(batch.labeled.maps, part), paste=paste)
    if batch.unlabeled is None:
        pseudo = batch.pseudo_labeled
        return Batch(labeled, None, pseudo and LabeledBatch(*(value[part] for value in pseudo[:3])))
    u = batch.unlabeled
    # with partners, a rank has those of its own slots
    rows = torch.arange(len(u.weak)).view(-1, GLOBAL_BATCH)[:, part].flatten()
    return Batch(labeled, UnlabeledBatch(u.weak[rows], tuple(s[rows] for s in u.strong), u.valid[rows], u.index[rows]))


def _maps(maps: dict[str, torch.Tensor], part: slice) -> dict[str, torch.Tensor]:
    return {name: value[part] for name, value in maps.items()}


def run(variant: str, norm: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Losses of every step, gradients of the last, and the state at the end."""
    method = make_method(VARIANTS[variant], norm=norm)
    module = nn.parallel.DistributedDataParallel(method) if world > 1 else method
    optimizer = torch.optim.SGD([p for group in method.param_groups() for p in group.parameters], lr=0.01)
    result = {}
    for index in range(STEPS):
        batch = share(make_batch(method, size=GLOBAL_BATCH, seed=index), rank, world)
        step = make_step(index, slot=rank * (GLOBAL_BATCH // world))
        output = module(batch, step)
        optimizer.zero_grad()
        sum(output.losses.values()).backward()
        optimizer.step()
        method.on_step_end(step)
        for name, value in output.losses.items():
            mean = value.detach().clone()
            if world > 1:  # a loss is in the form that averaging over ranks makes the global one
                dist.all_reduce(mean)
                mean /= world
            result[f"loss/{index}/{name}"] = mean
    result |= {f"gradient/{n}": p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
    result |= {f"state/{n}": v.clone() for n, v in method.state_dict().items()}
    return result


def main(address: str, rank: int, world: int, output: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=world)
    results = {(v, n): run(v, n, rank, world) for v in VARIANTS for n in ("frozen", "group")}
    if rank == 0:
        torch.save(results, output)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
