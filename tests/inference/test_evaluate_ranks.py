"""Two processes score a data set together."""

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from evenseg.data.classes import Classes
from evenseg.inference.evaluate import evaluate
from evenseg.inference.predict import Protocol

RANKS = 2


class Noise:
    """Five random images with random labels: an odd number, so that the ranks have unequal shares."""

    classes = Classes(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), 255, None)

    def __len__(self) -> int:
        return 5

    def image(self, index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (6, 8, 3), dtype=np.uint8)

    def label(self, index: int) -> np.ndarray | None:
        return np.random.default_rng(index + 100).integers(0, 3, (6, 8), dtype=np.uint8)

    def name(self, index: int) -> str:
        return str(index)


def score(rank: int, world_size: int) -> list[torch.Tensor]:
    """The matrix and what every image contributes to it; the logits are the colours themselves."""
    of_image = torch.zeros(len(Noise()), 3, 3, dtype=torch.int64)
    protocol = Protocol(batch=2)
    matrix = evaluate(nn.Identity(), Noise(), protocol, rank=rank, world_size=world_size, image_counts=of_image)
    return [matrix.counts, of_image]


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    torch.save(score(rank, RANKS), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_every_rank_gets_the_matrix_of_all(tmp_path: Path) -> None:
    mp.spawn(work, args=(str(tmp_path),), nprocs=RANKS)
    expected = score(0, 1)
    for rank in range(RANKS):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert all(map(torch.equal, found, expected))
