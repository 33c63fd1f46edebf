"""The pattern `webhook`, which polls and is no webhook, is called `polling`."""

from django.db import migrations, models
from django.db.models import Q

CHOICES = [
    ("cron", "Cron sensor"),
    ("asset", "Asset sensor"),
    ("polling", "Polling of pending rows"),
    ("queue", "Queue"),
]
CONSTRAINTS = {"triggerperiod": "reportqueue_period_pattern", "reportconsumer": "reportqueue_consumer_pattern"}


def rename(before, after):
    """Rename it in all rows."""

    def change(apps, schema_editor):
        for model in CONSTRAINTS:
            rows = apps.get_model("reportqueue", model)._base_manager.using(schema_editor.connection.alias)
            rows.filter(pattern=before).update(pattern=after)

    return change


class Migration(migrations.Migration):
    dependencies = [("reportqueue", "0013_api_tokens")]

    operations = [
        *(migrations.RemoveConstraint(model, name) for model, name in CONSTRAINTS.items()),
        migrations.RunPython(rename("webhook", "polling"), rename("polling", "webhook")),
        *(
            migrations.AlterField(model, "pattern", models.CharField(choices=CHOICES, max_length=10))
            for model in CONSTRAINTS
        ),
        *(
            migrations.AddConstraint(
                model,
                models.CheckConstraint(
                    condition=Q(pattern__in=["asset", "cron", "polling", "queue"]),
                    name=name,
                ),
            )
            for model, name in CONSTRAINTS.items()
        ),
    ]
