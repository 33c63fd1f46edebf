"""Is it alive, is it ready: for load balancers and probes. `path("", include("reportqueue.health"))`."""

from __future__ import annotations

from typing import Any

from django.db import Error, connections, router, transaction
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe

from reportqueue import schedules
from reportqueue.conf import conf
from reportqueue.models import ReportQueue

PROBE_SECONDS = 2
"""How long each of a probe's statements may take: a table that somebody has locked must not hold its thread."""
COUNTED = 1_000
"""Overdue schedules are counted up to here: a probe must not read a million rows every few seconds."""


@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """200 as long as the process answers; looks at nothing else, or a slow database would restart the web app."""
    return JsonResponse({"status": "live"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 when the database answers, migrations are applied and no schedule is overdue; else 503 with the reasons."""
    try:
        alias = router.db_for_write(ReportQueue)
        with transaction.atomic(using=alias):
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{PROBE_SECONDS}s"])
            reasons = _reasons(connections[alias])
    except Error:
        reasons = ["The database does not answer."]
    if reasons:
        return JsonResponse({"status": "not ready", "reasons": reasons}, status=503)
    return JsonResponse({"status": "ready"})


def _reasons(connection: Any) -> list[str]:
    executor = MigrationExecutor(connection)
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "reportqueue"]
    if executor.migration_plan(targets):
        return ["Migrations of reportqueue are not applied: run manage.py migrate."]
    bound = conf().ready_overdue_seconds
    overdue = schedules.overdue(bound)[: COUNTED + 1].count()
    if not overdue:
        return []
    more = " or more" if overdue > COUNTED else ""
    return [f"Schedules overdue by more than {bound} s: {min(overdue, COUNTED)}{more}. Is a scheduler running?"]


urlpatterns = [path("healthz", live, name="healthz"), path("readyz", ready, name="readyz")]
