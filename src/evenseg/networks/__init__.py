"""Segmentation networks behind one interface, their heads, weights and EMA teachers."""

from evenseg.networks.base import SegmentationNetwork
from evenseg.networks.build import architecture_names, encoder_names
from evenseg.networks.ema import EMATeacher

__all__ = ["EMATeacher", "SegmentationNetwork", "architecture_names", "encoder_names"]
