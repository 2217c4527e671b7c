"""Take a trained model away: as weights for Python, as a graph for other runtimes, to the hub."""

from evenseg.export.pretrained import TrainedModel
from evenseg.export.run import export_run, load_run

__all__ = ["TrainedModel", "export_run", "load_run"]
