"""How many rows of each route are due and under way, for monitoring: every count is bounded."""

from __future__ import annotations

from dataclasses import dataclass

from reportqueue import database
from reportqueue.models import ReportQueue
from reportqueue.queue.claim_sql import FREE
from reportqueue.states import Status

_QUEUE = ReportQueue._meta.db_table
# Each route is one step along the index `reportqueue_route_order`, however many rows it has.
_DUE = f"""
WITH RECURSIVE found AS (
    SELECT min(route) AS route, 1 AS place FROM {_QUEUE} WHERE {FREE}
    UNION ALL
    SELECT (SELECT min(further.route) FROM {_QUEUE} AS further WHERE {FREE} AND further.route > found.route), place + 1
    FROM found WHERE found.route IS NOT NULL AND place < %(routes)s
)
SELECT found.route, (
    SELECT count(*) FROM (
        SELECT FROM {_QUEUE} AS queue
        WHERE queue.route = found.route AND {FREE} AND available_at <= statement_timestamp() LIMIT %(limit)s
    ) AS counted
)
FROM found WHERE found.route IS NOT NULL
"""  # noqa: S608  # names of tables and words of the vocabulary
# Only rows that are under way have a lease, and are in its index.
_IN_FLIGHT = f"""
SELECT route, count(*) FILTER (WHERE status <> '{Status.RUNNING}'), count(*) FILTER (WHERE status = '{Status.RUNNING}')
FROM (SELECT route, status FROM {_QUEUE} WHERE lease_expires_at IS NOT NULL LIMIT %(limit)s) AS counted
GROUP BY route
"""  # noqa: S608


@dataclass
class RouteDepth:
    """How many rows a route has."""

    due: int = 0
    launched: int = 0
    """Claimed or dispatched: no run has started them yet."""
    running: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.due + self.launched + self.running


def depths_of_routes(limit: int, *, most: int) -> dict[str, RouteDepth]:
    """The routes that have such rows. Due rows are counted up to `limit` for each route, in at most `most` routes; rows
    under way up to `limit` together.
    """
    found: dict[str, RouteDepth] = {}
    with database.connection().cursor() as cursor:
        cursor.execute(_DUE, {"limit": limit, "routes": most})
        for route, due in cursor.fetchall():
            found[route] = RouteDepth(due=due)
        cursor.execute(_IN_FLIGHT, {"limit": limit})
        for route, launched, running in cursor.fetchall():
            depth = found.setdefault(route, RouteDepth())
            depth.launched, depth.running = launched, running
    return found
