"""From the ``data`` section of a configuration to the data of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from evenseg.config import DataConfig
from evenseg.data.build_folder import build_folder, scored_folder
from evenseg.data.build_synthetic import build_synthetic, scored_synthetic
from evenseg.data.check import Progress
from evenseg.data.dataset import Dataset, DataSplits
from evenseg.data.memory import user_cache_dir
from evenseg.errors import InputError
from evenseg.schema import nearest

# By name: all data of a run, and one list to score.
_SOURCES: dict[str, tuple[Callable[..., DataSplits], Callable[..., Dataset]]] = {
    "folder": (build_folder, scored_folder),
    "synthetic": (build_synthetic, scored_synthetic),
}


def build_data(
    config: DataConfig,
    *,
    seed: int,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    needs_unlabeled: bool = True,
    holdout: int = 0,
) -> DataSplits:
    """Find, check and split the data of a run.

    Every labeled pair is decoded, the labels of ``val`` and ``test`` too; of all other images the
    header is read. What was sound is remembered and not decoded again.

    Args:
        config: the ``data`` section.
        seed: seed of the run; chooses the synthetic scenes. Splits depend on ``config.fold`` alone.
        cache_dir: where checks are remembered; None: the user's cache folder.
        progress: called with done, total and what is being checked.
        needs_unlabeled: False for methods without unlabeled data, whose keys are then accepted
            and left alone.
        holdout: how many labeled images are withheld from training, see ``splits.withhold``.

    Raises:
        InputError: anything wrong with configuration, lists or files.
    """
    build, _ = _source(config)
    return build(
        config,
        seed=seed,
        cache_dir=cache_dir or user_cache_dir(),
        progress=progress,
        needs_unlabeled=needs_unlabeled,
        holdout=holdout,
    )


def build_scored(
    config: DataConfig,
    split: Literal["val", "test"],
    *,
    seed: int,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """One list to score a trained network on, checked as by ``build_data``; no other list is looked at.

    Raises:
        InputError: the list is not set, or anything is wrong with it or its files.
    """
    _, scored = _source(config)
    return scored(config, split, seed=seed, cache_dir=cache_dir or user_cache_dir(), progress=progress)


def _source(config: DataConfig) -> tuple[Callable[..., DataSplits], Callable[..., Dataset]]:
    if config.dataset not in _SOURCES:
        known = " and ".join(_SOURCES)
        raise InputError(f"data.dataset: no {config.dataset!r}{nearest(config.dataset, _SOURCES)}; there are {known}")
    return _SOURCES[config.dataset]
