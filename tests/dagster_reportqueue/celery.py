"""Celery for tests: a Redis server, an instance that sends its runs there, and real workers."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterRunStatus, instance_for_test
from dagster._core.code_pointer import CodePointer
from redis import Redis
from redis.exceptions import RedisError

from dagster_reportqueue.celery_launcher import ReportCeleryRunLauncher
from tests.dagster_reportqueue.daemon import ROOT
from tests.dagster_reportqueue.waiting import until
from tests.dagster_reportqueue.warm import HERE, Warm
from tools.runner.stack import free_port

UNIT = Path(ROOT) / "deploy" / "celery" / "reportqueue-celery-worker.service"
APP = "tests.dagster_reportqueue.celery_app"
READY_SECONDS = 120.0


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A Redis server that keeps nothing; yields its address."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed; on Debian: apt-get install redis-server")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        with Redis(port=port) as client:
            until(lambda: answers(client), 30, what="Redis")
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def answers(client: Redis) -> bool:
    """Whether Redis answers."""
    try:
        return bool(client.ping())
    except RedisError:
        return False


class Celery(Warm):
    """An instance that sends its runs to Celery, and the folder in which its runs leave their notes."""

    @property
    def launcher(self) -> ReportCeleryRunLauncher:  # type: ignore[override]
        launcher = self.instance.run_launcher
        assert isinstance(launcher, ReportCeleryRunLauncher)
        return launcher

    def send(self, do: str = "nothing", pointer: CodePointer = HERE, **tags: str) -> str:
        """Launch a run with further tags."""
        run_id = self.create(do, pointer)
        self.instance.add_run_tags(run_id, tags)
        self.instance.launch_run(run_id, workspace=None)  # type: ignore[arg-type]
        return run_id

    def begun(self) -> list[str]:
        """The runs that have begun, in their order."""
        return [note["run_id"] for note in self.notes()]

    def waits(self, run_id: str) -> bool:
        """Whether the launcher says that the run waits."""
        return self.launcher.waits(self.run(run_id))

    def succeeded(self, run_id: str) -> bool:
        """Whether it has succeeded, once it has ended."""
        return self.ended(run_id) == DagsterRunStatus.SUCCESS


@contextmanager
def celery_instance(
    storage: Mapping[str, Any], folder: Path, broker: str, preload: tuple[str, ...] = (), **settings: Any
) -> Iterator[Celery]:
    """An instance on an empty broker; `settings` are further ones of dagster.yaml."""
    with Redis.from_url(broker) as client:
        client.flushall()
    launcher = {
        "module": "dagster_reportqueue.celery_launcher",
        "class": "ReportCeleryRunLauncher",
        "config": {
            "broker": f"{broker}/0",
            "backend": f"{broker}/1",
            "code_version": {"env": "CODE_VERSION"},
            "warm_at_start": ["tests.dagster_reportqueue.warm_location:defs"],
            "preload": list(preload),
        },
    }
    overrides = {**storage, **settings, "run_launcher": launcher}
    with instance_for_test(overrides, temp_dir=str(folder), synchronous_run_coordinator=True) as instance:
        made = Celery(instance, folder)
        try:
            yield made
        finally:
            made.launcher.celery.close()


class Worker:
    """A real worker, in a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Of its first process, which forks the runs."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(errors="replace")

    def is_ready(self) -> bool:
        """Whether it takes runs."""
        assert self.process.poll() is None, self.log
        return " ready." in self.log


def command(concurrency: int, queues: str) -> list[str]:
    """The worker's command in the systemd unit, with the program and the app of the tests."""
    (line,) = [line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart=")]
    _, *words = shlex.split(line.removeprefix("ExecStart="))
    values = {"-A": APP, "--concurrency": str(concurrency), "--queues": queues}
    for option, value in values.items():
        words[words.index(option) + 1] = value
    return [str(Path(sys.executable).parent / "celery"), *words]


@contextmanager
def worker(
    celery: Celery, *, concurrency: int = 1, queues: str = "dagster", name: str = "one", **variables: str
) -> Iterator[Worker]:
    """A worker that takes runs; killed at the end."""
    path = celery.folder / f"worker-{name}-{time.monotonic_ns()}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [*command(concurrency, queues), "--hostname", f"{name}@%h"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{celery.folder}", **variables},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    made = Worker(process, path)
    try:
        until(made.is_ready, READY_SECONDS, what="the worker")
        yield made
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def refusal(*options: str) -> str:
    """What a worker says that does not start with these options."""
    done = subprocess.run(
        [*command(1, "dagster"), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    return done.stderr
