"""The three SQL statements of a claim: it acknowledges the rows of the last one, looks around, and hands out due rows.

The first and the last are SQL because one statement has to find, lock, update and return the rows: the ORM would need
two, at twice the cost. Both find their rows in the same way:

- `FOR UPDATE SKIP LOCKED`: a row that another transaction holds is left out, without waiting for it.
- `ARRAY(SELECT ...)`: PostgreSQL runs it exactly once. It may run a joined subquery again for a row, which would lock
  more rows than the LIMIT.
- The UPDATE has no other condition than the ids: the SELECT has checked these rows and holds their locks. A second
  condition on the status would let the planner read every consumer's rows from the index of the status.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from reportqueue import database
from reportqueue.models import ReportQueue, TriggerPeriod
from reportqueue.patterns import Pattern
from reportqueue.queue.transitions import ANNOUNCED, transition_matching, transition_unseen
from reportqueue.states import LEASED, Status, Verb

_QUEUE, _PERIODS = ReportQueue._meta.db_table, TriggerPeriod._meta.db_table
_LEASED = ", ".join(f"'{status}'" for status in sorted(LEASED))

# The condition and the order of the SELECT are those of the index `reportqueue_claim_order`, and of the queryset
# `claimable`. The statuses are literals: a parameter would keep PostgreSQL from using a partial index.
# The periods of `polling` are left to its sensor, which may have launched those rows' runs already. They are read once
# for the statement: a handful.
# A claim opens the row's next generation, which names its next run.
_HAND_OUT = f"""
UPDATE {_QUEUE}
SET status = '{Status.CLAIMED}', generation = generation + 1, claim_id = %(claim_id)s, claimed_by = %(consumer)s,
    api_user = %(user)s, claimed_at = statement_timestamp(), lease_expires_at = statement_timestamp() + %(lease)s
WHERE id = ANY (ARRAY(
    SELECT id FROM {_QUEUE}
    WHERE status = '{Status.QUEUED}' AND NOT waiting AND available_at <= statement_timestamp()
      AND NOT (
          (SELECT coalesce(range_agg(tstzrange(since, until)), '{{}}') FROM {_PERIODS}
           WHERE pattern = '{Pattern.POLLING}') @> available_at
      )
    ORDER BY priority DESC, available_at, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
RETURNING *
"""  # noqa: S608  # names of tables and words of the vocabulary

# `claimed_by`, `api_user` and `status` are those of the index `reportqueue_held`: what others hold costs nothing.
# The times are taken when each row is written: a row's start must not lie before its dispatch.
# It returns what `announce` reads and no more.
_ACKNOWLEDGE = f"""
UPDATE {_QUEUE}
SET status = '{Status.DISPATCHED}', dispatched_at = clock_timestamp(),
    lease_expires_at = clock_timestamp() + %(lease)s
WHERE id = ANY (ARRAY(
    SELECT id FROM {_QUEUE}
    WHERE claimed_by = %(consumer)s AND api_user = %(user)s AND status = '{Status.CLAIMED}' AND claim_id = %(claim_id)s
    FOR UPDATE SKIP LOCKED
))
RETURNING {ANNOUNCED}
"""  # noqa: S608

# Each part reads one index, in which there are only leased rows: `reportqueue_held`, or `reportqueue_lease`.
_LOOK = f"""
SELECT
    EXISTS (
        SELECT FROM {_QUEUE}
        WHERE claimed_by = %(consumer)s AND api_user = %(user)s AND status = '{Status.CLAIMED}' AND claim_id = %(ack)s
    ),
    EXISTS (
        SELECT FROM {_QUEUE} WHERE claimed_by = %(consumer)s AND api_user = %(user)s AND status = '{Status.CLAIMED}'
    ),
    EXISTS (SELECT FROM {_QUEUE} WHERE lease_expires_at < statement_timestamp()),
    held.in_flight, held.unstarted
FROM (
    SELECT count(*) AS in_flight, count(*) FILTER (WHERE status <> '{Status.RUNNING}') AS unstarted FROM {_QUEUE}
    WHERE %(count)s AND claimed_by = %(consumer)s AND api_user = %(user)s AND status IN ({_LEASED})
) held
"""  # noqa: S608


class View(NamedTuple):
    """What a claim finds before it hands out rows."""

    left: bool
    """Rows of the claim that was to be acknowledged are not: another transaction had locked them."""
    held: bool
    """The consumer has a claim that it has not acknowledged."""
    expired: bool
    """The lease of some row has run out, of whatever consumer."""
    in_flight: int
    """The unfinished rows of the consumer; 0 if they were not to be counted."""
    unstarted: int
    """Those of them that no run has started."""


def look(consumer: str, user: str, ack: UUID | None, *, count: bool) -> View:
    """What the user's consumer has, and whether a lease has run out."""
    with database.connection().cursor() as cursor:
        cursor.execute(_LOOK, {"consumer": consumer, "user": user, "ack": ack, "count": count})
        return View(*cursor.fetchone())


def hand_out(consumer: str, user: str, claim_id: UUID, limit: int, lease: timedelta) -> list[ReportQueue]:
    """Hand the first due rows that are not locked, at most `limit`, to the user's consumer; returned in no order.

    Raises `DataError` if one of them is at the end of its generations.
    """
    values = {"consumer": consumer, "user": user, "claim_id": claim_id, "limit": limit, "lease": lease}
    return transition_matching(_HAND_OUT, values, Verb.CLAIM, Status.QUEUED, Status.CLAIMED)


def acknowledge(consumer: str, user: str, claim_id: UUID, lease: timedelta) -> None:
    """Mark the claimed rows of a claim of the user's consumer as dispatched, but for rows that are locked."""
    values = {"consumer": consumer, "user": user, "claim_id": claim_id, "lease": lease}
    transition_unseen(_ACKNOWLEDGE, values, Verb.ACKNOWLEDGE, Status.CLAIMED, Status.DISPATCHED)
