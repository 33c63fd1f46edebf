"""The outbox: events, subscriptions of webhooks, their deliveries; the audit knows them."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import reportqueue.addresses
import reportqueue.bounds
import reportqueue.clock
import reportqueue.webhook_secrets
import uuid
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0024_failures"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "uid",
                    models.UUIDField(default=uuid.uuid4, help_text="The random part of the header webhook-id."),
                ),
                (
                    "type",
                    models.CharField(
                        choices=[
                            ("report.succeeded", "A report succeeded"),
                            ("report.failed", "A report failed for good"),
                            ("report.late", "A report missed its deadline"),
                            ("report.skipped", "A report was skipped"),
                            ("report.cancelled", "A report was cancelled"),
                            ("schedule.disabled", "A schedule was paused or disabled"),
                            ("schedule.overdue", "A schedule is overdue"),
                            ("schedule.on_time", "A schedule is no longer overdue"),
                            ("queue.paused", "The queue, a route or a report was paused"),
                            ("queue.resumed", "The queue, a route or a report was resumed"),
                            ("consumers.silent", "Nobody claims reports"),
                            ("consumers.heard", "Reports are claimed again"),
                            ("webhook.disabled", "A webhook subscription was disabled by its failures"),
                            ("webhook.test", "A test, sent by a person"),
                        ],
                        max_length=40,
                    ),
                ),
                (
                    "subject",
                    models.CharField(
                        help_text="What it is about, such as row:17. Its events stay in their order.", max_length=80
                    ),
                ),
                ("report_id", models.BigIntegerField(null=True, verbose_name="report")),
                ("at", models.DateTimeField(db_default=reportqueue.clock.ClockTimestamp(), verbose_name="at (UTC)")),
                ("data", models.JSONField(default=dict)),
            ],
            options={
                "indexes": [models.Index(models.F("subject"), name="reportqueue_event_subject")],
                "verbose_name": "event",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="WebhookSubscription",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "url",
                    models.CharField(
                        max_length=500, validators=[reportqueue.addresses.validate_url], verbose_name="address"
                    ),
                ),
                (
                    "of_alerts",
                    models.BooleanField(
                        db_default=False,
                        default=False,
                        editable=False,
                        help_text="The one subscription of the alert rules: its events are counted, and sent nowhere.",
                    ),
                ),
                (
                    "description",
                    models.CharField(blank=True, max_length=200, validators=[reportqueue.bounds.validate_text]),
                ),
                ("enabled", models.BooleanField(default=True)),
                (
                    "event_types",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[
                                ("report.succeeded", "A report succeeded"),
                                ("report.failed", "A report failed for good"),
                                ("report.late", "A report missed its deadline"),
                                ("report.skipped", "A report was skipped"),
                                ("report.cancelled", "A report was cancelled"),
                                ("schedule.disabled", "A schedule was paused or disabled"),
                                ("schedule.overdue", "A schedule is overdue"),
                                ("schedule.on_time", "A schedule is no longer overdue"),
                                ("queue.paused", "The queue, a route or a report was paused"),
                                ("queue.resumed", "The queue, a route or a report was resumed"),
                                ("consumers.silent", "Nobody claims reports"),
                                ("consumers.heard", "Reports are claimed again"),
                                ("webhook.disabled", "A webhook subscription was disabled by its failures"),
                            ],
                            max_length=40,
                        ),
                        size=13,
                        verbose_name="events",
                    ),
                ),
                (
                    "report_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(
                            validators=[
                                django.core.validators.MinValueValidator(0),
                                django.core.validators.MaxValueValidator(9223372036854775807),
                            ]
                        ),
                        blank=True,
                        default=list,
                        help_text="The numbers of the reports whose events it gets, with commas between them; empty: of all. Events that are not of one report come in any case.",
                        size=100,
                        verbose_name="reports",
                    ),
                ),
                ("seed", models.CharField(default=reportqueue.webhook_secrets.new_seed, editable=False, max_length=43)),
                ("previous_seed", models.CharField(blank=True, editable=False, max_length=43)),
                (
                    "previous_until",
                    models.DateTimeField(
                        editable=False,
                        help_text="Until then, events are signed with the earlier secret, too.",
                        null=True,
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=reportqueue.clock.ClockTimestamp(), editable=False)),
                (
                    "failures",
                    models.PositiveIntegerField(
                        db_default=0,
                        default=0,
                        editable=False,
                        help_text="Attempts that have failed since the last success.",
                    ),
                ),
                ("failing_since", models.DateTimeField(editable=False, null=True)),
                (
                    "retry_at",
                    models.DateTimeField(
                        editable=False, help_text="While it fails, nothing is sent to it before this.", null=True
                    ),
                ),
                ("disabled_reason", models.CharField(blank=True, default="", editable=False, max_length=300)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("event_types", []), _negated=True), name="reportqueue_subscription_events"
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("of_alerts", True)),
                        fields=("of_alerts",),
                        name="reportqueue_subscription_alerts",
                    ),
                ],
                "verbose_name": "webhook subscription",
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="EventDelivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "subscription",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="deliveries",
                        to="reportqueue.webhooksubscription",
                    ),
                ),
                (
                    "event",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="reportqueue.outboxevent",
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[("pending", "Pending"), ("delivered", "Delivered"), ("dead", "Given up")],
                        default="pending",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveIntegerField(db_default=0, default=0)),
                ("first_attempt_at", models.DateTimeField(null=True)),
                (
                    "due_at",
                    models.DateTimeField(
                        db_default=reportqueue.clock.ClockTimestamp(), verbose_name="next attempt (UTC)"
                    ),
                ),
                ("lease_token", models.UUIDField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        models.F("subscription"),
                        models.F("due_at"),
                        models.F("event"),
                        condition=models.Q(("status", "pending")),
                        name="reportqueue_delivery_due",
                    ),
                    models.Index(
                        models.F("id"), condition=models.Q(("status", "dead")), name="reportqueue_delivery_dead"
                    ),
                    models.Index(
                        models.F("finished_at"),
                        condition=models.Q(("finished_at__isnull", False)),
                        name="reportqueue_delivery_ended",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("event", "subscription"), name="reportqueue_delivery_once"),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["dead", "delivered", "pending"])),
                        name="reportqueue_delivery_status",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("finished_at", None), ("status", "pending")),
                            models.Q(
                                models.Q(("status", "pending"), _negated=True),
                                ("finished_at__isnull", False),
                                ("lease_token", None),
                            ),
                            _connector="OR",
                        ),
                        name="reportqueue_delivery_finished",
                    ),
                ],
                "verbose_name": "webhook delivery",
                "verbose_name_plural": "webhook deliveries",
                "ordering": ["-id"],
                "permissions": [("redeliver_eventdelivery", "Can have webhook deliveries sent again")],
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="DeliveryAttempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "delivery",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="log",
                        to="reportqueue.eventdelivery",
                    ),
                ),
                ("at", models.DateTimeField(db_default=reportqueue.clock.ClockTimestamp(), verbose_name="at (UTC)")),
                (
                    "status_code",
                    models.PositiveSmallIntegerField(help_text="Of the answer; empty without one.", null=True),
                ),
                ("milliseconds", models.PositiveIntegerField()),
                ("answer", models.CharField(blank=True, help_text="The begin of the answer.", max_length=500)),
                ("problem", models.CharField(blank=True, help_text="Why it did not succeed.", max_length=300)),
            ],
            options={
                "verbose_name": "attempt to deliver",
                "ordering": ["id"],
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Trouble",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("type", models.CharField(max_length=40)),
                ("subject", models.CharField(max_length=80)),
                ("report_id", models.BigIntegerField(null=True)),
                ("since", models.DateTimeField(db_default=reportqueue.clock.ClockTimestamp())),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("type", "subject"), name="reportqueue_trouble_once")],
                "verbose_name": "trouble",
                "default_permissions": (),
            },
        ),
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
    ]
