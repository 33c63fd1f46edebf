"""How long reports waited and ran, how they ended, and how many there were, by periods of time."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0019_deadlines"),
    ]

    operations = [
        migrations.CreateModel(
            name="Depth",
            fields=[
                (
                    "start",
                    models.DateTimeField(help_text="The begin of the period.", primary_key=True, serialize=False),
                ),
                (
                    "waiting",
                    models.PositiveIntegerField(
                        help_text="Due and not handed out; empty if nobody counted.", null=True
                    ),
                ),
                ("in_flight", models.PositiveIntegerField(help_text="Claimed, launched or running.", null=True)),
                (
                    "late",
                    models.PositiveIntegerField(help_text="Unfinished although their deadline is over.", null=True),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Measure",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("seconds", models.PositiveIntegerField(help_text="The length of the period.")),
                ("start", models.DateTimeField(help_text="The begin of the period.")),
                ("report_id", models.BigIntegerField()),
                (
                    "what",
                    models.CharField(
                        choices=[
                            ("wait", "Due to started"),
                            ("run", "Started to finished"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("skipped", "Skipped"),
                        ],
                        max_length=10,
                    ),
                ),
                ("bin", models.PositiveSmallIntegerField(help_text="Of a time, on a scale of powers; otherwise 0.")),
                ("count", models.PositiveIntegerField()),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("seconds", "start", "report_id", "what", "bin"), name="reportqueue_measure_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("count__gte", 1),
                            ("report_id__gte", -1),
                            ("what__in", ["cancelled", "failed", "run", "skipped", "succeeded", "wait"]),
                        ),
                        name="reportqueue_measure_makes_sense",
                    ),
                ],
            },
        ),
    ]
