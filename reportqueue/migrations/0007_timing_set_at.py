"""When a schedule's timing was last set: what the scheduler planned since says nothing of a sensor's firings."""

from django.db import migrations, models
from django.db.models import F

import reportqueue.clock


def as_far_as_known(apps, schema_editor):
    schedules = apps.get_model("reportqueue", "ReportSchedule").objects.using(schema_editor.connection.alias)
    schedules.exclude(planned_from=None).update(timing_set_at=F("planned_from"))


class Migration(migrations.Migration):
    dependencies = [("reportqueue", "0006_claim_indexes")]

    operations = [
        migrations.AddField(
            model_name="reportschedule",
            name="timing_set_at",
            field=models.DateTimeField(
                db_default=reportqueue.clock.ClockTimestamp(),
                editable=False,
                help_text="The last edit of its timing, or resume: what fires until then is of the past.",
            ),
        ),
        migrations.RunPython(as_far_as_known, migrations.RunPython.noop),
    ]
