"""Signals in the main thread: raised in the work alone, never lost, never raised twice for one."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from dagster import DagsterExecutionInterruptedError

from dagster_reportqueue.execution.interrupts import Interrupts

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def host() -> Iterator[list[int]]:
    """The signals that reach whoever had the handlers before: Dagster."""
    reached: list[int] = []
    before = [signal.signal(number, lambda number, frame: reached.append(number)) for number in SIGNALS]
    yield reached
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_raised_in_the_work_and_goes_no_further(host: list[int], number: signal.Signals):
    with Interrupts() as interrupts:
        interrupts.deliver()
        with pytest.raises(DagsterExecutionInterruptedError):
            signal.raise_signal(number)
        interrupts.hold()
        assert interrupts.received_at is not None
    assert host == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_before_the_work_is_raised_as_it_begins(host: list[int], number: signal.Signals):
    with Interrupts() as interrupts:
        signal.raise_signal(number)
        with pytest.raises(DagsterExecutionInterruptedError):
            interrupts.deliver()
        interrupts.hold()
    assert host == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_after_the_work_is_sent_again_at_the_end(host: list[int], number: signal.Signals):
    with Interrupts() as interrupts:
        interrupts.deliver()
        interrupts.hold()
        signal.raise_signal(number)
        assert host == []
    assert host == [number]


def test_a_signal_after_the_work_is_sent_again_also_if_the_end_fails(host: list[int]):
    def fail() -> None:
        with Interrupts():
            signal.raise_signal(signal.SIGTERM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert host == [signal.SIGTERM]


def test_afterwards_signals_are_the_hosts(host: list[int]):
    with Interrupts() as interrupts:
        interrupts.interrupt()
    for number in SIGNALS:
        signal.raise_signal(number)
    interrupts.interrupt()
    assert host == SIGNALS


def test_a_handler_that_raises_when_it_is_back_leaves_no_other_behind(monkeypatch: pytest.MonkeyPatch):
    def raising(number: int, frame: object) -> None:
        raise DagsterExecutionInterruptedError

    for number in SIGNALS:
        signal.signal(number, raising)
    put_back = signal.signal

    def interrupted(number: signal.Signals, handler: object) -> object:
        before = put_back(number, handler)  # type: ignore[arg-type]
        if handler is raising:
            signal.raise_signal(number)
        return before

    interrupts = Interrupts()
    interrupts.__enter__()
    monkeypatch.setattr(signal, "signal", interrupted)
    with pytest.raises(DagsterExecutionInterruptedError):
        interrupts.__exit__()
    assert signal.getsignal(signal.SIGTERM) is raising
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGTERM) is raising


def test_the_hearts_interrupt_is_raised_in_the_work_each_time(host: list[int]):
    interrupted = 0
    with Interrupts() as interrupts, ThreadPoolExecutor(1) as pool:

        def interrupt(heard: threading.Event) -> None:
            interrupts.interrupt()
            while not heard.wait(0.2):
                interrupts.interrupt(again=False)

        interrupts.deliver()
        for _ in range(3):
            heard = threading.Event()
            try:
                pool.submit(interrupt, heard)
                time.sleep(10)
            except DagsterExecutionInterruptedError:
                interrupted += 1
            heard.set()
        interrupts.hold()
        assert interrupts.received_at is None, "nobody outside wants anything"
    assert (interrupted, host) == (3, [])


def test_the_hearts_interrupt_is_repeated_until_it_is_heard_and_not_longer(host: list[int]):
    heard = 0
    with Interrupts() as interrupts:
        interrupts.deliver()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        interrupts.interrupt(again=False)
        assert signal.sigpending() == set(), "there was none to repeat"
        interrupts.interrupt()
        interrupts.interrupt(again=False)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        except DagsterExecutionInterruptedError:
            heard += 1
        interrupts.interrupt(again=False)
        interrupts.hold()
    assert (heard, interrupts.received_at, host) == (1, None, [])


def test_the_hearts_interrupt_is_not_raised_outside_of_the_work(host: list[int]):
    with Interrupts() as interrupts:
        interrupts.interrupt()
        interrupts.deliver()
        interrupts.hold()
        interrupts.interrupt()
    assert host == []


def test_the_hearts_interrupt_that_arrives_late_is_dropped_and_the_next_from_outside_is_not(host: list[int]):
    with Interrupts() as interrupts:
        interrupts.deliver()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            interrupts.interrupt()
            interrupts.hold()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        assert interrupts.received_at is None
        signal.raise_signal(signal.SIGINT)
        assert interrupts.received_at is not None
    assert host == [signal.SIGINT]


def test_the_hearts_interrupt_of_one_piece_of_work_does_not_reach_the_next(host: list[int]):
    one, another = object(), object()
    with Interrupts() as interrupts:
        interrupts.deliver(one)
        interrupts.hold()
        interrupts.deliver(another)
        interrupts.interrupt(one)
        interrupts.interrupt(one, again=False)
        with pytest.raises(DagsterExecutionInterruptedError):
            interrupts.interrupt(another)
        interrupts.hold()
    assert host == []


def test_in_another_thread_it_leaves_signals_alone(host: list[int]):
    before = [signal.getsignal(number) for number in SIGNALS]

    def work() -> list[object]:
        with Interrupts() as interrupts:
            interrupts.deliver()
            interrupts.interrupt()
            interrupts.hold()
            return [signal.getsignal(number) for number in SIGNALS]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result(10) == before
    assert host == []


def test_an_interrupt_racing_the_end_of_the_work_never_escapes(host: list[int]):
    """The work's end and the heart's signal, a thousand times within a few microseconds of each other."""
    raised = 0
    for turn in range(1000):
        with Interrupts() as interrupts:
            racer = threading.Thread(target=interrupts.interrupt)
            try:
                try:
                    interrupts.deliver()
                    racer.start()
                    for _ in range(turn % 100):
                        pass
                finally:
                    interrupts.hold()
            except DagsterExecutionInterruptedError:
                interrupts.hold()
                raised += 1
            racer.join()
    assert host == []
    assert raised > 0, "the race was never close"
