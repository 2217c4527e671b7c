"""The pages name options that exist, values they take, and defaults that they have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from evenseg import registry
from evenseg.config import Config, override_config
from evenseg.registry.arguments import parameters_of

ROOT = Path(__file__).parents[1]
METHODS = registry.names("method")
PARTS = [registry.resolve(kind, name) for kind in registry.KINDS if kind != "method" for name in registry.names(kind)]


def page(method: str) -> str:
    name = {"usrn_joint": "usrn"}.get(method, method)  # a method that is one stage of a recipe
    return (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")


def section(method: str, title: str) -> str:
    return page(method).partition(f"## {title}\n")[2].partition("\n## ")[0]


def options(text: str) -> list[tuple[str, str]]:
    """Name and value (may be empty) of what stands in code marks as ``name`` or ``name: value``."""
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    return [match.groups() for span in spans if (match := re.fullmatch(r"([a-z_.]+)(?:: (.+))?", span))]


def defaults(method: str, name: str) -> list[Any]:
    """The default of a method's argument or a config's key, or of all parts' arguments of the name; none: no such."""
    if "." in name:
        content: Any = Config().model_dump()
        for key in name.split("."):
            content = content.get(key, {})
        return [content] if content != {} else []
    own, *others = (parameters_of(cls) for cls in (registry.resolve("method", method), *PARTS))
    known = [own] if name in own else others
    return [parameters[name].default for parameters in known if name in parameters]


def numbers_of(method: str, name: str) -> list[float]:
    return [default for default in defaults(method, name) if type(default) in (int, float)]


def check_value(method: str, name: str, value: Any) -> None:
    if "." in name:
        override_config(Config(), [f"{name}={value}"])
    elif name == "preset" or name in parameters_of(registry.resolve("method", method)):
        registry.check_spec("method", {"name": method, name: value})


def decisions(method: str) -> list[tuple[str, str]]:
    """The last two columns: what is done here, and the options for another reading."""
    lines = [line for line in section(method, "Decisions").splitlines() if line.startswith("|")]
    cells = [line.strip("| ").split(" | ") for line in lines[2:]]
    return [(row[-2], row[-1]) for row in cells]


@pytest.mark.parametrize("method", METHODS)
def test_options_exist_and_take_their_values(method):
    recommended = re.findall(r"^\* ((?:`[^`]+`(?:, )?)+)", section(method, "Options worth touching"), re.M)
    assert recommended
    for name, _ in options("\n".join([*recommended, *(other for _, other in decisions(method))])):
        assert name == "optim" or defaults(method, name), name
    for name, value in options(page(method)):
        if value:
            assert name in ("method", "preset") or defaults(method, name), name
            check_value(method, name, yaml.safe_load(value))


@pytest.mark.parametrize("method", METHODS)
def test_decisions_tell_the_defaults(method):
    compared = 0
    for ours, other in decisions(method):
        known = {default for name, _ in options(other) if "." not in name for default in numbers_of(method, name)}
        told = {float(number) for number in re.findall(r"[\d.]+", ours.replace(",", ""))}
        if known and told:
            assert told <= known, f"{other} default to {known}, not {ours}"
            compared += 1
        for name, value in options(other):
            assert not value or yaml.safe_load(value) not in defaults(method, name), (
                f"{name}: {value} is no other reading"
            )
    assert compared > 0
