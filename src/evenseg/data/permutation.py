"""A pickled permutation, read without running anything that a pickle may ask for."""

from __future__ import annotations

import codecs
import io
import pickle
from typing import Any

import numpy as np

from evenseg.errors import InputError

# What an array of integers is made of, by the names that numpy has had for it.
_PARTS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("_codecs", "encode"): codecs.encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PARTS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return _PARTS[module, name]


def read_permutation(content: bytes, where: str, length: int) -> list[int]:
    """The permutation of 0...length - 1 in a pickle. Raises InputError, naming ``where``, for anything else."""
    try:
        values = np.asarray(_Unpickler(io.BytesIO(content), encoding="latin1").load())
        order = [int(value) for value in values] if values.dtype.kind in "iu" and values.ndim == 1 else []
    except Exception:  # a damaged pickle may raise anything
        order = []
    if sorted(order) != list(range(length)):
        raise InputError(f"{where}: is no pickled permutation of {length} images; this is not the published file")
    return order
