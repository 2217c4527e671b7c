"""What earlier checks found out about files, remembered by path, size and time of change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

_VERSION = 1  # raise when facts change their meaning


def user_cache_dir() -> Path:
    """``$EVENSEG_CACHE``, else ``evenseg`` below ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("EVENSEG_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "evenseg"


def memory_file(folder: Path, *subject: object) -> Path:
    """The memory of a subject, for instance of a data set under given classes and sizes."""
    return folder / "checks" / f"{hashlib.sha256(repr((_VERSION, *subject)).encode()).hexdigest()[:16]}.json"


def file_state(path: Path) -> list[int]:
    """Size and time of change of a file, [] where there is none."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


class Memory:
    """Facts, lists of integers, by name. ``file=None`` remembers as long as the object lives.

    Each fact is kept with the state of what it was found in (``file_state``), and forgotten when
    that has changed. Never a source of errors: a damaged memory counts as empty, an unwritable one
    is not saved.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._facts = {} if file is None else _load(file)
        self._changed = False

    def recall(self, name: str, state: list[int]) -> list[int] | None:
        """The facts under a name, None where there are none for this state."""
        known_state, facts = self._facts.get(name, ([], []))
        return facts if state and known_state == state else None

    def remember(self, name: str, state: list[int], facts: list[int]) -> None:
        """Keep facts found in something of this state."""
        self._facts[name] = (state, facts)
        self._changed = True

    def save(self) -> None:
        """Write the memory down, in one piece or not at all."""
        if self._file is None or not self._changed:
            return
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._file.parent, suffix=".tmp")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as stream:
                    json.dump({"version": _VERSION, "facts": self._facts}, stream)
                os.replace(temporary, self._file)
                self._changed = False
            finally:
                Path(temporary).unlink(missing_ok=True)


def _load(file: Path) -> dict[str, tuple[list[int], list[int]]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            return {}
        facts = {
            name: (list(map(int, state)), list(map(int, known))) for name, (state, known) in content["facts"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return facts
