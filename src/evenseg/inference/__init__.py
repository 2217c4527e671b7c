"""Inference: predict images whole, in windows, at several scales; score data sets; label folders of images."""

from evenseg.inference.evaluate import evaluate
from evenseg.inference.predict import Protocol, make_protocol, predict_label, predict_prob

__all__ = ["Protocol", "evaluate", "make_protocol", "predict_label", "predict_prob"]
