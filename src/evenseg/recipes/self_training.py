"""Self-training in rounds: label the unlabeled images, train on both, and again with more labels."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

from evenseg.config import Config
from evenseg.errors import InputError
from evenseg.functional.random import key
from evenseg.recipes.base import LabelStage, Recipe, Stage, Start, TrainStage
from evenseg.recipes.overrides import as_overrides, divide, of_stages, with_settings
from evenseg.registry import check_arguments
from evenseg.stages.pseudo_label.held_out import CalibrationName
from evenseg.stages.pseudo_label.predict import Average
from evenseg.stages.pseudo_label.rules import Rule, RuleName
from evenseg.stages.pseudo_label.run import Distribution, Options
from evenseg.types import Fraction, NonNegative

Labeling = dict[str, Any]  # arguments of ``_Labels``


class _Labels:
    """How the pseudo-labels of a round are made: the settings of a stage ``label_K``."""

    def __init__(
        self,
        *,
        rule: RuleName,
        ratio: Fraction,
        confidence: Fraction | None = None,
        rounding: Literal["largest_remainder", "floor"] = "largest_remainder",
        deficit: Literal["keep_all", "shrink", "refill"] = "keep_all",
        scope: Literal["survivors", "ties"] = "survivors",
        sampling: Literal["exact", "bernoulli"] = "exact",
        average: Average = "logits",
        calibration: CalibrationName = "none",
        distribution: Distribution | dict[str, NonNegative] = "labeled",
        alignment: Fraction | None = None,
        regularized: bool | None = None,
    ) -> None:
        self.rule = Rule(rule, ratio, confidence, rounding, deficit, scope, sampling)
        self.average, self.calibration = average, calibration
        self.distribution, self.alignment, self.regularized = distribution, alignment, regularized

    def options(self, seed: int) -> Options:
        return Options(
            self.rule,
            seed,
            name="labels",
            average=self.average,
            calibration=self.calibration,
            distribution=self.distribution,
            alignment=self.alignment,
            portable=True,
            regularized=self.regularized,
        )


_LABEL_KEYS = tuple(inspect.signature(_Labels).parameters)


def widened(scale: Sequence[float], low: float, high: float) -> list[float]:
    """A range of scales, its ends moved apart: ``[(1 - low) * scale[0], (1 + high) * scale[1]]`` (DARS, Sec. 3.3)."""
    return [(1 - low) * scale[0], (1 + high) * scale[1]]


class SelfTraining(Recipe):
    """Rounds of pseudo-labels: the method on labeled images, then as often as there are ratios on both.

    Paper: He, Yang, Qi, "Re-distributing Biased Pseudo Labels for Semi-supervised Semantic Segmentation: A Baseline
    Investigation", ICCV 2021, https://arxiv.org/abs/2107.11279, with its rule as the default; other rules are what it
    compares with. Official code: https://github.com/CVMI-Lab/DARS.

    Stages: ``round_0``; for each ratio ``label_K``, the unlabeled images as the last network of the round before
    labels them, and ``round_K``, which starts from that network and has the pseudo-labels beside the labeled images.

    Args:
        rule: which predictions become labels, see `evenseg pseudo-label`: dars, da, cbst, st or crest.
        ratios: share of the pixels to label in each round.
        widen: by which part the scale range of the last of several rounds is widened, down and up; null: not.
        learning_rate: in every round after the first continued, with optimiser and momentum, in the schedule of all
            steps so far (DARS' official code); or restart, from the start of a schedule of its own.
        confidence: of st, a fixed threshold in place of the ratio.
        rounding: of quotas of pixels.
        deficit: where a class is predicted too rarely: keep_all, shrink or refill.
        scope: of dars, draw among all pixels that reach the threshold, or among its ties alone.
        sampling: of dars, to the exact number of pixels, or on average.
        average: what windows, scales and mirror images are averaged as.
        calibration: of the confidence, fitted to held-out labeled pixels.
        distribution: of classes that is aimed at: labeled, estimated, or shares by name.
        alignments: for each round the power to which predictions are aligned with that distribution before labels are
            read off them (CReST+); null: they stay as they are.
        regularized: labels are read off probabilities in which USRN's branch has had its say; null: where the method
            has the component subclass_branch.
    """

    def __init__(
        self,
        *,
        rule: RuleName = "dars",
        ratios: list[Fraction] = [0.2, 0.5],  # noqa: B006 - nobody writes to it
        widen: tuple[Fraction, NonNegative] | None = (0.2, 0.5),
        learning_rate: Start = "continued",
        confidence: Fraction | None = None,
        rounding: Literal["largest_remainder", "floor"] = "largest_remainder",
        deficit: Literal["keep_all", "shrink", "refill"] = "keep_all",
        scope: Literal["survivors", "ties"] = "survivors",
        sampling: Literal["exact", "bernoulli"] = "exact",
        average: Average = "logits",
        calibration: CalibrationName = "none",
        distribution: Distribution | dict[str, NonNegative] = "labeled",
        alignments: list[Fraction] | None = None,
        regularized: bool | None = None,
    ) -> None:
        if not ratios:
            raise ValueError("ratios: give one for each round after the first")
        if alignments is not None and len(alignments) != len(ratios):
            raise ValueError("alignments: give one for each of the ratios")
        if widen is not None and widen[0] == 1:
            raise ValueError("widen: a range that is lowered by its whole begins at scale 0; choose less than 1")
        self.ratios, self.widen, self.learning_rate = list(ratios), widen, learning_rate
        self.alignments: list[float | None] = [None] * len(ratios) if alignments is None else list(alignments)
        self.labeling: Labeling = {
            "rule": rule,
            "confidence": confidence,
            "rounding": rounding,
            "deficit": deficit,
            "scope": scope,
            "sampling": sampling,
            "average": average,
            "calibration": calibration,
            "distribution": distribution,
            "regularized": regularized,
        }

    def stages(self, config: Config) -> list[Stage]:
        """See ``Recipe``."""
        if config.data.pseudo_labeled is not None:
            raise InputError("data.pseudo_labeled: this recipe makes pseudo-labels itself; leave it out")
        last = len(self.ratios)
        names = ["round_0", *(f"{kind}_{number}" for number in range(1, last + 1) for kind in ("label", "round"))]
        settings = of_stages(config, names)
        base = config.model_copy(update={"recipe": None, "stages": {}})
        stages: list[Stage] = []
        steps = 0
        for number, ratio in enumerate([0.0, *self.ratios]):
            name, before = f"round_{number}", f"round_{number - 1}"
            own = {**self._last_scale(base), **settings[name]} if number == last > 1 else settings[name]
            resolved = with_settings(base, name, own)
            if number and self.learning_rate == "continued":
                steps += resolved.train.steps
                resolved = with_settings(resolved, name, {"train.steps": steps})
            else:
                steps = resolved.train.steps
            if number == 0:
                stages.append(TrainStage(name, resolved))
                continue
            stages.append(self._label(config, number, ratio, settings[f"label_{number}"]))
            stages.append(TrainStage(name, resolved, before, f"label_{number}", self.learning_rate))
        return stages

    def _last_scale(self, config: Config) -> dict[str, Any]:
        if self.widen is None:
            return {}
        if len(config.data.scale) != 2:
            raise InputError("data.scale: a list to choose from cannot be widened; set recipe.widen to null")
        return {"data.scale": widened(config.data.scale, *self.widen)}

    def _label(self, config: Config, number: int, ratio: float, settings: dict[str, Any]) -> LabelStage:
        name = f"label_{number}"
        mine, others = divide(settings, _LABEL_KEYS)
        shares = {part.partition(".")[2]: mine.pop(part) for part in list(mine) if part.startswith("distribution.")}
        given = {
            **self.labeling,
            "ratio": ratio,
            "alignment": self.alignments[number - 1],
            **mine,
            **({"distribution": shares} if shares else {}),
        }
        labels = _Labels(**check_arguments(_Labels, given, where=f"stages.{name}"))
        if labels.alignment is not None and labels.distribution == "estimated":
            raise InputError(f"stages.{name}: alignment needs the labeled distribution or shares by name, no estimate")
        with_settings(config.model_copy(update={"stages": {}}), name, others)  # sees what is wrong with them
        return LabelStage(
            name, f"round_{number - 1}", labels.options(key(config.seed, name)), tuple(as_overrides(name, others))
        )
