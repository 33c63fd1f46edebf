"""The teller: what is made is told at once, or together while a call is slow; nothing is left untold or unsaid."""

import threading

import pytest

from orchestrator.client import MAX_ROWS
from orchestrator.telling import Teller


def test_what_is_put_while_a_call_is_under_way_is_told_together_and_in_order():
    told: list[list[int]] = []
    called, go_on = threading.Event(), threading.Event()

    def tell(some: list[int]) -> None:
        told.append(some)
        called.set()
        go_on.wait(10)

    with Teller(tell) as teller:
        teller.put(0)
        assert called.wait(10)
        for n in range(1, MAX_ROWS + 11):
            teller.put(n)
        go_on.set()
    assert told == [[0], list(range(1, MAX_ROWS + 1)), list(range(MAX_ROWS + 1, MAX_ROWS + 11))]


def test_leaving_waits_until_all_is_told_also_when_the_work_raises():
    told: list[int] = []

    def work() -> None:
        with Teller(told.extend) as teller:
            teller.put(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert told == [1]


def test_what_telling_raises_is_raised_at_the_end():
    def tell(some: list[int]) -> None:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError, match="away"), Teller(tell) as teller:
        teller.put(1)


def test_after_an_error_nothing_more_is_taken():
    failed = threading.Event()

    def tell(some: list[int]) -> None:
        failed.set()
        raise ConnectionError("away")

    def put() -> None:
        with Teller(tell) as teller:
            teller.put(1)
            failed.wait(10)
            teller._thread.join(10)
            teller.put(2)
            raise AssertionError("it was taken")

    with pytest.raises(ConnectionError, match="away"):
        put()


def test_a_flush_waits_until_all_is_told():
    told: list[int] = []
    called, go_on, flushed = threading.Event(), threading.Event(), threading.Event()

    def tell(some: list[int]) -> None:
        called.set()
        go_on.wait(10)
        told.extend(some)

    def flush(teller: Teller[int]) -> None:
        teller.flush()
        flushed.set()

    with Teller(tell) as teller:
        teller.flush()
        teller.put(1)
        assert called.wait(10)
        teller.put(2)
        waiting = threading.Thread(target=flush, args=[teller])
        waiting.start()
        assert not flushed.wait(0.05)
        go_on.set()
        assert flushed.wait(10)
        assert told == [1, 2]
        waiting.join(10)


def test_a_flush_raises_what_telling_raised():
    def tell(some: list[int]) -> None:
        raise ConnectionError("away")

    def put_and_flush() -> None:
        with Teller(tell) as teller:
            teller.put(1)
            teller.flush()
            raise AssertionError("it was told")

    with pytest.raises(ConnectionError, match="away"):
        put_and_flush()
