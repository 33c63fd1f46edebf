"""Why an expression or a zone is refused, as one family."""

from __future__ import annotations


class CronError(ValueError):
    """The schedule cannot fire as written; `str()` tells a person what to change."""

    field: str
    """The schedule's field at fault, "cron" or "timezone"."""


class InvalidExpression(CronError):
    """The expression is not of the five-field syntax, or never fires."""

    field = "cron"


class UnknownTimezone(CronError):
    """The name is not an IANA time zone's."""

    field = "timezone"
