"""As `claimer`, for the peers: run with the Python of their own environment, on databases of their own.

Arguments: the URL of each peer's database as JSON. Each peer is asked by the call with which its own worker fetches.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

CHUNK = 5_000


class PgQueuer:
    """`Queries.dequeue`, with its fastest driver and event loop: up to a batch of jobs in one statement."""

    def __init__(self, url: str) -> None:
        import asyncpg
        import uvloop
        from pgqueuer.queries import EntrypointExecutionParameter, Queries

        self._loop = uvloop.new_event_loop()
        self._queries = Queries.from_asyncpg_connection(self._loop.run_until_complete(asyncpg.connect(url)))
        self._entrypoints = {"report": EntrypointExecutionParameter(concurrency_limit=0)}
        self._manager = uuid4()

    def load(self, count: int) -> None:
        """So many jobs and no other."""
        run, queries = self._loop.run_until_complete, self._queries
        if not run(queries.schema_is_installed()):
            run(queries.install())
        run(queries.clear_queue())
        for first in range(0, count, CHUNK):
            payloads = [json.dumps({"customer": n}).encode() for n in range(first, min(first + CHUNK, count))]
            run(queries.enqueue(["report"] * len(payloads), payloads, [0] * len(payloads)))

    def once(self, batch: int) -> int:
        """A batch."""
        jobs = self._loop.run_until_complete(
            self._queries.dequeue(batch, self._entrypoints, self._manager, None, timedelta(seconds=30))
        )
        return len(jobs)


class Procrastinate:
    """`JobManager.fetch_job`: one job a call, there is no other."""

    def __init__(self, url: str) -> None:
        import procrastinate

        self._loop = asyncio.new_event_loop()
        connector = procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=1)
        self._app = procrastinate.App(connector=connector)
        self._loop.run_until_complete(self._app.open_async())
        self._worker: int | None = None

    def load(self, count: int) -> None:
        """So many jobs and no other."""
        run, app = self._loop.run_until_complete, self._app
        found = run(app.connector.execute_query_one_async("SELECT to_regclass('procrastinate_jobs') AS table"))
        if found["table"] is None:
            run(app.schema_manager.apply_schema_async())
        run(app.connector.execute_query_async("TRUNCATE procrastinate_jobs CASCADE"))
        task = app.configure_task("report", queue="reports")
        for first in range(0, count, CHUNK):
            run(task.batch_defer_async(*({"customer": n} for n in range(first, min(first + CHUNK, count)))))
        run(app.close_async())

    def once(self, batch: int) -> int:
        """One, whatever the batch."""
        run, manager = self._loop.run_until_complete, self._app.job_manager
        if self._worker is None:
            self._worker = run(manager.register_worker())
        return int(run(manager.fetch_job(queues=["reports"], worker_id=self._worker)) is not None)


class DjangoTasksDb:
    """`get_locked` and `claim` of its `DBTaskResult` in a transaction, as `db_worker` does: one task a call."""

    def __init__(self, url: str) -> None:
        import django
        from django.conf import settings

        parts = urlsplit(url)
        options = parse_qs(parts.query)
        settings.configure(
            DATABASES={
                "default": {
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": parts.path[1:],
                    "USER": parts.username or "",
                    "PASSWORD": parts.password or "",
                    "HOST": options["host"][0] if "host" in options else parts.hostname or "",
                    "PORT": options["port"][0] if "port" in options else str(parts.port or ""),
                }
            },
            INSTALLED_APPS=["django_tasks", "django_tasks_db"],
            TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
            USE_TZ=True,
        )
        django.setup()
        self._worker = f"worker-{os.getpid()}"

    def load(self, count: int) -> None:
        """So many tasks and no other."""
        from django.core.management import call_command
        from django_tasks_db.models import DBTaskResult, get_date_max

        call_command("migrate", verbosity=0)
        DBTaskResult.objects.all().delete()
        DBTaskResult.objects.bulk_create(
            (
                DBTaskResult(
                    args_kwargs={"args": [], "kwargs": {"customer": n}},
                    task_path="reports.make",
                    backend_name="default",
                    run_after=get_date_max(),
                )
                for n in range(count)
            ),
            batch_size=CHUNK,
        )

    def once(self, batch: int) -> int:
        """One, whatever the batch."""
        from django_tasks_db.models import DBTaskResult
        from django_tasks_db.utils import exclusive_transaction

        tasks = DBTaskResult.objects.ready().filter(backend_name="default", queue_name__in=["default"])
        with exclusive_transaction(tasks.db):
            task = tasks.get_locked()
            if task is not None:
                task.claim(self._worker)
        return int(task is not None)


PEERS: dict[str, Any] = {"pgqueuer": PgQueuer, "procrastinate": Procrastinate, "django-tasks-db": DjangoTasksDb}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    urls = json.loads(sys.argv[1])
    if sys.argv[2:]:
        PEERS[sys.argv[2]](urls[sys.argv[2]]).load(int(sys.argv[3]))
    else:
        from tools.benchmarks.serving import serve

        serve({name: peer(urls[name]).once for name, peer in PEERS.items()})
