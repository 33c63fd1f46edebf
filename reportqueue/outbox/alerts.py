"""Alerts: events and regular looks become messages to people, grouped, once for each thing and its end.

An event is counted in the transaction that marks its delivery as done, so it counts once. A message may come twice if
the process is killed after it was sent, and never gets lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.db.models.functions import Greatest, Now

from reportqueue import audit, catalogue, locks
from reportqueue.clock import ClockTimestamp, database_now, minute
from reportqueue.errors import AlertRuleNotFound, DeliveryRefused
from reportqueue.events import Told
from reportqueue.lines import counted, cut
from reportqueue.models import Alert, AlertRule, EventDelivery, OutboxEvent, Pause, ReportQueue
from reportqueue.models.alert import EVENTS, MAX_LINE_LENGTH, Condition
from reportqueue.models.audit import Kind
from reportqueue.models.event import DeliveryStatus, EventType
from reportqueue.models.pause import Scope
from reportqueue.models.queue import unfinished
from reportqueue.outbox import messages
from reportqueue.states import FINAL, Status

INTAKE = 500
"""Events that one transaction counts."""
MOST_OVER = 500
"""Alerts whose end one look notes; the next one notes the others."""
GROUP_SECONDS = 20.0
"""A first message waits for so long for others of its rule."""
RETRY_SECONDS = 60
"""After a message that could not be sent."""
SENDING_SECONDS = 300
"""So long a process has for a message until another one sends it: each of 20 channels may be slow."""
MOST_COUNTED = 10_000
"""Rows of a backlog are counted up to here."""
_LOCK = "reportqueue:alerts:look"
_OVER = {EventType.SCHEDULE_ON_TIME, EventType.HEARD}
_LASTS = {EventType.SCHEDULE_OVERDUE, EventType.SILENT}
"""Events of what lasts until another event tells of its end."""
logger = logging.getLogger("reportqueue")


def step(stopping: Callable[[], bool] = lambda: False) -> int:
    """Count new events, look for backlogs and for what is over, send what is due; how many messages were sent.

    Once `stopping` returns True, no further message is begun.
    """
    if not AlertRule.objects.exists():
        return 0
    while _take_in() == INTAKE:
        pass
    with locks.bounded():
        if locks.try_until_commit(_LOCK):
            _look()
    rules = AlertRule.objects.filter(enabled=True).values_list("pk", flat=True)
    return sum(_send(pk) for pk in rules if not stopping())


def request_test(pk: int) -> AlertRule:
    """Have a test message of this rule sent, by the scheduler and within seconds; returns the rule.

    Raises `AlertRuleNotFound`, and `DeliveryRefused` if it is not enabled.
    """
    with locks.bounded():
        rule = AlertRule.objects.filter(pk=pk).select_for_update().first()
        if rule is None:
            raise AlertRuleNotFound(f"There is no alert rule {pk}.")
        if not rule.enabled:
            raise DeliveryRefused("The alert rule is not enabled: enable it before a test.")
        AlertRule.objects.filter(pk=pk).update(test_wanted=True, retry_at=None)
        audit.record("test", Kind.ALERT, pk, label=str(rule))
        rule.refresh_from_db()
        return rule


def tell_lasting(kind: EventType, lasting: Collection[Told]) -> None:
    """Tell what was told before and still lasts to the rules that were added or enabled since.

    The caller holds the lock under which the end of it is told, so the rules hear of the end after this.
    """
    rules = [one for one in AlertRule.objects.filter(enabled=True) if kind in EVENTS[one.condition]] if lasting else []
    known = set(Alert.objects.filter(rule__in=rules).values_list("rule", "subject")) if rules else set()
    found = [
        Alert(rule=rule, subject=subject, report_id=report_id, line=_line(kind, report_id, data), untold=1)
        for rule in rules
        for subject, report_id, data in lasting
        if (rule.pk, subject) not in known and rule.concerns(report_id)
    ]
    Alert.objects.bulk_create(found, ignore_conflicts=True)


def _take_in() -> int:
    """Count the next events for the rules that they concern; how many events there were."""
    mine = EventDelivery.objects.filter(status=DeliveryStatus.PENDING, subscription__of_alerts=True)
    mine = mine.order_by("event_id")
    if not mine.exists():
        return 0
    with locks.bounded():
        # One process at a time: the events of a thing count in their order.
        if not locks.try_until_commit(_LOCK):
            return 0
        taken = list(mine.select_for_update(skip_locked=True, of=("self",)).select_related("event")[:INTAKE])
        rules = list(AlertRule.objects.filter(enabled=True))
        for one in taken:
            _count(one.event, rules)
        done = {"status": DeliveryStatus.DELIVERED, "finished_at": ClockTimestamp()}
        EventDelivery.objects.filter(pk__in=[one.pk for one in taken]).update(**done)
    return len(taken)


def _count(event: OutboxEvent, rules: Iterable[AlertRule]) -> None:
    for rule in rules:
        if event.type not in EVENTS[rule.condition] or not rule.concerns(event.report_id):
            continue
        if event.type in _OVER:
            Alert.objects.filter(rule=rule, subject=event.subject, over_at=None).update(over_at=event.at)
        elif rule.condition == Condition.IN_A_ROW:
            if event.report_id is not None and _failed_in_a_row(event.report_id, rule.in_a_row):
                _found(rule, f"report:{event.report_id}", event.report_id, _line_of(event), at=event.at)
        else:
            lasts = event.type in _LASTS
            subject = event.subject if lasts else f"report:{event.report_id}"
            _found(rule, subject, event.report_id, _line_of(event), at=event.at, lasts=lasts)


def _failed_in_a_row(report_id: int, number: int) -> bool:
    latest = list(_latest(report_id).values_list("status", flat=True)[:number])
    return latest == [Status.FAILED] * number


def _latest(report_id: int | OuterRef) -> Any:
    """The report's finished rows, the newest by its due time first: there is an index in this order."""
    ended = ReportQueue.objects.filter(status__in=sorted(FINAL), report_id=report_id)
    return ended.exclude(status__in=[Status.SKIPPED, Status.CANCELLED]).order_by("-trigger_time", "-id")


def _found(
    rule: AlertRule, subject: str, report_id: int | None, line: str, *, at: datetime, lasts: bool = False
) -> None:
    """Count something that a rule is about; what had ended begins anew. What `lasts` counts once until its end."""
    made, created = Alert.objects.get_or_create(
        rule=rule, subject=subject, defaults={"report_id": report_id, "line": line, "untold": 1, "last_at": at}
    )
    if not created and not (lasts and made.over_at is None):
        Alert.objects.filter(pk=made.pk).update(
            untold=min(made.untold + 1, 2**31 - 1), line=line, last_at=at, over_at=None
        )


def _line_of(event: OutboxEvent) -> str:
    return _line(EventType(event.type), event.report_id, event.data)


def _line(kind: EventType, report_id: int | None, data: Mapping[str, Any]) -> str:
    """One event in words."""
    report = catalogue.label(report_id, data.get("report_name")) if report_id is not None else ""
    row = f"row {data.get('queue_id')} of report {report}, modifier {data.get('modifier_id')}"
    text = {
        EventType.FAILED: f"{row}: {data.get('error')}",
        EventType.LATE: f"{row} should have been ready at {data.get('deadline_at')}",
        EventType.SCHEDULE_OVERDUE: (
            f"schedule {data.get('schedule_id')} of report {report}, {data.get('rule')}, was due at "
            f"{data.get('next_run_at')}"
        ),
        EventType.SILENT: str(data.get("text")),
    }[kind]
    return cut(" ".join(text.split()), MAX_LINE_LENGTH)


def _look() -> None:
    """Look for backlogs, and for the end of what was found."""
    for rule in AlertRule.objects.filter(enabled=True, condition=Condition.BACKLOG):
        _look_for_backlog(rule)
    over = [*_recovered()[:MOST_OVER], *_on_time()[:MOST_OVER]]
    Alert.objects.filter(pk__in=over).update(over_at=ClockTimestamp())


def _look_for_backlog(rule: AlertRule) -> None:
    before = Now() - timedelta(seconds=rule.waited_seconds)
    waiting = ReportQueue.objects.due().filter(available_at__lt=before).order_by()
    if rule.report_ids:
        waiting = waiting.filter(report_id__in=rule.report_ids)
    found = next(iter(waiting.only("report_id", "route", "available_at")[:1]), None)
    known = Alert.objects.filter(rule=rule, subject="backlog", over_at=None)
    if found is None:
        known.update(over_at=ClockTimestamp())
    elif not known.exists():
        _found(rule, "backlog", None, _line_of_backlog(found, waiting[:MOST_COUNTED].count()), at=database_now())


def _line_of_backlog(one: ReportQueue, count: int) -> str:
    """How many rows wait, and one of them."""
    catalogue.name_rows([one])
    several = f"{counted(count, more=count == MOST_COUNTED)} rows wait"
    paused = Pause.objects.filter(Q(scope=Scope.QUEUE) | Q(route=one.route) | Q(report_id=one.report_id)).exists()
    why = ", which is paused" if paused else ""
    report = catalogue.label(one.report_id, one.report_name)
    return f"{several}, such as row {one.pk} of report {report}{why}; it has waited since {minute(one.available_at)}"


def _recovered() -> Any:
    """The alerts of reports that have succeeded since they failed, or whose rows are all gone."""
    latest = _latest(OuterRef("report_id"))
    found = _open(Condition.FAILED, Condition.IN_A_ROW).annotate(
        ended=Subquery(latest.values("status")[:1]), ended_at=Subquery(latest.values("finished_at")[:1])
    )
    # The row that failed may be requeued: then an earlier row is the latest that has ended.
    waits = Exists(ReportQueue.objects.filter(unfinished(), report_id=OuterRef("report_id")))
    since = Q(ended=Status.SUCCEEDED, ended_at__gte=F("last_at"))
    return found.filter(since | (Q(ended=None) & ~waits)).values_list("pk", flat=True)


def _on_time() -> Any:
    """The alerts of reports of which nothing is late any more."""
    late = ReportQueue.objects.past_deadline().filter(report_id=OuterRef("report_id"))
    return _open(Condition.LATE).filter(~Exists(late)).values_list("pk", flat=True)


def _open(*conditions: Condition) -> Any:
    return Alert.objects.filter(over_at=None, rule__condition__in=conditions).order_by("id")


def _send(pk: int) -> bool:
    """Send one message of a rule, if one is due; whether one was sent."""
    due = _due(pk)
    if due is None:
        return False
    rule, found, over, test = due
    try:
        problem = messages.send(rule, found, over)
    except Exception as error:
        logger.warning("Nobody got the message of the alert rule %s, trying again in %s s.", rule, RETRY_SECONDS)
        again = ClockTimestamp() + timedelta(seconds=RETRY_SECONDS)
        AlertRule.objects.filter(pk=pk).update(problem=messages.said(error), retry_at=again)
        return False
    with locks.bounded():
        now = database_now()
        AlertRule.objects.filter(pk=pk).update(problem=problem, sent_at=now, retry_at=None)
        if test:
            AlertRule.objects.filter(pk=pk).update(test_wanted=False)
        for times in {one.untold for one in found}:
            told = Alert.objects.filter(pk__in=[one.pk for one in found if one.untold == times])
            # What has come since the message was made is for the next one.
            told.update(untold=Greatest(F("untold") - times, 0), told_at=now)
        Alert.objects.filter(pk__in=[one.pk for one in over], over_at__isnull=False).delete()
    return True


def _due(pk: int) -> tuple[AlertRule, list[Alert], list[Alert], bool] | None:
    """The rule and what its next message tells of, if it is due; then nobody else sends it for `SENDING_SECONDS`."""
    with locks.bounded():
        rule = AlertRule.objects.filter(pk=pk).select_for_update(skip_locked=True).first()
        now = database_now()
        # What lies further ahead was noted before the database's clock was set back.
        if rule is None or (rule.retry_at is not None and 0 < (rule.retry_at - now).total_seconds() <= SENDING_SECONDS):
            return None
        quiet = now - timedelta(seconds=rule.quiet_seconds)
        loud = Q(told_at=None) | Q(told_at__lte=quiet) | Q(told_at__gt=now)
        untold = rule.alerts.filter(loud, over_at=None, untold__gt=0)
        found = list(untold.select_related("rule"))
        over = list(rule.alerts.filter(over_at__isnull=False).select_related("rule"))
        unseen = [one for one in over if one.told_at is None]
        # What was over before anybody was told of it is told all the same.
        if not (
            rule.test_wanted or _is_ripe(found, now) or [one for one in over if one.told_at] or _is_ripe(unseen, now)
        ):
            return None
        AlertRule.objects.filter(pk=pk).update(retry_at=now + timedelta(seconds=SENDING_SECONDS))
        return rule, found, over, rule.test_wanted


def _is_ripe(found: list[Alert], now: datetime) -> bool:
    """Whether the first of them has waited long enough for others."""
    return any(abs((now - one.since).total_seconds()) >= GROUP_SECONDS or one.told_at for one in found)
