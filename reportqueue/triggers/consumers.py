"""Which consumers have asked lately, which ones are expected and silent, and which ask from two places at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models.functions import Now

from reportqueue import database, locks, queue
from reportqueue.clock import ClockTimestamp, database_now, minute
from reportqueue.conf import conf
from reportqueue.errors import RowBusy
from reportqueue.models import ReportConsumer, ReportQueue, ReportSchedule, TriggerPeriod, WebhookSource
from reportqueue.models.period import InPeriodsOf
from reportqueue.patterns import SENSOR_FIRED, Pattern

NOTED_SECONDS = 30
"""A consumer's last call is written down at most this often."""
BUSY_SECONDS = 0.1
REPLACED_SECONDS = 60
"""After so long without a claim from a consumer's deployment, another one has taken its place."""
TWICE_SECONDS = 300
"""How long it is told that a consumer has claimed from two deployments."""
UNASKED_SECONDS = 600
"""A route is told of whose rows have been due for so long while no claim has asked for it."""
FORGOTTEN = timedelta(days=30)
MAX_CONSUMERS = 1_000
"""Further names are not written down."""
EXPECTED_SECONDS = {Pattern.CRON: 900, Pattern.ASSET: 7_200}
"""How long the sensors that fire schedules may be silent: one reads them every 30 s, the other once an hour."""
_DOES = {
    Pattern.QUEUE: ("Nobody claims reports", "The last claim"),
    Pattern.POLLING: ("Nobody polls for reports", "The last poll"),
    Pattern.CRON: ("No sensor of the pattern cron reads the schedules", "The last reading"),
    Pattern.ASSET: ("No sensor of the pattern asset reads the schedules", "The last reading"),
}

logger = logging.getLogger("reportqueue")


@dataclass(frozen=True)
class Silence:
    """No consumer of the pattern has asked for longer than is usual."""

    pattern: Pattern
    last: ReportConsumer | None
    """The one that asked last."""
    why: str
    """Why one is expected; may be empty."""

    def __str__(self) -> str:
        return self._text(f", by {self.last.name}" if self.last else "")

    def without_name(self) -> str:
        """As a text for callers without a login: the name may be a user's."""
        return self._text("")

    def _text(self, by: str) -> str:
        text, last = _DOES[self.pattern]
        text += f", although {self.why}." if self.why else "."
        text += f" {last} was at {minute(self.last.seen_at)}{by}." if self.last else " None ever has."
        return f"{text} Is its sensor switched on in Dagster, and does Dagster's daemon run?"


@dataclass(frozen=True)
class Twice:
    """A consumer claims from two deployments: each may get what was handed to the other, and launch it once more."""

    consumer: ReportConsumer

    def __str__(self) -> str:
        one, two = self.consumer.deployment, self.consumer.other_deployment
        return (
            f"The consumer {self.consumer.name!r} claims from two Dagster deployments, {one} and {two}. No report is "
            "made twice, but runs are launched in vain. Give it another name in one of them: REPORT_CONSUMER, or the "
            "argument consumer of the queue sensors."
        )


@dataclass(frozen=True)
class Unasked:
    """Rows of a route have been due for a while, and no consumer has asked for it since."""

    route: str

    def __str__(self) -> str:
        return (
            f"Reports of the route {self.route!r} have been due for {UNASKED_SECONDS // 60} minutes, and no consumer "
            "has asked for it since. Is the route written correctly, and is a queue sensor with it switched on?"
        )


def saw(
    pattern: Pattern, name: str, deployment: str = "", *, user: str = "", routes: list[str] | None = None
) -> Twice | None:
    """Note that a consumer has just asked, from a deployment if it names one; returns if it asks from two.

    The consumers of two API users are two, also under one name: only calls of one user are compared. Nothing depends
    on what is noted: if its row is locked, it is noted next time.
    """
    consumer = ReportConsumer.objects.filter(pattern=pattern, name=name).annotate(now=ClockTimestamp()).first()
    try:
        if consumer is None:
            _note_new(ReportConsumer(pattern=pattern, name=name, api_user=user, deployment=deployment, routes=routes))
            return None
        changes = _changes(consumer, deployment, user)
        if "seen_at" in changes or consumer.routes != routes:
            changes |= {"seen_at": ClockTimestamp(), "routes": routes}
        if changes:
            with locks.bounded(BUSY_SECONDS):
                ReportConsumer.objects.filter(pk=consumer.pk).update(**changes)
    except RowBusy:
        return None
    for name, value in changes.items():
        setattr(consumer, name, consumer.now if isinstance(value, ClockTimestamp) else value)
    if changes.get("other_deployment"):
        logger.warning("%s", Twice(consumer))
    return Twice(consumer) if consumer.api_user == user and _is_twice(consumer, consumer.now) else None


def _note_new(consumer: ReportConsumer) -> None:
    with locks.bounded(BUSY_SECONDS):
        ReportConsumer.objects.filter(seen_at__lt=Now() - FORGOTTEN).delete()
        if ReportConsumer.objects.count() < MAX_CONSUMERS:
            ReportConsumer.objects.bulk_create([consumer], ignore_conflicts=True)


def _changes(consumer: Any, deployment: str, user: str) -> dict[str, Any]:
    """What a call changes of a consumer, which is read with the database's time."""
    lately, gone = (consumer.now - timedelta(seconds=seconds) for seconds in (NOTED_SECONDS, REPLACED_SECONDS))
    moved = consumer.deployment not in ("", deployment or consumer.deployment)
    # What was noted for later is from before the clock was set back: it is noted anew.
    if (moved or consumer.api_user != user) and gone < consumer.seen_at <= consumer.now:
        if consumer.api_user != user or (consumer.other_deployment == deployment and consumer.other_seen_at > lately):
            return {}
        return {"other_deployment": deployment, "other_seen_at": ClockTimestamp()}
    if lately < consumer.seen_at <= consumer.now and deployment in ("", consumer.deployment):
        return {}
    return {
        "seen_at": ClockTimestamp(),
        "api_user": user,
        "deployment": deployment or consumer.deployment,
        **({"other_deployment": "", "other_seen_at": None} if moved else {}),
    }


@dataclass(frozen=True)
class Watch:
    """The consumers and the periods of patterns, read once for several questions."""

    consumers: list[ReportConsumer]
    """In the order in which they last asked."""
    periods: list[TriggerPeriod]
    now: datetime


def watch() -> Watch:
    """What there is now."""
    consumers: list[Any] = list(ReportConsumer.objects.order_by("seen_at").annotate(now=ClockTimestamp()))
    now = consumers[-1].now if consumers else database_now()
    return Watch(consumers, list(TriggerPeriod.objects.all()), now)


def troubles(seen: Watch | None = None) -> list[Silence | Twice | Unasked]:
    """Everything that is wrong with consumers."""
    seen = seen or watch()
    return [*silent(seen), *twice(seen), *unasked(seen)]


def unasked(seen: Watch | None = None) -> list[Unasked]:
    """The routes whose rows have been due for long while nobody asks. If nobody claims at all, `silent` says so."""
    asked = asked_routes(seen)
    if not asked:
        return []
    return [Unasked(route) for route in queue.due_routes(UNASKED_SECONDS, besides=asked)]


def asked_routes(seen: Watch | None = None) -> set[str] | None:
    """The routes for which consumers have lately asked; None if one of them has asked for all."""
    seen = seen or watch()
    lately = seen.now - timedelta(seconds=UNASKED_SECONDS)
    asked = [one.routes for one in seen.consumers if one.pattern == Pattern.QUEUE and one.seen_at > lately]
    return None if None in asked else {route for routes in asked for route in routes or ()}


def twice(seen: Watch | None = None) -> list[Twice]:
    """The consumers that have lately claimed from two deployments."""
    seen = seen or watch()
    found = [consumer for consumer in seen.consumers if _is_twice(consumer, seen.now)]
    return [Twice(consumer) for consumer in sorted(found, key=lambda one: one.name)]


def _is_twice(consumer: ReportConsumer, now: datetime) -> bool:
    lately = now - timedelta(seconds=TWICE_SECONDS)
    return consumer.other_seen_at is not None and consumer.other_seen_at > lately


def silent(seen: Watch | None = None) -> list[Silence]:
    """The patterns of which a consumer is expected, while none has asked for `STALLED_SECONDS`.

    A consumer is expected of the pattern that owns the schedules' firings now, if there are enabled schedules; of the
    one that gets the rows of webhook sources; and where rows have been due for `STALLED_SECONDS`.
    """
    seen = seen or watch()
    now, last, periods = seen.now, _last(seen), seen.periods
    current = _current(periods, now)
    concerned = {current: None, Pattern.QUEUE: None}
    if any(period.pattern == Pattern.POLLING for period in periods):
        concerned[Pattern.POLLING] = None
    return [
        Silence(pattern, last.get(pattern), why)
        for pattern in concerned
        if _is_silent(pattern, last, periods, now) and (why := _expected(pattern, current))
    ]


def silence_of(pattern: Pattern) -> Silence | None:
    """The silence of a pattern's consumers, whether or not they are expected now."""
    seen = watch()
    last = _last(seen)
    return Silence(pattern, last.get(pattern), "") if _is_silent(pattern, last, seen.periods, seen.now) else None


def _last(seen: Watch) -> dict[Pattern, ReportConsumer]:
    return {Pattern(consumer.pattern): consumer for consumer in seen.consumers}


def _current(periods: Sequence[TriggerPeriod], now: datetime) -> Pattern:
    return next((Pattern(period.pattern) for period in periods if period.contains(now)), Pattern.QUEUE)


def _is_silent(
    pattern: Pattern, last: dict[Pattern, ReportConsumer], periods: Sequence[TriggerPeriod], now: datetime
) -> bool:
    if _heard(pattern, last, now):
        return False
    # Without a period of the queue, a sensor that polls gets the rows, too.
    polled = pattern is Pattern.QUEUE and not any(period.pattern == Pattern.QUEUE for period in periods)
    return not (polled and _heard(Pattern.POLLING, last, now))


def _heard(pattern: Pattern, last: dict[Pattern, ReportConsumer], now: datetime) -> bool:
    bound = max(conf().stalled_seconds, EXPECTED_SECONDS.get(pattern, 0))
    return pattern in last and last[pattern].seen_at >= now - timedelta(seconds=bound)


def _expected(pattern: Pattern, current: Pattern) -> str:
    """Why a consumer of the pattern is expected; empty if none is."""
    if pattern not in SENSOR_FIRED:
        late = ReportQueue.objects.due().filter(available_at__lt=Now() - timedelta(seconds=conf().stalled_seconds))
        polled = InPeriodsOf(Pattern.POLLING, "available_at")
        late = late.filter(polled) if pattern is Pattern.POLLING else late.exclude(polled)
    else:
        late = ReportQueue.objects.none()
    gets_new_rows = Pattern.POLLING if current is Pattern.POLLING else Pattern.QUEUE
    sources = WebhookSource.objects.filter(enabled=True)
    schedules = ReportSchedule.objects.filter(enabled=True)
    found = database.counts(
        1,
        late=late,
        sources=sources if pattern is gets_new_rows else sources.none(),
        schedules=schedules if pattern is current else schedules.none(),
    )
    if found["late"]:
        return f"reports have been due for more than {conf().stalled_seconds:,} seconds"
    if found["sources"]:
        return "webhook sources are enabled"
    return "schedules are enabled" if found["schedules"] else ""
