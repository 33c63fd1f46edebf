"""Deliveries are taken under a lease, and what came of them is recorded: each in one short transaction.

A deliverer that is killed keeps nothing: its leases end, and another one sends the same events again, under the same
ids.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from standardwebhooks import Webhook

from reportqueue import audit, database, events, locks, webhook_secrets
from reportqueue.clock import ClockTimestamp, minute
from reportqueue.conf import conf
from reportqueue.models import DeliveryAttempt, EventDelivery, OutboxEvent, WebhookSubscription
from reportqueue.models.audit import Kind
from reportqueue.models.event import MAX_PROBLEM_LENGTH, DeliveryStatus, EventType, message_id
from reportqueue.outbox.sending import GONE, Answer

LEASE_SECONDS = 90
"""How long a deliverer has for what it has taken. It gives up what it cannot send in good time."""
BACKOFF_SECONDS, BACKOFF_GROWTH, BACKOFF_MAX_SECONDS = 5, 3, 6 * 3600
"""The delay before the second attempt, by how much each further one is longer, and the longest."""
JITTER = 0.2
"""The share of a delay that is random."""
FAILING = 3
"""After so many failures in a row a subscription is probed: one delivery at a time, after a delay that grows."""
PROBE_MAX_SECONDS = 300
AHEAD_SECONDS = 60
"""What is to come so much later than after its longest delay was noted before the database's clock was set back."""
HELD_AT_ONCE = 10_000
logger = logging.getLogger("reportqueue")


@dataclass(frozen=True)
class Taken:
    """A delivery that this process has taken."""

    pk: int
    subscription_id: int
    lease_token: UUID
    message_id: str
    kind: str
    at: datetime
    data: dict[str, Any]

    @property
    def body(self) -> bytes:
        """The payload, as the specification has it."""
        stamp = self.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        payload = {"type": self.kind, "timestamp": stamp, "data": self.data}
        return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Receiver:
    """An enabled subscription, as a deliverer needs it."""

    pk: int
    url: str
    keys: list[str]
    """The secrets that events are signed with: the current one, and for a time the one before."""
    failing: bool
    """Whether it is probed only."""
    may_be_probed: bool
    """Whether it is time for that."""


_LONGEST_BREAK = timedelta(seconds=PROBE_MAX_SECONDS * (1 + JITTER) + AHEAD_SECONDS)


def receivers() -> list[Receiver]:
    """All enabled subscriptions."""
    found: list[Any] = list(WebhookSubscription.objects.of_people().filter(enabled=True).annotate(now=ClockTimestamp()))
    return [
        Receiver(
            one.pk,
            one.url,
            list(
                webhook_secrets.in_use(
                    one.seed, one.previous_seed, one.previous_until, one.now, webhook_secrets.OUTGOING
                )
            ),
            failing=one.failures >= FAILING,
            may_be_probed=one.retry_at is None or not one.now < one.retry_at <= one.now + _LONGEST_BREAK,
        )
        for one in found
    ]


def headers(name: str, sent_at: datetime, body: bytes, keys: Sequence[str]) -> dict[str, str]:
    """The headers of one attempt, signed with each key by the reference library."""
    text = body.decode()
    return {
        "Content-Type": "application/json",
        "User-Agent": "reportqueue-webhooks",
        "webhook-id": name,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": " ".join(Webhook(key).sign(name, sent_at, text) for key in keys),
    }


# A delivery is free if it is pending and due: taking it moves `due_at` to the end of the lease. An earlier event of
# the same subject that is still pending holds it back. It is looked up by the index of the events' subjects.
_TAKE = f"""
WITH room AS (SELECT * FROM unnest(%(subscriptions)s::bigint[], %(rooms)s::integer[]) AS room (subscription_id, most)),
free AS MATERIALIZED (
    SELECT next.*
    FROM room CROSS JOIN LATERAL (
        SELECT d.id, e.id AS event_id, e.uid, e.type, e.at, e.data::text AS data
        FROM {EventDelivery._meta.db_table} d JOIN {OutboxEvent._meta.db_table} e ON e.id = d.event_id
        WHERE d.subscription_id = room.subscription_id AND d.status = 'pending' AND d.due_at <= statement_timestamp()
            AND NOT EXISTS (
                SELECT FROM {OutboxEvent._meta.db_table} earlier
                WHERE earlier.subject = e.subject AND earlier.id < e.id AND EXISTS (
                    SELECT FROM {EventDelivery._meta.db_table} other
                    WHERE other.event_id = earlier.id AND other.subscription_id = d.subscription_id
                        AND other.status = 'pending'
                    OFFSET 0))  -- for each of the few events of the subject, whatever the statistics say
        ORDER BY d.due_at, d.event_id LIMIT room.most FOR UPDATE OF d SKIP LOCKED
    ) AS next
)
UPDATE {EventDelivery._meta.db_table} taken
SET due_at = clock_timestamp() + make_interval(secs => %(lease)s), lease_token = %(token)s
FROM free
WHERE taken.id = free.id AND taken.id = ANY(ARRAY(SELECT id FROM free))  -- by its index, however many it seems to be
RETURNING taken.id, taken.subscription_id, free.event_id, free.uid, free.type, free.at, free.data
"""  # noqa: S608  # names of tables


def take(rooms: Mapping[int, int]) -> list[Taken]:
    """Take free deliveries: of each subscription at most so many, the longest due first; never two of one subject."""
    token = uuid4()
    values: dict[str, Any] = {
        "subscriptions": list(rooms),
        "rooms": list(rooms.values()),
        "lease": LEASE_SECONDS,
        "token": token,
    }
    # In the order of the index: otherwise all that waits may be read and sorted for a few.
    with locks.bounded(), database.in_index_order(), database.connection().cursor() as cursor:
        cursor.execute(_TAKE, values)
        found = sorted(cursor.fetchall(), key=lambda one: one[2])
    return [
        Taken(pk, subscription, token, message_id(event, uid), kind, at, json.loads(data))
        for pk, subscription, event, uid, kind, at, data in found
    ]


# By how often it was tried, and by whether it is taken: a new one is due at once.
_FREE_HELD = f"""
UPDATE {EventDelivery._meta.db_table} SET due_at = clock_timestamp(), lease_token = NULL
WHERE id = ANY(ARRAY(
    SELECT id FROM {EventDelivery._meta.db_table}
    WHERE status = 'pending' AND due_at > statement_timestamp() + make_interval(secs => %(ahead)s)  -- by the index
        AND due_at > statement_timestamp() + make_interval(secs => %(ahead)s + CASE
        WHEN lease_token IS NOT NULL THEN %(lease)s
        WHEN attempts = 0 THEN 0
        ELSE least(%(first)s * %(growth)s ^ least(attempts - 1, 20), %(longest)s) * (1 + %(jitter)s)
    END)
    LIMIT %(most)s FOR UPDATE SKIP LOCKED))
"""  # noqa: S608  # a table's name


def free_held() -> int:
    """Have sent now what would be sent later than any delay allows; how many deliveries there were.

    The database's clock was set back since their next attempt was noted: they would wait until it comes there again.
    """
    values = {
        "ahead": AHEAD_SECONDS,
        "lease": LEASE_SECONDS,
        "first": BACKOFF_SECONDS,
        "growth": BACKOFF_GROWTH,
        "longest": BACKOFF_MAX_SECONDS,
        "jitter": JITTER,
        "most": HELD_AT_ONCE,
    }
    with locks.bounded(), database.connection().cursor() as cursor:
        cursor.execute(_FREE_HELD, values)
        return int(cursor.rowcount)


def give_back(unsent: Sequence[Taken]) -> None:
    """Let others take what was not sent after all."""
    if not unsent:
        return
    mine = EventDelivery.objects.filter(pk__in=[one.pk for one in unsent], lease_token=unsent[0].lease_token)
    mine.filter(status=DeliveryStatus.PENDING).update(due_at=ClockTimestamp(), lease_token=None)


_WRITTEN = ("pk", "status", "attempts", "first_attempt_at", "due_at", "finished_at")
_RECORD = f"""
UPDATE {EventDelivery._meta.db_table} d
SET status = own.status, attempts = own.attempts, first_attempt_at = own.first_attempt_at, due_at = own.due_at,
    finished_at = own.finished_at, lease_token = NULL
FROM unnest(
    %s::bigint[], %s::text[], %s::integer[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[]
) AS own (id, status, attempts, first_attempt_at, due_at, finished_at)
WHERE d.id = own.id
"""  # noqa: S608  # a table's name


def record(answers: Sequence[tuple[Taken, Answer]]) -> None:
    """Write what came of attempts, in one transaction. What another deliverer has taken since is only logged."""
    with locks.bounded():
        by_pk = {taken.pk: (taken, answer) for taken, answer in answers}
        rows: list[Any] = list(
            EventDelivery.objects.filter(pk__in=by_pk).order_by("pk").select_for_update().annotate(now=ClockTimestamp())
        )
        DeliveryAttempt.objects.bulk_create(
            [
                DeliveryAttempt(
                    delivery_id=taken.pk,
                    status_code=answer.status,
                    milliseconds=answer.milliseconds,
                    answer=answer.text,
                    problem=answer.problem,
                )
                for taken, answer in answers
            ]
        )
        mine = [row for row in rows if row.lease_token == by_pk[row.pk][0].lease_token]
        for row in mine:
            _advance(row, by_pk[row.pk][1])
        if mine:
            columns = [[getattr(row, name) for row in mine] for name in _WRITTEN]
            with database.connection().cursor() as cursor:
                cursor.execute(_RECORD, columns)
        for pk in sorted({taken.subscription_id for taken, _ in answers}):
            _note(pk, [answer for taken, answer in answers if taken.subscription_id == pk])


def _advance(row: Any, answer: Answer) -> None:
    """Set what comes next of a delivery: its end, or its next attempt."""
    now = row.now
    row.attempts += 1
    row.first_attempt_at = row.first_attempt_at or now
    if answer.delivered:
        row.status, row.finished_at = DeliveryStatus.DELIVERED, now
        return
    ends = row.first_attempt_at + timedelta(seconds=conf().webhook_retry_seconds)
    if now >= ends:
        row.status, row.finished_at = DeliveryStatus.DEAD, now
        return
    # The last attempt is at the very end.
    row.due_at = min(now + backoff(row.attempts), ends)


def backoff(attempts: int) -> timedelta:
    """The delay after so many failed attempts of one delivery, a part of it random."""
    seconds = min(BACKOFF_SECONDS * BACKOFF_GROWTH ** min(attempts - 1, 20), BACKOFF_MAX_SECONDS)
    return timedelta(seconds=seconds * (1 + random.uniform(-JITTER, JITTER)))  # noqa: S311  # no secret


def _note(pk: int, answers: Sequence[Answer]) -> None:
    """Note on a subscription whether it fails; disable one that has failed for too long, or is gone."""
    stored = WebhookSubscription.objects.filter(pk=pk)
    if all(answer.delivered for answer in answers) and not stored.filter(failures__gt=0).exists():
        return  # nearly always: no transaction has to wait for the subscription's row
    one: Any = stored.select_for_update().annotate(now=ClockTimestamp()).first()
    # What the receiver at an earlier address has answered says nothing of the one that a person has entered since.
    answers = [answer for answer in answers if one is not None and answer.url == one.url]
    failed = [answer for answer in answers if not answer.delivered]
    if not answers:
        return
    if len(failed) < len(answers):
        stored.update(failures=0, failing_since=None, retry_at=None)
        if one.failures >= FAILING:
            logger.info("Webhooks of subscription %s (%s) are received again.", pk, one)
        if not any(answer.status == GONE for answer in failed):
            return
    failures, since = one.failures + len(failed), one.failing_since or one.now
    delay = min(BACKOFF_SECONDS * 2 ** min(max(failures - FAILING, 0), 20), PROBE_MAX_SECONDS)
    delay *= 1 + random.uniform(-JITTER, JITTER)  # noqa: S311  # no secret
    if len(failed) == len(answers):
        stored.update(failures=failures, failing_since=since, retry_at=one.now + timedelta(seconds=delay))
    if not one.enabled:
        return
    if any(answer.status == GONE for answer in failed):
        _disable(one, "The receiver answered with 410: it wants no more events.")
    elif (one.now - since).total_seconds() >= conf().webhook_disable_seconds:
        _disable(one, f"All attempts have failed since {minute(since)}. The last: {failed[-1].problem}")


def _disable(one: WebhookSubscription, reason: str) -> None:
    reason = reason[:MAX_PROBLEM_LENGTH]
    WebhookSubscription.objects.filter(pk=one.pk).update(enabled=False, disabled_reason=reason)
    audit.record("disable", Kind.SUBSCRIBER, one.pk, label=str(one), reason=reason)
    data = {"subscription_id": one.pk, "description": one.description, "reason": reason}
    events.write(EventType.SUBSCRIPTION_DISABLED, f"subscription:{one.pk}", data)
    logger.error("Webhook subscription %s (%s) is disabled. %s", one.pk, one, reason)
