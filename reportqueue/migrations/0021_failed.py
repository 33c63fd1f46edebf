"""What has failed lately."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("reportqueue", "0020_measures"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="reportqueue",
            index=models.Index(
                models.F("finished_at"), condition=models.Q(("status", "failed")), name="reportqueue_failed"
            ),
        ),
    ]
