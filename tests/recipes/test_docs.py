"""What the pages of the recipes say can be typed."""

import re
from pathlib import Path

import pytest
import yaml

from evenseg import registry
from evenseg.config import load_config, override_config, packaged_configs
from evenseg.recipes.run import stages_of
from evenseg.registry.arguments import parameters_of

PAGE = (Path(__file__).parents[2] / "docs" / "methods" / "dars.md").read_text(encoding="utf-8")
ROWS = PAGE.partition("## Rows")[2].partition("\n## ")[0]
OVERRIDES = [span for span in re.findall(r"`([^`]+)`", ROWS.replace("\n", " ")) if "=" in span]
OPTIONS = parameters_of(registry.resolve("recipe", "self_training"))


@pytest.mark.parametrize("overrides", OVERRIDES)
def test_rows_of_the_papers_tables_resolve(overrides: str) -> None:
    assert stages_of(load_config("cityscapes_dars", overrides.split()))


def rows_of_usrn() -> list[str]:
    page = (Path(__file__).parents[2] / "docs" / "methods" / "usrn.md").read_text(encoding="utf-8")
    rows = page.partition("## Rows")[2].partition("\n## ")[0]
    return [span for span in re.findall(r"`([^`]+)`", rows) if "=" in span]


@pytest.mark.parametrize("overrides", rows_of_usrn())
def test_rows_of_usrns_tables_resolve(overrides: str) -> None:
    assert stages_of(load_config("voc_usrn", re.split(r" (?=[a-z._]+=)", overrides)))


@pytest.mark.parametrize("name", [name for name in packaged_configs() if name.endswith("_usrn")])
def test_packaged_recipes_of_usrn_resolve(name: str) -> None:
    assert [stage.name for stage in stages_of(load_config(name, []))] == ["supervised", "cluster", "joint"]


@pytest.mark.parametrize("name", [name for name in packaged_configs() if name.endswith("_dars")])
def test_packaged_recipes_resolve(name: str) -> None:
    assert stages_of(load_config(name, []))[-1].name == "round_2"


def test_options_exist_and_take_their_values_which_are_other_readings() -> None:
    found = re.findall(r"`recipe\.([a-z_]+)(?:: ([^`]+))?`", PAGE)
    assert len(found) > 6
    for name, value in found:
        assert name in OPTIONS
        if value:
            assert yaml.safe_load(value) != OPTIONS[name].default
            override_config(load_config("camvid_dars", []), [f"recipe.{name}={value}"])
    touched = re.findall(r"^\* `([a-z_]+)`", PAGE.partition("## Options")[2], flags=re.MULTILINE)
    assert set(touched) <= set(OPTIONS)
    assert len(touched) >= 4
