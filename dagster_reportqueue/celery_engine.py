"""What Celery's result backend, broker and workers say of tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

ANSWER_SECONDS = 1.0
"""How long the workers have to answer. Celery always waits so long, as it does not know how many workers there are."""
FRESH_SECONDS = 5.0
"""How long an answer of the broker and of the workers holds: many runs are asked about, one after the other."""
FORGET_SECONDS = 3_600.0
"""After how long a task that nobody has asked about is forgotten."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class TaskState:
    """A task, as the result backend has it."""

    name: str
    """Celery's name of the state, such as `PENDING`, `STARTED` or `SUCCESS`."""
    result: Mapping[str, Any] | str
    """Of a task that is executed: its worker, and a number that grows with each renewal. Otherwise a text."""

    @property
    def worker(self) -> str | None:
        """The worker that executes the task; None if no worker does."""
        return None if isinstance(self.result, str) else self.result.get("hostname")


@dataclass
class _Watched:
    state: TaskState
    since: float
    asked: float


class CeleryEngine:
    """Asks Celery about tasks. Safe in several threads; every method raises the error of the broker or the backend."""

    def __init__(self, celery: Any) -> None:
        self._celery = celery
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[float, Any]] = {}
        self._watched: dict[str, _Watched] = {}

    def state(self, task: str) -> TaskState:
        """The task's state now."""
        try:
            found = self._celery.backend.get_task_meta(task)
        except Exception:
            # While nobody could ask, the task may have changed: what is seen next counts from then on.
            with self._lock:
                self._watched.pop(task, None)
            raise
        result = found.get("result")
        return TaskState(str(found["status"]), result if isinstance(result, dict) else str(result))

    def unchanged(self, task: str, state: TaskState) -> float:
        """For how many seconds the task has been in this state, as far as this process has seen, by its own clock."""
        now = time.monotonic()
        with self._lock:
            for name in [name for name, known in self._watched.items() if now - known.asked > FORGET_SECONDS]:
                del self._watched[name]
            known = self._watched.get(task)
            if known is None or known.state != state:
                known = self._watched[task] = _Watched(state, now, now)
            known.asked = now
            return now - known.since

    def has_tasks(self, queue: str) -> bool:
        """Whether tasks wait in the broker's queue."""
        return self._fresh(f"tasks {queue}", lambda: self._count(queue)) > 0

    def reserved(self) -> frozenset[str]:
        """The tasks that workers have taken from the broker and have not begun."""
        return self._fresh("reserved", self._ask_reserved)

    def readers_of(self, queue: str) -> list[str]:
        """The names of the workers that read the queue."""
        return self._fresh("queues", self._ask_queues).get(queue, [])

    def _fresh(self, question: str, ask: Callable[[], Answer]) -> Answer:
        """The answer, if it is not older than `FRESH_SECONDS`; else a new one."""
        with self._lock:
            asked, answer = self._answers.get(question, (0.0, None))
            if answer is None or time.monotonic() - asked > FRESH_SECONDS:
                answer = ask()
                self._answers[question] = (time.monotonic(), answer)
            return answer  # type: ignore[no-any-return]

    def _count(self, queue: str) -> int:
        # On a connection of its own: RabbitMQ closes the channel if there is no such queue.
        with self._celery.connection_for_read() as connection:
            try:
                return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
            except connection.channel_errors:
                return 0

    def _ask_reserved(self) -> frozenset[str]:
        found = self._celery.control.inspect(timeout=ANSWER_SECONDS).reserved() or {}
        return frozenset(str(task["id"]) for tasks in found.values() for task in tasks)

    def _ask_queues(self) -> dict[str, list[str]]:
        found = self._celery.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
        readers: dict[str, list[str]] = {}
        for worker, queues in sorted(found.items()):
            for queue in queues:
                readers.setdefault(str(queue["name"]), []).append(str(worker))
        return readers
