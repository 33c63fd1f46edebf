"""Deliveries that were given up lately are counted, so they have an index by when that was."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("reportqueue", "0029_traceparent"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="eventdelivery",
            index=models.Index(
                models.F("finished_at"),
                condition=models.Q(("status", "dead")),
                name="reportqueue_delivery_given_up",
            ),
        ),
    ]
