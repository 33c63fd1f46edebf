"""A day of believable past for the demo: without it, its pages would have nothing to show for a day."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from reportqueue import failures, measures
from reportqueue.clock import database_now
from reportqueue.models import Depth, ReportAttempt, ReportQueue
from reportqueue.states import Outcome, Source, Status

HOURS = 24
ROWS = 1_500
SEED = 2026
BUSY_HOURS = {6: 3, 7: 6, 8: 9, 9: 6, 13: 3, 14: 3}
"""How many times as many reports are due in these hours (UTC) as in others."""
BUSIEST_HOUR = 8
REPORTS = {1: (4, 1.2, range(2012, 2016)), 2: (3, 0.7, range(1, 6)), 3: (2, 2.5, range(1, 13))}
"""Of each report: its share, its typical duration in seconds, and its modifiers."""
INCIDENT = timedelta(hours=5)
"""So long ago the source of the employment figures did not answer for some minutes: each fiftieth row is of then."""
_TRACEBACK = """Traceback (most recent call last):
  File "/srv/reports/project/reports/{module}.py", line {line}, in {function}
    {code}
{error}"""
_ERRORS = {
    "incident": _TRACEBACK.format(
        module="dataset",
        line=41,
        function="download",
        code="response = session.get(address, timeout=30)",
        error="TimeoutError: https://example.com/employment/{modifier}.csv did not answer in 30 s",
    ),
    "missing": _TRACEBACK.format(
        module="stocks",
        line=58,
        function="prices_of",
        code="return by_company[company]",
        error="KeyError: 'company {modifier} has no prices on {day}'",
    ),
    "memory": _TRACEBACK.format(
        module="chart",
        line=112,
        function="draw",
        code="canvas = Canvas(width * scale, height * scale)",
        error="MemoryError: {number} bytes could not be allocated",
    ),
}


def fill(rows: int = ROWS) -> int:
    """Add rows that ended in the last day, with their attempts, and measure them; how many there are then.

    It is for an empty queue: rows of the last day that are there already are measured with the others.
    """
    now = database_now()
    chosen = random.Random(SEED)  # noqa: S311  # the same past each time
    made = ReportQueue.objects.bulk_create(list(_rows(chosen, now, rows)))
    ReportAttempt.objects.bulk_create([_attempt(row, row.started_at) for row in made if row.started_at is not None])
    while measures.roll_up():
        pass
    _count_depths()
    return len(made)


def _rows(chosen: random.Random, now: datetime, count: int) -> Iterator[ReportQueue]:
    hours = [now - timedelta(hours=back) for back in range(HOURS, 0, -1)]
    weights = [BUSY_HOURS.get(hour.hour, 1) for hour in hours]
    shares = [share for share, _seconds, _modifiers in REPORTS.values()]
    for number in range(count):
        (begin,) = chosen.choices(hours, weights)
        (report_id,) = chosen.choices(list(REPORTS), shares)
        due = (begin + timedelta(minutes=chosen.choice((0, 0, 0, 15, 30, 45)))).replace(second=0, microsecond=0)
        due = min(due - timedelta(minutes=due.minute % 5), now - timedelta(minutes=10))
        if number % 50 == 0:
            yield _row(chosen, 3, now - INCIDENT + timedelta(seconds=number % 600), failed="incident")
        else:
            yield _row(chosen, report_id, due, failed=_kind_of_failure(chosen, report_id))


def _row(chosen: random.Random, report_id: int, due: datetime, *, failed: str) -> ReportQueue:
    _share, typical, modifiers = REPORTS[report_id]
    modifier_id = chosen.choice(modifiers)
    waits = min(60.0, chosen.lognormvariate(-0.5, 0.9)) * (4 if due.hour == BUSIEST_HOUR else 1)
    started = due + timedelta(seconds=waits)
    lasts = 30.0 if failed == "incident" else typical * chosen.lognormvariate(0, 0.5)
    finished = started + timedelta(seconds=lasts)
    facts = {"modifier": modifier_id, "day": f"{due:%Y-%m-%d}", "number": chosen.randrange(10**9, 10**10)}
    error = _ERRORS[failed].format(**facts) if failed else ""
    return ReportQueue(
        report_id=report_id,
        modifier_id=modifier_id,
        source=Source.API,
        status=Status.FAILED if failed else Status.SUCCEEDED,
        error=error,
        fingerprint=failures.fingerprint(error) if failed else "",
        result=None if failed else {"rows": chosen.randrange(12, 400)},
        trigger_time=due,
        available_at=due,
        created_at=due - timedelta(seconds=1),
        claim_id=UUID(int=chosen.getrandbits(128), version=4),
        claimed_by="database_queue_sensor",
        claimed_at=due + timedelta(seconds=waits * 0.2),
        dispatched_at=due + timedelta(seconds=waits * 0.5),
        started_at=started,
        finished_at=finished,
        generation=1,
        attempt=1,
        max_attempts=1 if failed else 3,
    )


def _kind_of_failure(chosen: random.Random, report_id: int) -> str:
    """The kind of its error; empty if it succeeded."""
    if report_id == 2 and chosen.random() < 0.015:
        return "missing"
    return "memory" if chosen.random() < 0.004 else ""


def _attempt(row: ReportQueue, started: datetime) -> ReportAttempt:
    # Dagster has no run of it, to which a page could link.
    return ReportAttempt(
        queue=row,
        generation=1,
        attempt=1,
        worker="demo",
        lease_token=uuid4(),
        started_at=started,
        finished_at=row.finished_at,
        outcome=Outcome.FAILED if row.error else Outcome.SUCCEEDED,
        error=row.error,
    )


def _count_depths() -> None:
    """What waited and ran at the end of each period: nobody has counted it then."""
    rows = list(ReportQueue.objects.values_list("available_at", "started_at", "finished_at"))
    depths = list(Depth.objects.filter(waiting=None))
    for depth in depths:
        end = depth.start + timedelta(seconds=measures.SHORT)
        depth.waiting = sum(due <= end < (started or end) for due, started, _finished in rows)
        depth.in_flight = sum((started or end) <= end < (finished or end) for _due, started, finished in rows)
        depth.late = 0
    Depth.objects.bulk_update(depths, ["waiting", "in_flight", "late"])
