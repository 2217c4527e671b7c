"""Names, files and arguments: what is found, what is refused and how it is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evenseg import registry
from evenseg.errors import InputError

PARTS = '''
"""A user's file."""
from __future__ import annotations
from typing import Annotated, Literal
from annotated_types import Interval
from torch import Tensor, nn
from evenseg.components.base import Component, Mixer


class Bonus(Component):
    """Adds a bonus.

    Paper: Nobody, "Nothing", 2020. Code: none.

    Args:
        weight: how much
            of it.
        rate, decay: two numbers.

    Deviations: none.
    """

    presets = {"official": {"weight": 3.0, "mode": "sum"}}

    def __init__(
        self,
        weight: Annotated[float, Interval(ge=0.0, le=5.0)] = 1.0,
        *,
        rate: float = 0.1,
        decay: float | None = None,
        mode: Literal["mean", "sum"] = "mean",
        sizes: tuple[int, int] = (1, 2),
        deep: bool = False,
        class_frequency: Tensor | None = None,
        supervised_loss: nn.Module | None = None,
        mixer: Mixer | str = "cutmix",
        components: list[Component] = (),
    ) -> None:
        super().__init__()
        self.arguments = dict(locals())


class Needy(Component):
    """Needs something."""

    def __init__(self, something: int) -> None:
        super().__init__()
        if something > 9:
            raise ValueError("something is\\n too much")


class Stranger:
    """No component."""
'''


@pytest.fixture
def parts(tmp_path: Path) -> str:
    path = tmp_path / "parts.py"
    path.write_text(PARTS)
    return str(path)


def refusal(kind: str, spec: object, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        registry.check_spec(kind, spec, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_importing_the_registry_imports_no_torch():
    code = "import sys, evenseg.registry, evenseg.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in registry.KINDS for name in registry.names(kind)])
def test_every_short_name_is_a_documented_class(kind, name):
    description = registry.describe(kind, name)
    assert description.summary.endswith(".")
    undocumented = [parameter.name for parameter in description.parameters if not parameter.meaning]
    assert not undocumented
    assert not [parameter for parameter in description.parameters if parameter.values == "anything"]


def test_nearest_names():
    assert refusal("method", "fixmtch") == "method: 'fixmtch' is no method (did you mean fixmatch?)"
    assert refusal("supervised_loss", "focl", where="method.supervised_loss") == (
        "method.supervised_loss: 'focl' is no supervised loss (did you mean focal?)"
    )
    assert "there are cutmix, classmix, adaptive_cutmix, none, and file.py:Class" in refusal("mixer", "qqq")


def test_a_class_of_a_file(parts):
    cls = registry.resolve("component", f"{parts}:Bonus")
    assert cls.__name__ == "Bonus"
    assert registry.resolve("component", f"{parts}:Bonus") is cls


def test_what_is_wrong_with_a_file(tmp_path, parts):
    assert "nope.py is no file" in refusal("component", "nope.py:Bonus")
    assert refusal("component", f"{parts}:Bnus").endswith("has no class 'Bnus' (did you mean Bonus?)")
    assert refusal("component", f"{parts}:Stranger").endswith(
        "is no component; derive it from evenseg.components.base.Component"
    )
    assert refusal("mixer", f"{parts}:Bonus").endswith("is no mixer; derive it from evenseg.components.base.Mixer")
    assert "write a short name, or file.py:Class" in refusal("component", "os:path")
    broken = tmp_path / "broken.py"
    broken.write_text("import os\n\ndef f():\n    return os.nothing\n\nf()\n")
    assert refusal("component", f"{broken}:A") == (
        f"component: {broken} line 4: AttributeError: module 'os' has no attribute 'nothing'"
    )
    broken.write_text("x = 1\ndef f(:\n")
    assert refusal("component", f"{broken}:A").startswith(f"component: {broken} line 2: SyntaxError: ")
    broken.write_text("raise SystemExit(0)\n")
    assert f"{broken} line 1: SystemExit" in refusal("component", f"{broken}:A")


def test_arguments_are_converted_to_the_types_of_the_signature(parts):
    _, arguments = registry.check_spec(
        "component",
        {"name": f"{parts}:Bonus", "weight": "1e-3", "decay": None, "sizes": [3, 4], "mode": "sum", "deep": True},
    )
    assert arguments == {"weight": 1e-3, "decay": None, "sizes": (3, 4), "mode": "sum", "deep": True}


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ({"weigth": 1}, "x.weigth is no argument of Bonus (did you mean weight?)"),
        ({"class_frequency": 1}, "x.class_frequency is no argument of Bonus"),
        ({"weight": 6}, "x.weight must be a number from 0 to 5, not 6"),
        ({"weight": True}, "x.weight must be a number from 0 to 5, not true"),
        ({"weight": "much"}, "x.weight must be a number from 0 to 5, not 'much'"),
        ({"rate": float("nan")}, "x.rate must be a number, not nan"),
        ({"mode": "sun"}, "x.mode must be mean or sum, not 'sun' (did you mean sum?)"),
        ({"sizes": [1]}, "x.sizes must be a list of 2 (a whole number each), not [1]"),
        ({"deep": "perhaps"}, "x.deep must be true or false, not 'perhaps'"),
        ({"preset": "oficial"}, "x.preset: Bonus has no preset 'oficial' (did you mean official?)"),
        ({"mixer": 3}, "x.mixer must be a name, or a mapping with a name and arguments, not 3"),
        ({"mixer": {"name": "cutmix", "aera": 1}}, "x.mixer.aera is no argument of CutMix (did you mean area?)"),
        ({"components": "threshold"}, "x.components must be a list of components, not 'threshold'"),
        ({"components": ["treshold"]}, "x.components.0: 'treshold' is no component (did you mean threshold?)"),
        ({"components": [{"name": "threshold", "threshold": 2}]}, "x.components.0.threshold must be a number from 0"),
        ({"supervised_loss": {"gamma": 1}}, "x.supervised_loss must be a name, or a mapping with a name"),
    ],
)
def test_refused_arguments(parts, argument, expected):
    line = refusal("component", {"name": f"{parts}:Bonus", **argument}, where="x")
    assert line.startswith(expected)


def test_a_missing_argument_and_a_refusing_constructor(parts):
    assert (
        refusal("component", f"{parts}:Needy")
        == "component needs the argument 'something'; set component.something=..."
    )
    with pytest.raises(InputError, match=r"^component: something is too much$"):
        registry.build("component", {"name": f"{parts}:Needy", "something": 10})


def test_a_preset_lies_under_the_users_arguments(parts):
    spec = {"name": f"{parts}:Bonus", "preset": "official", "weight": 2}
    _, arguments = registry.check_spec("component", spec)
    assert arguments == {"weight": 2.0, "mode": "sum"}
    assert registry.check_spec("component", {"name": f"{parts}:Bonus", "preset": None})[1] == {}


def test_build_makes_the_objects_inside_and_hands_on_what_the_framework_supplies(parts):
    spec = {
        "name": f"{parts}:Bonus",
        "supervised_loss": {"name": "focal", "gamma": 3},
        "mixer": {"area": 0.25},  # the name is the parameter's default
        "components": ["threshold", {"name": f"{parts}:Bonus", "rate": 7}],
    }
    built = registry.build("component", spec, network="unused", class_frequency="counts")
    arguments = built.arguments
    assert arguments["supervised_loss"].gamma == 3.0
    assert (type(arguments["mixer"]).__name__, arguments["mixer"].area) == ("CutMix", (0.25, 0.25))
    assert [type(part).__name__ for part in arguments["components"]] == ["Threshold", "Bonus"]
    assert arguments["components"][1].arguments["rate"] == 7.0
    assert arguments["class_frequency"] == arguments["components"][1].arguments["class_frequency"] == "counts"
    assert registry.build("component", built) is built


def test_describe_reads_the_signature_and_the_docstring(parts):
    description = registry.describe("component", f"{parts}:Bonus")
    assert description.summary == "Adds a bonus."
    assert description.notes == ['Paper: Nobody, "Nothing", 2020. Code: none.', "Deviations: none."]
    assert description.presets == {"official": {"weight": 3.0, "mode": "sum"}}
    rows = {parameter.name: parameter for parameter in description.parameters}
    assert "class_frequency" not in rows
    assert rows["weight"][1:] == ("a number from 0 to 5", "1.0", "how much of it.")
    assert rows["rate"].meaning == rows["decay"].meaning == "two numbers."
    assert (rows["decay"].values, rows["decay"].default) == ("a number or null", "null")
    assert rows["sizes"].default == "[1, 2]"
    assert rows["deep"].default == "false"
    assert rows["mixer"].values == "cutmix, classmix, adaptive_cutmix, none or file.py:Class"
    assert registry.describe("component", f"{parts}:Needy").parameters[0].default == "(required)"
