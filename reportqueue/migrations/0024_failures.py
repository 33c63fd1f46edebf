"""Failed rows have the fingerprint of their error, by which they are grouped; groups can be muted."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

import reportqueue.bounds
import reportqueue.clock

GROUPED = models.Q(("status", "failed"), models.Q(("fingerprint", ""), _negated=True))


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("reportqueue", "0023_bulk_actions"),
    ]

    operations = [
        migrations.CreateModel(
            name="MutedFailure",
            fields=[
                ("fingerprint", models.CharField(max_length=16, primary_key=True, serialize=False)),
                ("title", models.CharField(blank=True, max_length=200)),
                (
                    "muted_at",
                    models.DateTimeField(
                        db_default=reportqueue.clock.ClockTimestamp(), editable=False, verbose_name="since (UTC)"
                    ),
                ),
                ("muted_by", models.CharField(blank=True, max_length=150, verbose_name="by")),
                (
                    "note",
                    models.CharField(blank=True, max_length=1000, validators=[reportqueue.bounds.validate_text]),
                ),
            ],
            options={
                "verbose_name": "muted failure",
                "ordering": ["-muted_at", "fingerprint"],
                "permissions": [("mute_reportqueue", "Can mute and unmute groups of failures")],
                "default_permissions": (),
            },
        ),
        migrations.AddField(
            model_name="reportqueue",
            name="fingerprint",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                help_text="Of a failed row: the same for all rows that failed alike.",
                max_length=16,
            ),
        ),
        AddIndexConcurrently(
            model_name="reportqueue",
            index=models.Index(
                models.F("fingerprint"),
                models.F("finished_at"),
                condition=models.Q(*GROUPED.children, ("modifier_id__gte", 0)),
                name="reportqueue_failures",
            ),
        ),
        AddIndexConcurrently(
            model_name="reportqueue",
            index=models.Index(
                models.F("fingerprint"),
                models.F("trigger_time"),
                models.F("id"),
                condition=models.Q(*GROUPED.children, ("report_id__gte", 0)),
                name="reportqueue_failure_list",
            ),
        ),
    ]
