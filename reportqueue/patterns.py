"""The ways in which a firing becomes a run: who looks at the clock, and how Dagster hears of it."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Pattern(models.TextChoices):
    """What makes runs of schedules' firings; `TriggerPeriod` says which of them when."""

    CRON = "cron", _("Cron sensor")
    """A sensor of Dagster reads the schedules every so often, and evaluates them itself."""
    ASSET = "asset", _("Asset sensor")
    """A sensor of Dagster evaluates what it last read; an asset tells it when that has changed."""
    WEBHOOK = "webhook", _("Polling of pending rows")
    """The scheduler queues firings; a sensor asks what is pending, and says what it has launched."""
    QUEUE = "queue", _("Queue")
    """The scheduler queues firings; sensors claim them."""


SENSOR_FIRED = frozenset({Pattern.CRON, Pattern.ASSET})
"""Patterns in which no firing becomes a row before its run starts: the scheduler has nothing to queue."""
