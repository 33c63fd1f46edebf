"""Rows whose data were erased say so, and stay final: they would run without their parameters."""

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0033_unmeasured_ends"),
    ]

    operations = [
        migrations.AddField(
            model_name="reportqueue",
            name="erased_at",
            field=models.DateTimeField(
                editable=False,
                help_text="When its data were erased: its parameters are gone, and it cannot be run again.",
                null=True,
            ),
        ),
        AddConstraintNotValid(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("erased_at", None),
                    ("status__in", ["cancelled", "failed", "skipped", "succeeded"]),
                    _connector="OR",
                ),
                name="reportqueue_erased_is_final",
            ),
        ),
    ]
