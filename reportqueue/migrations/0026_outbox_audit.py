"""Validates the words that the audit has got with the outbox."""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0025_outbox"),
    ]

    operations = [
        ValidateConstraint(model_name="auditentry", name="reportqueue_audit_words"),
    ]
