"""The plans of a claim's statements are kept with the connection, and suit its tables whatever becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import ProgrammingError, connection, transaction

from reportqueue import database, plans, queue
from reportqueue.models import ReportQueue
from tests.conftest import build_row, minutes_ago

pytestmark = pytest.mark.django_db(transaction=True)
TABLE = ReportQueue._meta.db_table
ENOUGH = 2 * plans.FROM_USE
"""Claims after which plans are kept."""


@pytest.fixture(autouse=True)
def _new_connection() -> Iterator[None]:
    """No test has the plans of the one before, nor leaves any."""
    connection.close()
    yield
    connection.close()


@pytest.fixture
def another() -> Iterator[psycopg.Connection[Any]]:
    """A connection beside Django's."""
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as one:
        yield one


def make(rows: int) -> list[int]:
    """Rows that are due, in the order of a claim."""
    return [build_row(available_at=minutes_ago(rows - place), modifier_id=place % 3).pk for place in range(rows)]


def claim(times: int = ENOUGH) -> list[int]:
    """Claim one row so often, each time with the acknowledgement of the last; the rows that were handed out."""
    found, ack, consumer = [], uuid4(), f"sensor {uuid4()}"
    for _ in range(times):
        one = queue.claim(consumer, ack=ack, limit=1)
        ack = one.claim_id or ack
        found += [row.pk for row in one.rows]
    return found


def kept(what: str = "statement") -> list[Any]:
    """What PostgreSQL says of the plans of Django's connection."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {what} FROM pg_prepared_statements ORDER BY name")  # noqa: S608
        return [value for (value,) in cursor.fetchall()]


def test_postgresql_plans_the_statements_of_a_claim_once():
    made = make(60)
    found = claim(30)
    statements = " ".join(kept())
    assert all(part in statements for part in ("unacknowledged", "'claimed', generation = generation + 1", "RECURSIVE"))
    custom, generic = sum(kept("custom_plans")), sum(kept("generic_plans"))
    found += claim(30)
    assert sorted(found) == made
    assert sum(kept("custom_plans")) - custom < 10
    assert sum(kept("generic_plans")) - generic > 60


def test_a_connection_for_a_few_requests_keeps_nothing():
    make(1)
    claim(1)
    assert kept() == []


def test_other_statements_of_the_connection_are_as_the_project_has_them():
    claim()
    before, statements = connection.connection.prepare_threshold, kept()
    assert statements != []
    for _ in range(20):
        assert not ReportQueue.objects.filter(report_id=5).exists()
    assert (connection.connection.prepare_threshold, kept()) == (before, statements)


def test_nothing_is_kept_of_claims_in_the_callers_transaction():
    """It has its own settings, and a plan that was made with them might not suit a larger table."""
    make(ENOUGH)
    with transaction.atomic():
        assert len(claim()) == ENOUGH
    assert kept() == []


def test_a_plan_from_an_empty_queue_reads_along_indexes_when_it_is_full(another: psycopg.Connection[Any]):
    claim(30)
    another.execute(f"ALTER TABLE {TABLE} SET (autovacuum_enabled = off)")
    try:
        then = minutes_ago(1)
        ReportQueue.objects.bulk_create(
            ReportQueue(report_id=1, modifier_id=number % 1000, trigger_time=then, available_at=then)
            for number in range(20_000)
        )
        before = _read_by_scans(another)
        assert len(claim(20)) == 20
        assert _read_by_scans(another) == before
        assert sum(kept("generic_plans")) > 20
    finally:
        another.execute(f"ALTER TABLE {TABLE} RESET (autovacuum_enabled)")


def _read_by_scans(another: psycopg.Connection[Any]) -> int:
    """How many rows were read by scans of the whole queue."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    found = another.execute("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = %s", [TABLE]).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize(
    ("change", "back"),
    [
        (f"ALTER TABLE {TABLE} ADD COLUMN later text DEFAULT 'new'", f"ALTER TABLE {TABLE} DROP COLUMN later"),
        (f"CREATE INDEX later ON {TABLE} (claimed_by)", "DROP INDEX later"),
        ("DROP INDEX reportqueue_held", f"CREATE INDEX reportqueue_held ON {TABLE} (claimed_by, api_user, status)"),
        (f"ANALYZE {TABLE}", "SELECT 1"),
    ],
)
def test_claims_go_on_while_a_migration_changes_the_table(another: psycopg.Connection[Any], change: str, back: str):
    make(2 * ENOUGH)
    assert len(claim()) == ENOUGH
    assert kept() != []
    another.execute(change)
    try:
        assert len(claim()) == ENOUGH
    finally:
        another.execute(back)


@pytest.mark.parametrize("lost", ["DISCARD ALL", "DEALLOCATE ALL"])
def test_after_somebody_has_discarded_the_plans_one_claim_fails_and_none_is_lost(lost: str):
    made = make(ENOUGH + 3)
    found = claim()
    with connection.cursor() as cursor:
        cursor.execute(lost)
    with pytest.raises(ProgrammingError):
        claim(1)
    assert kept() == []
    assert sorted(found + claim(3)) == made


def test_a_claim_that_fails_leaves_the_plans_and_the_next_one_uses_them():
    make(2 * ENOUGH)
    claim()
    before = kept("name")
    with pytest.raises(ProgrammingError), database.atomic():
        raise ProgrammingError
    assert len(claim()) == ENOUGH
    assert set(before) <= set(kept("name"))
