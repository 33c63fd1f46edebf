"""Probes for load balancers and monitoring: `path("", include("reportqueue.health"))`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import Error, connections, router, transaction
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe

from reportqueue import queue, triggers
from reportqueue.conf import conf
from reportqueue.models import ReportQueue
from reportqueue.states import Status

PROBE_SECONDS = 2
"""How long each of a probe's statements may take."""
COUNTED = 1_000
"""Overdue schedules are counted up to here: a probe must not read a million rows every few seconds."""


@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """200 as long as the process answers. It checks nothing else, or a slow database would restart the web app."""
    return JsonResponse({"status": "live"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 when the database answers, migrations are applied and no schedule is overdue; else 503 with the reasons."""
    try:
        with _quick() as connection:
            reasons = _reasons(connection)
    except Error:
        reasons = ["The database does not answer."]
    if reasons:
        return JsonResponse({"status": "not ready", "reasons": reasons}, status=503)
    return JsonResponse({"status": "ready"})


@contextmanager
def _quick() -> Iterator[Any]:
    """The queue's database, with a time limit for each statement: a locked table must not hold the thread."""
    alias = router.db_for_write(ReportQueue)
    with transaction.atomic(using=alias):
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{round(PROBE_SECONDS * 1000)}ms"])
        yield connections[alias]


def _reasons(connection: Any) -> list[str]:
    executor = MigrationExecutor(connection)
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "reportqueue"]
    if executor.migration_plan(targets):
        return ["Migrations of reportqueue are not applied: run manage.py migrate."]
    bound = conf().ready_overdue_seconds
    overdue = triggers.overdue(bound)[: COUNTED + 1].count()
    if not overdue:
        return []
    more = " or more" if overdue > COUNTED else ""
    return [f"Schedules overdue by more than {bound} s: {min(overdue, COUNTED)}{more}. Is a scheduler running?"]


@require_safe
def status(request: HttpRequest) -> JsonResponse:
    """How many rows are due and at work, whether any start, and whether consumers ask: 503 without a database."""
    rows = ReportQueue.objects
    try:
        with _quick():
            counted = {
                "due": rows.due(),
                "dispatched": rows.filter(status=Status.DISPATCHED),
                "running": rows.filter(status=Status.RUNNING),
            }
            counts = {name: found.order_by()[:COUNTED].count() for name, found in counted.items()}
            stalled = queue.standstill()
            reasons = [*([str(stalled)] if stalled else []), *(silence.without_name() for silence in triggers.silent())]
    except Error:
        return JsonResponse({"status": "unknown", "reasons": ["The database does not answer."]}, status=503)
    document = {"status": "stalled" if reasons else "moving", "reasons": reasons}
    return JsonResponse({**document, **counts, "counted_up_to": COUNTED})


urlpatterns = [
    path("healthz", live, name="healthz"),
    path("readyz", ready, name="readyz"),
    path("status", status, name="status"),
]
