"""Pause the queue, a route or a report: nothing of it is claimed until it is resumed. What is under way ends."""

from __future__ import annotations

import logging

from django.core.exceptions import ValidationError

from reportqueue import audit, bounds, catalogue, events, locks, notices
from reportqueue.clock import minute
from reportqueue.models import Pause, Report, ReportConsumer, ReportQueue, ReportSchedule, WebhookSource
from reportqueue.models.audit import Kind
from reportqueue.models.event import EventType
from reportqueue.models.pause import Scope
from reportqueue.models.report import DEFAULT_ROUTE
from reportqueue.queue import choice

logger = logging.getLogger("reportqueue")


def pause(*, route: str = "", report_id: int | None = None, by: str = "", note: str = "") -> Pause:
    """Pause a route, a report, or without either the whole queue; `by` and `note` are shown with it.

    A pause that is there already is left as it is, its note too, and has `was_there`. Raises `ValidationError` naming
    the argument.
    """
    made = _of(route, report_id)
    made.paused_by, made.note = by[: bounds.MAX_USER_LENGTH], note
    made.full_clean(exclude=["scope"], validate_unique=False, validate_constraints=False)
    with locks.bounded(lock=LOCK):
        there = _same(made)
        if there is not None:
            catalogue.name_rows([there])
            there.was_there = True
            return there
        made.save()
        made.refresh_from_db()
        catalogue.name_rows([made])
        audit.record("pause", Kind.PAUSE, _key(made), label=made.named, reason=note)
        _tell(EventType.PAUSED, made, by)
    logger.warning("%s", made)
    return made


def resume(*, route: str = "", report_id: int | None = None, by: str = "") -> bool:
    """End the pause of a route, a report, or without either that of the whole queue; whether there was one.

    Raises `ValidationError` naming the argument.
    """
    wanted = _of(route, report_id)
    with locks.bounded(lock=LOCK):
        there = _same(wanted)
        if there is None:
            return False
        catalogue.name_rows([there])
        there.delete()
        audit.record("resume", Kind.PAUSE, _key(there), label=there.named)
        _tell(EventType.RESUMED, there, by)
        notices.notify(notices.ROWS)
    since = minute(there.paused_at)
    logger.warning("%s is resumed%s. It was paused since %s.", there.named, f" by {by}" if by else "", since)
    return True


def paused() -> list[Pause]:
    """All pauses, the oldest first."""
    found = list(Pause.objects.all())
    catalogue.name_rows(found)
    return found


def doubt(pause: Pause) -> str:
    """Why a pause may be of nothing, such as a route that is mistyped; empty if something is known by its name."""
    if pause.scope == Scope.ROUTE and not _is_route(pause.route):
        known = "No queued row, no report of the catalogue and no consumer"
        return f"{known} has the route {pause.route!r}. Is it written correctly? It is paused all the same."
    if pause.report_id is not None and not _is_report(pause.report_id):
        known = "No row, no schedule, no webhook source and no entry of the catalogue"
        return f"{known} has the report {pause.report_id}. Is it the right number? It is paused all the same."
    return ""


def _is_route(route: str) -> bool:
    return route in known_routes() or ReportQueue.objects.filter(lease_expires_at__isnull=False, route=route).exists()


def known_routes() -> list[str]:
    """The routes of the catalogue, of consumers, and of queued rows; and the default."""
    catalogued = Report.objects.order_by().values_list("route", flat=True).distinct()
    asked = ReportConsumer.objects.exclude(routes=None).values_list("routes", flat=True)
    routes = {DEFAULT_ROUTE, *catalogued, *choice.free_routes()}
    return sorted(routes.union(*(one or () for one in asked)))


def _is_report(report_id: int) -> bool:
    models = (Report, ReportSchedule, WebhookSource, ReportQueue)
    return any(model._default_manager.filter(report_id=report_id).exists() for model in models)


LOCK = "reportqueue:pauses"


def _tell(kind: EventType, pause: Pause, by: str) -> None:
    data = {
        "what": pause.named,
        "scope": pause.scope,
        "route": pause.route,
        "report_id": pause.report_id,
        "paused_at": pause.paused_at.isoformat(),
        "by": by,
        "note": pause.note,
    }
    events.write(kind, f"pause:{_key(pause)}", data, report_id=pause.report_id)


def _of(route: str, report_id: int | None) -> Pause:
    if route and report_id is not None:
        raise ValidationError({"route": "Give a route or a report, not both; neither is the whole queue."})
    scope = Scope.ROUTE if route else Scope.QUEUE if report_id is None else Scope.REPORT
    if report_id is not None:
        bounds.validate_numbers(report_id=report_id)
    return Pause(scope=scope, route=route, report_id=report_id)


def _key(pause: Pause) -> str:
    """What is paused, for the audit: a pause that is made again is about the same."""
    return f"{pause.scope} {pause.route}{'' if pause.report_id is None else pause.report_id}".strip()


def _same(pause: Pause) -> Pause | None:
    return Pause.objects.filter(scope=pause.scope, route=pause.route, report_id=pause.report_id).first()
