"""evenseg: semantic segmentation from few labeled and many unlabeled images, rare classes included."""

__version__ = "0.1.0"
