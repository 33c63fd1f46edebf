"""Probes for load balancers and monitoring: `path("", include("reportqueue.health"))`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import DEFAULT_DB_ALIAS, Error
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from reportqueue import database, locks, moving, queue

View = Callable[[HttpRequest], HttpResponse]
PROBE_SECONDS = 2
"""How long each of a probe's statements may take."""
logger = logging.getLogger("reportqueue")


@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """200 as long as the process answers. It checks nothing else, or a slow database would restart the web app."""
    return JsonResponse({"status": "live"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 when this process can serve: its databases answer, have the tables and take writes; else 503 with the reason.

    Nothing that another process must do belongs here. A load balancer takes a process that is not ready out, and all
    web processes would fail together: then no claim, no heartbeat and no completion could arrive.
    """
    try:
        reasons = [_not_ready(alias) for alias in sorted({database.alias(), database.users_alias()})]
        with database.quick(PROBE_SECONDS):
            paused = [] if any(reasons) else [*map(moving.paused, queue.paused())]
    except Error as error:
        reasons = [reason(error)]
    if any(reasons):
        return JsonResponse({"status": "not ready", "reasons": [*filter(None, reasons)]}, status=503)
    return JsonResponse({"status": "ready", "paused": paused})


def reason(error: Error) -> str:
    """Why the database cannot answer a probe, in a sentence for callers without a login."""
    if locks.is_away(error):
        return locks.why_away(error)
    logger.error("A probe fails: %s", str(error).strip().splitlines()[0])
    if database.lacks_table(error):
        return database.NOT_MIGRATED
    return f"The database answers with an error, {type(error.__cause__ or error).__name__}: the log has its text."


def _not_ready(alias: str) -> str:
    chosen = "" if alias == DEFAULT_DB_ALIAS else f" --database {alias}"
    with database.quick(PROBE_SECONDS, alias):
        executor = MigrationExecutor(database.connection(alias))
        targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == database.APP]
        if executor.migration_plan(targets):
            return f"Migrations of reportqueue are not applied: run manage.py migrate{chosen}."
        missing, all_missing = database.missing_tables(alias)
        if missing:
            text = f"The database {alias!r} lacks {', '.join(missing)}, but its migrations are recorded as applied."
            if not all_missing:
                return f"{text} Restore the missing tables from a backup."
            return (
                f"{text} A router may have refused them: run manage.py check. Then run manage.py migrate "
                f"{database.APP} zero --fake{chosen} and manage.py migrate{chosen}."
            )
        if alias == database.alias() and database.is_read_only():
            return f"{locks.READ_ONLY} DATABASES must name a server that takes writes."
    return ""


@require_safe
def status(request: HttpRequest) -> JsonResponse:
    """Whether the installation moves, for monitoring: 200 also if it has stalled, 503 without a database or its tables.

    It counts the schedules that are overdue, and the rows that are due, dispatched and running. The reasons also name
    the consumers that are expected and silent. `warnings` are of what costs runs, of what is paused or late, and of
    routes that nobody asks for: none of it stops anything else.
    """
    try:
        found = moving.state(PROBE_SECONDS)
    except Error as error:
        return JsonResponse({"status": "unknown", "reasons": [reason(error)]}, status=503)
    document = {"status": "stalled" if found.reasons else "moving", "reasons": found.reasons}
    warnings = [*found.warnings, *map(moving.paused, found.pauses)]
    return JsonResponse({**document, "warnings": warnings, **found.counts, "counted_up_to": moving.COUNTED})


def probe(view: View) -> View:
    """A view for programs, whatever the project has for people: without login, cached answers and transactions.

    It takes no parameters: those of a prefix of the project are not for it.
    """

    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return view(request)

    return login_not_required(never_cache(locks.without_request_transaction(answer)))


PROBES = {"healthz": probe(live), "readyz": probe(ready), "status": probe(status)}
urlpatterns = [path(name, probe, name=name) for name, probe in PROBES.items()]
