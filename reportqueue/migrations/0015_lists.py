"""Indexes of the lists: a page costs the same however many rows have finished."""

from django.db import migrations, models
from django.db.models import F, Q

UNFINISHED = Q(status__in=["claimed", "dispatched", "queued", "running"])
ENDED = Q(status__in=["cancelled", "failed", "skipped", "succeeded"])


def ended(field):
    """The index of finished rows by a field and their trigger time."""
    name = f"reportqueue_ended_{field.removesuffix('_id')}"
    return models.Index(F(field), F("trigger_time"), F("id"), name=name, condition=ENDED)


class Migration(migrations.Migration):
    dependencies = [("reportqueue", "0014_polling")]

    operations = [
        migrations.RemoveIndex("reportqueue", "reportqueue_trigger_time"),
        migrations.AddIndex(
            "reportqueue",
            models.Index(F("trigger_time"), F("id"), name="reportqueue_unfinished", condition=UNFINISHED),
        ),
        *(
            migrations.AddIndex("reportqueue", ended(field))
            for field in ("status", "source", "report_id", "modifier_id")
        ),
        migrations.AddIndex(
            "reportqueue",
            models.Index(
                fields=["run_id"],
                opclasses=["varchar_pattern_ops"],
                name="reportqueue_run",
                condition=~Q(run_id=""),
            ),
        ),
    ]
