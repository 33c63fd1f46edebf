"""The other queues: how each is filled, fetches a batch, and works. Used by the Python of their own environment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from datetime import timedelta
from typing import Any
from uuid import uuid4

CHUNK = 5_000
AT_ONCE = 10
"""Jobs that a worker has at once, where its default is one."""


class PgQueuer:
    """`Queries.dequeue`, with its fastest driver and event loop: up to a batch of jobs in one statement."""

    RECORDED = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"

    def __init__(self, url: str) -> None:
        import asyncpg
        import uvloop
        from pgqueuer.queries import EntrypointExecutionParameter, Queries

        self._loop = uvloop.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(url))
        self._queries = Queries.from_asyncpg_connection(self._connection)
        self._entrypoints = {"report": EntrypointExecutionParameter(concurrency_limit=0)}
        self._manager = uuid4()

    def load(self, count: int) -> None:
        """So many jobs and no other."""
        run, queries = self._loop.run_until_complete, self._queries
        if not run(queries.schema_is_installed()):
            run(queries.install())
        run(queries.clear_queue())
        self.add(count)

    def add(self, count: int) -> None:
        """So many jobs more."""
        run, queries = self._loop.run_until_complete, self._queries
        for first in range(0, count, CHUNK):
            payloads = [json.dumps({"customer": n}).encode() for n in range(first, min(first + CHUNK, count))]
            run(queries.enqueue(["report"] * len(payloads), payloads, [0] * len(payloads)))

    def once(self, batch: int) -> int:
        """A batch."""
        jobs = self._loop.run_until_complete(
            self._queries.dequeue(batch, self._entrypoints, self._manager, None, timedelta(seconds=30))
        )
        return len(jobs)

    def work(self) -> None:
        """With its defaults, until SIGTERM."""
        from pgqueuer import PgQueuer

        async def work() -> None:
            queue = PgQueuer.from_asyncpg_connection(self._connection)

            @queue.entrypoint("report")
            async def report(job: Any) -> None:
                json.loads(job.payload)

            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)
            await queue.run()

        self._loop.run_until_complete(work())


class Procrastinate:
    """`JobManager.fetch_job`: one job a call, there is no other."""

    RECORDED = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"

    def __init__(self, url: str) -> None:
        import procrastinate

        self._loop = asyncio.new_event_loop()
        connector = procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=AT_ONCE)
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
        self.add(count)
        run(app.close_async())

    def add(self, count: int) -> None:
        """So many jobs more."""
        run, app = self._loop.run_until_complete, self._app
        task = app.configure_task("report", queue="reports")
        for first in range(0, count, CHUNK):
            run(task.batch_defer_async(*({"customer": n} for n in range(first, min(first + CHUNK, count)))))

    def once(self, batch: int) -> int:
        """One, whatever the batch."""
        run, manager = self._loop.run_until_complete, self._app.job_manager
        if self._worker is None:
            self._worker = run(manager.register_worker())
        return int(run(manager.fetch_job(queues=["reports"], worker_id=self._worker)) is not None)

    def work(self) -> None:
        """So many jobs at once, until SIGTERM."""

        @self._app.task(name="report", queue="reports")
        async def report(customer: int) -> dict[str, int]:
            return {"rows": 1}

        self._loop.run_until_complete(self._app.run_worker_async(queues=["reports"], concurrency=AT_ONCE))


class DjangoTasksDb:
    """`get_locked` and `claim` of its `DBTaskResult` in a transaction, as `db_worker` does: one task a call."""

    RECORDED = "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status = 'SUCCESSFUL'"

    def __init__(self, url: str) -> None:
        _set_up_django(url)
        self._worker = f"worker-{os.getpid()}"

    def load(self, count: int) -> None:
        """So many tasks and no other."""
        from django.core.management import call_command
        from django_tasks_db.models import DBTaskResult

        call_command("migrate", verbosity=0)
        DBTaskResult.objects.all().delete()
        self.add(count)

    def add(self, count: int) -> None:
        """So many tasks more."""
        from django_tasks_db.models import DBTaskResult, get_date_max

        DBTaskResult.objects.bulk_create(
            (
                DBTaskResult(
                    args_kwargs={"args": [], "kwargs": {"customer": n}},
                    task_path="tools.benchmarks.peer_task.make",
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

    def work(self) -> None:
        """One task after the other, until SIGTERM."""
        from django.core.management import call_command

        call_command("db_worker", verbosity=0, reload=False)


class DjangoTasksDbKept(DjangoTasksDb):
    """The same with connections that are kept."""

    def __init__(self, url: str) -> None:
        os.environ["PEER_CONN_MAX_AGE"] = "600"
        super().__init__(url)


class Celery:
    """Prefork with a process for each core; the broker is Redis, the results are django-celery-results' rows."""

    RECORDED = "SELECT count(*) FROM django_celery_results_taskresult WHERE status = 'SUCCESS'"

    def __init__(self, url: str) -> None:
        import celery

        _set_up_django(url)
        self._app = celery.Celery("reports", broker=os.environ["PEER_BROKER"], backend="django-db")
        self._app.conf.result_extended = True  # the task's name and arguments are recorded with its result

        @self._app.task(name="report")
        def report(customer: int) -> dict[str, int]:
            return {"rows": 1}

        self._report = report

    def load(self, count: int) -> None:
        """So many tasks in an empty database."""
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        self.add(count)

    def add(self, count: int) -> None:
        """So many tasks more."""
        with self._app.producer_pool.acquire(block=True) as producer:
            for n in range(count):
                self._report.apply_async(kwargs={"customer": n}, producer=producer)

    def work(self) -> None:
        """Until SIGTERM."""
        self._app.worker_main(["worker", "--loglevel=WARNING"])


def _set_up_django(url: str) -> None:
    import django

    os.environ |= {"PEER_URL": url, "DJANGO_SETTINGS_MODULE": "tools.benchmarks.peer_settings"}
    django.setup()


PEERS: dict[str, Any] = {
    "pgqueuer": PgQueuer,
    "procrastinate": Procrastinate,
    "django-tasks-db": DjangoTasksDb,
    "django-tasks-db, kept": DjangoTasksDbKept,
    "celery": Celery,
}
