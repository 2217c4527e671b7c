"""Annotations in words, and values checked against them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Optional

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt
from pydantic import Field

from evenseg.errors import InputError
from evenseg.schema import check, describe, nearest, show
from evenseg.schema.yaml_text import parse_yaml


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (Annotated[int, Ge(1)], "a whole number of at least 1"),
        (Annotated[float, Gt(0)], "a number above 0"),
        (Annotated[float, Le(2)], "a number of at most 2"),
        (Annotated[float, Lt(2)], "a number below 2"),
        (Annotated[float, Interval(ge=0, le=1)], "a number from 0 to 1"),
        (Annotated[float, Field(ge=0, lt=1)], "a number of at least 0 and below 1"),
        (Annotated[float, Interval(gt=0, lt=1)], "a number above 0 and below 1"),
        (Annotated[float, Gt(0)] | None, "a number above 0 or null"),
        (Optional[str], "text or null"),  # noqa: UP045 - users write it so, too
        (Literal["a", "b", None], "a, b or null"),
        (Literal["a"], "a"),
        (bool, "true or false"),
        (tuple[int, int], "a list of 2 (a whole number each)"),
        (tuple[int, ...], "a list (a whole number each)"),
        (list[Annotated[int, Ge(1)]], "a list (a whole number of at least 1 each)"),
        (Sequence[str], "a list (text each)"),
        (dict[str, int], "a mapping"),
        (Any, "anything"),
    ],
)
def test_annotations_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (float, "1e-3", 1e-3),
        (float, 3, 3.0),
        (int, 3.0, 3),
        (tuple[int, int], [1, 2], (1, 2)),
        (bool, True, True),
        (Literal["a", True], True, True),
        (int | None, None, None),
        (Any, True, True),
    ],
)
def test_values_are_converted(annotation: Any, value: Any, expected: Any) -> None:
    checked = check(annotation, value, "key")
    assert checked == expected
    assert type(checked) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, True),
        (int, False),
        (int | None, True),
        (int, 1.5),
        (float, float("inf")),
        (str, 3),
        (tuple[int, int], [1]),
        (Annotated[float, Interval(ge=0, le=1)], 1.1),
        (Literal["a", "b"], "c"),
        (int, None),
    ],
)
def test_other_values_are_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(InputError, match=r"^key must be .*, not "):
        check(annotation, value, "key")


def test_values_are_shown_as_written_and_short() -> None:
    assert [show(value) for value in (None, True, 1.5, "a")] == ["null", "true", "1.5", "'a'"]
    assert show("line\nbreak") == r"'line\nbreak'"
    assert len(show(list(range(1000)))) == 60


def test_nearest_names_are_near() -> None:
    assert nearest("fixmtch", ["fixmatch", "cutmix_seg", "supervised"]) == " (did you mean fixmatch?)"
    assert nearest("zzz", ["fixmatch"]) == ""


def test_yaml_without_surprises() -> None:
    assert parse_yaml("[1e-3, 1E5, -1e+2, .5e1, 1.5, 10, 1:16, 1/16, e3, 1e]", "") == [
        *(1e-3, 1e5, -100.0, 5.0, 1.5, 10),
        *("1:16", "1/16", "e3", "1e"),
    ]
    assert parse_yaml("a: &x {b: 1}\nc: {<<: *x, d: 2}", "") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}
    for text, line in (("a: 1\nb: 2\na: 3", 3), ("a: [1,", 1), ("a: !!python/object:os.system 1", 1)):
        with pytest.raises(InputError, match=rf"^file line {line}: .*; mend the YAML there$"):
            parse_yaml(text, "file")
