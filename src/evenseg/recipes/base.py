"""What a recipe is: a list of stages made of a configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

from evenseg.config import NEUTRAL_KEYS, Config
from evenseg.config.faults import flat
from evenseg.stages.pseudo_label.run import Options

Start = Literal["continued", "restart"]


class TrainStage(NamedTuple):
    """A run of its own. after: the stage whose run it starts from. labels: the stage that makes its pseudo-labels.

    start: with the state of that run, whose steps count towards ``train.steps``, or with its network alone.
    """

    name: str
    config: Config
    after: str | None = None
    labels: str | None = None
    start: Start = "continued"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Stages that it needs."""
        return tuple(each for each in (self.after, self.labels) if each is not None)

    @property
    def settings(self) -> dict[str, Any]:
        """What its outcome depends on besides its inputs, by dotted key."""
        values = flat(self.config.model_dump(mode="json"))
        return {key: value for key, value in values.items() if key not in NEUTRAL_KEYS} | {"start": self.start}


class LabelStage(NamedTuple):
    """Pseudo-labels of the unlabeled images by the last network of a round. overrides: ``key=value`` for its run."""

    name: str
    run: str
    options: Options
    overrides: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Stages that it needs."""
        return (self.run,)

    @property
    def settings(self) -> dict[str, Any]:
        """As of a ``TrainStage``."""
        options = {**self.options.rule._asdict(), **self.options._asdict(), "rule": self.options.rule.name}
        overrides = dict(override.split("=", 1) for override in self.overrides)
        return {key: value for key, value in (options | overrides).items() if key not in ("truth", "name", "portable")}


Stage = TrainStage | LabelStage


class Recipe(ABC):
    """Base class of recipes; keyword arguments are what ``recipe`` takes in a configuration."""

    @abstractmethod
    def stages(self, config: Config) -> list[Stage]:
        """The stages of a run, in order; the last one trains, and its outcome is the run's.

        Raises:
            InputError: settings that do not go together, or settings of stages that there are not.
        """
