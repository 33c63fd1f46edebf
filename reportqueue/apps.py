"""The app's registration: its system checks."""

from django.apps import AppConfig


class ReportQueueConfig(AppConfig):
    """Registers the checks when Django is ready."""

    name = "reportqueue"
    verbose_name = "Report queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import for the side effect: the checks register themselves."""
        from reportqueue import checks  # noqa: F401
