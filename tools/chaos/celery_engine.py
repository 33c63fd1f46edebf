"""Celery as the engine: the product's launcher, a Redis server, and a worker on each host."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from tools.chaos import points
from tools.chaos.hosts import AWAY_SECONDS, EngineOnHosts, Host
from tools.chaos.wire import to_port
from tools.runner.broker import Redis
from tools.runner.stack import celery_worker

if TYPE_CHECKING:
    from tools.chaos.system import Part


class CeleryEngine(EngineOnHosts):
    """What `run.py chaos --engine celery` uses."""

    name = points.CELERY
    reaps = False
    launcher = (
        "{module: tools.chaos.celery_launcher, class: FaultyCeleryRunLauncher, config: {"
        "broker: {env: CELERY_BROKER_URL}, backend: {env: CELERY_RESULT_BACKEND}, warm_at_start: ["
        + ", ".join(f'"tools.chaos.location:{name}"' for name in (*points.CONSUMERS, points.BATCH_CONSUMER))
        + "]}}"
    )

    def prepare(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Start the broker."""
        self._redis = Redis(self.system.folder)
        self._broker = self.system.part("redis", self._redis.command, environment)
        self._broker.start(self._redis.answers)
        return self._redis.variables()

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the workers."""
        self._workers: dict[str, Part] = {}
        for name in ("one", "two"):
            host = Host(name, self.system.proxy.url, environment["DAGSTER_DATABASE_URL"])
            broker = self._redis.variables(host.wires.lay(to_port(self._redis.port)))
            # The embedded PostgreSQL touches the installed packages when it is started: for a worker its code changes.
            command = celery_worker(f"{name}@chaos", self.slots // 2, "tools.chaos.celery_app", always=True)
            self._workers[name] = self.system.part(f"celery-{name}", command, environment | host.environment | broker)
            self.hosts.append(host)
        for host in self.hosts:
            self.revive(host)

    def runs_on(self, host: Host) -> list[int]:
        """The processes that the worker has forked."""
        child = self._workers[host.name].child
        with suppress(psutil.NoSuchProcess):
            workers = [] if child is None else psutil.Process(child.process.pid).children()  # of the shell
            return [run.pid for worker in workers for run in worker.children()]
        return []

    def kill(self, host: Host) -> None:
        """The worker with its runs."""
        self._workers[host.name].kill()

    def revive(self, host: Host) -> None:
        """Another worker, in its place."""
        worker = self._workers[host.name]
        before = worker.log.stat().st_size if worker.log.exists() else 0
        worker.start(lambda: " ready." in worker.log.read_text(errors="replace")[before:])

    def hold(self) -> None:
        """All workers are away."""
        for host in self.hosts:
            self.kill(host)

    def release(self) -> None:
        """They are back."""
        for host in self.hosts:
            self.revive(host)

    def _further(self) -> tuple[Callable[[list[int]], None], ...]:
        return (self._kill_broker,)

    def _kill_broker(self, rows: list[int]) -> None:
        self.system.ledger.fault(points.BROKER_KILLED, rows)
        self._broker.kill()
        time.sleep(self.system.chance.choice(AWAY_SECONDS))
        self._broker.start(self._redis.answers)
