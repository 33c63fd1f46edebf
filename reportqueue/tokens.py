"""API tokens at work: issued, checked at each call, and revoked."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.crypto import constant_time_compare

from reportqueue import audit, credentials, database, locks
from reportqueue.clock import ClockTimestamp
from reportqueue.errors import TokenRefused
from reportqueue.models import ApiToken
from reportqueue.models.audit import Kind

NOTED_SECONDS = 60
"""The last use of a token is written down at most this often."""


class Issued(NamedTuple):
    """A new token, and its key as its owner sends it: nothing can show the key again."""

    token: ApiToken
    key: str


def issue(
    user: Any, *, name: str, scopes: Iterable[str] = (), expires_at: datetime | None = None, key: str = ""
) -> Issued:
    """Make a token for a user. `key` is for a token that another system has made, with `credentials.new_key()`.

    Raises `ValidationError` naming the field: also for an end that is naive or in the past, and for a key that exists.
    """
    key = key or credentials.new_key()
    listed = list(scopes) if isinstance(scopes, Iterable) and not isinstance(scopes, str) else scopes
    token = ApiToken(user=user, name=name, scopes=listed, expires_at=expires_at)
    token.full_clean(exclude=["identifier", "digest"])
    store(token, key)
    return Issued(token, key)


def store(token: ApiToken, key: str) -> None:
    """Save a valid new token whose key this is.

    Raises `ValidationError` if `key` has not the form of a token, or if a token with its identifier exists.
    """
    identifier = credentials.identifier_of(key) if isinstance(key, str) else None
    if identifier is None:
        raise ValidationError({"key": "Must have the form of `reportqueue.credentials.new_key()`."})
    token.identifier, token.digest = identifier, credentials.digest(key)
    try:
        with database.atomic(database.users_alias()):
            token.save(force_insert=True)
        scopes = sorted(token.scopes or ())
        audit.record("issue", Kind.TOKEN, token.pk, label=_label(token), changes={"scopes": [None, scopes]})
    except IntegrityError:
        if not ApiToken.objects.filter(identifier=identifier).exists():
            raise
        raise ValidationError({"key": f"A token {credentials.PREFIX}{identifier} exists already."}) from None


def authenticate(key: str) -> ApiToken:
    """The token of this key, with its `user`. Notes its use. Raises `TokenRefused`.

    Only a caller that has the whole key is told whether it was revoked, has expired, or its user is not active.
    """
    if (identifier := credentials.identifier_of(key)) is None:
        raise TokenRefused
    token = ApiToken.objects.select_related("user").annotate(now=Now()).filter(identifier=identifier).first()
    if token is None or not constant_time_compare(token.digest, credentials.digest(key)):
        raise TokenRefused
    name = f"{credentials.PREFIX}{token.identifier}"
    if token.revoked_at is not None:
        raise TokenRefused(f"The token {name} was revoked.")
    if token.expires_at is not None and token.expires_at <= token.now:
        raise TokenRefused(f"The token {name} has expired.")
    if not token.user.is_active:
        raise TokenRefused(f"The user of the token {name} is not active.")
    if token.last_used_at is None or token.last_used_at <= token.now - timedelta(seconds=NOTED_SECONDS):
        _note_use(token)
    return token


def revoke(pks: Iterable[int]) -> list[ApiToken]:
    """Refuse every later call with these tokens, all or none of them. Returns those that were not revoked before.

    Raises `RowBusy`.
    """
    with locks.bounded(using=database.users_alias()):
        found = list(ApiToken.objects.select_for_update().filter(pk__in=list(pks), revoked_at=None).order_by("pk"))
        ApiToken.objects.filter(pk__in=[token.pk for token in found]).update(revoked_at=ClockTimestamp())
    for token in found:
        audit.record("revoke", Kind.TOKEN, token.pk, label=_label(token))
    return found


def _label(token: ApiToken) -> str:
    return f"{token.name} of {token.user}"


def _note_use(token: ApiToken) -> None:
    """Nothing depends on it: if another call locks the row, or nothing can be written, a later call notes its use."""
    due = Q(last_used_at=None) | Q(last_used_at__lte=Now() - timedelta(seconds=NOTED_SECONDS))
    free = ApiToken.objects.select_for_update(skip_locked=True).filter(due, pk=token.pk).order_by()
    with suppress(DatabaseError), database.atomic(database.users_alias()):
        ApiToken.objects.filter(pk__in=free.values("pk")).update(last_used_at=ClockTimestamp())
