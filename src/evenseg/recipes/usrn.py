"""USRN: train on the labeled images, divide their classes into subclasses, train on both and on unlabeled images."""

from __future__ import annotations

import inspect
from typing import Any, Literal

from evenseg.config import Config
from evenseg.config.faults import flat
from evenseg.errors import InputError
from evenseg.functional.clustering import Balance, CountRule, Rounding
from evenseg.functional.random import key
from evenseg.recipes.base import ClusterStage, Recipe, Stage, TrainStage
from evenseg.recipes.overrides import as_overrides, divide, of_stages, with_settings
from evenseg.registry import check_arguments
from evenseg.stages.cluster.counts import check_budget
from evenseg.stages.cluster.features import Tap
from evenseg.stages.cluster.run import Options
from evenseg.training.build import method_class
from evenseg.types import Count, Fraction, NonNegative, Size

SUPERVISED, CLUSTER, JOINT = "supervised", "cluster", "joint"

# Keys of ``data`` on which it depends which images are labeled, and what the maps lie on.
_LISTS = ("dataset", "root", "classes", "train", "labeled", "fold", "labels", "resize", "size", "train_images")


class _Clustering:
    """How the classes are divided: the settings of the stage ``cluster``."""

    def __init__(
        self,
        *,
        rule: CountRule = "smallest",
        budget: Size | None = 254,
        rounding: Rounding = "nearest",
        counts: list[Size] | dict[str, Size] | None = None,
        balance: Balance = "hard",
        strength: Fraction = 0.5,
        features: Tap = "decoder",
        stride: Size = 8,
        mode: Literal["consistent", "nearest"] = "consistent",
        samples: Size = 512,
        iterations: Size = 30,
        tolerance: NonNegative = 0.1,
        passes: Count = 5,
    ) -> None:
        self.options = Options(
            rule=rule,
            budget=budget,
            rounding=rounding,
            counts=counts,
            balance=balance,
            strength=strength,
            features=features,
            stride=stride,
            mode=mode,
            samples=samples,
            iterations=iterations,
            tolerance=tolerance,
            passes=passes,
        )


_KEYS = tuple(inspect.signature(_Clustering).parameters)


class USRN(Recipe):
    """Balanced subclasses of the labeled pixels, by a network trained on these alone, for a method that learns them.

    Paper: Guan, Huang, Xiao, Lu, "Unbiased Subclass Regularization for Semi-Supervised Semantic Segmentation", CVPR
    2022, https://arxiv.org/abs/2203.10026. Official code: https://github.com/Dayan-Guan/USRN.

    Stages: ``supervised``, the method ``supervised`` with the run's network and data; ``cluster``, subclass maps of the
    labeled images by its last network, see `evenseg cluster`; ``joint``, the run's method, from its own initial
    weights, with these maps.

    Args:
        rule: a subclass is as large as the smallest class, or so large that there are at most ``budget``.
        budget: most subclasses of all classes together, also by the rule smallest; null: no limit to that.
        rounding: of the numbers of subclasses.
        counts: these numbers in place of a rule, of all classes in order or by name (1 for the others).
        balance: clusters of equal size (hard), of sizes between (soft), or plain k-means (none).
        strength: of soft, from 0, as none, to 1, nearly as hard.
        features: of the network, which are clustered.
        stride: to which finer features are averaged, in pixels.
        mode: every pixel a subclass of its class (consistent), or of its cell (nearest, the official code).
    """

    def __init__(
        self,
        *,
        rule: CountRule = "smallest",
        budget: Size | None = 254,
        rounding: Rounding = "nearest",
        counts: list[Size] | dict[str, Size] | None = None,
        balance: Balance = "hard",
        strength: Fraction = 0.5,
        features: Tap = "decoder",
        stride: Size = 8,
        mode: Literal["consistent", "nearest"] = "consistent",
    ) -> None:
        self.clustering: dict[str, Any] = {
            "rule": rule,
            "budget": budget,
            "rounding": rounding,
            "counts": counts,
            "balance": balance,
            "strength": strength,
            "features": features,
            "stride": stride,
            "mode": mode,
        }

    def stages(self, config: Config) -> list[Stage]:
        """See ``Recipe``."""
        if config.data.subclasses is not None:
            raise InputError("data.subclasses: this recipe makes the maps itself; leave it out, or set recipe to null")
        settings = of_stages(config, (SUPERVISED, CLUSTER, JOINT))
        base = config.model_copy(update={"recipe": None, "stages": {}})
        joint = with_settings(base, JOINT, settings[JOINT])
        if not method_class(joint).views.unlabeled:
            raise InputError(
                f"recipe: usrn ends with a method that learns from unlabeled images, and {joint.method_name} does not; "
                "set method to usrn, or to another one with the component subclass_branch"
            )
        first = with_settings(base.model_copy(update={"method": "supervised"}), SUPERVISED, settings[SUPERVISED])
        _refuse_other_images(first, joint)
        return [
            TrainStage(SUPERVISED, first),
            self._cluster(config, settings[CLUSTER]),
            TrainStage(JOINT, joint, subclasses=CLUSTER),
        ]

    def _cluster(self, config: Config, settings: dict[str, Any]) -> ClusterStage:
        mine, others = divide(settings, _KEYS)
        named = {part.partition(".")[2]: mine.pop(part) for part in list(mine) if part.startswith("counts.")}
        given = {**self.clustering, **mine, **({"counts": named} if named else {})}
        found = _Clustering(**check_arguments(_Clustering, given, where=f"stages.{CLUSTER}"))
        with_settings(config.model_copy(update={"stages": {}}), CLUSTER, others)  # sees what is wrong with them
        if found.options.counts is None:
            check_budget(found.options.rule, found.options.budget, 1)
        options = found.options._replace(seed=key(config.seed, CLUSTER))
        return ClusterStage(CLUSTER, SUPERVISED, options, tuple(as_overrides(CLUSTER, others)))


def _refuse_other_images(first: Config, joint: Config) -> None:
    """Raises InputError where the stages would not be given the same labeled images."""
    keys = [*(f"data.{name}" for name in _LISTS), "health.holdout"]
    ours, theirs = flat(first.model_dump(mode="json")), flat(joint.model_dump(mode="json"))
    for each in keys:
        if ours.get(each) != theirs.get(each):
            raise InputError(
                f"stages: {each} is another one in {SUPERVISED} than in {JOINT}, whose labeled images have to be the "
                "same; set it for the run"
            )
