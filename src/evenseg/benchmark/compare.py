"""A fair comparison of two finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from evenseg.benchmark.comparable import unlike
from evenseg.benchmark.difference import Difference, Units, differences
from evenseg.benchmark.finished import Finished, read_finished
from evenseg.benchmark.plan import RunSpec
from evenseg.errors import InputError
from evenseg.training.folder import read_run


class Comparison(NamedTuple):
    """Two runs and the differences of the first minus the second."""

    ours: Finished
    theirs: Finished
    differences: list[Difference]


def compare_runs(ours: Path, theirs: Path, units: Units) -> Comparison:
    """Compares the headline figures of two runs.

    Raises:
        InputError: one is not finished, or they were trained or scored on unlike lists or by unlike protocols.
    """
    first, second = _read(ours), _read(theirs)
    found, reason = compare_finished(first, second, units)
    if reason:
        raise InputError(f"{ours} and {theirs} are not comparable: {reason}; compare runs of one split and protocol")
    return Comparison(first, second, found)


def compare_finished(ours: Finished, theirs: Finished, units: Units) -> tuple[list[Difference], str | None]:
    """The differences of two finished runs, none where they are not comparable, and the reason then."""
    lists = [run.environment["split_sha256"] for run in (ours, theirs)]
    reason = unlike(ours.result, theirs.result, *lists)
    return ([] if reason else differences([ours], [theirs], units)), reason


def _read(folder: Path) -> Finished:
    config, _ = read_run(folder)
    if not (folder / "result.json").is_file():
        raise InputError(f"{folder}: has no result yet; run its training command again to finish it")
    spec = RunSpec(config.method_name, str(config.data.labeled), config.data.fold, config.seed, config, config)
    return read_finished(spec, folder)
