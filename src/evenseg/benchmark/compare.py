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
    """Two runs, differences of the first minus the second. reason: why they are not comparable; None: they are."""

    ours: Finished
    theirs: Finished
    differences: list[Difference]
    reason: str | None = None


def compare_runs(ours: Path, theirs: Path, units: Units, *, force: bool = False) -> Comparison:
    """Compares the headline figures of two runs.

    Args:
        ours, theirs: run folders.
        units: what counts as one image.
        force: compare runs that are not comparable too, without intervals.

    Raises:
        InputError: one is not finished or has no score, or they were trained or scored on unlike lists or by unlike
            protocols.
    """
    first, second = _read(ours), _read(theirs)
    found, reason = compare_finished(first, second, units)
    if reason and force and first.result["split"] is not None and second.result["split"] is not None:
        blind = [run._replace(images=None) for run in (first, second)]  # an interval would say that this is evidence
        found = differences(blind[:1], blind[1:], units)
    elif reason:
        raise InputError(
            f"{ours} and {theirs} are not comparable: {reason}; compare runs of one split and protocol, "
            "or see both all the same with --force"
        )
    return Comparison(first, second, found, reason)


def lists_of(run: Finished) -> str:
    """What a run was trained and scored on, published lists by name and others by the front of a hash; the protocol."""
    hashes = run.environment["split_sha256"]
    named = run.environment.get("published_split") or []  # runs of earlier versions have none
    parts = [f"labeled {' = '.join(named) or hashes['labeled'][:12]}"]
    parts += [f"{key} {hashes[key][:12]}" for key in ("unlabeled", str(run.result["split"])) if key in hashes]
    return ", ".join([*parts, run.result["protocol"]])


def compare_finished(ours: Finished, theirs: Finished, units: Units) -> tuple[list[Difference], str | None]:
    """The differences of two finished runs, none where they are not comparable, and the reason then."""
    lists = [run.environment["split_sha256"] for run in (ours, theirs)]
    reason = unlike(ours.result, theirs.result, *lists)
    names = [" = ".join(run.environment.get("published_split") or []) for run in (ours, theirs)]
    if reason and any(names) and lists[0].get("labeled") != lists[1].get("labeled"):
        reason += f" (labeled: {' and '.join(name or 'no published list' for name in names)})"
    return ([] if reason else differences([ours], [theirs], units)), reason


def _read(folder: Path) -> Finished:
    config, _ = read_run(folder)
    if not (folder / "result.json").is_file():
        raise InputError(f"{folder}: has no result yet; run its training command again to finish it")
    spec = RunSpec(config.method_name, str(config.data.labeled), config.data.fold, config.seed, config, config)
    return read_finished(spec, folder)
