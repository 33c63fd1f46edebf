"""Locks on what no row stands for: PostgreSQL's advisory ones."""

from __future__ import annotations

import hashlib

from django.db import connection


def serialise(name: str) -> None:
    """Let one transaction at a time do what `name` stands for: wait for it, and hold it until this one ends."""
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])
