"""What a method or one of its parts is and takes, read from its class."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import resources
from typing import NamedTuple

from evenseg.registry.arguments import KIND_OF_PARAMETER, LISTS, SUPPLIED, parameters_of
from evenseg.registry.table import SHORT_NAMES, names, resolve
from evenseg.schema import describe as in_words


class Parameter(NamedTuple):
    """An argument: its name, what values it takes, its default, and what it does; all in words."""

    name: str
    values: str
    default: str
    meaning: str


class Description(NamedTuple):
    """summary: the first line. notes: paragraphs of the docstring (paper, code, deviations).
    presets: name to arguments. parameters: those a user can set."""

    summary: str
    notes: list[str]
    presets: dict[str, dict[str, object]]
    parameters: list[Parameter]


def summary(kind: str, name: str) -> str:
    """First sentence of the docstring of a short name, read from the source without importing torch."""
    module, _, cls = SHORT_NAMES[kind][name].partition(":")
    root, *parts = module.split(".")
    source = resources.files(root).joinpath(*parts[:-1], f"{parts[-1]}.py").read_text(encoding="utf-8")
    found = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == cls)
    return _plain((ast.get_docstring(found) or "").split("\n\n")[0])


def describe(kind: str, name: str) -> Description:
    """The description of a short name or ``file.py:Class``; raises like ``resolve``."""
    cls = resolve(kind, name)
    paragraphs, _ = _parse(cls)
    meanings = {key: text for base in reversed(cls.__mro__) for key, text in _parse(base)[1].items()}
    parameters = [
        Parameter(key, _values(key, parameter), _default(parameter), meanings.get(key, ""))
        for key, parameter in parameters_of(cls).items()
        if key not in SUPPLIED
    ]
    return Description(paragraphs[0], paragraphs[1:], dict(getattr(cls, "presets", {})), parameters)


def _values(name: str, parameter: inspect.Parameter) -> str:
    kind = KIND_OF_PARAMETER.get(name)
    if kind is None:
        return in_words(parameter.annotation)
    known = f"{', '.join(names(kind))} or file.py:Class"
    return f"a list of {known}" if name in LISTS else known


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "(required)"
    if value is None:
        return "null"
    if isinstance(value, (tuple, list)):
        return str(list(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse(cls: type) -> tuple[list[str], dict[str, str]]:
    """Paragraphs of a Google-style docstring and the meanings in its Args section, each in one line."""
    text = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    before, _, rest = text.partition("\nArgs:\n")
    section, after = _split_indented(rest)
    paragraphs = [_plain(part) for part in f"{before}\n\n{after}".split("\n\n") if part.strip()]
    meanings: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", section):
        keys, colon, meaning = entry.partition(":")
        if colon:
            meanings |= {key.strip(): _plain(meaning) for key in keys.split(",")}
    return paragraphs or [cls.__name__], meanings


def _plain(text: str) -> str:
    """In one line, without reStructuredText's double quotes."""
    return " ".join(text.split()).replace("``", "`")


def _split_indented(text: str) -> tuple[str, str]:
    """The leading indented lines, dedented, and what follows them."""
    lines = text.split("\n")
    end = next((i for i, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    return inspect.cleandoc("\n".join(lines[:end])), "\n".join(lines[end:])
