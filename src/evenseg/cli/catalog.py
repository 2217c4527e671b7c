"""``evenseg list`` and ``evenseg describe``."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Callable
from fnmatch import fnmatch
from importlib import resources
from typing import Annotated, Any, cast

import typer
import yaml

from evenseg import registry
from evenseg.cli.tables import print_table
from evenseg.config import packaged_configs
from evenseg.errors import InputError
from evenseg.schema import nearest

_DATASETS = {
    "folder": "Images and label maps of your own: list files or folders, and a classes.json.",
    "synthetic": "Small long-tailed street scenes, drawn on the fly; nothing to download.",
}


def list_names(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[WHAT]",
            help="methods, recipes, components, mixers, losses, datasets, architectures, encoders, configs, "
            "published (tables of papers, for plans) or compositions (which parts go with which method); "
            "default: all but the networks, published and compositions.",
        ),
    ] = None,
    pattern: Annotated[
        str | None, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a pattern with * and ?.")
    ] = None,
    compositions: Annotated[
        bool, typer.Option("--compositions", help="The same as `evenseg list compositions`.")
    ] = False,
) -> None:
    """List what can be named in a config: one name a line, with its first sentence.

    \b
    evenseg list
    evenseg list methods
    evenseg list encoders resnet
    evenseg list encoders 'tu-vit_*dinov3*'
    evenseg list --compositions
    """
    if compositions:
        what = "compositions"
    if what is None:
        for index, name in enumerate(name for name in _LISTS if name not in _LONG):
            print(f"{'' if index == 0 else chr(10)}{name}")
            _print(_LISTS[name](), indent="  ")
        print("\n`evenseg list architectures` and `evenseg list encoders PATTERN` show the networks,")
        print("`evenseg list published` the tables of papers that can stand beside a plan's,")
        print("`evenseg list compositions` which components and mixers go with which method.")
        return
    if what not in _LISTS:
        hint = nearest(what, _LISTS) or f"; there are {', '.join(_LISTS)}"
        raise InputError(f"{what!r} is nothing to list{hint}")
    known = _LISTS[what]()
    found = {name: sentence for name, sentence in known.items() if pattern is None or _matches(name, pattern)}
    if pattern is not None and not found:
        raise InputError(f"no {what} match {pattern!r}{nearest(pattern, known)}")
    _print(found)


def describe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that `evenseg list` shows, or file.py:Class.")],
) -> None:
    """Describe a method or a part of one: its paper, and its arguments with values and defaults.

    \b
    evenseg describe fixmatch
    evenseg describe class_weighted
    evenseg describe my_method.py:MyMethod
    """
    kind = _kind_of(name)
    description = registry.describe(kind, name)
    print(f"{name} ({kind.replace('_', ' ')}): {description.summary}")
    width = None if not sys.stdout.isatty() else 100
    for note in description.notes:
        print("\n" + (textwrap.fill(note, width) if width else note))
    if description.parameters:
        print()
        print_table(["argument", "default", "values", "meaning"], [_row(row) for row in description.parameters])
    else:
        print("\nIt takes no arguments.")
    for preset, arguments in description.presets.items():
        text = yaml.safe_dump(arguments, default_flow_style=True, sort_keys=False, width=math.inf)
        print(f"\npreset {preset}: {text.rstrip()}")


def _kind_of(name: str) -> str:
    if ":" in name:
        for kind in registry.KINDS[:-1]:
            try:
                registry.resolve(kind, name)
            except InputError:
                continue
            return kind
        return registry.KINDS[-1]  # any module can be a loss
    for kind in registry.KINDS:
        if name in registry.names(kind):
            return kind
    known = [known for kind in registry.KINDS for known in registry.names(kind)]
    raise InputError(f"{name!r} is no name that can be described{nearest(name, known) or '; see `evenseg list`'}")


def _row(parameter: registry.Parameter) -> list[str]:
    return [parameter.name, parameter.default, parameter.values, parameter.meaning]


def _matches(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern) if any(sign in pattern for sign in "*?[") else pattern in name


def _of_kind(kind: str) -> dict[str, str]:
    return {name: registry.summary(kind, name) for name in registry.names(kind)}


def _compositions() -> dict[str, str]:
    """For each method the components and mixers that go with it, and those that do not, with the reason."""
    from evenseg.methods.composition import mixer_refusal, refusal

    found = {}
    for name in registry.names("method"):
        method: Any = registry.resolve("method", name)
        parts: list[tuple[str, str | None]] = []
        for kind, why in (("component", refusal), ("mixer", mixer_refusal)):
            names = [part for part in registry.names(kind) if part != "none"]
            parts += [(part, why(method, cast(Any, registry.resolve(kind, part)))) for part in names]
        reasons: dict[str, list[str]] = {}
        for part, reason in parts:
            if reason is not None:
                reasons.setdefault(reason, []).append(part)
        text = ", ".join(part for part, reason in parts if reason is None)
        found[name] = "; ".join([text or "nothing", *(f"not {', '.join(p)}: {why}" for why, p in reasons.items())])
    return found


def _configs() -> dict[str, str]:
    """Names and first comment lines."""
    folder = resources.files("evenseg") / "configs"
    firsts = {name: (folder / f"{name}.yaml").read_text(encoding="utf-8").split("\n")[0] for name in packaged_configs()}
    return {name: line.lstrip("# ") if line.startswith("#") else "" for name, line in firsts.items()}


def _architectures() -> dict[str, str]:
    from evenseg.networks.build import architecture_names

    return dict.fromkeys(architecture_names(), "")


def _encoders() -> dict[str, str]:
    from evenseg.networks.build import encoder_names

    return dict.fromkeys(encoder_names(), "")


def _published() -> dict[str, str]:
    from evenseg.benchmark.published import published_tables

    return {name: published.summary for name, published in published_tables().items()}


def _print(names: dict[str, str], indent: str = "") -> None:
    width = max(map(len, names), default=0)
    for name, sentence in names.items():
        print(f"{indent}{name.ljust(width)}  {sentence}".rstrip())


_LISTS: dict[str, Callable[[], dict[str, str]]] = {
    "methods": lambda: _of_kind("method"),
    "recipes": lambda: _of_kind("recipe"),
    "components": lambda: _of_kind("component"),
    "mixers": lambda: _of_kind("mixer"),
    "losses": lambda: _of_kind("supervised_loss"),
    "datasets": lambda: _DATASETS,
    "configs": _configs,
    "architectures": _architectures,
    "encoders": _encoders,
    "published": _published,
    "compositions": _compositions,
}
_LONG = frozenset({"architectures", "encoders", "published", "compositions"})
