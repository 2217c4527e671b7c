"""Work done ahead in threads, so that the network does not wait for files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Size = TypeVar("Size")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int = 2, depth: int = 8
) -> Generator[Result, None, None]:
    """Like ``map``, in order, with at most ``depth`` results under way or waiting.

    An exception of ``function`` is raised at its item's turn; what has not started is then dropped.
    """
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="evenseg-ahead")
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def group_neighbours(
    items: Iterable[Item], *, size: Callable[[Item], Size], largest: Callable[[Size], int]
) -> Iterator[list[Item]]:
    """Runs of neighbouring items of equal ``size``, each at most ``largest`` of that size long."""
    group: list[Item] = []
    for item in items:
        if group and (size(item) != size(group[0]) or len(group) >= largest(size(item))):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
