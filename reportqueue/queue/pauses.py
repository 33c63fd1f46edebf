"""Pause the queue, a route or a report: nothing of it is claimed until it is resumed. What is under way ends."""

from __future__ import annotations

import logging

from django.core.exceptions import ValidationError

from reportqueue import audit, bounds, catalogue, locks, notices
from reportqueue.models import Pause
from reportqueue.models.audit import Kind
from reportqueue.models.pause import Scope

logger = logging.getLogger("reportqueue")


def pause(*, route: str = "", report_id: int | None = None, by: str = "", note: str = "") -> Pause:
    """Pause a route, a report, or without either the whole queue; `by` and `note` are shown with it.

    A pause that is there already is left as it is. Raises `ValidationError` naming the argument.
    """
    made = _of(route, report_id)
    made.paused_by, made.note = by[: bounds.MAX_USER_LENGTH], note
    made.full_clean(exclude=["scope"], validate_unique=False, validate_constraints=False)
    with locks.bounded(lock=LOCK):
        there = _same(made)
        if there is not None:
            catalogue.name_rows([there])
            return there
        made.save()
        made.refresh_from_db()
        catalogue.name_rows([made])
        audit.record("pause", Kind.PAUSE, _key(made), label=made.named, reason=note)
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
        notices.notify(notices.ROWS)
    since = f"{there.paused_at:%Y-%m-%d %H:%M} UTC"
    logger.warning("%s is resumed%s. It was paused since %s.", there.named, f" by {by}" if by else "", since)
    return True


def paused() -> list[Pause]:
    """All pauses, the oldest first."""
    found = list(Pause.objects.all())
    catalogue.name_rows(found)
    return found


LOCK = "reportqueue:pauses"


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
