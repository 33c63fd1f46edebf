"""Measures what one part of the work costs, once, in the folder in which it runs; prints the figures as JSON.

`bench cost` starts it, in turns for two commits. Needs an empty database in DATABASE_URL.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
import psycopg

from tools.benchmarks import fairness, trivial, usage
from tools.benchmarks.installation import FOLDER, Installation
from tools.runner.stack import free_port

BATCHED, SINGLE = 5_000, 100
"""Reports of a measurement."""
WARM_UP_RUNS = 3
DRAIN_SECONDS, SETTLE_SECONDS, IDLE_SECONDS = 600.0, 3.0, 60.0
CALLS, ROWS = 40, 50
"""Calls of the web app, and the rows of each."""
CLAIMS, WARM_CLAIMS, CLAIMED = 400, 30, 100
"""Claims of a measurement, those before it, and the rows of each claim that is not of one row."""
CODE = "tools.benchmarks.location"
Figures = dict[str, float]


def batches() -> Figures:
    """CPU milliseconds for each of many reports that are due at once, by kind of process."""
    return _drained("batches", BATCHED)


def singles() -> Figures:
    """The same with one run for each report, beside runs of a job of Dagster's own that does nothing."""
    ours = _drained("singles", SINGLE, REPORT_BATCH_SIZE="1")
    used = _trivial_runs(SINGLE)
    nothing = sum(used.values())
    return {
        **ours,
        "ms of a trivial run": nothing,
        **{f"ms of a trivial run: {kind}": spent for kind, spent in used.items()},
        "of a trivial run": ours["ms a report"] / nothing,
    }


def web() -> Figures:
    """CPU milliseconds of the web app for each row that a run starts and completes, `ROWS` in a call."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client

    from reportqueue import queue, tokens
    from reportqueue.queue import NewReport

    call_command("migrate", verbosity=0)
    for call in range(CALLS + 2):
        queue.enqueue_many([NewReport(report_id=call, modifier_id=n) for n in range(ROWS)])
    key = tokens.issue(User.objects.create_superuser("runs"), name="benchmark").key
    client = Client(SERVER_NAME="127.0.0.1", headers={"Authorization": f"Token {key}"})

    def post(verb: str, body: object) -> list[dict[str, object]]:
        answer = client.post(f"/api/report-queue/{verb}/", json.dumps(body), content_type="application/json")
        if answer.status_code != 200:
            raise RuntimeError(f"{verb} was answered {answer.status_code}: {answer.content[:300]!r}")
        said = answer.json()
        return list(said["queue" if verb == "claim" else "rows"])

    used = 0.0
    for call in range(CALLS + 2):
        claimed = post("claim", {"consumer": "benchmark", "limit": ROWS})
        began = time.process_time()
        rows = [{"queue_id": row["queue_id"], "generation": row["generation"]} for row in claimed]
        started = post("start", {"run_id": f"run-{call}", "rows": rows})
        made = [
            {"queue_id": row["queue_id"], "lease_token": row["answer"]["lease_token"], "result": {"rows": 1}}  # type: ignore[index]
            for row in started
        ]
        post("complete", {"rows": made})
        used += time.process_time() - began if call >= 2 else 0.0  # the first ones import and connect
    return {"ms a row": used / CALLS / ROWS * 1e3}


def claims() -> Figures:
    """CPU milliseconds of claims of a hundred rows of one modifier, in the client and in its session of PostgreSQL."""
    return _claims(CLAIMED)


def claims_of_one() -> Figures:
    """The same of claims of one row."""
    return _claims(1)


def _claims(limit: int) -> Figures:
    import psutil
    from django.core.management import call_command
    from django.db import connection

    from reportqueue import queue

    call_command("migrate", verbosity=0)
    fairness.fill((WARM_CLAIMS + CLAIMS + 1) * limit + fairness.FEW, modifiers=1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        processes = [psutil.Process(), psutil.Process(cursor.fetchone()[0])]
    last, used, took = None, [0.0, 0.0], 0.0
    for number in range(WARM_CLAIMS + CLAIMS):
        if number == WARM_CLAIMS:
            used, took = [_seconds(process) for process in processes], time.perf_counter()
        claim = queue.claim("claimer", ack=last, limit=limit)
        if len(claim.rows) != limit:
            raise RuntimeError(f"A claim got {len(claim.rows)} rows of {limit}.")
        last = claim.claim_id
    took = time.perf_counter() - took
    client, server = (_seconds(process) - before for process, before in zip(processes, used, strict=True))
    each = 1e3 / CLAIMS
    return {
        "ms a claim": (client + server) * each,
        "ms of the client": client * each,
        "ms of PostgreSQL": server * each,
        "ms it takes": took * each,
    }


def _seconds(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def idle() -> Figures:
    """What the whole demo uses in a minute in which nothing is due."""
    installation = Installation(
        _name(),
        code="orchestrator.definitions",
        scheduler=True,
        ui_port=free_port(),
        warm_up=False,
        REPORT_TRIGGER_PATTERN="queue",
    )
    with installation:
        from reportqueue.models import ReportSchedule

        ReportSchedule.objects.update(enabled=False)
        installation.wait(15)
        cpu, sessions = _cpu(installation), _sessions()
        installation.wait(IDLE_SECONDS)
        used, opened = _cpu(installation) - cpu, _sessions() - sessions
        memory = usage.memory_bytes(installation.data, _cluster())
    return {
        "CPU s": sum(used.values()),
        "sessions": opened,
        "memory MB": sum(memory.values()) / 1e6,
        **{f"CPU s of {kind}": seconds for kind, seconds in used.most_common()},
        **{f"memory MB of {kind}": size / 1e6 for kind, size in memory.most_common()},
    }


PARTS: dict[str, Callable[[], Figures]] = {
    "batches": batches,
    "singles": singles,
    "web": web,
    "claims": claims,
    "claims of one": claims_of_one,
    "idle": idle,
}


def _name() -> str:
    """The name of the installation: that of its database, of which each measurement has its own."""
    return urlsplit(os.environ["DATABASE_URL"]).path[1:]


def _drained(part: str, number: int, **variables: str) -> Figures:
    from reportqueue.models import ReportQueue
    from reportqueue.queue import NewReport

    with Installation(_name(), code=CODE, **variables) as installation:
        installation.wait(SETTLE_SECONDS)
        before = _cpu(installation)
        began = time.monotonic()
        new = [NewReport(report_id=1 + n % 500, modifier_id=n) for n in range(number)]
        pks = installation.enqueue(new)
        wanted = set(pks)
        rows = ReportQueue.objects.filter(pk__gte=pks[0], source="code")  # a schedule of the demo may add others
        while rows.filter(status="succeeded").count() < number:
            if time.monotonic() - began > DRAIN_SECONDS:
                raise TimeoutError(f"{part}: the reports were not made in {DRAIN_SECONDS:g} s")
            installation.wait(0.5)
        seconds = time.monotonic() - began
        installation.wait(SETTLE_SECONDS)  # the runs end
        used = _cpu(installation) - before
        lines = [line for line in installation.lines() if line.row in wanted]
        made = Counter(line.row for line in lines)
        if len(made) != number or set(made.values()) != {1}:
            raise RuntimeError(f"{part}: {len(made)} of {number} reports were made, {made.most_common(3)}")
    return {
        "ms a report": sum(used.values()) / number * 1e3,
        "reports a second": number / seconds,
        "runs": len({line.run for line in lines}),
        **{f"ms of {kind}": spent / number * 1e3 for kind, spent in used.most_common()},
    }


def _trivial_runs(number: int) -> Figures:
    """CPU milliseconds of a run under the same launcher, without the queue, by kind of process."""
    wanted = Path(os.environ[FOLDER]) / f"{_name()}-runs"
    options = {trivial.RUNS: str(wanted)}
    with Installation(f"{_name()}_trivial", code=trivial.__name__, warm_up=False, **options) as installation:
        wanted.write_text(str(WARM_UP_RUNS))
        _wait_for_runs(installation, WARM_UP_RUNS)
        installation.wait(SETTLE_SECONDS)
        before = _cpu(installation)
        wanted.write_text(str(WARM_UP_RUNS + number))
        _wait_for_runs(installation, WARM_UP_RUNS + number)
        installation.wait(SETTLE_SECONDS)
        return {kind: spent / number * 1e3 for kind, spent in (_cpu(installation) - before).most_common()}


def _wait_for_runs(installation: Installation, number: int) -> None:
    until = time.monotonic() + DRAIN_SECONDS
    with psycopg.connect(installation.dagster_url, autocommit=True) as connection:
        while connection.execute("SELECT count(*) FROM runs WHERE status = 'SUCCESS'").fetchone() != (number,):
            if time.monotonic() > until:
                raise TimeoutError(f"{number} trivial runs did not succeed in {DRAIN_SECONDS:g} s")
            installation.wait(0.5)


def _cluster() -> Path:
    return Path(os.environ[FOLDER]) / "postgres"


def _cpu(installation: Installation) -> Counter[str]:
    return usage.cpu_seconds(installation.data, _cluster())


def _sessions() -> int:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("SELECT pg_stat_clear_snapshot()")
        row = connection.execute("SELECT sum(sessions) FROM pg_stat_database").fetchone()
    return int(row[0]) if row else 0


def main() -> int:
    """Measure the part that is named, and print the figures."""
    django.setup()
    print(json.dumps(PARTS[sys.argv[1]]()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
