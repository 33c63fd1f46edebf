"""The SQL statements of a claim: it acknowledges the rows of the last one, looks around, and hands out due rows.

Which rows it hands out is a question only where there are more than it may hand out, or where limits hold: then
`choice` names the rows, and otherwise the first due ones are taken.

The first and the last are SQL because one statement has to find, lock, update and return the rows: the ORM would need
two, at twice the cost. Both find their rows in the same way:

- `FOR UPDATE SKIP LOCKED`: a row that another transaction holds is left out, without waiting for it.
- `ARRAY(SELECT ...)`: PostgreSQL runs it exactly once. It may run a joined subquery again for a row, which would lock
  more rows than the LIMIT.
- The UPDATE has no other condition than the ids: the SELECT has checked these rows and holds their locks. A second
  condition on the status would let the planner read every consumer's rows from the index of the status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from reportqueue import plans
from reportqueue.models import Pause, Report, ReportQueue, TriggerPeriod
from reportqueue.models.report import LIMITS
from reportqueue.patterns import Pattern
from reportqueue.queue.transitions import ANNOUNCED, COLUMNS, transition_matching, transition_unseen
from reportqueue.states import LEASED, Status, Verb

_QUEUE, _PERIODS = ReportQueue._meta.db_table, TriggerPeriod._meta.db_table
_CATALOGUE, _PAUSES = Report._meta.db_table, Pause._meta.db_table
_LIMITED = " OR ".join(f"{name} IS NOT NULL" for name in LIMITS)
_LEASED = ", ".join(f"'{status}'" for status in sorted(LEASED))

FREE = f"status = '{Status.QUEUED}' AND NOT waiting"
"""The condition of the partial indexes that a claim reads. The status is a literal: a parameter would keep PostgreSQL
from using them."""
OPEN = f"""(expires_at IS NULL OR expires_at > statement_timestamp())
      AND NOT (
          (SELECT coalesce(range_agg(tstzrange(since, until)), '{{}}') FROM {_PERIODS}
           WHERE pattern = '{Pattern.POLLING}') @> available_at
      )"""  # noqa: S608  # names of tables and words of the vocabulary
"""The periods of `polling` are left to its sensor, which may have launched those rows' runs already. They are read once
for the statement: a handful."""
DUE = f"{FREE} AND available_at <= statement_timestamp() AND {OPEN}"
"""The condition of rows that may be handed out: that of the queryset `claimable`, but for rows that have expired."""
_ROUTE = "route = %(route)s AND "
ORDER = "priority DESC, available_at, id"
"""The order of a claim, and of the indexes `reportqueue_claim_order` and `reportqueue_route_order`."""

# A claim opens the row's next generation, which names its next run.
_HAND_OUT = f"""
UPDATE {_QUEUE}
SET status = '{Status.CLAIMED}', generation = generation + 1, claim_id = %(claim_id)s, claimed_by = %(consumer)s,
    api_user = %(user)s, claimed_at = statement_timestamp(), lease_expires_at = statement_timestamp() + %(lease)s
WHERE id = ANY (ARRAY(
    SELECT id FROM {_QUEUE}
    WHERE {{chosen}}
    FOR UPDATE SKIP LOCKED
))
RETURNING {COLUMNS}
"""  # noqa: S608
_HAND_OUT_FIRST = _HAND_OUT.format(chosen=f"{DUE} ORDER BY {ORDER} LIMIT %(limit)s")
_HAND_OUT_FIRST_OF_ROUTE = _HAND_OUT.format(chosen=f"{_ROUTE}{DUE} ORDER BY {ORDER} LIMIT %(limit)s")
_HAND_OUT_CHOSEN = _HAND_OUT.format(chosen=f"id = ANY (%(chosen)s) AND {DUE}")

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


def _edge(direction: str, route: str = "") -> str:
    """The first or last of the free rows in the order of the index `reportqueue_claim_turns`, of a route if named."""
    columns = ("route", "priority", "modifier_id")
    order = ", ".join(f"{column} {direction}" for column in columns)
    return f"(SELECT {', '.join(columns)} FROM {_QUEUE} WHERE {route}{FREE} ORDER BY {order} LIMIT 1)"  # noqa: S608


# What the consumer has is read from the index `reportqueue_held`, and expired leases from `reportqueue_lease`; both
# have leased rows only. The first and the last free row of an index tell what all free rows have in common. The table
# is named as seldom as possible: PostgreSQL plans with all of its indexes, and where no plan is kept (`plans`), that is
# most of what this costs.
_LOOK = f"""
SELECT
    held.unacknowledged > 0, held.claimed > 0,
    EXISTS (SELECT FROM {_QUEUE} WHERE lease_expires_at < statement_timestamp())
    OR EXISTS (SELECT FROM {_QUEUE} WHERE status = '{Status.QUEUED}' AND expires_at < statement_timestamp()),
    held.in_flight, held.unstarted,
    EXISTS (SELECT FROM {_CATALOGUE} WHERE {_LIMITED}) OR EXISTS (SELECT FROM {_PAUSES}),
    {{common}}
FROM (
    SELECT count(*) FILTER (WHERE status = '{Status.CLAIMED}' AND claim_id = %(ack)s) AS unacknowledged,
        count(*) FILTER (WHERE status = '{Status.CLAIMED}') AS claimed,
        count(*) FILTER (WHERE %(count)s) AS in_flight,
        count(*) FILTER (WHERE %(count)s AND status <> '{Status.RUNNING}') AS unstarted
    FROM {_QUEUE}
    WHERE claimed_by = %(consumer)s AND api_user = %(user)s AND status IN ({{held}})
) held
{{edges}}
"""  # noqa: S608


@cache
def _look(routes: int | None, *, count: bool) -> str:
    """Look at what the consumer has, or only at its claim; and at the free rows of all routes, of one, or at none.

    What the rows of several routes have in common need not be known: they are chosen in any case.
    """
    common, edges = "false, NULL, NULL, false", ""
    if routes is None or routes == 1:
        common = """first.route IS NULL,
    CASE WHEN first.route = last.route THEN first.route END,
    CASE WHEN first.route = last.route AND first.priority = last.priority THEN first.priority END,
    coalesce(first = last, false)"""
        first, last = (_edge(direction, _ROUTE if routes else "") for direction in ("ASC", "DESC"))
        edges = f"LEFT JOIN {first} AS first ON true LEFT JOIN {last} AS last ON true"
    return _LOOK.format(common=common, edges=edges, held=_LEASED if count else f"'{Status.CLAIMED}'")


def _due(route: str = "") -> str:
    """Count the due rows up to a number; of a route if there is a condition for it."""
    return f"""SELECT count(*) FROM (
        SELECT FROM {_QUEUE} WHERE {route}{DUE} ORDER BY {ORDER} LIMIT %(most)s
    ) AS head"""  # noqa: S608


_DUE_OF_ALL, _DUE_OF_ROUTE = _due(), _due(_ROUTE)


class View(NamedTuple):
    """What a claim finds before it hands out rows."""

    left: bool
    """Rows of the claim that was to be acknowledged are not: another transaction had locked them."""
    held: bool
    """The consumer has a claim that it has not acknowledged."""
    expired: bool
    """The lease of some row has run out, of whatever consumer, or a row should have started long ago."""
    in_flight: int
    """The unfinished rows of the consumer; 0 if they were not to be counted."""
    unstarted: int
    """Those of them that no run has started."""
    limits: bool
    """Some report is limited, or something is paused."""
    nothing: bool
    """No row is free, due or not."""
    route: str | None
    """The one route of all free rows, if they have one."""
    priority: int | None
    """The one priority of all free rows, if they also have one route."""
    alike: bool
    """All free rows are of one route, priority and modifier: the first ones come first."""


@dataclass(frozen=True)
class Claimer:
    """Who claims, and under which id and lease."""

    consumer: str
    user: str
    claim_id: UUID
    lease: timedelta


def look(consumer: str, user: str, ack: UUID | None, *, count: bool, routes: Sequence[str] | None) -> View:
    """What the user's consumer has, whether a lease has run out, and what the free rows of the routes are like."""
    values = {"consumer": consumer, "user": user, "ack": ack, "count": count, "route": routes[0] if routes else None}
    with plans.cursor() as cursor:
        cursor.execute(_look(None if routes is None else len(routes), count=count), values)
        return View(*cursor.fetchone())


def is_more_due(limit: int, route: str | None) -> bool:
    """Whether more rows are due (on a route) than may be handed out."""
    with plans.cursor() as cursor:
        statement = _DUE_OF_ALL if route is None else _DUE_OF_ROUTE
        cursor.execute(statement, {"route": route, "most": limit + 1})
        return bool(cursor.fetchone()[0] > limit)


def hand_out_first(claimer: Claimer, limit: int, route: str | None) -> list[ReportQueue]:
    """Hand out the first due rows (of a route) that are not locked, at most `limit`; returned in no order.

    Raises `DataError` if one of them is at the end of its generations.
    """
    statement = _HAND_OUT_FIRST if route is None else _HAND_OUT_FIRST_OF_ROUTE
    return _handed_out(statement, claimer, limit=limit, route=route)


def hand_out_chosen(claimer: Claimer, chosen: Sequence[int]) -> list[ReportQueue]:
    """Hand out these rows, but for those that are locked or no longer due. Raises as `hand_out_first`."""
    return _handed_out(_HAND_OUT_CHOSEN, claimer, chosen=list(chosen))


def _handed_out(statement: str, claimer: Claimer, **values: Any) -> list[ReportQueue]:
    return transition_matching(statement, {**vars(claimer), **values}, Verb.CLAIM, Status.QUEUED, Status.CLAIMED)


def acknowledge(consumer: str, user: str, claim_id: UUID, lease: timedelta) -> None:
    """Mark the claimed rows of a claim of the user's consumer as dispatched, but for rows that are locked."""
    values = {"consumer": consumer, "user": user, "claim_id": claim_id, "lease": lease}
    transition_unseen(_ACKNOWLEDGE, values, Verb.ACKNOWLEDGE, Status.CLAIMED, Status.DISPATCHED)
