"""A schedule's policies for missed, overlapping and closed firings, and the reasons of skips."""

from __future__ import annotations

from enum import StrEnum

from django.db import models
from django.utils.translation import gettext_lazy as _


class CatchUp(models.TextChoices):
    """What becomes of instants that were missed because no scheduler ran. Edits and pauses never miss any."""

    SKIP = "skip", _("Skip them")
    """None is made up for."""
    LAST = "last", _("Run the last one")
    """The newest missed instant is made up for, unless a later one is on time: the report is up to date again."""
    ALL = "all", _("Run all of them")
    """Each is made up for, oldest first, within the schedule's window and limit."""


class Overlap(models.TextChoices):
    """What becomes of a firing while an earlier report of the same schedule is unfinished."""

    ALLOW = "allow", _("Queue it all the same")
    SKIP = "skip", _("Skip it")
    QUEUE_ONE = "queue_one", _("Let one wait")
    """It waits until the earlier one has ended; while one waits, further ones are skipped."""


class Blackout(models.TextChoices):
    """What becomes of an instant that the schedule's calendar closes."""

    SKIP = "skip", _("Skip it")
    NEXT_DAY = "next_open_day", _("Move it to the next open day")
    """The same reading of the clock, on the first later day on which the calendar leaves it open."""
    PREVIOUS_DAY = "previous_open_day", _("Move it to the previous open day")


class SkipReason(StrEnum):
    """Why a firing was skipped. The row's `result` holds the reason, its `error` says it in words."""

    MISFIRE = "misfire"
    """No scheduler ran when it was due, and the schedule's catch-up leaves it out."""
    OVERLAP = "overlap"
    BLACKOUT = "blackout"
    UNIQUE = "unique"
    """The same report was unfinished already."""
    EXPIRED = "expired"
    """It has not started in time: `expires_after_seconds` of its report."""
