"""Checkpoints: written whole or not at all, loaded without running code."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from evenseg.errors import InputError

FORMAT = 1


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Calls ``write(file)`` on a temporary file, flushes it to disk and renames it; on failure the old file survives.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        # torch reports a failed write as a RuntimeError raised while the OSError is handled
        cause = error if isinstance(error, OSError) else error.__context__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error).splitlines()[0]
        raise InputError(
            f"{path}: cannot be written ({reason}); mend that and run the same command to resume"
        ) from None


def write_text(path: Path, text: str) -> None:
    """A text file, written atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def save(path: Path, content: dict[str, Any]) -> None:
    """Saves tensors and plain values; see ``write_atomically``."""
    write_atomically(path, lambda file: torch.save({"format": FORMAT, **content}, file))


def load(path: Path) -> dict[str, Any]:
    """What ``save`` wrote, on the CPU.

    Raises:
        InputError: the file is missing, damaged, or of another format.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; train first, or choose another run or checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        again = "delete it to start the run again from its first step"
        remedy = again if path.stem == "last" else "use the last checkpoint instead"
        raise InputError(f"{path}: damaged checkpoint ({type(error).__name__}); {remedy}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: not a checkpoint of this version of evenseg; use the version that wrote it")
    return content
