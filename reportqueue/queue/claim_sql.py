"""The two SQL statements of a claim: one hands out due rows, the other acknowledges the rows of a claim.

They are SQL because one statement has to find, lock, update and return the rows: the ORM would need two, at twice the
cost. Both find their rows in the same way:

- `FOR UPDATE SKIP LOCKED`: a row that another transaction holds is left out, without waiting for it.
- `ARRAY(SELECT ...)`: PostgreSQL runs it exactly once. It may run a joined subquery again for a row, which would lock
  more rows than the LIMIT.
- The UPDATE has no other condition than the ids: the SELECT has checked these rows and holds their locks. A second
  condition on the status would let the planner read every consumer's rows from the index of the status.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from reportqueue.models import ReportQueue, TriggerPeriod
from reportqueue.patterns import Pattern
from reportqueue.queue.transitions import transition_matching
from reportqueue.signals import ANNOUNCED
from reportqueue.states import Status, Verb

_QUEUE, _PERIODS = ReportQueue._meta.db_table, TriggerPeriod._meta.db_table

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
RETURNING id, {", ".join(ANNOUNCED)}
"""  # noqa: S608


def hand_out(consumer: str, user: str, claim_id: UUID, limit: int, lease: timedelta) -> list[ReportQueue]:
    """Hand the first due rows that are not locked, at most `limit`, to the user's consumer; returned in no order.

    Raises `DataError` if one of them is at the end of its generations.
    """
    values = {"consumer": consumer, "user": user, "claim_id": claim_id, "limit": limit, "lease": lease}
    return transition_matching(_HAND_OUT, values, Verb.CLAIM, Status.QUEUED, Status.CLAIMED)


def acknowledge(consumer: str, user: str, claim_id: UUID, lease: timedelta) -> None:
    """Mark the claimed rows of a claim of the user's consumer as dispatched, but for rows that are locked."""
    values = {"consumer": consumer, "user": user, "claim_id": claim_id, "lease": lease}
    transition_matching(_ACKNOWLEDGE, values, Verb.ACKNOWLEDGE, Status.CLAIMED, Status.DISPATCHED)
