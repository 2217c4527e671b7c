"""The classes of a data set: names, colours, the value that means "ignore", the rare ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from evenseg.errors import InputError
from evenseg.types import ignore_label

Color = tuple[int, int, int]

# One id has to stay free for "ignore" in the 16 bits of a label file.
MAX_CLASSES = 65535


class Classes(NamedTuple):
    """What ``classes.json`` says.

    names: one per class, in the order of the ids. colors: RGB in 0..255, one per class.
    ignore_index: the value of unlabeled pixels in the label *files*; None where every pixel has a
    class. tail: the rare classes by name; None where the file leaves that to the label counts.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    ignore_index: int | None = 255
    tail: tuple[str, ...] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def ignore_label(self) -> int:
        """The label of ignored pixels inside the program, whatever the files use."""
        return ignore_label(self.num_classes)


def palette(count: int) -> tuple[Color, ...]:
    """``count`` distinct RGB colours, none of them black: the bit-reversed palette of PASCAL VOC from entry 1 on."""
    return tuple(_spread_bits(index) for index in range(1, count + 1))


def _spread_bits(index: int) -> Color:
    """Deal the bits of ``index`` to red, green, blue in turn, the lowest bits to the highest places."""
    red = green = blue = 0
    for place in range(7, -1, -1):
        red |= (index & 1) << place
        green |= (index >> 1 & 1) << place
        blue |= (index >> 2 & 1) << place
        index >>= 3
    return red, green, blue


def load_classes(path: str | Path) -> Classes:
    """Read a ``classes.json``.

    Keys: ``names`` (required, the order gives the ids), ``colors`` (default: a distinct palette),
    ``ignore_index`` (default 255, above 255 classes 65535; null: none), ``tail`` (default: none
    given), ``num_classes`` (optional, has to agree). Further keys are left alone.

    Raises:
        InputError: the file is missing, is no JSON object, or a key is wrong.
    """
    path = Path(path)
    content = _read_object(path)
    names = _names(path, content)
    declared = content.get("num_classes")
    if declared is not None and declared != len(names):
        raise InputError(f"{path}: num_classes is {declared} but `names` lists {len(names)}; make the two agree")
    return Classes(
        names, _colors(path, content, len(names)), _ignore_index(path, content, len(names)), _tail(path, content, names)
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; write the class names there, as in "
            '{"names": ["road", "car"], "ignore_index": 255}, or name another file in data.classes'
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); data.classes has to be a JSON file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; save it as UTF-8 JSON") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({error}); mend it there") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: has to hold a JSON object with the key `names`")
    return content


def _names(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    names = content.get("names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError(f"{path}: `names` has to be a list of class names (texts), at least one")
    if len(names) > MAX_CLASSES:
        raise InputError(f"{path}: `names` lists {len(names)} classes; at most {MAX_CLASSES} fit into a label file")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{path}: `names` lists {name!r} twice; every class needs a name of its own")
        seen.add(name)
    return tuple(names)


def _colors(path: Path, content: dict[str, Any], count: int) -> tuple[Color, ...]:
    colors = content.get("colors")
    if colors is None:
        return palette(count)
    if not isinstance(colors, list) or len(colors) != count:
        raise InputError(f"{path}: `colors` has to list {count} colours, one per name; or leave the key out")
    for color in colors:
        if not (isinstance(color, list) and len(color) == 3 and all(_is_int(v) and 0 <= v <= 255 for v in color)):
            raise InputError(
                f"{path}: the colour {color!r} in `colors` has to be three integers in 0..255: red, green, blue"
            )
    return tuple((red, green, blue) for red, green, blue in colors)


def _ignore_index(path: Path, content: dict[str, Any], count: int) -> int | None:
    value = content.get("ignore_index", ignore_label(count))
    if value is None:
        return None
    if not _is_int(value) or not count <= value <= 65535:
        raise InputError(
            f"{path}: `ignore_index` is {value!r}; it has to be an integer in {count}..65535, outside the {count} "
            "class ids (255 is usual), or null where every pixel has a class"
        )
    return int(value)


def _tail(path: Path, content: dict[str, Any], names: tuple[str, ...]) -> tuple[str, ...] | None:
    tail = content.get("tail")
    if tail is None:
        return None
    if not isinstance(tail, list) or not all(isinstance(name, str) for name in tail):
        raise InputError(f"{path}: `tail` has to be a list of class names; or leave the key out")
    for position, name in enumerate(tail):
        if name not in names:
            raise InputError(f"{path}: `tail` lists {name!r}, which is not in `names`")
        if name in tail[:position]:
            raise InputError(f"{path}: `tail` lists {name!r} twice")
    return tuple(tail)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
