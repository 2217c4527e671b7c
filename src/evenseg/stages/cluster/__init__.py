"""Subclasses of about equal size: the labeled pixels of each class, clustered by their features.

The features of each image are stored once (``features``); all later passes read them: sizes, a sample of each class
(``sample``), balanced k-means on it and prices that also balance what was not drawn (``fit``), label maps (``write``).
"""
