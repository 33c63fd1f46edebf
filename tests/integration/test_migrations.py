"""Migrations that change rows: what was there before means the same after."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connection

from reportqueue.models import ReportConsumer, ReportQueue, TriggerPeriod
from reportqueue.patterns import Pattern
from tests.conftest import build_schedule

INSERT = """
INSERT INTO reportqueue_reportqueue (
    schedule_id, status, waits_for_id, error, lease_token, lease_expires_at, run_id, claim_id, claimed_by, generation,
    attempt, report_id, modifier_id, trigger_time, available_at, params, priority, max_attempts, source,
    launch_failures, cancel_requested
)
SELECT %(schedule)s, %(status)s, %(waits_for)s, CASE WHEN %(waits_for)s IS NULL THEN '' ELSE 'Waits.' END,
    CASE WHEN %(status)s = 'running' THEN gen_random_uuid() END, CASE WHEN %(status)s = 'running' THEN now() END,
    'run', gen_random_uuid(), 'sensor', 1,
    1, 1, 2, now(), now(), '{}', 0, 3, 'code', 0, false
RETURNING id
"""


@pytest.fixture
def before_turns(transactional_db: None) -> Iterator[tuple[int, int]]:
    """The tables as they were when a row waited for one other; two schedules, without and with overlaps."""
    made = build_schedule(overlap="queue_one").pk, build_schedule().pk
    call_command("migrate", "reportqueue", "0008", verbosity=0, database=connection.alias)
    yield made
    call_command("migrate", "reportqueue", verbosity=0, database=connection.alias)


def insert(schedule: int | None, status: str, waits_for: int | None = None) -> int:
    with connection.cursor() as cursor:
        cursor.execute(INSERT, {"schedule": schedule, "status": status, "waits_for": waits_for})
        return int(cursor.fetchone()[0])


def test_rows_that_waited_for_another_wait_for_their_turn(before_turns: tuple[int, int]):
    limited, free = before_turns
    first = insert(limited, "running")
    waits = insert(limited, "queued", first)
    tightened = insert(limited, "queued")
    allowed = [insert(free, "running"), insert(free, "queued")]
    stranded = insert(None, "queued", insert(None, "running"))
    call_command("migrate", "reportqueue", verbosity=0, database=connection.alias)
    rows = {row.pk: (row.concurrency_key, row.waiting) for row in ReportQueue.objects.filter(error="")}
    assert {pk: rows[pk] for pk in (first, waits, tightened)} == {
        first: (limited, False),
        waits: (limited, True),
        tightened: (limited, True),
    }
    assert {rows[pk] for pk in (*allowed, stranded)} == {(None, False)}


def test_the_pattern_that_polls_has_its_new_name(transactional_db: None):
    call_command("migrate", "reportqueue", "0013", verbosity=0, database=connection.alias)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO reportqueue_triggerperiod (pattern, since, switched_by) VALUES ('webhook', '2026-01-01', '')"
        )
        cursor.execute("INSERT INTO reportqueue_reportconsumer (pattern, name) VALUES ('webhook', 'dagster')")
    call_command("migrate", "reportqueue", verbosity=0, database=connection.alias)
    assert TriggerPeriod.objects.get(since="2026-01-01T00:00Z").pattern == Pattern.POLLING
    assert ReportConsumer.objects.get(name="dagster").pattern == Pattern.POLLING
    call_command("migrate", "reportqueue", "0013", verbosity=0, database=connection.alias)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pattern FROM reportqueue_reportconsumer")
        assert cursor.fetchall() == [("webhook",)]
    call_command("migrate", "reportqueue", verbosity=0, database=connection.alias)
