"""Trigger patterns: how a firing becomes a run of Dagster."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Pattern(models.TextChoices):
    """Which component fires schedules and launches their runs; `TriggerPeriod` says which pattern owns which time."""

    CRON = "cron", _("Cron sensor")
    """A sensor of Dagster polls the schedules and evaluates them itself."""
    ASSET = "asset", _("Asset sensor")
    """A sensor of Dagster evaluates the schedules that it last read; an asset event tells it when they change."""
    POLLING = "polling", _("Polling of pending rows")
    """The scheduler queues firings; a sensor polls the pending rows, launches them and marks them as processed."""
    QUEUE = "queue", _("Queue")
    """The scheduler queues firings; sensors claim them."""


SENSOR_FIRED = frozenset({Pattern.CRON, Pattern.ASSET})
"""Patterns whose sensors fire the schedules: a row is inserted when its run starts, and the scheduler queues none."""
