"""The app's registration: its system checks and its log."""

from django.apps import AppConfig


class ReportQueueConfig(AppConfig):
    """Registers the checks when Django is ready."""

    name = "reportqueue"
    verbose_name = "Report queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """The checks register themselves; the log is the first receiver of the signal; calendars replan schedules."""
        from reportqueue import checks  # noqa: F401
        from reportqueue.log import log_transition
        from reportqueue.schedules import replanning
        from reportqueue.signals import transitioned

        transitioned.connect(log_transition, dispatch_uid="reportqueue.log")
        replanning.connect()
