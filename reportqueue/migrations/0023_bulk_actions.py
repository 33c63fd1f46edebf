"""Bulk actions, and the rows that each has changed."""

import django.core.validators
import django.db.models.deletion
import reportqueue.bounds
import reportqueue.clock
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0022_audit"),
    ]

    operations = [
        migrations.CreateModel(
            name="BulkAction",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "verb",
                    models.CharField(
                        choices=[("requeue", "Requeue"), ("cancel", "Cancel")], max_length=10, verbose_name="what"
                    ),
                ),
                ("filters", models.JSONField(default=dict, help_text="Names of the API's filters, and their values.")),
                (
                    "reason",
                    models.CharField(blank=True, max_length=1000, validators=[reportqueue.bounds.validate_text]),
                ),
                ("requested_by", models.CharField(blank=True, max_length=150, verbose_name="by")),
                (
                    "requested_via",
                    models.CharField(
                        choices=[("page", "Page"), ("api", "API"), ("command", "Command"), ("code", "Code")],
                        default="code",
                        max_length=10,
                        verbose_name="way",
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("running", "Running"),
                            ("paused", "Paused"),
                            ("finished", "Finished"),
                            ("cancelled", "Stopped"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=reportqueue.clock.ClockTimestamp(), editable=False, verbose_name="since (UTC)"
                    ),
                ),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "worked_at",
                    models.DateTimeField(help_text="When its last batch was done, or when it was resumed.", null=True),
                ),
                (
                    "first_id",
                    models.BigIntegerField(default=0, help_text="The rows that it looks at have larger numbers."),
                ),
                ("last_id", models.BigIntegerField(default=0, help_text="Up to this row it is done.")),
                ("until_id", models.BigIntegerField(default=0, help_text="Later rows did not exist when it was made.")),
                (
                    "total",
                    models.PositiveIntegerField(
                        help_text="Rows that matched when it was made; empty if counting them took too long.", null=True
                    ),
                ),
                ("more", models.BooleanField(default=False, help_text="Whether more rows matched than were counted.")),
                ("done", models.PositiveBigIntegerField(default=0, help_text="Rows that it has changed.")),
                (
                    "asked",
                    models.PositiveBigIntegerField(
                        default=0, help_text="Running rows among them that it has asked to end."
                    ),
                ),
                ("refused", models.JSONField(default=dict, help_text="Why rows were refused, and how many.")),
                ("problem", models.TextField(blank=True, help_text="The error that has paused it.")),
                (
                    "idempotency_key",
                    models.CharField(
                        blank=True,
                        max_length=200,
                        null=True,
                        validators=[django.core.validators.MinLengthValidator(1), reportqueue.bounds.validate_text],
                    ),
                ),
                ("idempotency_scope", models.CharField(blank=True, default="", editable=False, max_length=300)),
                (
                    "undo_of",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="undos",
                        to="reportqueue.bulkaction",
                    ),
                ),
            ],
            options={
                "verbose_name": "bulk action",
                "verbose_name_plural": "bulk actions",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="BulkActionRow",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("queue_id", models.BigIntegerField()),
                ("generation", models.PositiveIntegerField()),
                ("changed_at", models.DateTimeField()),
                ("asked", models.BooleanField(default=False, help_text="It was running, and was asked to end.")),
                (
                    "bulk_action",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="rows",
                        to="reportqueue.bulkaction",
                    ),
                ),
            ],
            options={
                "verbose_name": "row of a bulk action",
                "default_permissions": (),
            },
        ),
        migrations.AddIndex(
            model_name="bulkaction",
            index=models.Index(
                models.F("worked_at"),
                models.F("id"),
                condition=models.Q(("finished_at", None)),
                name="reportqueue_bulk_open",
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkaction",
            constraint=models.CheckConstraint(
                condition=models.Q(("verb__in", ["cancel", "requeue"])), name="reportqueue_bulk_verb"
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkaction",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["cancelled", "finished", "paused", "running", "waiting"])),
                name="reportqueue_bulk_status",
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkaction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("status__in", ["cancelled", "finished"]), ("finished_at__isnull", False)),
                    models.Q(models.Q(("status__in", ["cancelled", "finished"]), _negated=True), ("finished_at", None)),
                    _connector="OR",
                ),
                name="reportqueue_bulk_finished_iff_ended",
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkaction",
            constraint=models.CheckConstraint(
                condition=models.Q(("asked__lte", models.F("done"))), name="reportqueue_bulk_asked"
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkaction",
            constraint=models.UniqueConstraint(
                fields=("idempotency_key", "idempotency_scope"), name="reportqueue_bulk_idempotency_key"
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkaction",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status", "cancelled"), _negated=True),
                fields=("undo_of",),
                name="reportqueue_bulk_one_undo",
            ),
        ),
        migrations.AddIndex(
            model_name="bulkactionrow",
            index=models.Index(models.F("queue_id"), name="reportqueue_bulk_of_row"),
        ),
        migrations.AddConstraint(
            model_name="bulkactionrow",
            constraint=models.UniqueConstraint(
                fields=("bulk_action", "queue_id"), name="reportqueue_bulk_once_per_row"
            ),
        ),
    ]
