"""The app's registration: its system checks and its log."""

from django.apps import AppConfig


class ReportQueueConfig(AppConfig):
    """Registers the checks when Django is ready."""

    name = "reportqueue"
    verbose_name = "Report queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Checks register themselves; the log, Dagster and the calendars' schedules are told of what happens."""
        from reportqueue import checks  # noqa: F401
        from reportqueue.log import log_transition
        from reportqueue.notices import schedules_edited
        from reportqueue.schedules import replanning
        from reportqueue.signals import transitioned
        from reportqueue.triggers import asset_events

        transitioned.connect(log_transition, dispatch_uid="reportqueue.log")
        schedules_edited.connect(asset_events.announce_at_commit, dispatch_uid="reportqueue.asset_events")
        replanning.connect()
