"""What the pictures show: the demo's past, schedules of a working day, and a consumer that is at work."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from django.core.management import call_command

from reportqueue import bulk, credentials, queue
from reportqueue.clock import database_now
from reportqueue.models import AlertRule, BulkAction, ReportAttempt, ReportQueue, ReportSchedule
from reportqueue.models.alert import Condition
from reportqueue.patterns import Pattern
from reportqueue.states import Outcome, Source, Status
from reportqueue.triggers import consumers

CONSUMERS = ("database_queue_sensor-b7d41f", "database_queue_sensor_2-b7d41f", "database_queue_sensor_3-b7d41f")
USER = "dagster"
WORKER = "reports-1"
DAY = {6: 18, 7: 36, 8: 22, 12: 9, 17: 12}
"""How many schedules fire in these hours (UTC)."""
TIMEOUT = """Traceback (most recent call last):
  File "/srv/reports/project/reports/dataset.py", line 41, in download
    response = session.get(address, timeout=30)
TimeoutError: https://example.com/weather/2014.csv did not answer in 30 s"""


@dataclass(frozen=True)
class Scene:
    """What was made: the password of `admin`, and the address of each page by its name."""

    password: str
    pages: dict[str, str]


def make(*, calm: bool) -> Scene:
    """Fill an empty database. Unless it is to be `calm`, a route is paused, which each page then says."""
    password = os.environ["ADMIN_PASSWORD"] = credentials.new_key()
    os.environ["REPORTQUEUE_TOKEN"] = credentials.new_key()
    call_command("migrate", verbosity=0)
    call_command("load_demo", verbosity=0)
    call_command("fill_history", verbosity=0)
    _plan_a_day()
    retried = _try_twice()
    _be_at_work()
    AlertRule(
        name="Late reports",
        condition=Condition.LATE,
        emails=["desk@example.com"],
        problem="[Errno 111] Connection refused",
    ).save()
    if not calm:
        queue.pause(route="finance", by="anna", note="wrong totals")
        bulk.start("requeue", {"status": ["failed"], "report_id": 3}, by="anna", reason="the source is back")
        while bulk.step(1).left:
            pass
    return Scene(password, _pages(retried))


def _pages(retried: int) -> dict[str, str]:
    failed = ReportQueue.objects.filter(status=Status.FAILED).latest("id").pk
    done = ReportQueue.objects.filter(status=Status.SUCCEEDED).latest("id").pk
    schedule = ReportSchedule.objects.exclude(calendar=None).order_by("pk")[0].pk
    pages = {
        "overview": "",
        "queue": "reportqueue/",
        "row": f"reportqueue/{retried}/change/",
        "row-failed": f"reportqueue/{failed}/change/",
        "row-succeeded": f"reportqueue/{done}/change/",
        "failures": "reportqueue/failures/",
        "bulk-start": "reportqueue/bulk/?verb=requeue&status=failed",
        "enqueue": "reportqueue/enqueue/?report_id=1",
        "zone": "reportqueue/zone/",
        "schedules": "reportschedule/",
        "schedule": f"reportschedule/{schedule}/change/",
        "agenda": "reportschedule/agenda/",
        "catalogue": "report/",
        "report": "report/1/change/",
        "pauses": "pause/",
        "audit": "auditentry/",
    }
    if (action := BulkAction.objects.order_by("-id").first()) is not None:
        pages["bulk-action"] = f"reportqueue/bulk/{action.pk}/"
    return {name: f"/admin/reportqueue/{page}" for name, page in pages.items()}


def _plan_a_day() -> None:
    """Schedules that fire once a day, instead of the demo's that fire every few minutes."""
    for schedule in ReportSchedule.objects.filter(calendar=None):
        schedule.enabled = False
        schedule.save()
    for hour, count in DAY.items():
        for number in range(count):
            report_id = (1, 3, 2)[number % 3]
            minute = 0 if number % 4 else 30
            ReportSchedule(report_id=report_id, modifier_id=number // 3 + 1, cron=f"{minute} {hour} * * *").save()


def _try_twice() -> int:
    """Give a report a first attempt that failed half a minute before; returns its id."""
    schedule = ReportSchedule.objects.get(cron="*/5 * * * *")
    due = database_now().replace(minute=0, second=0, microsecond=0) - timedelta(minutes=30)
    row = ReportQueue.objects.filter(report_id=1, status=Status.SUCCEEDED, trigger_time__lt=due).latest("trigger_time")
    runs = [str(uuid4()), str(uuid4())]
    first, again = due + timedelta(seconds=2.1), due + timedelta(seconds=63.4)
    ReportAttempt.objects.filter(queue=row).delete()
    ReportQueue.objects.filter(pk=row.pk).update(
        modifier_id=schedule.modifier_id,
        schedule=schedule,
        source=Source.SCHEDULE,
        trigger_time=due,
        created_at=due + timedelta(seconds=0.2),
        available_at=again,
        claimed_at=again + timedelta(seconds=3.1),
        dispatched_at=again + timedelta(seconds=4.2),
        started_at=again + timedelta(seconds=7.9),
        finished_at=again + timedelta(seconds=26.5),
        claimed_by=CONSUMERS[0],
        run_id=runs[1],
        generation=2,
        attempt=2,
        result={"artifacts": {"weather-2014.html": "https://example.com/reports/weather-2014.html"}, "rows": 365},
    )
    attempts = (
        (first, first + timedelta(seconds=30.3), Outcome.FAILED, TIMEOUT),
        (again + timedelta(seconds=7.9), again + timedelta(seconds=26.5), Outcome.SUCCEEDED, ""),
    )
    for number, (started, finished, outcome, error) in enumerate(attempts, 1):
        ReportAttempt(
            queue=row,
            generation=number,
            attempt=number,
            run_id=runs[number - 1],
            worker=WORKER,
            lease_token=uuid4(),
            started_at=started,
            finished_at=finished,
            outcome=outcome,
            error=error,
        ).save()
    return row.pk


def _be_at_work() -> None:
    """Consumers have asked; one report runs, some wait to start, one waits for another try."""
    for consumer in CONSUMERS:
        consumers.saw(Pattern.QUEUE, consumer, user=USER)
    for number in range(9):
        queue.enqueue(3, number + 1)
    claimed = queue.claim(CONSUMERS[0], user=USER, limit=5)
    queue.claim(CONSUMERS[0], user=USER, ack=claimed.claim_id, limit=1, max_in_flight=1)
    running = [
        queue.start(row.pk, generation=row.generation, run_id=str(uuid4()), worker=WORKER, user=USER)
        for row in claimed.rows[:3]
    ]
    for row in running:
        queue.heartbeat(row.pk, lease_token=row.lease_token, progress="drawing the chart")
    queue.fail(running[0].pk, lease_token=running[0].lease_token, error=TIMEOUT)
