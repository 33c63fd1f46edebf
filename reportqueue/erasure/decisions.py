"""What becomes of each column of each table when a modifier is erased. This is the one place that decides it.

The other modules read this table, and so does a test: a column without a decision fails it. docs/data-protection.md
says the same in words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import Model, Q

from reportqueue.models import (
    Alert,
    AlertRule,
    ApiToken,
    AuditEntry,
    BlackoutCalendar,
    BlackoutDays,
    BlackoutHours,
    BulkAction,
    BulkActionRow,
    DeliveryAttempt,
    Depth,
    EventDelivery,
    Measure,
    MeasureTotal,
    MutedFailure,
    OutboxEvent,
    Pause,
    Report,
    ReportAttempt,
    ReportConsumer,
    ReportQueue,
    ReportSchedule,
    TriggerPeriod,
    Trouble,
    UnmeasuredEnd,
    WebhookSource,
    WebhookSubscription,
)


@dataclass(frozen=True)
class Kept:
    """The column stays as it is."""

    why: str


@dataclass(frozen=True)
class Emptied:
    """The column gets this value, in each record of the modifier."""

    value: Any


@dataclass(frozen=True)
class Reduced:
    """The column keeps a part of its value."""

    to: Callable[[Any], Any]
    """The part. It leaves a value that is reduced already as it is."""


@dataclass(frozen=True)
class Deleted:
    """The record is deleted, and this column with it."""


R = TypeVar("R", bound=Model)
Decision = Kept | Emptied | Reduced | Deleted

HIDDEN = "…"
"""Instead of a value of the audit. The audit writes the same for secrets."""
IN_EVENTS = frozenset(
    {
        *("queue_id", "report_id", "report_name", "modifier_id", "route", "status", "source", "schedule_id"),
        *("trigger_time", "started_at", "finished_at", "deadline_at", "next_run_at", "rule", "timezone"),
        *("generation", "attempt", "max_attempts", "run_id"),
    }
)
"""What an event tells beside the texts of people and of reports."""
_TOLD = re.compile(r"(row|schedule) [0-9]+\b")


def of_event(data: Any) -> Any:
    """An event's data without the texts; a receiver finds the same names as before."""
    if not isinstance(data, dict):
        return {}
    return {name: value if name in IN_EVENTS else _nothing(value) for name, value in data.items()}


def of_changes(changes: Any) -> Any:
    """The changes of an audit entry: which fields, and values that are numbers, truth values or nothing."""
    if not isinstance(changes, dict):
        return {}
    return {
        name: [_hidden(value) for value in values] if isinstance(values, list) else HIDDEN
        for name, values in changes.items()
    }


def of_refused(refused: Any) -> Any:
    """How many rows a bulk action was refused, without the reasons."""
    count = sum(refused.values()) if isinstance(refused, dict) else 0
    return {"Other reasons.": count} if count else {}


def of_line(line: str) -> str:
    """Which row or schedule an alert has told of."""
    found = _TOLD.match(line)
    return found[0] if found else ""


def _nothing(value: Any) -> Any:
    return "" if isinstance(value, str) else None


def _hidden(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else HIDDEN


def _of(why: str, *columns: str) -> dict[str, Decision]:
    return dict.fromkeys(columns, Kept(why))


def _none_of(why: str, *columns: str) -> dict[str, Decision]:
    """All columns of a table that has nothing of a single modifier."""
    return _of(f"no data of one modifier: {why}", *columns)


def _deleted(*columns: str) -> dict[str, Decision]:
    return dict.fromkeys(columns, Deleted())


NUMBER = "a number of this installation, for statistics, and to erase again what comes later"
TIME = "when something happened, for statistics"
STATE = "how far it is, for statistics and for the queue's own rules"
OWN = "the installation's own word"
RUN = "names a run of Dagster, so that it can be found and deleted there"
ACTOR = "who did it: the audit answers for the people of the installation"

DECISIONS: Mapping[type[Model], Mapping[str, Decision]] = {
    ReportQueue: {
        **_of(NUMBER, "id", "report_id", "modifier_id", "priority", "concurrency_key"),
        **_of(NUMBER, "generation", "attempt", "max_attempts", "launch_failures", "unstarted_runs", "releases"),
        **_of(TIME, "trigger_time", "available_at", "expires_at", "deadline_at", "created_at"),
        **_of(TIME, "claimed_at", "dispatched_at", "started_at", "finished_at", "lease_expires_at"),
        **_of("says that the row was erased, so that it is not run again", "erased_at"),
        **_of(STATE, "status", "processed", "source", "waiting", "alone", "cancel_requested"),
        **_of(STATE, "claim_id", "lease_token"),
        **_of(OWN, "route", "claimed_by", "api_user"),
        **_of(RUN, "run_id"),
        "schedule_id": Emptied(None),  # the schedule is deleted
        "params": Emptied({}),
        "result": Emptied(None),
        "error": Emptied(""),
        "fingerprint": Emptied(""),  # a hash of the error
        "idempotency_key": Emptied(None),
        "idempotency_scope": Emptied(""),
        "idempotency_digest": Emptied(None),  # a hash of the parameters
        "queued_by": Emptied(""),  # customers may queue reports themselves
        "traceparent": Emptied(None),
    },
    ReportAttempt: {
        **_of(NUMBER, "id", "queue_id", "report_id", "generation", "attempt"),
        **_of(TIME, "started_at", "finished_at"),
        **_of(STATE, "outcome", "lease_token"),
        **_of(RUN, "run_id", "parent_run_id"),
        **_of(OWN, "worker"),
        "progress": Emptied(""),
        "error": Emptied(""),
    },
    MutedFailure: {
        **_of(NUMBER, "fingerprint"),
        **_of(TIME, "muted_at"),
        **_of(ACTOR, "muted_by"),
        "title": Emptied(""),
        "note": Emptied(""),
    },
    OutboxEvent: {
        **_of(NUMBER, "id", "uid", "subject", "report_id"),
        **_of(STATE, "type"),
        **_of(TIME, "at"),
        "data": Reduced(of_event),
    },
    EventDelivery: {
        **_of(NUMBER, "id", "event_id", "subscription_id", "attempts"),
        **_of(STATE, "status", "lease_token"),
        **_of(TIME, "first_attempt_at", "due_at", "finished_at"),
    },
    DeliveryAttempt: {
        **_of(NUMBER, "id", "delivery_id", "status_code", "milliseconds"),
        **_of(TIME, "at"),
        "answer": Emptied(""),
        "problem": Emptied(""),
    },
    AuditEntry: {
        **_of(NUMBER, "id", "object_id"),
        **_of(STATE, "action", "kind", "via"),
        **_of(TIME, "at"),
        **_of(ACTOR, "by"),
        "label": Emptied(""),  # has the modifier's name, or that of a webhook source
        "changes": Reduced(of_changes),
        "reason": Emptied(""),
    },
    Alert: {
        **_of(NUMBER, "id", "rule_id", "subject", "report_id", "untold"),
        **_of(TIME, "since", "last_at", "told_at", "over_at"),
        "line": Reduced(of_line),
    },
    BulkAction: {
        **_of(NUMBER, "id", "first_id", "last_id", "until_id", "total", "more", "done", "asked", "undo_of_id"),
        **_of(STATE, "verb", "status"),
        **_of(TIME, "created_at", "started_at", "finished_at", "worked_at"),
        **_of(ACTOR, "requested_by", "requested_via"),
        **_of("checked numbers and words of the installation, such as the modifier's number", "filters"),
        "reason": Emptied(""),
        "refused": Reduced(of_refused),
        "problem": Emptied(""),
        "idempotency_key": Emptied(None),
        "idempotency_scope": Emptied(""),
    },
    BulkActionRow: {
        **_of(NUMBER, "id", "bulk_action_id", "queue_id", "generation"),
        **_of(TIME, "changed_at"),
        **_of(STATE, "asked"),
    },
    ReportSchedule: _deleted(
        *(
            "id",
            "report_id",
            "modifier_id",
            "cron",
            "interval_seconds",
            "timezone",
            "start_at",
            "end_at",
            "calendar_id",
        ),
        *("blackout", "enabled", "paused_at", "paused_by", "pause_note", "catch_up", "catch_up_window_seconds"),
        *("catch_up_limit", "overlap", "jitter_seconds", "unique", "params", "priority", "max_attempts"),
        *("next_run_at", "planned_from", "plan_needed", "calendar_before", "timing_set_at", "version", "error"),
        "created_at",
    ),
    WebhookSource: _deleted(
        *("id", "name", "enabled", "report_id", "modifier_id", "modifier_path", "params_paths", "priority"),
        *("max_attempts", "unique", "seed", "previous_seed", "previous_until", "created_at"),
    ),
    Measure: _none_of("counts of a report", "id", "seconds", "start", "report_id", "what", "bin", "count", "total"),
    MeasureTotal: _none_of("counts of a report", "id", "report_id", "what", "bin", "count", "total", "since", "until"),
    UnmeasuredEnd: _none_of(
        "how some row of a report has ended",
        *("id", "report_id", "status", "created_at", "available_at", "started_at", "finished_at"),
    ),
    Depth: _none_of("counts of the queue", "start", "waiting", "in_flight", "late"),
    Trouble: _none_of("numbers of schedules and consumers", "id", "type", "subject", "report_id", "since"),
    Report: _none_of(
        "a report of the catalogue is for all modifiers",
        *("report_id", "name", "description", "owner", "params_schema", "default_params", "priority", "max_attempts"),
        *("lease_seconds", "route", "max_running", "max_running_per_modifier", "rate_limit", "rate_period_seconds"),
        *("expires_after_seconds", "deadline_seconds", "created_at", "updated_at"),
    ),
    Pause: _none_of(
        "a pause is of the queue, a route or a report",
        *("id", "scope", "route", "report_id", "paused_at", "paused_by", "note"),
    ),
    AlertRule: _none_of(
        "a rule is for all modifiers",
        *("id", "name", "enabled", "condition", "in_a_row", "waited_seconds", "report_ids", "emails", "channels"),
        *("quiet_seconds", "test_wanted", "retry_at", "problem", "sent_at"),
    ),
    WebhookSubscription: _none_of(
        "a receiver of events of all modifiers",
        *("id", "url", "of_alerts", "description", "enabled", "event_types", "report_ids", "seed", "previous_seed"),
        *("previous_until", "created_at", "failures", "failing_since", "retry_at", "disabled_reason"),
    ),
    BlackoutCalendar: _none_of("a calendar is for many schedules", "id", "name"),
    BlackoutDays: _none_of(
        "a calendar is for many schedules", "id", "calendar_id", "first_day", "last_day", "every_year", "label"
    ),
    BlackoutHours: _none_of(
        "a calendar is for many schedules", "id", "calendar_id", "weekday", "start", "end", "label"
    ),
    ReportConsumer: _none_of(
        "who claims rows of all modifiers",
        *("id", "pattern", "name", "seen_at", "api_user", "deployment", "other_deployment", "other_seen_at", "routes"),
    ),
    TriggerPeriod: _none_of("who fires all schedules", "id", "pattern", "since", "until", "switched_by", "created_at"),
    ApiToken: _none_of(
        "a token of a user of the site",
        *("id", "user_id", "name", "identifier", "digest", "scopes", "created_at", "expires_at", "revoked_at"),
        "last_used_at",
    ),
}


def left_of(record: Model) -> dict[str, Any]:
    """The columns of a record of the modifier that hold something to be erased, each with what is left of it."""
    left = {}
    for column, decision in DECISIONS[type(record)].items():
        value = getattr(record, column)
        if isinstance(decision, Emptied) and value != decision.value:
            left[column] = decision.value
        elif isinstance(decision, Reduced) and value != (part := decision.to(value)):
            left[column] = part
    return left


def reduced(records: Iterable[R]) -> tuple[list[R], list[str]]:
    """Erase in memory what records have of the modifier; returns the changed records and the names of their columns."""
    changed: list[R] = []
    columns: set[str] = set()
    for record in records:
        left = left_of(record)
        for name, value in left.items():
            setattr(record, name, value)
        if left:
            changed.append(record)
            columns |= left.keys()
    return changed, sorted(columns)


def emptied(model: type[Model]) -> dict[str, Any]:
    """The columns that are emptied, each with its value afterwards."""
    return {name: one.value for name, one in DECISIONS[model].items() if isinstance(one, Emptied)}


def to_empty(model: type[Model]) -> Q:
    """The condition of the records that have something in a column that is emptied."""
    found = Q()
    for name, value in emptied(model).items():
        found |= Q(**{f"{name}__isnull": False}) if value is None else ~Q(**{name: value})
    return found
