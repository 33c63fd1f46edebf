"""The product's Celery launcher under the faults of a daemon life. It notices a dead host sooner than in production."""

from __future__ import annotations

from dagster_reportqueue import celery_launcher
from tools.chaos.launcher import Faulty

RENEW_SECONDS, LOST_SECONDS = 1.0, 10.0
celery_launcher.LOST_SECONDS = LOST_SECONDS


class FaultyCeleryRunLauncher(Faulty, celery_launcher.ReportCeleryRunLauncher):
    """The product's."""
