from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from evenseg.config import DataConfig
from evenseg.data.batches import RawBatch
from evenseg.data.loaders import batch_names, build_loader
from evenseg.errors import InputError
from evenseg.types import PasteSpec, ViewSpec
from tests.data.fakes import Pictures, splits

Loaded = list[tuple[int, int, RawBatch]]
SIZES = {"labeled_batch": 4, "unlabeled_batch": 6}


def load(
    labeled: Pictures,
    unlabeled: Pictures | None,
    pseudo_labeled: Pictures | None = None,
    *,
    workers: int = 0,
    seed: int = 2,
    **options: Any,
) -> Loaded:
    """All batches of six steps, or what ``options`` ask for."""
    config = DataConfig.model_validate(
        {
            "crop": (24, 32),
            "workers": workers,
            "rotation": 20.0,
            "blur": 0.5,
            "max_unreadable": options.pop("max_unreadable", 0),
        }
    )
    options = {"views": ViewSpec(1), "last_step": 6, **SIZES, **options}
    loader = build_loader(splits(labeled, unlabeled, pseudo_labeled), config, seed=seed, **options)
    return list(loader)


def same(first: Loaded, second: Loaded) -> bool:
    def flat(loaded: Loaded) -> list[Any]:
        values: list[Any] = []
        for step, micro, raw in loaded:
            values += [step, micro]
            for value in raw:
                values += [*value, *value.values()] if isinstance(value, dict) else [value]
        return values

    one, two = flat(first), flat(second)
    return len(one) == len(two) and all(
        torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one, two, strict=True)
    )


@pytest.fixture
def pictures() -> tuple[Pictures, Pictures]:
    return Pictures(5, "labeled"), Pictures(17, "unlabeled", labels=False)


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_same_batches(pictures: tuple[Pictures, Pictures], workers: int) -> None:
    # thread pools of torch and OpenCV are at work in the parent when the workers are forked
    torch.rand(400, 400) @ torch.rand(400, 400)
    cv2.resize(np.zeros((900, 900, 3), np.uint8), (1200, 1200))
    options: dict[str, Any] = {"unlabeled_from": 2, "micro_batches": 2}
    expected = load(*pictures, **options)
    assert [(step, micro) for step, micro, _ in expected] == [(step, micro) for step in range(6) for micro in (0, 1)]
    assert same(load(*pictures, workers=workers, **options), expected)
    assert not same(load(*pictures, seed=3, **options), expected)


@pytest.mark.parametrize("first", [1, 4, 6])
def test_a_resumed_stream_goes_on_as_the_unbroken_one(pictures: tuple[Pictures, Pictures], first: int) -> None:
    whole = load(*pictures)
    assert same(load(*pictures, first_step=first, workers=first % 2), whole[first:])


@pytest.mark.parametrize(("world_size", "micro_batches"), [(2, 1), (1, 2)])
def test_ranks_and_micro_batches_divide_the_same_batch(
    pictures: tuple[Pictures, Pictures], world_size: int, micro_batches: int
) -> None:
    whole = load(*pictures)
    parts = [load(*pictures, rank=r, world_size=world_size, micro_batches=micro_batches) for r in range(world_size)]
    for step, _, expected in whole:
        found = [raw for part in parts for at, _, raw in part if at == step]
        for name in (
            "labeled_image",
            "labeled_label",
            "labeled_index",
            "unlabeled_image",
            "unlabeled_valid",
            "unlabeled_index",
        ):
            assert torch.equal(torch.cat([getattr(raw, name) for raw in found]), getattr(expected, name))


def test_what_a_batch_holds(pictures: tuple[Pictures, Pictures]) -> None:
    for _, _, raw in load(*pictures):
        assert raw.labeled_image.shape == (4, 24, 32, 3)
        assert raw.labeled_image.dtype == torch.uint8
        assert raw.labeled_label.shape == (4, 24, 32)
        assert raw.labeled_label.dtype == torch.uint8
        assert set(raw.labeled_label.unique().tolist()) <= {*range(7), 255}
        assert raw.unlabeled_image is not None
        assert raw.unlabeled_valid is not None
        assert raw.unlabeled_image.shape == (6, 24, 32, 3)
        assert raw.unlabeled_valid.shape == (6, 24, 32)
        assert raw.unlabeled_valid.dtype == torch.bool
        assert raw.labeled_maps == raw.unlabeled_maps == {}
        assert raw.unreadable == ()
        assert raw.fatal is None


def test_each_stream_walks_through_its_own_list(pictures: tuple[Pictures, Pictures]) -> None:
    loaded = load(*pictures, last_step=17)
    labeled = torch.cat([raw.labeled_index for _, _, raw in loaded]).tolist()
    unlabeled = torch.cat([raw.unlabeled_index for _, _, raw in loaded if raw.unlabeled_index is not None]).tolist()
    for indices, length in ((labeled, 5), (unlabeled, 17)):
        for epoch in range(len(indices) // length):
            assert sorted(indices[epoch * length : (epoch + 1) * length]) == list(range(length))


def test_names_of_a_step_are_those_of_its_images(pictures: tuple[Pictures, Pictures]) -> None:
    for step, _, raw in load(*pictures, unlabeled_from=3):
        names = [f"labeled/{index}" for index in raw.labeled_index.tolist()]
        if raw.unlabeled_index is not None:
            names += [f"unlabeled/{index}" for index in raw.unlabeled_index.tolist()]
        assert batch_names(splits(*pictures), 2, step, unlabeled_from=3, **SIZES) == names
    assert batch_names(splits(*pictures), 2, 5, labeled_batch=4, unlabeled_batch=0) == names[:4]


def test_pseudo_labeled_images_are_a_stream_of_their_own(pictures: tuple[Pictures, Pictures]) -> None:
    pseudo = Pictures(7, "pseudo")
    options: dict[str, Any] = {"pseudo_labeled_batch": 2, "unlabeled_from": 3}
    whole = load(*pictures, pseudo, **options)
    for name in ("labeled_image", "labeled_label", "unlabeled_image"):  # the others come as they would without
        for (_, _, raw), (_, _, without) in zip(whole, load(*pictures, unlabeled_from=3), strict=True):
            ours, theirs = getattr(raw, name), getattr(without, name)
            assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    drawn = []
    for step, _, raw in whole:
        assert raw.pseudo_labeled_image is not None  # in purely supervised steps too
        assert raw.pseudo_labeled_label is not None
        assert raw.pseudo_labeled_index is not None
        assert raw.pseudo_labeled_image.shape == (2, 24, 32, 3)
        assert raw.pseudo_labeled_label.shape == (2, 24, 32)
        drawn += raw.pseudo_labeled_index.tolist()
        names = batch_names(splits(*pictures, pseudo), 2, step, **SIZES, **options)
        assert names[-2:] == [pseudo.name(index) for index in drawn[-2:]]
    assert sorted(drawn[:7]) == list(range(7))
    assert same(load(*pictures, pseudo, workers=1, first_step=4, **options), whole[4:])
    parts = [load(*pictures, pseudo, rank=rank, world_size=2, **options) for rank in range(2)]
    for (_, _, raw), *shares in zip(whole, *parts, strict=True):
        for name in ("pseudo_labeled_image", "pseudo_labeled_label", "pseudo_labeled_index"):
            assert torch.equal(torch.cat([getattr(share, name) for _, _, share in shares]), getattr(raw, name))
    with pytest.raises(InputError, match=r"^train\.pseudo_labeled_batch: 3 images"):
        load(*pictures, pseudo, pseudo_labeled_batch=3, world_size=2)
    pseudo.broken = frozenset(range(7))
    assert load(*pictures, pseudo, **options)[0][2].fatal == f"{pseudo.name(drawn[0])}: is truncated"


@pytest.mark.parametrize("case", ["no list", "not wanted", "not yet"])
def test_unlabeled_images_are_left_alone_where_they_are_not_due(pictures: tuple[Pictures, Pictures], case: str) -> None:
    labeled, unlabeled = pictures
    if case == "no list":
        loaded = load(labeled, None)
    elif case == "not wanted":
        loaded = load(labeled, unlabeled, views=ViewSpec(0, unlabeled=False), unlabeled_batch=5, micro_batches=2)
    else:
        loaded = load(labeled, unlabeled, unlabeled_from=6)
    assert all(raw.unlabeled_image is None and raw.unlabeled_index is None for _, _, raw in loaded)
    assert unlabeled.asked == []
    assert same([(s, m, r) for s, m, r in loaded][:1], load(labeled, None, last_step=1)) or case == "not wanted"


def test_known_truth_of_unlabeled_images_is_carried_along() -> None:
    labeled, unlabeled = Pictures(3), Pictures(4, "unlabeled", classes=300)
    for _, _, raw in load(labeled, unlabeled):
        truth = raw.unlabeled_maps["truth"]
        assert truth.dtype == torch.int32
        assert raw.unlabeled_valid is not None
        assert torch.equal(truth == 65535, ~raw.unlabeled_valid)
        assert truth[raw.unlabeled_valid].max() < 300


def test_further_label_maps_are_cut_with_the_label(pictures: tuple[Pictures, Pictures]) -> None:
    labeled, _ = pictures
    loaded = load(labeled, None, labeled_maps=lambda index: {"double": labeled.maps[index].astype(np.int16) * 2})
    for _, _, raw in loaded:
        label = raw.labeled_label.int()
        assert torch.equal(raw.labeled_maps["double"].int(), torch.where(label == 255, -1, label * 2))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_replaced_by_the_next_of_its_stream(workers: int) -> None:
    labeled, sound = Pictures(4), Pictures(9, "unlabeled")
    expected = load(labeled, sound)
    broken = Pictures(9, "unlabeled", broken=(2, 5))
    loaded = load(labeled, broken, workers=workers, max_unreadable=2)
    order = [index for _, _, raw in load(labeled, sound, last_step=9) for index in raw.unlabeled_index.tolist()]  # type: ignore[union-attr]
    draw = 0
    for (_, _, raw), (_, _, intact) in zip(loaded, expected, strict=True):
        assert raw.fatal is None
        assert raw.unlabeled_index is not None
        assert intact.unlabeled_index is not None
        messages = []
        for index in raw.unlabeled_index.tolist():
            readable = next(each for each in order[draw:] if each not in broken.broken)
            messages += [f"unlabeled/{each}: is truncated" for each in order[draw : order.index(readable, draw)]]
            assert index == readable
            draw += 1
        assert raw.unreadable == tuple(dict.fromkeys(messages))
        untouched = raw.unlabeled_index == intact.unlabeled_index
        assert torch.equal(raw.unlabeled_image[untouched], intact.unlabeled_image[untouched])  # type: ignore[index]
    assert {message for _, _, raw in loaded for message in raw.unreadable} == {
        "unlabeled/2: is truncated",
        "unlabeled/5: is truncated",
    }


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_unreadable_images_are_fatal(workers: int) -> None:
    labeled, unlabeled = Pictures(4), Pictures(9, "unlabeled", broken=range(9))
    _, _, raw = load(labeled, unlabeled, workers=workers, last_step=1)[0]
    assert raw.fatal is not None
    assert "is truncated" in raw.fatal
    assert "data.max_unreadable" in raw.fatal
    _, _, raw = load(labeled, unlabeled, workers=workers, last_step=1, max_unreadable=50)[0]
    assert raw.fatal is not None
    assert "none of the 9 images" in raw.fatal


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_labeled_image_is_fatal(workers: int) -> None:
    loaded = load(Pictures(4, "labeled", broken=(3,)), Pictures(9), workers=workers)
    assert loaded[0][2].fatal == "labeled/3: is truncated"
    loaded = load(Pictures(4, "labeled", labels=False), Pictures(9), workers=workers)
    fatal = loaded[0][2].fatal
    assert fatal is not None
    assert fatal.startswith("labeled/")
    assert "no label" in fatal


def test_any_exception_of_a_data_set_is_told_with_the_name() -> None:
    class Odd(Pictures):
        def image(self, index: int) -> np.ndarray:
            raise ValueError("strange bytes")

    fatal = load(Odd(3, "odd"), None, workers=1, last_step=1)[0][2].fatal
    assert fatal is not None
    assert fatal.startswith("odd/")
    assert "ValueError: strange bytes" in fatal


def test_batches_have_to_be_divisible(pictures: tuple[Pictures, Pictures]) -> None:
    with pytest.raises(InputError, match=r"train\.labeled_batch: 4 .* multiple of 3"):
        load(*pictures, world_size=3)
    with pytest.raises(InputError, match=r"train\.unlabeled_batch: 6 .* 2 processes x 2 micro-batches"):
        load(*pictures, world_size=2, micro_batches=2)


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_states_are_not_touched(pictures: tuple[Pictures, Pictures], workers: int) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    load(*pictures, workers=workers)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_workers_are_deaf_to_signals_for_the_trainer(pictures: tuple[Pictures, Pictures]) -> None:
    expected = load(*pictures, last_step=40)
    config = DataConfig(crop=(24, 32), workers=2, rotation=20.0, blur=0.5)
    loader = build_loader(splits(*pictures), config, seed=2, views=ViewSpec(1), last_step=40, **SIZES)
    loaded = [next(loader), next(loader), next(loader)]  # each worker is up
    for worker in multiprocessing.active_children():
        for name in ("INT", "TERM"):  # from another process, as a terminal or scheduler sends them
            subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    loaded += list(loader)
    assert same(loaded, expected)
    assert multiprocessing.active_children() == []


def test_close_ends_the_workers(pictures: tuple[Pictures, Pictures]) -> None:
    config = DataConfig(crop=(24, 32), workers=2)
    loader = build_loader(splits(*pictures), config, seed=2, views=ViewSpec(1), last_step=1000, **SIZES)
    next(loader)
    assert len(multiprocessing.active_children()) == 2
    loader.close()
    assert multiprocessing.active_children() == []
    assert list(loader) == []


def test_a_killed_worker_is_bad_luck_told_in_one_line(pictures: tuple[Pictures, Pictures]) -> None:
    config = DataConfig(crop=(24, 32), workers=1)
    loader = build_loader(splits(*pictures), config, seed=2, views=ViewSpec(1), last_step=100_000, **SIZES)
    next(loader)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid or 0, signal.SIGKILL)
    with pytest.raises(InputError, match=r"^data\.workers: a loading process was killed"):
        for _ in loader:
            pass
    loader.close()


ALL = ViewSpec(1, partners=True, paste=PasteSpec(0.5, (0.1, 2.0)))


def asked_for(step: int) -> list[int]:
    """Partners of the six slots: none for the first two steps, then the same three images for all odd slots."""
    return [-1] * 6 if step < 2 else [-1, 3, -1, 7, -1, 16]


def test_partners_that_are_asked_for_come_and_any_image_else(pictures: tuple[Pictures, Pictures]) -> None:
    plain = load(*pictures)
    loaded = load(*pictures, views=ALL._replace(paste=None), asked={"unlabeled": asked_for}, lag=32)
    others = []
    for (step, _, raw), (_, _, expected) in zip(loaded, plain, strict=True):
        own, partner = raw.unlabeled_index.chunk(2)
        assert torch.equal(own, expected.unlabeled_index)  # the first half is what it is without partners
        assert torch.equal(raw.unlabeled_image[:6], expected.unlabeled_image)
        assert raw.unlabeled_image.shape == (12, 24, 32, 3)
        assert raw.unlabeled_valid.shape == (12, 24, 32)
        if step >= 2:
            assert partner.tolist()[1::2] == [3, 7, 16]
        others += partner.tolist()[::2]
    assert len(set(others)) > 9  # of the whole set
    again = load(*pictures, views=ALL._replace(paste=None), asked={"unlabeled": asked_for}, lag=32, first_step=3)
    assert same(again, loaded[3:])


@pytest.mark.parametrize("workers", [1, 3])
def test_requests_are_read_no_sooner_than_they_are_known(pictures: tuple[Pictures, Pictures], workers: int) -> None:
    """The loader asks for step s after at most ``lag`` steps fewer have been handed out, with any number of workers."""
    handed, lag = 0, 3
    asked: list[int] = []

    def images(step: int) -> list[int]:
        assert step - handed < lag
        asked.append(step)
        return [step % 17] * 6

    config = DataConfig.model_validate({"crop": (24, 32), "workers": workers})
    loader = build_loader(
        splits(*pictures),
        config,
        seed=2,
        views=ALL,
        last_step=9,
        micro_batches=2,
        asked={"unlabeled": images},
        lag=lag,
        **SIZES,
    )
    for step, micro, raw in loader:
        handed = step  # so many steps have ended as its batches are handed out
        assert raw.unlabeled_index.chunk(2)[1].tolist() == [step % 17] * 3, micro
    assert asked == list(range(9))


def test_second_labeled_images_are_drawn_for_their_share(pictures: tuple[Pictures, Pictures]) -> None:
    loaded = load(*pictures, views=ALL, last_step=60)
    pasted = torch.cat([(raw.paste_label != 255).flatten(1).any(1) for _, _, raw in loaded])
    assert abs(pasted.float().mean() - 0.5) < 0.13  # 240 draws, 4 standard errors
    blank = [raw.paste_image[~(raw.paste_label != 255).flatten(1).any(1)] for _, _, raw in loaded]
    assert sum(len(each) for each in blank) > 50
    assert all((each == 0).all() for each in blank)
    assert set(torch.cat([raw.paste_index for _, _, raw in loaded]).tolist()) == set(range(5))
    wanted = load(*pictures, views=ALL, asked={"labeled": lambda step: [1, 2, 3, 4]}, lag=32)
    for _, _, raw in wanted:
        there = (raw.paste_label != 255).flatten(1).any(1)
        assert torch.equal(raw.paste_index[there], torch.tensor([1, 2, 3, 4])[there])


def test_an_unreadable_partner_is_replaced_and_named(pictures: tuple[Pictures, Pictures]) -> None:
    broken = Pictures(17, "unlabeled", labels=False, broken=[3])
    options = {"views": ALL, "asked": {"unlabeled": lambda step: [3] * 6}, "lag": 32, "last_step": 2}
    for _, _, raw in load(pictures[0], broken, max_unreadable=1, **options):
        assert 3 not in raw.unlabeled_index.tolist()
        assert raw.unreadable == ("unlabeled/3: is truncated",)
    assert load(pictures[0], broken, **options)[0][2].fatal.startswith("unlabeled/3: is truncated, or raise")
