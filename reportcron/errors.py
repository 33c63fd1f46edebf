"""Errors of expressions and zones, as one family."""

from __future__ import annotations


class CronError(ValueError):
    """The schedule cannot fire as written; `str()` tells a person what to change."""

    field: str
    """The schedule's field at fault, "cron" or "timezone"."""


class InvalidExpression(CronError):
    """The expression is not in the five-field syntax, or it never fires."""

    field = "cron"


class UnknownTimezone(CronError):
    """The name is not that of an IANA time zone."""

    field = "timezone"
