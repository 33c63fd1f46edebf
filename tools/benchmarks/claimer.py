"""One claimer of the benchmark `claim`: a process with its own connection, told on its input how long to claim.

`queue.claim` as a consumer calls it, and the same by hand in one statement, on the same table.
"""

from __future__ import annotations

import os
from uuid import UUID, uuid4

import django

from tools.benchmarks.serving import Once, serve

CLAIM = """
UPDATE reportqueue_reportqueue
SET status = 'claimed', generation = generation + 1, claim_id = %s, claimed_by = %s, claimed_at = now(),
    lease_expires_at = now() + interval '120 seconds'
WHERE id IN (
    SELECT id FROM reportqueue_reportqueue
    WHERE status = 'queued' AND NOT waiting AND available_at <= now()
    ORDER BY priority DESC, available_at, id LIMIT %s FOR UPDATE SKIP LOCKED
)
RETURNING *
"""
ACKNOWLEDGE_AND_CLAIM = f"""
WITH acknowledged AS (
    UPDATE reportqueue_reportqueue
    SET status = 'dispatched', dispatched_at = now(), lease_expires_at = now() + interval '900 seconds'
    WHERE claimed_by = %s AND status = 'claimed' AND claim_id = %s
)
{CLAIM}
"""  # noqa: S608  # both are here


def queue_claim(consumer: str) -> Once:
    """The product's claim; each call acknowledges the claim before."""
    from reportqueue import queue

    last: UUID | None = None

    def once(batch: int) -> int:
        nonlocal last
        claim = queue.claim(consumer, ack=last, limit=batch)
        last = claim.claim_id
        return len(claim.rows)

    return once


def by_hand(consumer: str) -> Once:
    """A hand-written statement that acknowledges and claims."""
    from django.db import connection

    last = uuid4()

    def once(batch: int) -> int:
        nonlocal last
        acknowledged, last = last, uuid4()
        with connection.cursor() as cursor:
            cursor.execute(ACKNOWLEDGE_AND_CLAIM, [consumer, acknowledged, last, consumer, batch])
            return len(cursor.fetchall())

    return once


def by_hand_without_acknowledging(consumer: str) -> Once:
    """A hand-written statement that claims only."""
    from django.db import connection

    def once(batch: int) -> int:
        with connection.cursor() as cursor:
            cursor.execute(CLAIM, [uuid4(), consumer, batch])
            return len(cursor.fetchall())

    return once


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
    name = f"claimer-{os.getpid()}"
    serve(
        {
            "reportqueue": queue_claim(name),
            "by hand": by_hand(f"{name}-by-hand"),
            "by hand, no ack": by_hand_without_acknowledging(f"{name}-no-ack"),
        }
    )
