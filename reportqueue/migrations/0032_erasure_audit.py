"""Validates the words that the audit has got with the erasure of modifiers."""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0031_erasure"),
    ]

    operations = [
        ValidateConstraint(model_name="auditentry", name="reportqueue_audit_words"),
    ]
