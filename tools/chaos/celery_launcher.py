"""The product's Celery launcher under the faults of a daemon life. It notices a dead host sooner than in production."""

from __future__ import annotations

from dagster._core.launcher.base import LaunchRunContext

from dagster_reportqueue import celery_launcher
from tools.chaos.launcher import suffer

RENEW_SECONDS, LOST_SECONDS = 1.0, 10.0
celery_launcher.LOST_SECONDS = LOST_SECONDS


class FaultyCeleryRunLauncher(celery_launcher.ReportCeleryRunLauncher):
    """The product's."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch, or suffer."""
        suffer(context.dagster_run)
        super().launch_run(context)
