"""The trace that a row belongs to."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0028_measure_totals"),
    ]

    operations = [
        migrations.AddField(
            model_name="reportqueue",
            name="traceparent",
            field=models.CharField(editable=False, max_length=55, null=True),
        ),
    ]
