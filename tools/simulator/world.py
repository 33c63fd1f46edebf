"""Virtual time and simulated processes. Every task is a thread, and exactly one of them runs at a time.

A task gives up its turn only in `sleep`, `pause` and `wait_for`. The task with the smallest wake-up time is next. The
delays are seeded choices, so a seed always leads to the same order.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

from tools.simulator.chance import Chance

FOREVER = 2**62
"""A wake-up time that never comes, in microseconds."""
WAKE_SECONDS = 0.001
"""How long a task takes to notice that what it waits for has happened."""


def _taken() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


class Killed(BaseException):
    """The process of this task is dead. Raised in all its tasks; from then on nothing that they do has an effect."""


class Process:
    """Tasks that share memory, a clock and signals, and that die together."""

    def __init__(self, world: World, name: str, *, skew: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.skew = skew
        """How far its wall clock is ahead of the database's, in seconds."""
        self.dead = False
        self.frozen_until = 0
        self.cut_until = 0
        """Until then (virtual microseconds) its network is down."""
        self.tasks: list[Task] = []
        self.signals: list[int] = []
        """Signals that its main task has not received yet."""
        self.handlers: dict[int, Any] = {}
        self.on_death: list[Callable[[], None]] = []
        self.killable = True
        self.facts: dict[str, Any] = {}
        """Of a run: its id and its deployment."""

    @property
    def gone(self) -> bool:
        """Whether it is dead, or its main task has ended."""
        return self.dead or self.main is None or self.main.done

    @property
    def main(self) -> Task | None:
        """The first task: signals reach it alone."""
        return self.tasks[0] if self.tasks else None


class Task:
    """A thread of a process."""

    def __init__(self, process: Process, name: str, function: Callable[[], None]) -> None:
        self.process = process
        self.ident = id(self)
        self.name = name
        self.steps = 0
        """Its boundaries so far."""
        self.calls = 0
        """Its calls and statements so far; each has a number of its own."""
        self.done = False
        self.version = 0
        self.baton = _taken()
        self.function = function
        self.waiters: list[Task] = []
        self.error: BaseException | None = None


class World:
    """One scenario's time, processes and tasks. Times are seconds since its beginning."""

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self._us = 0
        self._order = itertools.count()
        self._heap: list[tuple[int, int, int, Task]] = []
        self._until = 0
        self._idle = _taken()
        self.current: Task | None = None
        self.tasks: list[Task] = []
        self.boundary: Callable[[Task], None] = lambda task: None
        """Called at each boundary, in the task's thread: here faults strike."""
        self.failed: list[tuple[str, BaseException]] = []
        """Errors that nobody expected: the task's name and the error."""

    # Time

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self._us / 1e6

    @property
    def microseconds(self) -> int:
        """The same in microseconds."""
        return self._us

    def run(self, until: float) -> None:
        """Let the tasks go on until this time, or until none has anything to do; called from outside of the tasks."""
        self._until = round(until * 1e6)
        self._go()
        self._us = max(self._us, self._until)

    # Tasks

    def process(self, name: str, *, skew: float = 0.0) -> Process:
        """A new process without tasks."""
        return Process(self, name, skew=skew)

    def spawn(self, process: Process, name: str, function: Callable[[], None], *, delay: float = 0.0) -> Task:
        """Start a task of a process."""
        task = Task(process, name, function)
        process.tasks.append(task)
        self.tasks.append(task)
        threading.Thread(target=self._body, args=(task,), name=name, daemon=True).start()
        self._push(task, self._us + round(delay * 1e6))
        return task

    def later(self, delay: float, name: str, function: Callable[[], None]) -> None:
        """Call a function after a delay, whatever dies meanwhile."""
        process = self.process(name)
        process.killable = False
        self.spawn(process, name, function, delay=delay)

    def kill(self, process: Process) -> None:
        """End a process at once: its tasks do nothing more. Raises `Killed` if the caller is one of them."""
        if process.dead:
            return
        process.dead = True
        process.frozen_until = 0
        for task in process.tasks:
            if not task.done and task is not self.current:
                self._push(task, self._us)
        for call in process.on_death:
            call()
        if self.current is not None and self.current.process is process:
            raise Killed

    def freeze(self, process: Process, seconds: float) -> None:
        """Stop all tasks of a process for a time."""
        process.frozen_until = self._us + round(seconds * 1e6)

    def end(self) -> None:
        """Kill everything; called from outside of the tasks."""
        for process in {id(task.process): task.process for task in self.tasks}.values():
            process.on_death.clear()
            self.kill(process)
        self._go()

    # What a task may do

    def sleep(self, seconds: float) -> None:
        """Wait for some time. A signal may interrupt it, as it interrupts `time.sleep`."""
        task = self._me()
        until = self._us + max(1, math.ceil(seconds * 1e6))
        while True:
            self._park(task, until)
            if self._us >= until:
                return

    def pause(self) -> None:
        """A boundary: others may go on, and faults may strike."""
        task = self._me()
        task.steps += 1
        self.boundary(task)
        self.sleep(self._latency(task))

    def wait_for(self, predicate: Callable[[], bool], waiters: list[Task], timeout: float | None = None) -> bool:
        """Wait until the predicate holds; False if it does not within `timeout` seconds. `wake(waiters)` tests it."""
        task = self._me()
        # Rounded up: a wait that is a hair too short would be repeated without end.
        until = FOREVER if timeout is None else self._us + math.ceil(max(timeout, 0.0) * 1e6)
        while not predicate():
            if self._us >= until:
                return False
            waiters.append(task)
            self._park(task, until)
            if task in waiters:
                waiters.remove(task)
        return True

    def wake(self, waiters: list[Task]) -> None:
        """Let the waiting tasks test their predicates."""
        for task in waiters:
            self._push(task, self._us + round(WAKE_SECONDS * 1e6))
        waiters.clear()

    def signal(self, process: Process, number: int) -> None:
        """Send a signal to a process; its main task receives it when it runs next."""
        main = process.main
        if process.dead or main is None or main.done:
            return
        process.signals.append(number)
        if main is self.current:
            self._deliver(main)
        else:
            self._push(main, self._us + round(WAKE_SECONDS * 1e6))

    # Inside

    def _go(self) -> None:
        first = self._next()
        if first is not None:
            self.current = first
            first.baton.release()
            self._idle.acquire()
        self.current = None

    def _latency(self, task: Task) -> float:
        kind = self.chance.number("latency", task.name, task.steps)
        size = self.chance.number("size", task.name, task.steps)
        if kind < 0.7:
            return 0.0005 + 0.005 * size
        if kind < 0.95:
            return 0.005 + 0.2 * size
        return 0.2 + 2.8 * size

    def _me(self) -> Task:
        task = self.current
        assert task is not None, "only a task may wait"
        if task.process.dead:
            raise Killed
        return task

    def _park(self, task: Task, until: int) -> None:
        self._push(task, until)
        following = self._next()
        if following is not task:
            self._hand_over(following)
            task.baton.acquire()
            self.current = task
        if task.process.dead:
            raise Killed
        self._deliver(task)

    def _deliver(self, task: Task) -> None:
        process = task.process
        while process.signals and task is process.main:
            number = process.signals.pop(0)
            handler = process.handlers.get(number)
            if handler is not None:
                handler(number, None)

    def _push(self, task: Task, at: int) -> None:
        task.version += 1
        heapq.heappush(self._heap, (at, next(self._order), task.version, task))

    def _next(self) -> Task | None:
        """The next task; None if the time is up."""
        while self._heap:
            at, _, version, task = self._heap[0]
            if task.done or version != task.version:
                heapq.heappop(self._heap)
                continue
            if task.process.frozen_until > at and not task.process.dead:
                heapq.heappop(self._heap)
                self._push(task, task.process.frozen_until)
                continue
            if at > self._until or at >= FOREVER:
                return None
            heapq.heappop(self._heap)
            task.version += 1
            self._us = max(self._us, at)
            return task
        return None

    def _hand_over(self, following: Task | None) -> None:
        if following is None:
            self._idle.release()
        else:
            self.current = following
            following.baton.release()

    def _body(self, task: Task) -> None:
        task.baton.acquire()
        self.current = task
        try:
            if not task.process.dead:
                task.function()
        except Killed:
            pass
        except BaseException as error:
            task.error = error
            self.failed.append((task.name, error))
        task.done = True
        self.wake(task.waiters)
        self._hand_over(self._next())
