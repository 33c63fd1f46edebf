"""When a row is late."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("reportqueue", "0018_catalogue_indexes"),
    ]

    operations = [
        migrations.AddField(
            model_name="reportqueue",
            name="deadline_at",
            field=models.DateTimeField(
                editable=False, help_text="If it has not succeeded by then, it is late.", null=True
            ),
        ),
        AddIndexConcurrently(
            model_name="reportqueue",
            index=models.Index(
                models.F("deadline_at"),
                condition=models.Q(
                    ("deadline_at__isnull", False), ("status__in", ["claimed", "dispatched", "queued", "running"])
                ),
                name="reportqueue_deadline",
            ),
        ),
    ]
