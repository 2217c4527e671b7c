"""Subclass maps of the labeled images of a trained run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from evenseg.config import Config
from evenseg.data.build import build_data
from evenseg.data.classes import Classes
from evenseg.data.subclasses import SIDECAR, Sidecar
from evenseg.errors import InputError
from evenseg.functional.clustering import Balance, CountRule, Rounding
from evenseg.functional.distributed import sum_over_ranks
from evenseg.networks.base import SegmentationNetwork
from evenseg.stages.cluster.codebook import Codebook, load_tensors, save_tensors
from evenseg.stages.cluster.counts import Counts, check_budget, chosen_counts, explicit_counts
from evenseg.stages.cluster.features import CellFiles, Features, Tap, store_features
from evenseg.stages.cluster.fit import Balanced, Sample, balance_prices, fit_classes
from evenseg.stages.cluster.report import ClusterReport
from evenseg.stages.cluster.sample import draw_cells, gather_features
from evenseg.stages.cluster.write import Mode, map_file, read_note, write_maps
from evenseg.stages.pseudo_label import manifest
from evenseg.stages.pseudo_label.images import Images, dataset_images
from evenseg.training.checkpoint import write_text
from evenseg.training.fabric import ends_with_others, make_fabric, precision
from evenseg.training.folder import locked, read_run, write_json
from evenseg.training.use import Which, load_method, predictor_of

Progress = Callable[[str, int, int], None]  # what is being done, images done, images of this process

_CODEBOOK = "codebook.safetensors"


class Options(NamedTuple):
    """How classes are divided.

    rule: a subclass is as large as the smallest class (USRN, Section 3.2), or so large that there are at most
    ``budget`` of all classes together, which limits ``smallest`` too; budget: null: no limit to that. rounding: of the
    numbers of subclasses. counts: those numbers, of all classes in order or by name (1 for the others), in place of a
    rule. balance: clusters of equal size (``hard``), of sizes between (``soft``, the nearer to equal the larger
    ``strength`` in [0, 1]), or plain k-means (``none``). features: of the network, averaged to cells of
    ``stride`` pixels where they are finer. mode: of the maps: ``consistent``: every pixel's subclass is one of its
    class; ``nearest``: the cells' subclasses, enlarged (the official code). samples: cells per subclass that centers
    are found on. iterations: of k-means. tolerance: coefficient of variation of the sizes in a class from which on
    prices are corrected, in at most ``passes`` more passes over all cells. seed: of what is drawn.
    """

    rule: CountRule = "smallest"
    budget: int | None = 254
    rounding: Rounding = "nearest"
    counts: Counts | None = None
    balance: Balance = "hard"
    strength: float = 0.5
    features: Tap = "decoder"
    stride: int = 8
    mode: Mode = "consistent"
    samples: int = 512
    iterations: int = 30
    tolerance: float = 0.1
    passes: int = 5
    seed: int = 0


class Clustered(NamedTuple):
    """folder: as ``data.subclasses`` takes it. report: what was made of the classes."""

    folder: Path
    report: dict[str, Any]


@ends_with_others()
def cluster_run(
    run: Path,
    output: Path,
    *,
    options: Options = Options(),  # noqa: B008 - immutable
    which: Which = "last",
    network: str | None = None,
    configure: Callable[[Config], Config] = lambda config: config,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> Clustered:
    """Divides the classes of a run's labeled images by one of its networks; called again it goes on where it was.

    Args:
        run: the run folder.
        output: where to: label maps, ``subclasses.json`` that describes them, and a report.
        options: how.
        which, network: checkpoint and network, as in ``predict_run``.
        configure: changes the run's configuration (where its data lie).
        progress: called with what is being done, images done and images.
        say: called with warnings, by one process.

    Raises:
        InputError: see the message.
    """
    stored, facts = read_run(run)
    config = configure(stored)
    if options.counts is not None:
        explicit_counts(options.counts, facts.classes.names)  # a wrong name is told before the passes
    else:
        check_budget(options.rule, options.budget, facts.classes.num_classes)
    fabric = make_fabric(config.train)
    role, predictor = predictor_of(load_method(run, config, facts, which), network)
    source = _network_of(run, predictor).to(fabric.device)
    if not fabric.is_global_zero:
        progress = None
    check = None if progress is None else _untitled(progress)
    data = config.data.model_copy(update={"subclasses": None, "pseudo_labeled": None})
    holdout = config.health.holdout
    splits = build_data(data, seed=config.seed, progress=check, needs_unlabeled=False, holdout=holdout)
    images = dataset_images(splits.labeled)
    work = _Work(
        output,
        images,
        splits.classes,
        options,
        fabric,
        _Titled(progress),
        say if fabric.is_global_zero else _silent,
        made_with={
            "network": f"{which}_{role}",
            "weights_sha256": manifest.weights_sha256(source),
            "classes": list(splits.classes.names),
            "labeled_sha256": splits.split_sha256["labeled"],
            "images_sha256": manifest.names_sha256(images.names, images.lines),
            "resize": data.resize,
            "precision": precision(config.train.precision, fabric.device.type),
            **options._asdict(),
        },
    )
    fabric.barrier()  # all have looked before the first one writes
    with locked(output) if fabric.is_global_zero else nullcontext():
        return work.cluster(source)


class _Work(NamedTuple):
    output: Path
    images: Images
    classes: Classes
    options: Options
    fabric: Fabric
    titled: _Titled
    say: Callable[[str], None]
    made_with: dict[str, Any]

    def cluster(self, network: SegmentationNetwork) -> Clustered:
        """Makes what is missing."""
        first, barrier = self.fabric.is_global_zero, self.fabric.barrier
        manifest.claim(self.output / "manifest.json", self.made_with, "choose another --output", write=first)
        if not (self.output / SIDECAR).exists():
            if first:
                for leftover in self.output.rglob(".*.tmp"):  # of a write that was killed
                    leftover.unlink()
            barrier()
            self._make_all(network)
        barrier()
        if first:
            for folder in ("cells", "classes", "notes"):
                shutil.rmtree(self.output / folder, ignore_errors=True)
        return Clustered(self.output, manifest.read(self.output / "report.json"))

    def _make_all(self, network: SegmentationNetwork) -> None:
        options, barrier = self.options, self.fabric.barrier
        features = Features.of(network, options.features, options.stride)
        store_features(
            self._files,
            self.images,
            self._own,
            features,
            device=self.fabric.device,
            autocast=self.fabric.autocast,
            progress=self.titled("features"),
        )
        barrier()
        warnings: list[str] = []
        cells = self._class_sizes()
        counts = chosen_counts(
            cells,
            self.classes.names,
            rule=options.rule,
            budget=options.budget,
            rounding=options.rounding,
            counts=options.counts,
            warn=warnings.append,
        )
        for warning in warnings:
            self.say(f"warning: {warning}")
        balanced = self._codebook(cells, counts)
        write_maps(
            self.output,
            self.images,
            self._own,
            self._files,
            balanced.codebook,
            features.grid,
            self.classes,
            mode=options.mode,
            progress=self.titled("write"),
        )
        barrier()
        if self.fabric.is_global_zero:
            self._finish(cells, balanced, warnings)
        barrier()

    @property
    def _files(self) -> CellFiles:
        return CellFiles(self.output / "cells")

    @property
    def _own(self) -> range:
        return range(self.fabric.global_rank, len(self.images.names), self.fabric.world_size)

    def _names(self) -> list[tuple[int, str]]:
        return [(number, self.images.names[number]) for number in self._own]

    def _class_sizes(self) -> Tensor:
        """(C,) int64 cells of each class."""
        count = self.classes.num_classes
        sizes = np.zeros(count, np.int64)
        for _, name in self._names():
            label = self._files.read(name).label
            sizes += np.bincount(label[label != self.classes.ignore_label], minlength=count)
        return sum_over_ranks(torch.from_numpy(sizes))

    def _codebook(self, cells: Tensor, counts: Tensor) -> Balanced:
        """Found, or read where it has been."""
        path, fabric, options = self.output / _CODEBOOK, self.fabric, self.options
        known = path.exists()
        fabric.barrier()  # all have looked before the first one writes
        if not known:
            wanted = torch.where(counts > 1, torch.minimum(cells, options.samples * counts), 0)
            drawn = draw_cells(self._files, self._names(), wanted, seed=options.seed)
            sample = Sample(gather_features(self._files, self._names(), drawn), drawn.group)
            codebook = fit_classes(
                self.output / "classes",
                sample,
                counts,
                balance=options.balance,
                strength=options.strength,
                iterations=options.iterations,
                seed=options.seed,
                device=fabric.device,
                rank=fabric.global_rank,
                world_size=fabric.world_size,
                barrier=fabric.barrier,
                progress=self.titled("k-means"),
            )
            passes = options.passes if options.balance == "hard" else 0
            found = balance_prices(codebook, sample, self._sizes, tolerance=options.tolerance, passes=passes)
            if fabric.is_global_zero:
                tensors = {**found.codebook._asdict(), "before": found.before, "sizes": found.sizes}
                save_tensors(path, tensors)
            fabric.barrier()
        stored = load_tensors(path)
        codebook = Codebook(stored["counts"], stored["centers"], stored["prices"]).to(fabric.device)
        return Balanced(codebook, stored["before"], stored["sizes"])

    def _sizes(self, codebook: Codebook, number: int) -> Tensor:
        """(S,) int64 cells of each subclass, over all processes."""
        sizes = torch.zeros(len(codebook.centers), dtype=torch.int64)
        progress = self.titled(f"sizes, pass {number + 1}")
        for done, (_, name) in enumerate(self._names(), start=1):
            cells = self._files.read(name)
            label = torch.from_numpy(cells.label.astype(np.int64)).flatten()
            valid = (label != self.classes.ignore_label).nonzero().squeeze(1)
            feature = torch.from_numpy(cells.feature).flatten(0, 1)[valid].to(codebook.centers.device)
            found = codebook.assign(feature, label[valid].to(feature.device))
            sizes += torch.bincount(found, minlength=len(sizes)).cpu()
            if progress is not None:
                progress(done, len(self._own))
        return sum_over_ranks(sizes)

    def _finish(self, cells: Tensor, balanced: Balanced, warnings: list[str]) -> None:
        """The report, and last of all the sidecar, by which the folder is finished."""
        notes = {name: read_note(self.output, name) for name in self.images.names}
        valid = sum(note.valid for note in notes.values())
        counts = balanced.codebook.counts
        report = ClusterReport(
            self.classes.names,
            counts.numpy(),
            cells.numpy(),
            balanced.sizes.numpy(),
            balanced.before.numpy(),
            np.sum([note.pixels for note in notes.values()], axis=0, dtype=np.int64),
            sum(note.wrong for note in notes.values()) / max(valid, 1),
            warnings,
        )
        write_text(self.output / "report.md", report.as_table() + "\n")
        write_json(self.output / "report.json", report.as_dict())
        maps = {
            line: (map_file(self.output, name).relative_to(self.output).as_posix(), notes[name].sha256)
            for line, name in zip(self.images.lines, self.images.names, strict=True)
        }
        made_with = json.loads(json.dumps(self.made_with))
        sidecar = Sidecar(
            self.classes.names,
            tuple(counts.tolist()),
            made_with.pop("labeled_sha256"),
            self.made_with["resize"],
            self.options.mode == "consistent",
            maps,
            made_with,
        )
        write_json(self.output / SIDECAR, sidecar.content())


class _Titled(NamedTuple):
    progress: Progress | None

    def __call__(self, title: str) -> Callable[[int, int], None] | None:
        told = self.progress
        return None if told is None else lambda done, total: told(title, done, total)


def _untitled(progress: Progress) -> Callable[[int, int, str], None]:
    return lambda done, total, what: progress(what, done, total)


def _network_of(run: Path, predictor: nn.Module) -> SegmentationNetwork:
    network = getattr(predictor, "network", None)
    if not isinstance(network, SegmentationNetwork):
        raise InputError(f"{run}: its method predicts by {type(predictor).__name__}, which has no features to cluster")
    return network


def _silent(text: str) -> None:
    pass
