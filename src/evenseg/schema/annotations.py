"""Type annotations as a schema: what a value must be, in words, and a check with a one-line error."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Len, Lt, MinLen
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from evenseg.errors import InputError

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "a mapping",
    type(None): "null",
    Any: "anything",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X or Y?)`` from the known names nearly as close as the closest, or an empty text."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    likeness = [difflib.SequenceMatcher(None, each, name).ratio() for each in close]
    close = [each for each, like in zip(close, likeness, strict=True) if like > likeness[0] - 0.15]
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def show(value: object, limit: int = 60) -> str:
    """A value as the user wrote it, in one line of at most ``limit`` characters."""
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def describe(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What a value of this annotation is, in words.

    >>> describe(int, [Ge(1)])
    'a whole number of at least 1'
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0], [*arguments[1:], *metadata])
    if origin is Literal:
        return _alternatives(["null" if value is None else str(value) for value in arguments])
    if origin in (Union, types.UnionType):
        return " or ".join(describe(branch) for branch in arguments)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)} ({describe(arguments[0])} each)"
    if isinstance(origin, type) and origin is not dict and issubclass(origin, Iterable) and arguments:
        return f"a list ({describe(arguments[0])} each)"
    words = _WORDS.get(origin or annotation) or str(getattr(annotation, "__name__", annotation))
    return words + _limits(metadata)


def accepts_bool(annotation: Any) -> bool:
    """Whether true and false are values of the annotation (and not taken for the numbers 1 and 0)."""
    if annotation in (bool, Any, object):
        return True
    if get_origin(annotation) is Annotated:
        return accepts_bool(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return any(accepts_bool(branch) for branch in get_args(annotation))
    return get_origin(annotation) is Literal and any(isinstance(value, bool) for value in get_args(annotation))


def check(annotation: Any, value: Any, where: str) -> Any:
    """``value`` converted to the annotation (``"1e-3"`` to a float, a list to a tuple).

    Raises:
        InputError: it is none of its values; the line says what ``where`` must be.
    """
    if isinstance(value, bool) and not accepts_bool(annotation):
        raise InputError(fault(where, annotation, (), value))
    adapter: TypeAdapter[Any] = TypeAdapter(
        annotation,
        config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False),
    )
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise InputError(fault(where, annotation, (), value)) from error


def fault(where: str, annotation: Any, metadata: Iterable[Any], value: object) -> str:
    """The line for a value that does not fit its annotation."""
    line = f"{where} must be {describe(annotation, metadata)}, not {show(value)}"
    if get_origin(annotation) is Literal and isinstance(value, str):
        line += nearest(value, [str(known) for known in get_args(annotation)])
    return line


def _alternatives(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _limits(metadata: Iterable[Any]) -> str:
    """`` from 0 to 1``, `` of at least 1``, `` above 0 and below 1``."""
    low: tuple[str, Any] | None = None
    high: tuple[str, Any] | None = None
    for limit in _flat(metadata):
        if isinstance(limit, Ge):
            low = ("of at least", limit.ge)
        elif isinstance(limit, Gt):
            low = ("above", limit.gt)
        elif isinstance(limit, Le):
            high = ("at most", limit.le)
        elif isinstance(limit, Lt):
            high = ("below", limit.lt)
    if low and high:
        if (low[0], high[0]) == ("of at least", "at most"):
            return f" from {low[1]:g} to {high[1]:g}"
        return f" {low[0]} {low[1]:g} and {high[0]} {high[1]:g}"
    if low:
        return f" {low[0]} {low[1]:g}"
    return f" {'of ' if high[0] == 'at most' else ''}{high[0]} {high[1]:g}" if high else ""


def _flat(metadata: Iterable[Any]) -> Iterator[BaseMetadata]:
    """Single limits out of grouped ones (``Interval``) and of pydantic's ``Field(...)``."""
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _flat(item.metadata)
        elif isinstance(item, GroupedMetadata) and not isinstance(item, (Len, MinLen)):
            yield from _flat(item)
        elif isinstance(item, BaseMetadata):
            yield item
