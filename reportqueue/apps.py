"""The app's registration: its system checks and the receivers of its signals."""

from django.apps import AppConfig


class ReportQueueConfig(AppConfig):
    """Connects checks and receivers when Django is ready."""

    name = "reportqueue"
    verbose_name = "Report queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the log, the reports to Dagster and the replanning; importing `checks` registers them."""
        from reportqueue import audit, checks  # noqa: F401
        from reportqueue.log import log_transitions
        from reportqueue.notices import schedules_edited
        from reportqueue.schedules import replanning
        from reportqueue.signals import transitioned_together
        from reportqueue.triggers import asset_events

        transitioned_together.connect(log_transitions, dispatch_uid="reportqueue.log")
        schedules_edited.connect(asset_events.announce_at_commit, dispatch_uid="reportqueue.asset_events")
        replanning.connect()
        audit.connect()
