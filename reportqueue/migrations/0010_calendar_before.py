"""The calendar by which a schedule was planned, while a change of it waits for the next pass."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("reportqueue", "0009_turns")]

    operations = [
        migrations.AddField(
            model_name="reportschedule",
            name="calendar_before",
            field=models.JSONField(
                editable=False,
                help_text="Its calendar when it was planned, if that has changed since and moves its instants.",
                null=True,
            ),
        ),
    ]
