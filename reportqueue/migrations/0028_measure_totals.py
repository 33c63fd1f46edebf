"""Running totals of what is measured, for counters that never fall."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0027_alerts"),
    ]

    operations = [
        migrations.AddField(
            model_name="measure",
            name="total",
            field=models.FloatField(db_default=0, default=0, editable=False),
        ),
        migrations.CreateModel(
            name="MeasureTotal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
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
                ("bin", models.PositiveSmallIntegerField()),
                ("count", models.PositiveBigIntegerField()),
                ("total", models.FloatField()),
                ("since", models.DateTimeField()),
                ("until", models.DateTimeField()),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=("report_id", "what", "bin"), name="reportqueue_measuretotal_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("count__gte", 1),
                            ("report_id__gte", -1),
                            ("total__gte", 0),
                            ("what__in", ["cancelled", "failed", "run", "skipped", "succeeded", "wait"]),
                        ),
                        name="reportqueue_measuretotal_makes_sense",
                    ),
                ],
            },
        ),
    ]
