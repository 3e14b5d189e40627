"""`ahead` is `map` that works on the next items meanwhile."""

import threading
import time

import pytest

from export.ahead import ahead


def test_results_come_in_the_order_of_the_items() -> None:
    def slower_first(n: int) -> int:
        time.sleep(0.01 / (n + 1))
        return n * n

    assert list(ahead(slower_first, range(20))) == [n * n for n in range(20)]
    assert list(ahead(slower_first, [])) == []


def test_at_most_workers_items_are_computed_in_advance() -> None:
    begun: list[int] = []
    results = ahead(begun.append, range(100), workers=3)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 4


def test_two_items_are_computed_at_once() -> None:
    both = threading.Barrier(2, timeout=10)
    assert len(list(ahead(lambda _: both.wait(), range(2)))) == 2


def test_an_error_is_raised_in_place_of_its_result() -> None:
    results = ahead(lambda n: 1 // n, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
