"""The app's registration: its system checks and the receivers of its signals."""

from django.apps import AppConfig, apps


class ReportQueueConfig(AppConfig):
    """Connects checks and receivers when Django is ready."""

    name = "reportqueue"
    verbose_name = "Report queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the log and its names, the reports to Dagster, the replanning; importing `checks` registers them."""
        from django.db.models.signals import post_delete, post_save

        from reportqueue import audit, catalogue, checks, events  # noqa: F401
        from reportqueue.log import log_transitions
        from reportqueue.models import Report
        from reportqueue.notices import schedule_disabled, schedules_edited
        from reportqueue.schedules import replanning
        from reportqueue.signals import transitioned_together
        from reportqueue.triggers import asset_events

        transitioned_together.connect(log_transitions, dispatch_uid="reportqueue.log")
        schedules_edited.connect(asset_events.announce_at_commit, dispatch_uid="reportqueue.asset_events")
        for signal in (post_save, post_delete):
            signal.connect(catalogue.forget_names, sender=Report, dispatch_uid="reportqueue.names")
        replanning.connect()
        audit.connect()
        if apps.is_installed("drf_spectacular"):  # so that the schema of the project has the API, too
            from reportqueue.api.openapi import inspector  # noqa: F401
        schedule_disabled.connect(events.schedule_disabled, dispatch_uid="reportqueue.events")
