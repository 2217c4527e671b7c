from __future__ import annotations

import numpy as np
import pytest

from evenseg.data.classes import Classes, palette
from evenseg.data.labels import count_classes, to_internal
from evenseg.errors import InputError


def classes(count: int, ignore_index: int | None) -> Classes:
    return Classes(tuple(f"c{i}" for i in range(count)), palette(count), ignore_index)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("count", "ignore_index"), [(3, 255), (3, 3), (3, None), (254, 255), (255, 255), (19, 200)])
def test_ids_stay_and_ignore_becomes_255(dtype: type, count: int, ignore_index: int | None) -> None:
    values = np.arange(count, dtype=dtype)
    if ignore_index is not None:
        values = np.append(values, np.array(ignore_index, dtype))
    values = np.stack([values, values[::-1]])
    internal = to_internal(values, classes(count, ignore_index), "f.png")
    assert internal.dtype == np.uint8
    assert internal.tolist() == [[v if v < count else 255 for v in row] for row in values.tolist()]


def test_above_255_classes_labels_have_16_bits() -> None:
    values = np.array([[0, 255, 299, 65535]], np.uint16)
    internal = to_internal(values, classes(300, 65535), "f.png")
    assert internal.dtype == np.uint16
    assert internal.tolist() == values.tolist()
    eight_bit = to_internal(np.array([[0, 255]], np.uint8), classes(300, 65535), "f.png")
    assert (eight_bit.dtype, eight_bit.tolist()) == (np.uint16, [[0, 255]])
    assert to_internal(np.array([[1000]], np.uint16), classes(300, 1000), "f.png").tolist() == [[65535]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_unknown_ids_are_named(dtype: type) -> None:
    values = np.array([[0, 3, 200, 255], [3, 1, 2, 2]], dtype)
    with pytest.raises(InputError, match=r"^f\.png: .*3 classes \(0\.\.2\): 3, 200; ignore_index is 255"):
        to_internal(values, classes(3, 255), "f.png")
    with pytest.raises(InputError, match=r": 3, 200, 255; no ignore_index"):
        to_internal(values, classes(3, None), "f.png")
    with pytest.raises(InputError, match=r"13, 14, 15 and 2 more;"):
        to_internal(np.arange(18, dtype=dtype)[None], classes(8, 255), "f.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_counts_leave_ignored_pixels_out(dtype: type) -> None:
    label = np.array([[0, 2, 2], [255, 2, 255]], dtype)
    counts = count_classes(label, 4)
    assert counts.dtype == np.int64
    assert counts.tolist() == [1, 0, 3, 0]
