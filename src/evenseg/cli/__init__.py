"""The command line: ``evenseg VERB``, also ``python -m evenseg``."""

from evenseg.cli.app import main

__all__ = ["main"]
