"""How rows ended that forget it before it is measured."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0032_erasure_audit"),
    ]

    operations = [
        migrations.CreateModel(
            name="UnmeasuredEnd",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("report_id", models.BigIntegerField()),
                ("status", models.CharField(max_length=10)),
                ("created_at", models.DateTimeField()),
                ("available_at", models.DateTimeField()),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField()),
            ],
            options={
                "default_permissions": (),
                "indexes": [models.Index(models.F("finished_at"), name="reportqueue_unmeasured")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["cancelled", "failed", "skipped", "succeeded"])),
                        name="reportqueue_unmeasured_is_final",
                    )
                ],
            },
        ),
    ]
