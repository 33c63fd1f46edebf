"""Errors of `render`: both are mistakes of the caller, and a retry does not help."""

from __future__ import annotations


class UnknownReport(LookupError):
    """The report id or the modifier id does not exist; the message lists those that do."""


class InvalidParams(ValueError):
    """A param that the report does not know, or a bad value; the message names it and what is accepted."""
