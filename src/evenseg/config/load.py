"""Configurations from files and overrides, and back to text."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from evenseg.config.faults import explain, flat, section_of
from evenseg.config.sections import NEUTRAL_KEYS, Config
from evenseg.errors import InputError
from evenseg.schema import nearest, show
from evenseg.schema.yaml_text import apply_overrides, parse_yaml


def load_config(path_or_builtin: str, overrides: list[str]) -> Config:
    """Read a run's configuration.

    Args:
        path_or_builtin: a YAML file, or the name of a packaged configuration (``packaged_configs``).
        overrides: ``key=value`` texts, values in YAML; wholes are set before their parts, so that
            ``method.threshold=0.9`` applies to the method of ``method=fixmatch`` in any order.

    Raises:
        InputError: no such file or name, broken YAML, an unknown key, a value of a wrong type or
            out of range.
    """
    text, source = _read(path_or_builtin)
    raw = parse_yaml(text, source)
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise InputError(f"{source} holds {show(raw)}; a configuration is a mapping of keys to values")
    for name, info in Config.model_fields.items():  # a section whose keys are all commented out
        if raw.get(name, ...) is None and section_of(info) is not None:
            del raw[name]
    return _validated(raw, overrides, source)


def override_config(config: Config, overrides: list[str]) -> Config:
    """``config`` with ``key=value`` texts applied, with the errors of ``load_config``."""
    return _validated(config.model_dump(mode="json"), overrides, "")


def packaged_configs() -> list[str]:
    """Names of the configurations that come with evenseg."""
    folder = resources.files("evenseg") / "configs"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def dump(config: Config) -> str:
    """The fully resolved configuration as YAML, which ``load_config`` reads back as an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, allow_unicode=True)


def difference(there: Config, here: Config) -> list[str]:
    """``key: x there, y here`` for every key that makes two configurations different runs."""
    old, new = flat(there.model_dump(mode="json")), flat(here.model_dump(mode="json"))
    keys = [key for key in {**new, **old} if key not in NEUTRAL_KEYS and old.get(key) != new.get(key)]
    return [f"{key}: {show(old.get(key))} there, {show(new.get(key))} here" for key in keys]


def _read(path_or_builtin: str) -> tuple[str, str]:
    """Text of a configuration and the name to call it by in messages."""
    path = Path(path_or_builtin)
    name = path_or_builtin.removesuffix(".yaml")
    if not path.is_file() and name in packaged_configs():
        return (resources.files("evenseg") / "configs" / f"{name}.yaml").read_text(encoding="utf-8"), name
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a configuration; name a YAML file")
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except FileNotFoundError:
        hint = nearest(name, packaged_configs()) or "; `evenseg list configs` shows the packaged ones"
        raise InputError(f"{path} is neither a file nor a packaged configuration{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"{path} cannot be read: {reason}") from None


def _validated(raw: dict[str, Any], overrides: list[str], source: str) -> Config:
    raw = {"method": Config.model_fields["method"].default, **raw}
    keys = apply_overrides(raw, overrides)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        faults = {key: line for detail in error.errors() for key, line in [explain(detail, raw)]}
    key, line = next(iter(faults.items()))
    from_file = source and not any(given == key or given.startswith(f"{key}.") for given in keys)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise InputError(f"{source}: {line}{more}" if from_file else line + more)
