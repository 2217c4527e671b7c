"""Predictions to pseudo-labels: one pass that stores, and as many choices as one likes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from evenseg.data.allocator import return_freed_memory
from evenseg.data.classes import Classes
from evenseg.errors import InputError
from evenseg.functional.confidence_codes import decode_confidence
from evenseg.functional.distributed import sum_over_ranks
from evenseg.metrics.distribution_report import DistributionReport
from evenseg.stages.pseudo_label import manifest
from evenseg.stages.pseudo_label.cut import Image
from evenseg.stages.pseudo_label.encode import Calibrate
from evenseg.stages.pseudo_label.images import Images
from evenseg.stages.pseudo_label.predict import Logits, predict_shards
from evenseg.stages.pseudo_label.rules import Rule, choose
from evenseg.stages.pseudo_label.shards import Shards
from evenseg.stages.pseudo_label.write import PARTS, stored_images, write_labels, write_list
from evenseg.training.checkpoint import write_text
from evenseg.training.folder import write_json

Progress = Callable[[str, int, int], None]  # what is being done, images done, images of this process
Prior = Callable[[Tensor], Tensor]  # from predicted pixels (C,) to the (C,) counts or shares that are wanted


class Ranks(NamedTuple):
    """This process among others. barrier: waits for all."""

    rank: int = 0
    world_size: int = 1
    barrier: Callable[[], object] = lambda: None


class Selected(NamedTuple):
    """list_file: lines ``image label``, ready for ``data.pseudo_labeled``. report: what was kept, by class.
    faults: of the images that could not be read, one line each."""

    list_file: Path
    report: dict[str, Any]
    faults: tuple[str, ...] = ()


class Labeling(NamedTuple):
    """Predictions of ``images`` stored in ``OUTPUT/predictions``, and labels chosen from them in ``OUTPUT/NAME``."""

    output: Path
    images: Images
    classes: Classes
    ranks: Ranks = Ranks()
    progress: Progress | None = None

    @property
    def shards(self) -> Shards:
        """Where the predictions are."""
        return Shards(self.output / "predictions", len(self.images.names), self.classes.num_classes)

    def predict(self, logits: Logits, calibrate: Calibrate | None, *, as_prob: bool = False) -> Tensor:
        """Stores what is missing; (C, CODES) int64 histogram of all predictions. ``as_prob``: see ``encode``.

        Raises:
            InputError: an image is there twice, whose pixels would count twice; or see ``predict_shards``.
        """
        names = self.images.names
        if twice := next((name for name, times in Counter(names).items() if times > 1), None):
            raise InputError(f"{twice}: is among the images twice; leave one of the two out")
        return_freed_memory()  # so that memory does not depend on the number of images
        progress = None if self.progress is None else _titled(self.progress, "predict")
        rank, world_size, barrier = self.ranks
        if rank == 0:
            for leftover in self.output.rglob(".*.tmp"):  # of a write that was killed
                leftover.unlink()
        barrier()
        predict_shards(
            self.shards,
            names,
            logits,
            calibrate=calibrate,
            as_prob=as_prob,
            rank=rank,
            world_size=world_size,
            progress=progress,
        )
        barrier()
        return sum_over_ranks(self.shards.histogram(range(rank, len(self.shards), world_size)))

    def select(
        self, histogram: Tensor, rule: Rule, prior: Tensor, *, name: str, seed: int, portable: bool = False
    ) -> Selected:
        """Chooses pseudo-labels by a rule and writes them, or goes on writing, or reads what was written.

        Args:
            histogram: of ``predict``.
            rule: which pixels are kept.
            prior: (C,) labeled pixels, or the shares that are wanted.
            name: of the folder.
            seed: of what is drawn.
            portable: see ``write_list``.

        Raises:
            InputError: the folder holds labels of another choice.
        """
        folder = self.output / name
        rank, world_size, barrier = self.ranks
        asked = {**rule._asdict(), "prior": prior.tolist(), "seed": seed}
        manifest.claim(folder / "selection.json", asked, "choose another --name", write=rank == 0)
        report_file = folder / "report.json"
        faults = self.shards.faults()
        if not report_file.exists():
            own = range(rank, len(self.shards), world_size)

            def stored() -> Iterator[Image]:
                return stored_images(self.shards, self.images.names, own)

            choice = choose(rule, histogram, prior, stored, seed=seed)
            counts = write_labels(
                folder,
                self.shards,
                self.images,
                choice.cut,
                self.classes,
                seed=seed,
                rank=rank,
                world_size=world_size,
                progress=None if self.progress is None else _titled(self.progress, "write"),
            )
            known = bool(counts.truth.any())
            report = DistributionReport(
                prior=prior.double(),
                quota=choice.quota,
                predicted=histogram.sum(dim=1),
                kept=counts.kept,
                threshold=decode_confidence(choice.thresholds.code),
                tied=choice.thresholds.tied,
                total=int(histogram.sum()),
                judged=counts.judged if known else None,
                right=counts.right if known else None,
                truth=counts.truth if known else None,
            )
            if rank == 0:
                write_list(folder, self.images, set(faults), portable=portable)
                write_text(folder / "report.md", report.as_table(self.classes.names) + "\n")
                write_json(report_file, report.as_dict(self.classes.names))
                shutil.rmtree(folder / PARTS, ignore_errors=True)
            barrier()
        return Selected(folder / "list.txt", manifest.read(report_file), tuple(faults.values()))


def _titled(progress: Progress, title: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(title, done, total)
