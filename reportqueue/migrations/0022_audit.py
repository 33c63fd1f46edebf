"""Who asked for a row, and who did what; the database refuses to change an entry."""

import reportqueue.clock
from django.db import migrations, models


_KEEP = """
CREATE FUNCTION reportqueue_audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('reportqueue.pruning', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'An audit entry never changes; prune_report_queue deletes old ones.' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER reportqueue_audit_stays BEFORE UPDATE OR DELETE ON reportqueue_auditentry
FOR EACH ROW EXECUTE FUNCTION reportqueue_audit_stays();
"""
_DROP = """
DROP TRIGGER IF EXISTS reportqueue_audit_stays ON reportqueue_auditentry;
DROP FUNCTION IF EXISTS reportqueue_audit_stays();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0021_failed"),
    ]

    operations = [
        migrations.AddField(
            model_name="reportqueue",
            name="queued_by",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                help_text="Who asked for it; empty: a schedule, a webhook source or code did.",
                max_length=150,
            ),
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "at",
                    models.DateTimeField(
                        db_default=reportqueue.clock.ClockTimestamp(), editable=False, verbose_name="at (UTC)"
                    ),
                ),
                ("action", models.CharField(help_text="A verb, such as cancel, change or resume.", max_length=30)),
                ("by", models.CharField(blank=True, help_text="A user, or what stands for one.", max_length=150)),
                (
                    "via",
                    models.CharField(
                        choices=[("page", "Page"), ("api", "API"), ("command", "Command"), ("code", "Code")],
                        max_length=10,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
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
                        ],
                        max_length=10,
                        verbose_name="what",
                    ),
                ),
                ("object_id", models.CharField(max_length=64, verbose_name="number")),
                ("label", models.CharField(blank=True, help_text="What it was called then.", max_length=200)),
                (
                    "changes",
                    models.JSONField(default=dict, help_text="Each changed field, with its value before and after."),
                ),
                ("reason", models.CharField(blank=True, max_length=1000)),
            ],
            options={
                "verbose_name": "audit entry",
                "verbose_name_plural": "audit",
                "ordering": ["-id"],
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(models.F("kind"), models.F("object_id"), models.F("id"), name="reportqueue_audit_of"),
                    models.Index(models.F("by"), models.F("id"), name="reportqueue_audit_by"),
                    models.Index(models.F("at"), name="reportqueue_audit_at"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "kind__in",
                                [
                                    "bulk",
                                    "calendar",
                                    "failure",
                                    "pattern",
                                    "pause",
                                    "report",
                                    "row",
                                    "schedule",
                                    "token",
                                    "webhook",
                                ],
                            ),
                            ("via__in", ["api", "code", "command", "page"]),
                        ),
                        name="reportqueue_audit_words",
                    )
                ],
            },
        ),
        migrations.RunSQL(_KEEP, _DROP),
    ]
