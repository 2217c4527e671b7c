"""What a run writes while it trains: JSON lines, CSV, and TensorBoard on request."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
from pathlib import Path
from typing import Any

from evenseg.errors import InputError
from evenseg.training.checkpoint import write_text

Record = dict[str, Any]


class MetricsLog:
    """``metrics.jsonl`` and ``metrics.csv`` of a run folder; a resumed run continues them exactly.

    Args:
        folder: the run folder.
        step: the step training resumes from; later records of a killed run are dropped, since they
            will be written again.
        tensorboard: also write TensorBoard events.
    """

    def __init__(self, folder: Path, *, step: int, tensorboard: bool = False) -> None:
        self._path = folder / "metrics.jsonl"
        self._table = folder / "metrics.csv"
        self._columns: list[str] = []
        self._board = _tensorboard(folder, step) if tensorboard else None
        if self._path.exists():
            records = [record for record in read(self._path) if record["step"] <= step]
            write_text(self._path, "".join(map(_line, records)))
            self._write_table(records)

    def write(self, record: Record) -> None:
        """Appends one record: ``step`` (completed steps), ``split`` and values; NaN becomes null."""
        record = {name: None if _is_nan(value) else value for name, value in record.items()}
        cells = _cells(record)
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(_line(record))
            if set(cells) <= set(self._columns):
                with open(self._table, "a", encoding="utf-8", newline="") as file:
                    csv.DictWriter(file, self._columns).writerow(cells)
            else:  # a new column: the table is written again
                self._write_table(read(self._path))
        except OSError as error:
            raise InputError(
                f"{self._path}: cannot be written ({error.strerror}); free space and run the same command to resume"
            ) from None
        if self._board is not None:
            prefix = "/".join(str(record[name]) for name in ("split", "network") if name in record)
            for name, value in cells.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{prefix}/{name}", value, record["step"])

    def records(self) -> list[Record]:
        """What has been written so far."""
        return read(self._path) if self._path.exists() else []

    def close(self) -> None:
        """Flushes TensorBoard."""
        if self._board is not None:
            self._board.close()

    def _write_table(self, records: list[Record]) -> None:
        self._columns = list(dict.fromkeys(name for record in records for name in _cells(record)))
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, self._columns)
        table.writeheader()
        table.writerows(_cells(record) for record in records)
        write_text(self._table, text.getvalue())


def read(path: Path) -> list[Record]:
    """The records of a ``metrics.jsonl``; a last line cut off by a kill is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _cells(record: Record) -> Record:
    return {name: value for name, value in record.items() if not isinstance(value, dict)}


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def require_tensorboard() -> None:
    """Raises InputError where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("train.tensorboard: tensorboard is not installed; pip install 'evenseg[tensorboard]'")


def _tensorboard(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
