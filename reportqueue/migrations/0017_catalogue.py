"""The catalogue of reports, routes, pauses, expiry and uniqueness."""

import django.core.validators
import django.db.models.functions.text
from django.db import migrations, models

import reportqueue.bounds
import reportqueue.clock
import reportqueue.params_schema


class Migration(migrations.Migration):
    dependencies = [
        ("reportqueue", "0016_consumer_deployments"),
    ]

    operations = [
        migrations.CreateModel(
            name="Pause",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "scope",
                    models.CharField(
                        choices=[("queue", "The whole queue"), ("route", "A route"), ("report", "A report")],
                        max_length=10,
                    ),
                ),
                (
                    "route",
                    models.CharField(
                        blank=True,
                        max_length=50,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A(?:[a-z0-9][a-z0-9_.-]{0,49})\\Z",
                                "Must be 1 to 50 small letters, digits, '.', '_' or '-', beginning with a letter or digit.",
                                code="invalid-route",
                            )
                        ],
                    ),
                ),
                (
                    "report_id",
                    models.BigIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(9223372036854775807),
                        ],
                        verbose_name="report",
                    ),
                ),
                (
                    "paused_at",
                    models.DateTimeField(
                        db_default=reportqueue.clock.ClockTimestamp(), editable=False, verbose_name="since (UTC)"
                    ),
                ),
                ("paused_by", models.CharField(blank=True, max_length=150, verbose_name="by")),
                ("note", models.CharField(blank=True, max_length=1000, validators=[reportqueue.bounds.validate_text])),
            ],
            options={
                "verbose_name": "pause",
                "ordering": ["paused_at", "id"],
                "permissions": [("pause_reportqueue", "Can pause and resume the queue, routes and reports")],
            },
        ),
        migrations.CreateModel(
            name="Report",
            fields=[
                (
                    "report_id",
                    models.BigIntegerField(
                        help_text="Never changes.",
                        primary_key=True,
                        serialize=False,
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(9223372036854775807),
                        ],
                        verbose_name="number",
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        help_text="Shown wherever the number would be.",
                        max_length=100,
                        validators=[reportqueue.bounds.validate_text],
                    ),
                ),
                (
                    "description",
                    models.TextField(blank=True, max_length=4000, validators=[reportqueue.bounds.validate_text]),
                ),
                (
                    "owner",
                    models.CharField(
                        blank=True,
                        help_text="Whom to ask: a person or a team.",
                        max_length=100,
                        validators=[reportqueue.bounds.validate_text],
                    ),
                ),
                (
                    "params_schema",
                    models.JSONField(
                        blank=True,
                        help_text="JSON Schema, draft 2020-12. Parameters that do not fit are refused. Empty: any parameters.",
                        null=True,
                        validators=[reportqueue.params_schema.validate],
                        verbose_name="schema of the parameters",
                    ),
                ),
                (
                    "default_params",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text="Of each report; a parameter with the same name replaces one of these.",
                        validators=[reportqueue.bounds.validate_json_object],
                        verbose_name="default parameters",
                    ),
                ),
                (
                    "priority",
                    models.SmallIntegerField(
                        blank=True,
                        help_text="-100 to 100, higher first. Used where the caller gives none.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(-100),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "max_attempts",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Used where the caller gives none.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                        verbose_name="attempts",
                    ),
                ),
                (
                    "lease_seconds",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="How long its run may be silent. Used where the run's job gives none.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(5),
                            django.core.validators.MaxValueValidator(86400),
                        ],
                        verbose_name="lease (seconds)",
                    ),
                ),
                (
                    "route",
                    models.CharField(
                        default="default",
                        help_text="Which consumers get its reports. Used where the caller gives none.",
                        max_length=50,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A(?:[a-z0-9][a-z0-9_.-]{0,49})\\Z",
                                "Must be 1 to 50 small letters, digits, '.', '_' or '-', beginning with a letter or digit.",
                                code="invalid-route",
                            )
                        ],
                    ),
                ),
                (
                    "max_running",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Of this report, claimed, launched or running at once.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000),
                        ],
                        verbose_name="at most under way",
                    ),
                ),
                (
                    "max_running_per_modifier",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="The same, of one modifier.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000),
                        ],
                        verbose_name="at most under way for each modifier",
                    ),
                ),
                (
                    "rate_limit",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="At most so many in any period.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(10000),
                        ],
                        verbose_name="starts",
                    ),
                ),
                (
                    "rate_period_seconds",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2678400),
                        ],
                        verbose_name="in a period of (seconds)",
                    ),
                ),
                (
                    "expires_after_seconds",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="A report that has not started so long after it was due is skipped.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(31622400),
                        ],
                        verbose_name="expires after (seconds)",
                    ),
                ),
                (
                    "deadline_seconds",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="A report that has not succeeded so long after it was due is late.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(31622400),
                        ],
                        verbose_name="deadline (seconds)",
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=reportqueue.clock.ClockTimestamp(), editable=False)),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "verbose_name": "report",
                "db_table": "reportqueue_catalogue",
                "ordering": ["name"],
            },
        ),
        migrations.AddField(
            model_name="reportattempt",
            name="report_id",
            field=models.BigIntegerField(
                editable=False,
                help_text="Of a report with a rate: its starts are counted.",
                null=True,
                verbose_name="report",
            ),
        ),
        migrations.AddField(
            model_name="reportconsumer",
            name="routes",
            field=models.JSONField(editable=False, help_text="Those of its last claim; empty: all.", null=True),
        ),
        migrations.AddField(
            model_name="reportqueue",
            name="expires_at",
            field=models.DateTimeField(
                editable=False,
                help_text="If it has not started by then, it is skipped; empty once it has started.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="reportqueue",
            name="route",
            field=models.CharField(
                db_default="default",
                default="default",
                help_text="Which consumers get it; fixed when it is queued.",
                max_length=50,
                validators=[
                    django.core.validators.RegexValidator(
                        "\\A(?:[a-z0-9][a-z0-9_.-]{0,49})\\Z",
                        "Must be 1 to 50 small letters, digits, '.', '_' or '-', beginning with a letter or digit.",
                        code="invalid-route",
                    )
                ],
            ),
        ),
        migrations.AddField(
            model_name="reportschedule",
            name="unique",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="A firing is skipped while the same report with the same modifier and parameters is unfinished, whoever has queued it.",
                verbose_name="only if it is not unfinished already",
            ),
        ),
        migrations.AddField(
            model_name="webhooksource",
            name="unique",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="A delivery adds nothing while the same report with the same modifier and parameters is unfinished, whoever has queued it.",
                verbose_name="only if it is not unfinished already",
            ),
        ),
        migrations.AddConstraint(
            model_name="pause",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("report_id", None), ("route", ""), ("scope", "queue")),
                    models.Q(("report_id", None), ("route__regex", "^[a-z0-9][a-z0-9_.-]{0,49}$"), ("scope", "route")),
                    models.Q(("report_id__gte", 0), ("route", ""), ("scope", "report")),
                    _connector="OR",
                ),
                name="reportqueue_pause_of",
            ),
        ),
        migrations.AddConstraint(
            model_name="pause",
            constraint=models.UniqueConstraint(
                fields=("scope", "route", "report_id"), name="reportqueue_pause_once", nulls_distinct=False
            ),
        ),
        migrations.AddConstraint(
            model_name="report",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"),
                name="reportqueue_catalogue_name",
                violation_error_message="Another report has this name.",
            ),
        ),
        migrations.AddConstraint(
            model_name="report",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("report_id__gte", 0),
                    models.Q(("priority", None), ("priority__range", (-100, 100)), _connector="OR"),
                    models.Q(("max_attempts", None), ("max_attempts__range", (1, 100)), _connector="OR"),
                    models.Q(("lease_seconds", None), ("lease_seconds__range", (5, 86400)), _connector="OR"),
                    models.Q(("max_running", None), ("max_running__range", (1, 1000000)), _connector="OR"),
                    models.Q(
                        ("max_running_per_modifier", None),
                        ("max_running_per_modifier__range", (1, 1000000)),
                        _connector="OR",
                    ),
                    models.Q(("rate_limit", None), ("rate_limit__range", (1, 10000)), _connector="OR"),
                    models.Q(
                        ("rate_period_seconds", None), ("rate_period_seconds__range", (1, 2678400)), _connector="OR"
                    ),
                    models.Q(
                        ("expires_after_seconds", None),
                        ("expires_after_seconds__range", (1, 31622400)),
                        _connector="OR",
                    ),
                    models.Q(("deadline_seconds", None), ("deadline_seconds__range", (1, 31622400)), _connector="OR"),
                ),
                name="reportqueue_catalogue_numbers",
            ),
        ),
        migrations.AddConstraint(
            model_name="report",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("rate_limit", None), ("rate_period_seconds", None)),
                    models.Q(("rate_limit__isnull", False), ("rate_period_seconds__isnull", False)),
                    _connector="OR",
                ),
                name="reportqueue_catalogue_rate",
                violation_error_message="A rate is a number of starts and a period: give both, or neither.",
            ),
        ),
        migrations.AddConstraint(
            model_name="report",
            constraint=models.CheckConstraint(
                condition=models.Q(("route__regex", "^[a-z0-9][a-z0-9_.-]{0,49}$")), name="reportqueue_catalogue_route"
            ),
        ),
    ]
