"""The indexes of routes, fairness, expiry, uniqueness and rates, and two that claims cannot use by mistake."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("reportqueue", "0017_catalogue"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="reportattempt",
            index=models.Index(
                models.F("report_id"),
                models.F("started_at"),
                condition=models.Q(("report_id__isnull", False)),
                name="reportqueue_attempt_starts",
            ),
        ),
        AddIndexConcurrently(
            model_name="reportqueue",
            index=models.Index(
                models.F("route"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("available_at"),
                models.F("id"),
                condition=models.Q(("status", "queued"), ("waiting", False)),
                name="reportqueue_route_order",
            ),
        ),
        AddIndexConcurrently(
            model_name="reportqueue",
            index=models.Index(
                models.F("route"),
                models.F("priority"),
                models.F("report_id"),
                models.F("modifier_id"),
                models.F("available_at"),
                models.F("id"),
                condition=models.Q(("status", "queued"), ("waiting", False)),
                name="reportqueue_claim_groups",
            ),
        ),
        AddIndexConcurrently(
            model_name="reportqueue",
            index=models.Index(
                models.F("route"),
                models.F("priority"),
                models.F("modifier_id"),
                models.F("available_at"),
                models.F("id"),
                condition=models.Q(("status", "queued"), ("waiting", False)),
                name="reportqueue_claim_turns",
            ),
        ),
        AddIndexConcurrently(
            model_name="reportqueue",
            index=models.Index(
                models.F("expires_at"),
                condition=models.Q(("expires_at__isnull", False), ("status", "queued")),
                name="reportqueue_expiry",
            ),
        ),
        AddIndexConcurrently(
            model_name="reportqueue",
            index=models.Index(
                models.F("report_id"),
                models.F("status"),
                models.F("modifier_id"),
                condition=models.Q(
                    ("report_id__gte", 0), ("status__in", ["claimed", "dispatched", "queued", "running"])
                ),
                name="reportqueue_open",
            ),
        ),
        AddIndexConcurrently(
            model_name="reportqueue",
            index=models.Index(
                models.F("schedule"),
                condition=models.Q(
                    ("schedule__isnull", False), ("status__in", ["claimed", "dispatched", "queued", "running"])
                ),
                name="reportqueue_of_schedule",
            ),
        ),
        AddIndexConcurrently(
            model_name="reportqueue",
            index=models.Index(
                models.F("trigger_time"),
                models.F("id"),
                condition=models.Q(
                    ("report_id__gte", 0), ("status__in", ["claimed", "dispatched", "queued", "running"])
                ),
                name="reportqueue_listed",
            ),
        ),
        RemoveIndexConcurrently(
            model_name="reportqueue",
            name="reportqueue_schedule_open",
        ),
        RemoveIndexConcurrently(
            model_name="reportqueue",
            name="reportqueue_unfinished",
        ),
    ]
