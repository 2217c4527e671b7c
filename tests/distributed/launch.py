"""Processes that train together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

RANKS = 2


class Ended(NamedTuple):
    """What a process left."""

    code: int
    out: str
    err: str


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ranks(*arguments: object) -> list[Ended]:
    """A command line of evenseg in two processes, started as ``torchrun`` would, but none ends with another."""
    common = {
        "TORCHELASTIC_RUN_ID": "test",
        "WORLD_SIZE": str(RANKS),
        "LOCAL_WORLD_SIZE": str(RANKS),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "evenseg", *map(str, arguments)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    ended = [process.communicate() for process in processes]
    return [Ended(process.returncode, *texts) for process, texts in zip(processes, ended, strict=True)]


def torchrun(logs: Path, *arguments: object) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """A command line of evenseg under ``torchrun``; also what each process wrote on standard error."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    command += ["--redirects=3", f"--log-dir={logs}", "-m", "evenseg", *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    return done, [next(logs.rglob(f"{rank}/stderr.log")).read_text() for rank in range(RANKS)]
