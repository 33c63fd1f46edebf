"""Validates that rows whose data were erased are final."""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0034_erased_at"),
    ]

    operations = [
        ValidateConstraint(model_name="reportqueue", name="reportqueue_erased_is_final"),
    ]
