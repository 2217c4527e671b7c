"""What a recipe is: a list of stages made of a configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod

from evenseg.config import Config
from evenseg.recipes.stages import ClusterStage, LabelStage, Stage, Start, TrainStage

__all__ = ["ClusterStage", "LabelStage", "Recipe", "Stage", "Start", "TrainStage"]


class Recipe(ABC):
    """Base class of recipes; keyword arguments are what ``recipe`` takes in a configuration."""

    @abstractmethod
    def stages(self, config: Config) -> list[Stage]:
        """The stages of a run, in order; the last one trains, and its outcome is the run's.

        Raises:
            InputError: settings that do not go together, or settings of stages that there are not.
        """
