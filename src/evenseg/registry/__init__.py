"""Short names for methods and their parts, and objects made of a name and keyword arguments.

The signature of a constructor is the schema that arguments are checked against. A further method is
one file and one line in ``table.SHORT_NAMES``; ``file.py:Class`` works without the line.
"""

from evenseg.registry.arguments import SUPPLIED, build, check_arguments, check_spec
from evenseg.registry.describe import Description, Parameter, describe, summary
from evenseg.registry.table import KINDS, names, resolve

__all__ = [
    "KINDS",
    "SUPPLIED",
    "Description",
    "Parameter",
    "build",
    "check_arguments",
    "check_spec",
    "describe",
    "names",
    "resolve",
    "summary",
]
