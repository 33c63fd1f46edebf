"""How many runs in a row have ended without starting a report, and when each consumer last asked."""

from django.db import migrations, models

import reportqueue.clock


class Migration(migrations.Migration):
    dependencies = [("reportqueue", "0010_calendar_before")]

    operations = [
        migrations.AddField(
            model_name="reportqueue",
            name="unstarted_runs",
            field=models.PositiveSmallIntegerField(
                db_default=0,
                default=0,
                help_text="Runs in a row that ended without starting it; many of them end the report.",
            ),
        ),
        migrations.CreateModel(
            name="ReportConsumer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "pattern",
                    models.CharField(
                        choices=[
                            ("cron", "Cron sensor"),
                            ("asset", "Asset sensor"),
                            ("webhook", "Polling of pending rows"),
                            ("queue", "Queue"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        help_text="Under which it claims; of a sensor that polls, its user.", max_length=100
                    ),
                ),
                ("seen_at", models.DateTimeField(db_default=reportqueue.clock.ClockTimestamp(), editable=False)),
            ],
            options={
                "verbose_name": "consumer",
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(models.F("pattern"), models.F("name"), name="reportqueue_consumer_once"),
                    models.CheckConstraint(
                        condition=models.Q(("pattern__in", ["asset", "cron", "queue", "webhook"])),
                        name="reportqueue_consumer_pattern",
                    ),
                ],
            },
        ),
    ]
