"""The audit gets the kind `modifier`, and its texts may be erased; who did what when still never changes."""

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models

_ERASABLE = """
CREATE OR REPLACE FUNCTION reportqueue_audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('reportqueue.pruning', true) = 'on' THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND current_setting('reportqueue.erasing', true) = 'on'
        AND to_jsonb(NEW) - ARRAY['label', 'changes', 'reason'] = to_jsonb(OLD) - ARRAY['label', 'changes', 'reason'] THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'An audit entry never changes; prune_report_queue deletes old ones.' USING ERRCODE = 'check_violation';
END $$;
"""
_FIXED = """
CREATE OR REPLACE FUNCTION reportqueue_audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('reportqueue.pruning', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'An audit entry never changes; prune_report_queue deletes old ones.' USING ERRCODE = 'check_violation';
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0030_given_up"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="auditentry",
            name="reportqueue_audit_words",
        ),
        migrations.AlterField(
            model_name="auditentry",
            name="kind",
            field=models.CharField(
                choices=[
                    ("row", "Queued report"),
                    ("schedule", "Schedule"),
                    ("report", "Report"),
                    ("calendar", "Blackout calendar"),
                    ("webhook", "Webhook source"),
                    ("token", "API token"),
                    ("pause", "Pause"),
                    ("pattern", "Pattern"),
                    ("failure", "Group of failures"),
                    ("bulk", "Bulk action"),
                    ("subscriber", "Webhook subscription"),
                    ("alert", "Alert rule"),
                    ("delivery", "Webhook delivery"),
                    ("modifier", "Modifier"),
                ],
                max_length=10,
                verbose_name="what",
            ),
        ),
        AddConstraintNotValid(
            model_name="auditentry",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "kind__in",
                        [
                            "alert",
                            "bulk",
                            "calendar",
                            "delivery",
                            "failure",
                            "modifier",
                            "pattern",
                            "pause",
                            "report",
                            "row",
                            "schedule",
                            "subscriber",
                            "token",
                            "webhook",
                        ],
                    ),
                    ("via__in", ["api", "code", "command", "page"]),
                ),
                name="reportqueue_audit_words",
            ),
        ),
        migrations.RunSQL(_ERASABLE, _FIXED),
    ]
