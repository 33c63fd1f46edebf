"""Claims per second: the product, the same in one hand-written SQL statement, other queues, and over HTTP.

Needs an empty database in DATABASE_URL and a server on which it may make others; `run.py bench claim` provides them.
Exits 0 only if the goals hold.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import django
import psycopg

from project.environment import BASE_DIR
from tools.benchmarks import peer_environment
from tools.benchmarks.goals import Goals, judge
from tools.runner.postgres import create_database, with_database
from tools.runner.venv import clean_environment

CLAIMERS = (1, 4, 16)
BATCHES = (1, 100)
ROUNDS = 3
SECONDS = 1.5
"""Length of each contender's turn in a round. They take turns, so that drift affects all of them."""
PEERS = ["pgqueuer", "procrastinate", "django-tasks-db"]
PRODUCT, BY_HAND, NO_ACK = "reportqueue", "by hand", "by hand, no ack"
LOADED = {PRODUCT: {1: 60_000, 100: 600_000}, "pgqueuer": {1: 40_000, 100: 500_000}}
LOADED_ELSEWHERE = 30_000
"""Rows to claim; more than the fastest contender can claim in all its turns."""
MILLION = 1_000_000
WARM_CALLS, CALLS = 20, 200
"""Claims of 100 rows whose time is broken down."""
HTTP_ROUNDS = 8
BY_HAND_GOAL = 0.9
SIZE_GOAL = 1.5
HTTP_GOAL = 2.0


class Claimers:
    """Processes that claim on command, with one connection each; a context that ends them."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Claimers:
        for _ in range(max(CLAIMERS)):
            self._processes.append(
                subprocess.Popen(
                    self._command, cwd=BASE_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
                )
            )
        for process in self._processes:
            self._line(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.communicate()

    def claim(self, count: int, way: str, batch: int, seconds: float = SECONDS) -> tuple[float, float]:
        """Let `count` of them claim at once; returns the rows per second of all, and the seconds of a call."""
        at_work = self._processes[:count]
        for process in at_work:
            print(json.dumps({"way": way, "batch": batch, "seconds": seconds}), file=process.stdin)
        answers = [json.loads(self._line(process)) for process in at_work]
        if any(answer["seconds"] < seconds / 2 for answer in answers):
            raise RuntimeError(f"{way}, {count} claimers: nothing was left to claim; more rows must be loaded.")
        return (
            sum(answer["rows"] / answer["seconds"] for answer in answers),
            statistics.mean(answer["seconds"] / answer["calls"] for answer in answers),
        )

    def _line(self, process: subprocess.Popen[str]) -> str:
        line = process.stdout.readline() if process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"A claimer has ended with exit code {process.wait()}: {' '.join(self._command)}")
        return line


def main() -> int:
    """Load, measure, print the tables; returns 0 if the goals hold."""
    try:
        python = peer_environment.python()
    except peer_environment.PeersMissing as error:
        print(f"error: {error}", flush=True)
        return 1
    print(peer_environment.versions(python, PEERS), flush=True)
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    urls = {name: with_database(os.environ["DATABASE_URL"], f"peer_{name}") for name in PEERS}
    for url in urls.values():
        create_database(url)
    of_peers = [str(python), "-m", "tools.benchmarks.peer_claimer", json.dumps(urls)]
    for name in PEERS:
        _load_peer(of_peers, name, 1)  # their tables: the claimers may connect
    with Claimers([sys.executable, "-m", "tools.benchmarks.claimer"]) as own:
        with Claimers(of_peers) as others:
            goals = _rates(own, others, of_peers, urls)
        goals |= _sizes(own)
        _split()
        goals |= _http(own)
    return judge(goals)


def _rates(own: Claimers, others: Claimers, of_peers: list[str], urls: dict[str, str]) -> Goals:
    """Measure rows per second for each number of claimers and each batch size."""
    contenders = [PRODUCT, BY_HAND, NO_ACK, *PEERS]
    print(
        "\nrows a second\n" + f"{'claimers':>8} {'batch':>6}" + "".join(f"{name:>17}" for name in contenders),
        flush=True,
    )
    share: list[float] = []
    lead: dict[str, list[float]] = {name: [] for name in PEERS}
    ones: dict[int, dict[str, float]] = {}
    for batch in BATCHES:
        for count in CLAIMERS:
            load(LOADED[PRODUCT][batch])
            # Procrastinate and django-tasks-db fetch one by one, so the batch size does not matter to them.
            entered = [name for name in contenders if batch == 1 or name in (PRODUCT, BY_HAND, NO_ACK, "pgqueuer")]
            for name in set(entered) & set(urls):
                _load_peer(of_peers, name, LOADED.get(name, {}).get(batch, LOADED_ELSEWHERE))
                _settle(urls[name])
            turns: dict[str, list[float]] = {name: [] for name in entered}
            for name in entered:
                (others if name in urls else own).claim(count, name, batch, 0.2)  # connects, prepares
            for _ in range(ROUNDS):
                for name in entered:
                    turns[name].append((others if name in urls else own).claim(count, name, batch)[0])
            rates = {name: statistics.median(found) for name, found in turns.items()}
            print(
                f"{count:>8} {batch:>6}"
                + "".join(f"{rates[name]:>17,.0f}" if name in rates else f"{'':>17}" for name in contenders),
                flush=True,
            )
            if batch == 1:
                ones[count] = rates
                continue
            share.append(rates[PRODUCT] / rates[BY_HAND])
            for name in PEERS:
                lead[name].append(rates[PRODUCT] / max(ones[count][name], rates.get(name, 0)))
    return {
        f"batches of 100, against the same by hand, the least of {CLAIMERS} claimers: at least {BY_HAND_GOAL}": (
            min(share),
            min(share) >= BY_HAND_GOAL,
        )
    } | {
        f"batches of 100, against {name} at its best, the least of {CLAIMERS} claimers: over 1": (
            min(ratios),
            min(ratios) > 1,
        )
        for name, ratios in lead.items()
    }


def _sizes(own: Claimers) -> Goals:
    """Measure rows per second of four claimers in batches of 100, with other rows in the table."""
    print(f"\n{'4 claimers, batches of 100, beside':<36} {'rows a second':>14}", flush=True)
    rates = {}
    for beside, rows in {
        "nothing": {},
        "a million finished rows": {"finished": MILLION},
        "a million waiting rows": {"due": MILLION},
        "a million rows due tomorrow": {"tomorrow": MILLION},
    }.items():
        load(150_000, **rows)
        own.claim(4, PRODUCT, 100, 0.2)
        rates[beside] = statistics.median(own.claim(4, PRODUCT, 100)[0] for _ in range(ROUNDS))
        print(f"{beside:<36} {rates[beside]:>14,.0f}", flush=True)
    return {
        f"batches of 100 beside {beside}: slower by a factor of at most {SIZE_GOAL}": (
            rates["nothing"] / rate,
            rates["nothing"] / rate <= SIZE_GOAL,
        )
        for beside, rate in rates.items()
        if beside != "nothing"
    }


def _split() -> None:
    """Print how the time of a claim of 100 rows is spent; one claimer in this process."""
    from django.db import connection

    from tools.benchmarks.claimer import by_hand, queue_claim

    load(10_000 + 2 * (WARM_CALLS + CALLS) * 100)
    print(f"\n{'a claim of 100, in ms':<22} {'whole':>7} {'database':>9} {'statements':>11} {'Python':>7}")
    for name, once in ((BY_HAND, by_hand("split by hand")), (PRODUCT, queue_claim("split"))):
        in_database: list[float] = []

        def timed(execute: Any, *arguments: Any, spent: list[float] = in_database) -> Any:
            began = time.perf_counter()
            try:
                return execute(*arguments)
            finally:
                spent.append(time.perf_counter() - began)

        for _ in range(WARM_CALLS):
            once(100)
        began = time.perf_counter()
        with connection.execute_wrapper(timed):
            for _ in range(CALLS):
                once(100)
        whole, database = (seconds / CALLS * 1e3 for seconds in (time.perf_counter() - began, sum(in_database)))
        print(f"{name:<22} {whole:>7.1f} {database:>9.1f} {len(in_database) / CALLS:>11.0f} {whole - database:>7.1f}")


def _http(own: Claimers) -> Goals:
    """Compare a claim of 100 rows through gunicorn, as in the demo, with one in Python; both acknowledge."""
    import requests
    from django.contrib.auth.models import User

    from reportqueue import tokens
    from tools.runner.stack import HOST, free_port, gunicorn

    load(150_000)
    key = tokens.issue(User.objects.create_superuser("claimer"), name="benchmark").key
    address = f"http://{HOST}:{(port := free_port())}"
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "web.log").open("w") as log:
        web = subprocess.Popen(gunicorn(port), cwd=BASE_DIR, env=clean_environment(), stdout=log, stderr=log)
        try:
            session = requests.Session()
            session.headers["Authorization"] = f"Token {key}"
            _wait_for(session, f"{address}/healthz", web)
            last = None
            direct, through = [], []
            for _ in range(HTTP_ROUNDS):
                direct.append(own.claim(1, PRODUCT, 100, 1.0)[1])
                calls, began = 0, time.perf_counter()
                while (took := time.perf_counter() - began) < 1.0:
                    answer = session.post(
                        f"{address}/api/report-queue/claim/", json={"consumer": "http", "ack": last, "limit": 100}
                    )
                    claim = answer.json()
                    if len(claim.get("queue", [])) != 100:
                        raise RuntimeError(f"A claim of 100 was answered {answer.status_code}: {answer.text[:200]}")
                    last, calls = claim["claim_id"], calls + 1
                through.append(took / calls)
        finally:
            web.terminate()
            web.wait()
    ratio = statistics.median(through) / statistics.median(direct)
    print(f"\na claim of 100: in Python {statistics.median(direct) * 1e3:.1f} ms, ", end="")
    print(f"over HTTP {statistics.median(through) * 1e3:.1f} ms", flush=True)
    return {f"a claim of 100 over HTTP, against one in Python: at most {HTTP_GOAL}": (ratio, ratio <= HTTP_GOAL)}


def _wait_for(session: Any, url: str, web: subprocess.Popen[bytes]) -> None:
    import requests

    patience = time.monotonic() + 60
    while True:
        try:
            session.get(url, timeout=5)
            return
        except requests.ConnectionError:
            if web.poll() is not None or time.monotonic() > patience:
                raise
        time.sleep(0.1)


def load(queued: int, *, finished: int = 0, due: int = 0, tomorrow: int = 0) -> None:
    """Empty the table, load so many rows with one statement, and vacuum as autovacuum would."""
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("TRUNCATE reportqueue_reportqueue CASCADE")
        for count, status, available, finished_at in (
            (finished, "succeeded", "-interval '2 days'", "now() - interval '1 day'"),
            (queued + due, "queued", "-interval '1 hour'", "NULL"),
            (tomorrow, "queued", "interval '1 day'", "NULL"),
        ):
            database.execute(
                f"""
                INSERT INTO reportqueue_reportqueue (report_id, modifier_id, trigger_time, available_at, status, source,
                    params, priority, generation, attempt, max_attempts, launch_failures, claimed_by, run_id,
                    cancel_requested, error, finished_at)
                SELECT n %% 500, n, now() + {available}, now() + {available} + n * interval '1 millisecond', %s, 'api',
                    jsonb_build_object('customer', n), 0, 0, 0, 3, 0, '', '', false, '', {finished_at}
                FROM generate_series(1, %s) n
                """,  # noqa: S608  # all of it is above
                [status, count],
            )
    _settle(url)


def _load_peer(command: list[str], name: str, count: int) -> None:
    subprocess.run([*command, name, str(count)], check=True, stdout=subprocess.DEVNULL, cwd=BASE_DIR)


def _settle(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("VACUUM ANALYZE")
        database.execute("CHECKPOINT")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    sys.exit(main())
