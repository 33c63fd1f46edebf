"""Why a queued row waits, for people: pauses, limits, its turn, its instant, or nobody who asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from reportqueue import queue, triggers
from reportqueue.clock import database_now
from reportqueue.durations import duration
from reportqueue.models import Pause, Report, ReportQueue, TriggerPeriod
from reportqueue.models.pause import Scope
from reportqueue.patterns import Pattern
from reportqueue.states import Status

COUNTED = 1_000
"""Rows that come first are counted up to here."""
ROUTES_SHOWN = 5


def why_waiting(row: ReportQueue) -> list[str]:
    """Why nobody has been given a queued row: whole sentences, at least one. Empty for a row that is not queued.

    It asks some indexed queries, whose cost does not grow with the queue or its history: for one row, not for a list.
    """
    return list(_reasons(row, database_now())) if row.status == Status.QUEUED else []


def _reasons(row: ReportQueue, now: datetime) -> Iterator[str]:
    if row.expires_at is not None and row.expires_at < now:
        yield f"It has expired at {_at(row.expires_at)}: the next claim, or the scheduler, skips it."
        return
    # A sensor that polls launches without pauses and limits.
    polled = any(one.contains(row.available_at) for one in TriggerPeriod.objects.filter(pattern=Pattern.POLLING))
    found = [*([] if polled else _pauses(row)), *_turn(row)]
    if row.available_at > now:
        found.append(_not_due(row, now))
    elif polled:
        found.append("It was due while the pattern polling owned the firings: a sensor that polls launches it.")
        found += _silence(Pattern.POLLING)
    else:
        found += [*_limits(row, now), *_consumers(row)]
    yield from found or [_order(row)]


def _pauses(row: ReportQueue) -> list[str]:
    return [f"{pause}." for pause in queue.paused() if _is_of(pause, row)]


def _is_of(pause: Pause, row: ReportQueue) -> bool:
    if pause.scope == Scope.QUEUE:
        return True
    return pause.route == row.route if pause.scope == Scope.ROUTE else pause.report_id == row.report_id


def _turn(row: ReportQueue) -> list[str]:
    if not row.waiting:
        return []
    before = queue.turn_before(row)
    until = "its turn" if before is None else f"#{before} to end"
    return [f"It waits for {until}: its schedule does not allow overlaps."]


def _not_due(row: ReportQueue, now: datetime) -> str:
    again = row.attempt or row.launch_failures or row.unstarted_runs or row.releases
    text = "Its next try is" if again else "It is due"
    return f"{text} at {_at(row.available_at)}, in {duration(row.available_at - now)}."


def _limits(row: ReportQueue, now: datetime) -> Iterator[str]:
    report = Report.objects.limiting().filter(pk=row.report_id).first()
    if report is None:
        return
    use = queue.use_of(row.report_id, row.modifier_id)
    if (cap := report.max_running) is not None and use.rows >= cap:
        yield f"The limit of its report is reached: {use.rows:,} of {cap:,} are under way."
    if (cap := report.max_running_per_modifier) is not None and use.of_modifier >= cap:
        yield f"The limit of its modifier is reached: {use.of_modifier:,} of {cap:,} of this report are under way."
    if report.rate_limit is None or report.rate_period_seconds is None:
        return
    rate = f"{report.rate_limit:,} starts in {duration(timedelta(seconds=report.rate_period_seconds))}"
    free = queue.next_start(report, use.unstarted)
    if free is not None and free > now:
        wait = duration(free - now)
        yield f"The rate of its report is used up, {rate}: the next start is free at {_at(free)}, in {wait}."
    elif use.unstarted >= report.rate_limit:
        yield f"The rate of its report is used up, {rate}: {use.unstarted:,} are handed out and have not started."


def _consumers(row: ReportQueue) -> list[str]:
    if silence := _silence(Pattern.QUEUE):
        return silence
    asked = triggers.asked_routes()
    if not asked or row.route in asked:
        return []
    others = ", ".join(sorted(asked)[:ROUTES_SHOWN]) + (", ..." if len(asked) > ROUTES_SHOWN else "")
    return [f"No consumer asks for its route {row.route!r}. Consumers have lately asked for {others}."]


def _silence(pattern: Pattern) -> list[str]:
    silence = triggers.silence_of(pattern)
    return [] if silence is None else [str(silence)]


def _order(row: ReportQueue) -> str:
    first = queue.count_before(row, COUNTED)
    if not first:
        return "It is due, and the first of its route: the next claim for the route is given it."
    more = " or more" if first == COUNTED else ""
    return (
        f"It is due. Of its route, {first:,}{more} due rows come first by their priority or their age; modifiers take "
        "turns, so that it may come earlier."
    )


def _at(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
