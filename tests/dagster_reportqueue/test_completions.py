"""The sender: what is made is sent at once, or together while a call is slow; nothing is left untold or unsaid."""

import threading

import pytest

from dagster_reportqueue.client import MAX_BATCH_ROWS
from dagster_reportqueue.execution.completions import CompletionSender


def test_what_is_put_while_a_call_is_under_way_is_told_together_and_in_order():
    sent: list[list[int]] = []
    called, go_on = threading.Event(), threading.Event()

    def send(some: list[int]) -> None:
        sent.append(some)
        called.set()
        go_on.wait(10)

    with CompletionSender(send) as sender:
        sender.put(0)
        assert called.wait(10)
        for n in range(1, MAX_BATCH_ROWS + 11):
            sender.put(n)
        go_on.set()
    assert sent == [[0], list(range(1, MAX_BATCH_ROWS + 1)), list(range(MAX_BATCH_ROWS + 1, MAX_BATCH_ROWS + 11))]


def test_leaving_waits_until_all_is_told_also_when_the_work_raises():
    sent: list[int] = []

    def work() -> None:
        with CompletionSender(sent.extend) as sender:
            sender.put(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert sent == [1]


def test_what_telling_raises_is_raised_at_the_end():
    def send(some: list[int]) -> None:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError, match="away"), CompletionSender(send) as sender:
        sender.put(1)


def test_after_an_error_nothing_more_is_taken():
    failed = threading.Event()

    def send(some: list[int]) -> None:
        failed.set()
        raise ConnectionError("away")

    def put() -> None:
        with CompletionSender(send) as sender:
            sender.put(1)
            failed.wait(10)
            sender._thread.join(10)
            sender.put(2)
            raise AssertionError("it was taken")

    with pytest.raises(ConnectionError, match="away"):
        put()


def test_a_flush_waits_until_all_is_told():
    sent: list[int] = []
    called, go_on, flushed = threading.Event(), threading.Event(), threading.Event()

    def send(some: list[int]) -> None:
        called.set()
        go_on.wait(10)
        sent.extend(some)

    def flush(sender: CompletionSender[int]) -> None:
        sender.flush()
        flushed.set()

    with CompletionSender(send) as sender:
        sender.flush()
        sender.put(1)
        assert called.wait(10)
        sender.put(2)
        waiting = threading.Thread(target=flush, args=[sender])
        waiting.start()
        assert not flushed.wait(0.05)
        go_on.set()
        assert flushed.wait(10)
        assert sent == [1, 2]
        waiting.join(10)


def test_a_flush_raises_what_telling_raised():
    def send(some: list[int]) -> None:
        raise ConnectionError("away")

    def put_and_flush() -> None:
        with CompletionSender(send) as sender:
            sender.put(1)
            sender.flush()
            raise AssertionError("it was sent")

    with pytest.raises(ConnectionError, match="away"):
        put_and_flush()
