"""Events are written here, in the transaction of what they tell, and only if somebody subscribes to them.

An event is for the subscriptions that are committed when the statement that writes it begins. One statement writes the
event and its deliveries, by one view of the subscriptions: there is no event without a delivery, and none is delivered
in part. A subscription that is committed later gets the events that are written after it, and no earlier ones.

The events of one row have growing numbers, in the order in which they are committed: whoever writes one holds the
lock of the row.
"""

# ruff: noqa: S608  (only names of tables are put into the statements)
from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.db.models import QuerySet

from reportqueue import catalogue, database
from reportqueue.models import EventDelivery, OutboxEvent, Report, ReportQueue, ReportSchedule, WebhookSubscription
from reportqueue.models.event import DeliveryStatus, EventType
from reportqueue.states import Status

OF_STATUS = {
    Status.SUCCEEDED: EventType.SUCCEEDED,
    Status.FAILED: EventType.FAILED,
    Status.CANCELLED: EventType.CANCELLED,
    Status.SKIPPED: EventType.SKIPPED,
}
"""The event of each final status. The others have none."""
Told = tuple[str, int | None, Mapping[str, Any]]
"""The subject, the report and the data of one event."""
MAX_ERROR_LENGTH = 300
"""Characters of the last line of an error."""
_EVENTS, _DELIVERIES = OutboxEvent._meta.db_table, EventDelivery._meta.db_table
_SUBSCRIPTIONS = WebhookSubscription._meta.db_table


def _subscribed(kind: str) -> str:
    """The condition of the subscriptions to events of this type, an SQL expression."""
    return f"s.enabled AND s.event_types @> ARRAY[{kind}]::varchar[]"


def _concerned(report: str) -> str:
    """The condition of the subscriptions that get an event of this report, an SQL expression."""
    return f"{_subscribed('%(type)s')} AND (s.report_ids = '{{}}' OR {report} IS NULL OR {report} = ANY(s.report_ids))"


_DELIVER = f"""
INSERT INTO {_DELIVERIES} (event_id, subscription_id, status, attempts, due_at)
SELECT made.id, s.id, '{DeliveryStatus.PENDING.value}', 0, clock_timestamp()
FROM made JOIN {_SUBSCRIPTIONS} s ON {_concerned("made.report_id")}
ORDER BY made.id, s.id
"""
_OF_ROWS = f"""
WITH made AS (
    INSERT INTO {_EVENTS} (uid, type, subject, report_id, at, data)
    SELECT gen_random_uuid(), %(type)s, 'row:' || q.id, q.report_id, clock_timestamp(), jsonb_build_object(
        'queue_id', q.id, 'report_id', q.report_id, 'report_name', r.name, 'modifier_id', q.modifier_id,
        'route', q.route, 'status', q.status, 'source', q.source, 'schedule_id', q.schedule_id,
        'trigger_time', q.trigger_time, 'started_at', q.started_at, 'finished_at', q.finished_at,
        'deadline_at', q.deadline_at, 'generation', q.generation, 'attempt', q.attempt,
        'max_attempts', q.max_attempts, 'run_id', q.run_id,
        'error', left(reverse(split_part(reverse(rtrim(q.error, E' \\t\\r\\n')), E'\\n', 1)), {MAX_ERROR_LENGTH}))
    FROM unnest(%(rows)s::bigint[]) WITH ORDINALITY AS told (id, place)
    JOIN {ReportQueue._meta.db_table} q ON q.id = told.id
    LEFT JOIN {Report._meta.db_table} r ON r.report_id = q.report_id
    WHERE EXISTS (SELECT FROM {_SUBSCRIPTIONS} s WHERE {_concerned("q.report_id")})
    ORDER BY told.place
    RETURNING id, report_id
){_DELIVER}"""
_OF_SUBJECTS = f"""
WITH made AS (
    INSERT INTO {_EVENTS} (uid, type, subject, report_id, at, data)
    SELECT gen_random_uuid(), %(type)s, told.subject, told.report_id, clock_timestamp(), told.data::jsonb
    FROM unnest(%(subjects)s::text[], %(reports)s::bigint[], %(data)s::text[]) WITH ORDINALITY
        AS told (subject, report_id, data, place)
    WHERE EXISTS (SELECT FROM {_SUBSCRIPTIONS} s WHERE {_concerned("told.report_id")})
    ORDER BY told.place
    RETURNING id, report_id
){_DELIVER}"""
_HEARD: dict[str, str] = {
    status: f"EXISTS (SELECT FROM {_SUBSCRIPTIONS} s WHERE {condition})"
    for status, kind in OF_STATUS.items()
    for condition in (_subscribed(f"'{kind.value}'"),)
}


def heard(status: str) -> str:
    """An SQL expression: whether anybody subscribes to the event of this status; empty if the status has none.

    The statement that writes the status returns it: where nobody subscribes, that is all that events cost.
    """
    return _HEARD.get(status, "")


def write_rows(kind: EventType, rows: Collection[int]) -> None:
    """Write the event of each of these rows, given by id, as the rows are now. The caller holds their locks."""
    if rows:
        _execute(_OF_ROWS, {"type": kind.value, "rows": list(rows)})


def write(kind: EventType, subject: str, data: Mapping[str, Any], *, report_id: int | None = None) -> None:
    """Write an event about something else than a row; `subject` names it, such as `schedule:5`."""
    write_all(kind, [(subject, report_id, data)])


def write_all(kind: EventType, told: Sequence[Told]) -> None:
    """Write several."""
    if told:
        subjects, reports, data = zip(*told, strict=True)
        texts = [json.dumps(one) for one in data]
        values = {"type": kind.value, "subjects": list(subjects), "reports": list(reports), "data": texts}
        _execute(_OF_SUBJECTS, values)


def schedule_disabled(*, schedule: ReportSchedule, **_: Any) -> None:
    """The receiver of `notices.schedule_disabled`."""
    data = of_schedule(schedule, catalogue.names([schedule.report_id]))
    write(EventType.SCHEDULE_DISABLED, f"schedule:{schedule.pk}", data, report_id=schedule.report_id)


def of_schedule(schedule: ReportSchedule, names: Mapping[int, str]) -> dict[str, Any]:
    """What an event tells of a schedule; `names` has those of reports."""
    return {
        "schedule_id": schedule.pk,
        "report_id": schedule.report_id,
        "report_name": names.get(schedule.report_id),
        "modifier_id": schedule.modifier_id,
        "rule": schedule.rule,
        "timezone": schedule.timezone,
        "next_run_at": schedule.next_run_at.isoformat() if schedule.next_run_at else None,
        "error": schedule.error[:MAX_ERROR_LENGTH],
        "paused_by": schedule.paused_by,
        "pause_note": schedule.pause_note,
    }


def subscribed(kind: EventType) -> bool:
    """Whether anybody subscribes to these events now."""
    return _subscribers(kind).exists()


def reports_told(kind: EventType) -> set[int] | None:
    """The reports whose events of this type somebody gets now; None: of all reports."""
    found = list(_subscribers(kind).values_list("report_ids", flat=True))
    return None if [] in found else {report_id for named in found for report_id in named}


def _subscribers(kind: EventType) -> QuerySet[WebhookSubscription]:
    return WebhookSubscription.objects.filter(enabled=True, event_types__contains=[kind.value])


def _execute(statement: str, values: Mapping[str, Any]) -> None:
    with database.connection().cursor() as cursor:
        cursor.execute(statement, values)
