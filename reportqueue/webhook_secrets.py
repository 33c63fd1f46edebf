"""The secrets of webhooks, incoming and outgoing: derived, rotated, never stored.

A secret is derived from a random seed in the database and the project's SECRET_KEY, so that a dump of the database
alone reveals none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.utils.crypto import get_random_string

ROTATION = timedelta(hours=24)
"""How long the secret before a rotation is still used, while the other side changes over."""
SEED_LENGTH = 43
INCOMING, OUTGOING = "reportqueue.webhooks", "reportqueue.subscriptions"
"""What a secret is for: one seed gives another secret for each."""


def new_seed() -> str:
    """A new random seed."""
    return get_random_string(SEED_LENGTH)  # 256 bits


def current(seed: str, purpose: str) -> str:
    """The secret as its holder needs it, `whsec_...`: shown once, when it is made or rotated."""
    return _derived(seed, purpose, str(settings.SECRET_KEY))


def in_use(
    seed: str, previous_seed: str, previous_until: datetime | None, now: datetime, purpose: str
) -> Iterator[str]:
    """All secrets that count now: of the current and the previous seed, by each of the project's keys."""
    seeds = [seed]
    if previous_until is not None and now < previous_until:
        seeds.append(previous_seed)
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        for one in seeds:
            yield _derived(one, purpose, str(key))


def _derived(seed: str, purpose: str, key: str) -> str:
    derived = hmac.digest(key.encode(), f"{purpose}:{seed}".encode(), hashlib.sha256)
    return "whsec_" + base64.b64encode(derived).decode()
