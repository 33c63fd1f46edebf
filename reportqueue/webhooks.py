"""Webhooks: a signed delivery of another system becomes a row of the queue, once however often it is delivered.

Signatures are those of the Standard Webhooks specification (HMAC-SHA256 over id, timestamp and body). A delivery whose
timestamp is more than five minutes off is refused. A redelivery, known by its id, is answered with its first row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from reportqueue import locks, payloads, queue, webhook_secrets
from reportqueue.clock import database_now
from reportqueue.errors import BadSignature, SourceNotFound
from reportqueue.models import WebhookSource
from reportqueue.states import Source
from reportqueue.webhook_secrets import INCOMING, ROTATION, new_seed

MAX_DELIVERY_ID = 140
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
"""A number as a text, as many systems write their ids."""
_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_SIGNATURE = re.compile(r"(?:^| )v1,[A-Za-z0-9+/]{43}=(?: |$)")
"""What one of the signatures in the header must look like: 32 bytes, as base64."""
_NOT_SIGNED = "The signature is not that of a known secret."
_WRONG_TIME = "The delivery's timestamp is more than five minutes off."


def secret(source: WebhookSource) -> str:
    """The source's secret as its sender needs it, `whsec_...`: shown once, when it is made or rotated."""
    return webhook_secrets.current(source.seed, INCOMING)


def rotate(source: WebhookSource) -> str:
    """Make a new secret; the old one is accepted for another `ROTATION`."""
    with locks.bounded():
        locked = WebhookSource.objects.select_for_update().get(pk=source.pk)
        locked.previous_seed, locked.seed = locked.seed, new_seed()
        locked.previous_until = database_now() + ROTATION
        locked.save(update_fields=["seed", "previous_seed", "previous_until"])
    source.refresh_from_db()
    return secret(source)


def sender(name: str, headers: Mapping[str, str]) -> WebhookSource:
    """The source of this name, after a check of what the headers alone tell: call it before the body is read.

    Raises `SourceNotFound`, also for a disabled source, and `BadSignature`. Its message tells of missing headers and a
    wrong time, and nothing more: a sender that cannot sign learns nothing else.
    """
    source = WebhookSource.objects.filter(name=name, enabled=True).first()
    if source is None:
        raise SourceNotFound(f"There is no webhook source {name!r}.")
    given = _signature_headers(headers)
    if missing := [name for name, value in given.items() if not value]:
        raise BadSignature(f"The delivery lacks the header {', '.join(missing)}.")
    refusal = _refusal(secret(source), b"", given)
    if refusal == _WRONG_TIME or not _SIGNATURE.search(given["webhook-signature"]):
        raise BadSignature(refusal)
    return source


def verify(source: WebhookSource, body: bytes, headers: Mapping[str, str]) -> None:
    """Check that the source has signed this body. Raises `BadSignature`, as `sender`."""
    given = _signature_headers(headers)
    keys = webhook_secrets.in_use(source.seed, source.previous_seed, source.previous_until, database_now(), INCOMING)
    refusals = [_refusal(key, body, given) for key in keys]
    if all(refusals):
        raise BadSignature(refusals[-1])


def _signature_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers.get(name, "") for name in _HEADERS}


def _refusal(key: str, body: bytes, given: dict[str, str]) -> str:
    """Why the body is not signed with this secret; empty if it is."""
    try:
        # For malformed signatures and bodies, the library raises whatever its decoding raises.
        Webhook(key).verify(body, given, json_parse=False)
    except (WebhookVerificationError, ValueError) as error:
        return _WRONG_TIME if "timestamp" in str(error) else _NOT_SIGNED
    return ""


def accept(source: WebhookSource, delivery_id: str, payload: Any) -> queue.Enqueued:
    """Queue the report that a verified delivery asks for. A redelivery gets the row of the first delivery.

    A redelivery is known by its id and payload alone: the source may have been edited in between. Raises
    `ValidationError` naming what of the payload is missing or wrong, `IdempotencyKeyReused` if the id is known with
    another payload.
    """
    if len(delivery_id) > MAX_DELIVERY_ID:
        raise ValidationError({"webhook-id": f"Must have at most {MAX_DELIVERY_ID} characters."})
    key, digest = f"webhook:{source.name}:{delivery_id}", queue.digest_of(payload)
    # By the source's number, not by its name: a source that is made again under an old name has known no delivery yet.
    scope = f"webhook:{source.pk}"
    if (row := queue.known(key, digest, scope=scope)) is not None:
        return queue.Enqueued(row, created=False)
    report = queue.NewReport(
        report_id=source.report_id,
        modifier_id=_modifier(source, payload),
        params={name: _value(payload, path, f"params.{name}") for name, path in source.params_paths.items()},
        priority=source.priority,
        max_attempts=source.max_attempts,
        unique=queue.UNFINISHED if source.unique else None,
        idempotency_key=key,
        request_digest=digest,
    )
    return queue.enqueue_many([report], source=Source.WEBHOOK, scope=scope)[0]


def _modifier(source: WebhookSource, payload: Any) -> int:
    if source.modifier_id is not None:
        return source.modifier_id
    found = _value(payload, source.modifier_path, "modifier_id")
    if isinstance(found, str) and _WHOLE_NUMBER.fullmatch(found):
        return int(found)
    if isinstance(found, bool) or not isinstance(found, int):
        text = f"The payload's {source.modifier_path} must be a whole number, which may be in quotes."
        raise ValidationError({"modifier_id": text})
    return found


def _value(payload: Any, path: str, field: str) -> Any:
    try:
        return payloads.at(payload, path)
    except payloads.NotThere as error:
        raise ValidationError({field: str(error)}) from None
