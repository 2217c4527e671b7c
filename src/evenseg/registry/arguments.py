"""Keyword arguments checked against a constructor's signature, presets, and objects built of specs.

A spec is a name or a mapping ``{name: ..., preset: ..., further arguments}``.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any, get_type_hints

from evenseg.errors import InputError
from evenseg.registry.table import resolve
from evenseg.schema import check, nearest, show

# What the framework hands to every constructor that has a parameter of that name.
SUPPLIED = frozenset({"network", "class_frequency", "data"})

# Parameters that hold objects, by the kind of the object, and those that hold a list of them.
KIND_OF_PARAMETER = {
    "mixer": "mixer",
    "supervised_loss": "supervised_loss",
    "components": "component",
    "bank": "component",
}
LISTS = frozenset({"components"})


def parameters_of(cls: type) -> dict[str, inspect.Parameter]:
    """Parameters of the constructor by name, annotations resolved (to Any where they cannot be)."""
    signature = inspect.signature(cls)
    try:
        hints = get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):  # names imported for type checkers only
        hints = {}
    return {
        name: parameter.replace(annotation=hints.get(name, Any))
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def check_arguments(
    cls: type, arguments: Mapping[str, Any], *, where: str, supplied: Collection[str] = SUPPLIED
) -> dict[str, Any]:
    """Arguments converted to the types of the constructor; specs of objects are checked and stay specs.

    Args:
        cls: the class to be constructed.
        arguments: what the user gave, ``preset`` included.
        where: the key it was given under, for messages (``method``).
        supplied: names that the framework provides.

    Raises:
        InputError: an unknown name, a value of a wrong type or out of range, a missing argument, an
            unknown preset.
    """
    parameters = parameters_of(cls)
    own = [name for name in parameters if name not in supplied]
    checked: dict[str, Any] = {}
    for name, value in _with_preset(cls, arguments, where).items():
        key = f"{where}.{name}"
        if name not in own:
            hint = nearest(str(name), [*own, "preset"]) or f"; it takes {', '.join(own) or 'no arguments'}"
            raise InputError(f"{key} is no argument of {cls.__name__}{hint}")
        checked[name] = _check_value(name, parameters[name], value, key, supplied)
    for name in own:
        if name not in checked and parameters[name].default is inspect.Parameter.empty:
            raise InputError(f"{where} needs the argument {name!r}; set {where}.{name}=...")
    return checked


def check_spec(
    kind: str, spec: Any, *, where: str | None = None, supplied: Collection[str] = SUPPLIED
) -> tuple[type, dict[str, Any]]:
    """Class and checked arguments of a spec; raises like ``resolve`` and ``check_arguments``."""
    where = where or kind
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise InputError(f"{where} must be a name, or a mapping with a name and arguments, not {show(spec)}")
    try:
        cls = resolve(kind, spec["name"])
    except InputError as error:
        raise InputError(f"{where}: {error}") from error.__cause__
    arguments = {name: value for name, value in spec.items() if name != "name"}
    return cls, check_arguments(cls, arguments, where=where, supplied=supplied)


def build(kind: str, spec: Any, *, where: str | None = None, **supplied: Any) -> Any:
    """The object of a spec, with all objects inside it.

    Args:
        kind: one of ``KINDS``.
        spec: a name, a mapping with a name and arguments, or an object, which is returned.
        where: the key it was given under, for messages; default: the kind.
        supplied: what the framework provides (``network``, ``class_frequency``, ``data``); constructors get
            what they have a parameter for.

    Raises:
        InputError: as ``check_spec``, and for a ValueError of the constructor.
    """
    if not isinstance(spec, (str, Mapping)):
        return spec
    where = where or kind
    cls, arguments = check_spec(kind, spec, where=where, supplied=supplied)
    parameters = parameters_of(cls)
    for name, value in arguments.items():
        inner = KIND_OF_PARAMETER.get(name)
        if inner is None or value is None:
            continue
        key = f"{where}.{name}"
        if name in LISTS:
            arguments[name] = [build(inner, part, where=f"{key}.{i}", **supplied) for i, part in enumerate(value)]
        else:
            arguments[name] = build(inner, value, where=key, **supplied)
    try:
        return cls(**arguments, **{name: value for name, value in supplied.items() if name in parameters})
    except ValueError as error:
        raise InputError(f"{where}: {' '.join(str(error).split())}") from error


def _with_preset(cls: type, arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments of the preset, if one is named, and over them the user's own."""
    own = dict(arguments)
    name = own.pop("preset", None)
    if name is None:
        return own
    presets: dict[str, dict[str, Any]] = getattr(cls, "presets", {})
    if name not in presets:
        hint = nearest(str(name), presets) or f"; there are {', '.join(presets) or 'none'}"
        raise InputError(f"{where}.preset: {cls.__name__} has no preset {show(name)}{hint}")
    return {**presets[name], **own}


def _check_value(name: str, parameter: inspect.Parameter, value: Any, key: str, supplied: Collection[str]) -> Any:
    kind = KIND_OF_PARAMETER.get(name)
    if kind is None:
        return check(parameter.annotation, value, key)
    if name in LISTS:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{key} must be a list of {kind}s, not {show(value)}")
        return [_checked(kind, part, f"{key}.{i}", supplied) for i, part in enumerate(value)]
    if value is None and parameter.default is None:
        return None
    if isinstance(value, Mapping) and "name" not in value and isinstance(parameter.default, str):
        value = {"name": parameter.default, **value}
    return _checked(kind, value, key, supplied)


def _checked(kind: str, spec: Any, key: str, supplied: Collection[str]) -> Any:
    """The spec with checked arguments; anything but a name or a mapping must be an object already."""
    if isinstance(spec, (bool, int, float, list, type(None))):
        raise InputError(f"{key} must be a name, or a mapping with a name and arguments, not {show(spec)}")
    if not isinstance(spec, (str, Mapping)):
        return spec
    _, arguments = check_spec(kind, spec, where=key, supplied=supplied)
    return {"name": spec if isinstance(spec, str) else spec["name"], **arguments}
