"""Data: sources (folders, lists, synthetic scenes), their checks and splits, views and loading."""
