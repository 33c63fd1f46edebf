"""Queue rows as model objects, made at once from what a statement returns.

Django would look at each field of each row again, and call two signals: five times the cost. A claim of a hundred rows
would spend more time on that than the database on the claim.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models.base import ModelState
from psycopg.types.datetime import TimestamptzLoader

from reportqueue import database, plans
from reportqueue.clock import ClockTimestamp
from reportqueue.models import ReportQueue

_JSON = [field.attname for field in ReportQueue._meta.concrete_fields if isinstance(field, models.JSONField)]


def fetch_locked(rows: models.QuerySet[ReportQueue]) -> list[Any]:
    """Lock and fetch the rows of a query, each with the database's time as `now`."""
    try:
        statement, values = database.statement_of(rows.annotate(now=ClockTimestamp()))
    except EmptyResultSet:
        return []
    with cursor_for_rows() as cursor:
        cursor.execute(statement, values)
        return objects_of(cursor)


@contextmanager
def cursor_for_rows(*, plans_last: bool = False) -> Iterator[Any]:
    """A cursor of the queue's database that reads time stamps as psycopg does, in C; Django's way is Python.

    With `plans_last` it is that of `plans`.
    """
    with plans.cursor() if plans_last else database.connection().cursor() as cursor:
        cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
        yield cursor


def objects_of(cursor: Any) -> list[Any]:
    """The rows that the last statement on the queue's database returned.

    Its columns have the names of fields, or of further attributes.
    """
    names = [column.name for column in cursor.description]
    texts = [name for name in _JSON if name in names]
    alias = database.alias()
    found = []
    for values in cursor.fetchall():
        row = ReportQueue.__new__(ReportQueue)
        fields = row.__dict__
        fields.update(zip(names, values, strict=True))
        for name in texts:
            if fields[name] is not None:
                fields[name] = json.loads(fields[name])
        state = fields["_state"] = ModelState()
        state.adding, state.db = False, alias
        found.append(row)
    return found
