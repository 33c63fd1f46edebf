"""What the product's code uses of its machine, as the simulated world has it: time, threads, signals, ids, chance.

`installed()` puts these in the place of `time`, `threading` and so on, in the product's modules alone.
"""

from __future__ import annotations

import copy
import datetime as real_datetime
import importlib
import os
import random
import signal as real_signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

from tools.simulator.world import Process, Task, World

EPOCH = real_datetime.datetime(2027, 3, 1, 6, 0, tzinfo=real_datetime.UTC)
"""When each scenario begins, by the database's clock. No calendar and no time zone matters here."""


class Machine:
    """The one world that is simulated now; the stand-ins find it here."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.ids = 0
        self.chance = random.Random(0)

    def begin(self, world: World) -> None:
        """From here on this world is simulated."""
        self.world = world
        self.ids = 0
        self.chance = world.chance.stream("the product's own chance")

    @property
    def here(self) -> World:
        """The world. Raises `AssertionError` outside of a scenario."""
        assert self.world is not None
        return self.world


machine = Machine()


def instant(seconds: float) -> real_datetime.datetime:
    """The wall clock of the database at a time of the scenario."""
    return EPOCH + real_datetime.timedelta(microseconds=round(seconds * 1e6))


def process_now() -> Process:
    """The process of the task that is running."""
    task = machine.here.current
    assert task is not None
    return task.process


# time


def monotonic() -> float:
    """Of the running process; only differences count."""
    return 1_000.0 + machine.here.now


def wall() -> float:
    """The wall clock of the running process, in seconds since 1970."""
    return instant(machine.here.now + process_now().skew).timestamp()


def sleep(seconds: float) -> None:
    """A boundary."""
    machine.here.sleep(seconds)


def no_sleep(seconds: float) -> None:
    """For a sleep inside a transaction, where no other task can go on."""


class Datetime(real_datetime.datetime):
    """`datetime` with the wall clock of the running process."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """The time of the process's machine."""
        return instant(machine.here.now + process_now().skew).astimezone(tz)


# threading


class Lock:
    """Nobody else runs while a task holds one: there is no boundary inside."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass


class Event:
    """As `threading.Event`."""

    def __init__(self) -> None:
        self._set = False
        self._waiters: list[Task] = []

    def set(self) -> None:
        """Wake the waiting tasks."""
        self._set = True
        machine.here.wake(self._waiters)

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set."""
        return machine.here.wait_for(lambda: self._set, self._waiters, timeout)


class Condition(Lock):
    """As `threading.Condition`."""

    def __init__(self) -> None:
        self._waiters: list[Task] = []

    def notify_all(self) -> None:
        """Wake the waiting tasks."""
        machine.here.wake(self._waiters)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> bool:
        """Wait until the predicate holds."""
        return machine.here.wait_for(lambda: bool(predicate()), self._waiters, timeout)


class Thread:
    """As `threading.Thread`: a task of the running process."""

    def __init__(self, *, target: Callable[[], None], name: str = "thread", daemon: bool = False) -> None:
        self._target, self._name = target, name
        self._task: Task | None = None

    @property
    def ident(self) -> int | None:
        """None before the start."""
        return None if self._task is None else id(self._task)

    def start(self) -> None:
        """Start it."""
        process = process_now()
        self._task = machine.here.spawn(process, f"{process.name}/{self._name}", self._target, delay=0.0001)

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""
        task = self._task
        if task is not None:
            machine.here.wait_for(lambda: task.done, task.waiters, timeout)


def current_thread() -> Task:
    """The running task."""
    task = machine.here.current
    assert task is not None
    return task


def main_thread() -> Any:
    """The main task of the running process."""
    main = process_now().main
    assert main is not None
    return main


# signal


def _set_handler(number: int, handler: Any) -> Any:
    handlers = process_now().handlers
    before = handlers.get(number)
    handlers[number] = handler
    return before


def _raise_signal(number: int) -> None:
    process = process_now()
    if not process.dead:
        machine.here.signal(process, number)


# ids and chance


def make_uuid() -> UUID:
    """A new id, the same in every replay."""
    machine.ids += 1
    return machine.here.chance.uuid("id", machine.ids)


class _Random:
    """`random` for the product: the scenario's own stream."""

    def random(self) -> float:
        """As `random.random`."""
        return machine.chance.random()

    def uniform(self, least: float, most: float) -> float:
        """As `random.uniform`."""
        return least + (most - least) * machine.chance.random()


TIME = SimpleNamespace(monotonic=monotonic, sleep=sleep, time=wall)
TIME_IN_TRANSACTION = SimpleNamespace(monotonic=monotonic, sleep=no_sleep, time=wall)
THREADING = SimpleNamespace(
    Lock=Lock,
    Event=Event,
    Condition=Condition,
    Thread=Thread,
    current_thread=current_thread,
    main_thread=main_thread,
)
SIGNAL = SimpleNamespace(
    SIG_DFL=real_signal.SIG_DFL,
    SIGTERM=real_signal.SIGTERM,
    SIGINT=real_signal.SIGINT,
    Signals=real_signal.Signals,
    getsignal=lambda number: process_now().handlers.get(number),
    signal=_set_handler,
    raise_signal=_raise_signal,
    pthread_kill=lambda ident, number: _raise_signal(number),
)


_DAGSTER = ("dagster_reportqueue.execution.", "dagster_reportqueue.sensors.")
_DJANGO = ("reportqueue.",)
_KEPT = ("dagster_reportqueue.execution.surroundings",)
"""It restores what a report has changed in its real process."""


@contextmanager
def installed() -> Iterator[None]:
    """Let the product's modules use the stand-ins; the rest of Python keeps the real ones."""
    importlib.import_module("reportqueue.management.commands.enqueue_due_reports")
    with ExitStack() as stack:
        stack.enter_context(_remembered())
        for name, module in sorted(sys.modules.items()):
            if name.startswith((*_DAGSTER, *_DJANGO)) and name not in _KEPT:
                for used, stand_in in _stand_ins(name, vars(module)).items():
                    stack.enter_context(mock.patch.object(module, used, stand_in))
        yield


def _stand_ins(name: str, used: Mapping[str, Any]) -> dict[str, Any]:
    """What a module gets instead of what it has imported."""
    in_transaction = name.startswith("reportqueue.queue.")
    known = [
        ("time", time, TIME_IN_TRANSACTION if in_transaction else TIME),
        ("threading", threading, THREADING),
        ("signal", real_signal, SIGNAL),
        ("datetime", real_datetime.datetime, Datetime),
        ("socket", socket, SimpleNamespace(gethostname=lambda: "simulated")),
        ("os", os, SimpleNamespace(getpid=lambda: 1)),
        ("uuid4", uuid4, make_uuid),
        ("random", random, _Random()),
    ]
    if name.startswith(_DJANGO):
        # Django's side goes by the database's clock, and its threads serve claims that wait: there are none.
        known = [entry for entry in known if entry[0] in ("time", "uuid4", "random")]
    return {key: stand_in for key, real, stand_in in known if used.get(key) is real}


@contextmanager
def _remembered() -> Iterator[None]:
    """Let Django REST framework build a serializer's fields and look a token up once only: half of a call's time."""
    from rest_framework.serializers import ModelSerializer

    from reportqueue import tokens

    known: dict[str, Any] = {}
    fields: dict[type, Any] = {}
    look_up, build = tokens.authenticate, ModelSerializer.get_fields

    def authenticate(key: str) -> Any:
        if key not in known:
            known[key] = look_up(key)
        return known[key]

    def get_fields(self: Any) -> Any:
        if type(self) not in fields:
            fields[type(self)] = build(self)
        return copy.deepcopy(fields[type(self)])

    with (
        mock.patch.object(tokens, "authenticate", authenticate),
        mock.patch.object(ModelSerializer, "get_fields", get_fields),
    ):
        yield
