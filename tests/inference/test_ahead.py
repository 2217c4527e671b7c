import threading

import pytest

from evenseg.inference.ahead import group_neighbours, map_ahead


def test_order_is_kept_and_everything_arrives() -> None:
    assert list(map_ahead(lambda n: n * n, range(50), threads=4, depth=7)) == [n * n for n in range(50)]
    assert list(map_ahead(lambda n: n, [], threads=2)) == []


def test_runs_ahead_no_further_than_asked() -> None:
    items = iter(range(100))
    results = map_ahead(lambda n: n, items, threads=1, depth=3)
    assert [next(results), next(results)] == [0, 1]
    assert next(items) == 4  # beyond the two that were asked for, two are under way
    results.close()


def test_works_ahead_while_the_caller_is_busy() -> None:
    second = threading.Event()
    results = map_ahead(lambda n: second.set() if n == 1 else n, range(3), threads=1, depth=2)
    assert next(results) == 0
    assert second.wait(10)  # done without having been asked for


def test_an_error_is_raised_in_its_turn() -> None:
    def function(n: int) -> int:
        if n == 2:
            raise KeyError(n)
        return n

    results = map_ahead(function, range(10), threads=3, depth=5)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError):
        next(results)


def test_neighbours_of_equal_size_share_a_group() -> None:
    groups = group_neighbours("aaabbac", size=lambda c: c, largest=lambda c: 2 if c == "a" else 9)
    assert list(groups) == [["a", "a"], ["a"], ["b", "b"], ["a"], ["c"]]
    assert list(group_neighbours([], size=len, largest=lambda n: 1)) == []
