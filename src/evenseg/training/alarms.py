"""Alarms: what the records of a run say is going wrong, in plain words and with a remedy.

A condition has to hold for several records or validations in a row, since the images of one say little, and is told
once until it has ended. Nothing is stored: a resumed run reads its own log again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean, median_low
from typing import Any

Record = dict[str, Any]

PATIENCE = 3  # health records in a row that show one class nearly alone, or nothing kept
SWALLOWED = 0.05  # the other classes' share has fallen to this part of their labeled share
NOTHING = 1e-4  # fraction of the pixels kept
WINDOW = 10  # health records that are averaged before a class is called gone: rare ones are in few images
GONE = 0.05  # part of its labeled share that a class has fallen to ...
PRESENT = 0.5  # ... after it had this part of it in half of so many records
VALIDATIONS = 4  # validations in a row
WORSE = 0.9  # the teacher's mIoU, as a part of the student's
FALLEN = 0.9  # the last mIoU of a falling sequence, as a part of its first
COLLAPSED = 0.7  # mean pairwise cosine of prototypes in so many training lines (PATIENCE) in a row


class Alarms:
    """Watches the records of a run.

    Args:
        names: C class names.
        class_frequency: C labeled pixel counts.
        past: the records of the run so far, whose alarms have been told.
    """

    def __init__(self, names: Sequence[str], class_frequency: Sequence[int], past: Sequence[Record] = ()) -> None:
        total = max(sum(class_frequency), 1)
        self._labeled = {name: pixels / total for name, pixels in zip(names, class_frequency, strict=True)}
        self._health: list[Record] = []
        self._prototypes: list[Record] = []  # lines that tell of them
        self._scores: dict[int, dict[str, float]] = {}  # step -> mIoU by network
        self._seen: set[str] = set()  # classes that have been among the pseudo-labels
        self._active: set[str] = set()
        for record in past:
            self.see(record)

    def see(self, record: Record) -> list[Record]:
        """Takes in one record of any kind; returns one for each alarm that begins with it: ``alarm`` and ``text``."""
        kinds: tuple[str, ...]  # of the alarms that such a record begins and ends
        if record["split"] == "health":
            self._health = [*self._health[1 - WINDOW :], record]
            found, kinds = dict(self._of_pseudo_labels()), ("nothing kept", "swallowing", "vanished")
        elif record["split"] == "val":
            scores = self._scores.setdefault(record["step"], {})
            scores[record["network"]] = record["miou"] or 0.0
            if len(scores) < max(map(len, self._scores.values())):
                return []  # the teacher's line of this validation is still to come
            found, kinds = dict(self._of_validations()), ("teacher worse", "harmful")
        elif record["split"] == "train" and record.get("prototype_cosine") is not None:
            self._prototypes = [*self._prototypes[1 - PATIENCE :], record]
            found, kinds = dict(self._of_prototypes()), ("prototypes",)
        else:
            return []
        new = [key for key in found if key not in self._active]
        self._active = {key for key in self._active if not key.startswith(kinds)} | found.keys()
        return [{"step": record["step"], "split": "alarm", "alarm": key, "text": found[key]} for key in new]

    def _of_pseudo_labels(self) -> Iterator[tuple[str, str]]:
        recent = self._health[-PATIENCE:]
        if len(recent) == PATIENCE and all((each["kept"] or 0.0) < NOTHING for each in recent):
            yield (
                "nothing kept",
                "nearly no pixel of the unlabeled images is a pseudo-label; lower the method's threshold, "
                "or train longer on labeled images first (method.supervised_steps)",
            )
        shares = [self._shares(each) for each in self._health if each["kept"]]
        for name, labeled in self._labeled.items():
            last = [share[name] for share in shares[-PATIENCE:]]
            if labeled < 1 and len(last) == PATIENCE and all(1 - s < SWALLOWED * (1 - labeled) for s in last):
                yield (
                    f"swallowing {name}",
                    f"{name} is {100 * last[-1]:.0f} % of the pseudo-labels and {100 * labeled:.0f} % of the labeled "
                    "pixels; lower method.unsupervised_weight, or train longer on labeled images first "
                    "(method.supervised_steps)",
                )
            if len(shares) < WINDOW or labeled == 0:
                continue
            window = [share[name] for share in shares]
            if median_low(window) > PRESENT * labeled:  # no mean: an untrained network may say it everywhere for once
                self._seen.add(name)
            if name in self._seen and fmean(window) < GONE * labeled:
                yield (
                    f"vanished {name}",
                    f"{name} has vanished from the pseudo-labels ({100 * labeled:.2g} % of the labeled pixels); "
                    "lower the method's threshold, or weigh rare classes up (method.supervised_loss=class_weighted)",
                )

    def _of_prototypes(self) -> Iterator[tuple[str, str]]:
        cosines = [each["prototype_cosine"] for each in self._prototypes]
        if len(cosines) < PATIENCE or min(cosines) <= COLLAPSED:
            return
        nearest = sorted(self._prototypes[-1].get("per_class_prototype_nearest", {}).items(), key=lambda pair: -pair[1])
        named = ", ".join(f"{name} {cosine:.2f}" for name, cosine in nearest[:2])
        yield (
            "prototypes collapse",
            f"the prototypes collapse: their mean pairwise cosine is {cosines[-1]:.2f}"
            + (f" (nearest to another: {named})" if named else "")
            + "; hold them longer (method.proto_hold), start them apart (method.proto_start=simplex), or move them "
            "more slowly (method.proto_momentum)",
        )

    @staticmethod
    def _shares(record: Record) -> dict[str, float]:
        return {name: share or 0.0 for name, share in record["per_class_share"].items()}

    def _of_validations(self) -> Iterator[tuple[str, str]]:
        recent = list(self._scores.values())[-VALIDATIONS:]
        if len(recent) < VALIDATIONS:
            return
        worse = all("teacher" in each and each["teacher"] < WORSE * each["student"] for each in recent)
        # an average of the past lags behind a student that learns fast, and rises with it
        if worse and recent[-1]["teacher"] <= recent[0]["teacher"]:
            yield (
                "teacher worse",
                f"the teacher has been worse than the student for {VALIDATIONS} validations "
                f"({100 * recent[-1]['teacher']:.1f} and {100 * recent[-1]['student']:.1f} % mIoU); "
                "lower method.ema_decay, or train longer on labeled images first (method.supervised_steps)",
            )
        mious = [each["student"] for each in recent]
        falling = all(after < before for before, after in pairwise(mious))
        if self._health and falling and mious[-1] < FALLEN * mious[0]:
            yield (
                "harmful",
                f"validation has fallen {VALIDATIONS - 1} times in a row, from {100 * mious[0]:.1f} to "
                f"{100 * mious[-1]:.1f} % mIoU, while the unlabeled images teach; "
                "lower method.unsupervised_weight or optim.lr, or go back to checkpoints/best.ckpt",
            )
