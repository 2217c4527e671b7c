"""Killed and started again, alone or in company: the same files to the last bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from evenseg.errors import InputError
from evenseg.stages.pseudo_label import shards
from evenseg.stages.pseudo_label.rules import Rule
from evenseg.stages.pseudo_label.shards import IMAGES, Shards
from tests.stages.fakes import FakeNetwork, label_all

PRIOR = torch.tensor([700, 200, 60, 40])
COUNT = 3 * IMAGES + 5


def content(folder: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes().replace(str(folder.resolve()).encode(), b"") for name, path in files.items()}


def label(folder: Path, rule: Rule = Rule()) -> None:  # noqa: B008 - immutable
    label_all(folder, rule, PRIOR, count=COUNT, truth=True)


def label_and_die(folder: Path, renames: int) -> None:
    """Ends by SIGKILL in the place of a rename, half of the file on the disk."""
    done = 0
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        nonlocal done
        if done == renames:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        rename(source, target)

    os.replace = replace
    label(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    label(folder)
    return content(folder)


@pytest.mark.parametrize(
    "between", [(0, 0), (1, 3), (4, 4), (5, 5), (6, 20), (21, 40), (41, 60), (61, 61), (62, 62), (63, 63)]
)
def test_killed_at_any_moment_it_ends_with_the_same_files(
    between: tuple[int, int], whole: dict[str, bytes], tmp_path: Path
) -> None:
    renames = random.randint(*between)
    process = multiprocessing.get_context("fork").Process(target=label_and_die, args=(tmp_path, renames))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    label(tmp_path)
    assert content(tmp_path) == whole


def test_what_is_stored_is_not_predicted_again(tmp_path: Path) -> None:
    network = FakeNetwork(4)
    label_all(tmp_path, Rule(), PRIOR, network=network, count=COUNT)
    assert network.calls == list(range(COUNT))
    for name, rule in (("more", Rule(ratio=0.5)), ("cbst", Rule("cbst")), ("labels", Rule())):
        label_all(tmp_path, rule, PRIOR, network=network, count=COUNT, name=name)
    assert network.calls == list(range(COUNT))
    Shards(tmp_path / "predictions", COUNT, 4).path(1).unlink()
    label_all(tmp_path, Rule(), PRIOR, network=network, count=COUNT)
    assert network.calls[COUNT:] == list(range(IMAGES, 2 * IMAGES))


def test_another_choice_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    label_all(tmp_path, Rule(), PRIOR)
    for rule, prior, seed, key in (
        (Rule(ratio=0.3), PRIOR, 0, "ratio"),
        (Rule(scope="ties"), PRIOR, 0, "scope"),
        (Rule(), PRIOR + 1, 0, "prior"),
        (Rule(), PRIOR, 1, "seed"),
    ):
        with pytest.raises(InputError, match=f"another {key}"):
            label_all(tmp_path, rule, prior, seed=seed)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    label_all(tmp_path, Rule(), PRIOR, count=COUNT)
    path = Shards(tmp_path / "predictions", COUNT, 4).path(2)
    whole = path.read_bytes()
    for broken in (b"", whole[:100], whole[: len(whole) // 2] + b"\0" * 40 + whole[len(whole) // 2 + 40 :]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"000002\.npz: missing or damaged; delete it"):
            label_all(tmp_path, Rule(), PRIOR, count=COUNT, name=str(len(broken)) + "x" * (broken == whole))


def test_an_image_that_cannot_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    network = FakeNetwork(4, broken=(0, 20))
    got = label_all(tmp_path, Rule(), PRIOR, network=network, count=COUNT)
    assert got.faults == ("day/000.jpg: is empty", "day/020.jpg: is empty")
    lines = got.list_file.read_text().splitlines()
    assert len(lines) == COUNT - 2
    assert not any(line.startswith(("day/000", "day/020")) for line in lines)
    assert label_all(tmp_path, Rule(), PRIOR, network=network, count=COUNT).faults == got.faults


def test_shards_hold_at_most_three_bytes_a_pixel_before_compression(tmp_path: Path) -> None:
    label_all(tmp_path, Rule(), PRIOR, count=IMAGES)
    with np.load(tmp_path / "predictions" / "000000.npz") as archive:
        sizes = [(archive[f"label_{i}"].itemsize, archive[f"code_{i}"].itemsize) for i in range(IMAGES)]
    assert set(sizes) == {(1, 2)}


def test_the_same_with_two_processes(whole: dict[str, bytes], tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    store = tmp_path / "store"
    started = [context.Process(target=_rank, args=(rank, store, tmp_path / "out")) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    assert content(tmp_path / "out") == whole


@pytest.mark.parametrize("images", [1, 7, 100])
def test_the_same_labels_whatever_a_shard_holds(
    images: int, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "IMAGES", images)
    label(tmp_path)
    labels = {name: each for name, each in whole.items() if not name.startswith("predictions")}
    assert {name: each for name, each in content(tmp_path).items() if not name.startswith("predictions")} == labels


def _rank(rank: int, store: Path, folder: Path) -> None:
    import torch.distributed as dist

    from evenseg.stages.pseudo_label import cut
    from evenseg.stages.pseudo_label.label import Ranks

    torch.set_num_threads(1)
    cut.SORTED = 10  # so that keys are counted together before they are gathered
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    label_all(folder, Rule(), PRIOR, count=COUNT, truth=True, ranks=Ranks(rank, 2, dist.barrier))
    dist.destroy_process_group()
