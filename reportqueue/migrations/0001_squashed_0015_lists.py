"""The tables, as the first fifteen migrations made them: an installation that has all of those continues here."""

import datetime
import django.contrib.postgres.constraints
import django.core.validators
import django.db.models.deletion
import reportqueue.bounds
import reportqueue.clock
import reportqueue.models.period
import reportqueue.models.webhook
import reportqueue.payloads
from django.conf import settings
from django.db import migrations, models


# A table whose every row is updated four times or more, and whose dead rows every claim meets.
# fillfactor: a fifth of each page stays free, so that a row's next version finds room beside it.
# Autovacuum: by default it waits until a fifth of the table is dead, which with a million finished rows is 200,000
# dead entries in the small partial index that every claim walks. Here: 1,000 dead rows and 1 % of the table, without
# the pauses that suit large, quiet tables. Analyze likewise: the planner must know how few rows are queued.
TABLE_CARE = {
    "fillfactor": "80",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_analyze_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
}


class Migration(migrations.Migration):
    initial = True
    replaces = [
        ("reportqueue", name)
        for name in (
            "0001_initial",
            "0002_table_care",
            "0003_schedule_policies",
            "0004_webhook_sources",
            "0005_trigger_periods",
            "0006_claim_indexes",
            "0007_timing_set_at",
            "0008_suspects",
            "0009_turns",
            "0010_calendar_before",
            "0011_consumers",
            "0012_owners",
            "0013_api_tokens",
            "0014_polling",
            "0015_lists",
        )
    ]

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="BlackoutCalendar",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100, unique=True)),
            ],
            options={
                "verbose_name": "blackout calendar",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="ReportConsumer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "pattern",
                    models.CharField(
                        choices=[
                            ("cron", "Cron sensor"),
                            ("asset", "Asset sensor"),
                            ("polling", "Polling of pending rows"),
                            ("queue", "Queue"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        help_text="Under which it claims; of a sensor that polls, its user.", max_length=100
                    ),
                ),
                ("seen_at", models.DateTimeField(db_default=reportqueue.clock.ClockTimestamp(), editable=False)),
            ],
            options={
                "verbose_name": "consumer",
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(models.F("pattern"), models.F("name"), name="reportqueue_consumer_once"),
                    models.CheckConstraint(
                        condition=models.Q(("pattern__in", ["asset", "cron", "polling", "queue"])),
                        name="reportqueue_consumer_pattern",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ReportSchedule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "report_id",
                    models.BigIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(9223372036854775807),
                        ],
                        verbose_name="report",
                    ),
                ),
                (
                    "modifier_id",
                    models.BigIntegerField(
                        help_text="The variant: a customer, a year, a region.",
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(9223372036854775807),
                        ],
                        verbose_name="modifier",
                    ),
                ),
                (
                    "cron",
                    models.CharField(
                        blank=True,
                        help_text="Five fields: minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly, @yearly. Example: 0 8 * * MON",
                        max_length=200,
                    ),
                ),
                (
                    "interval_seconds",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Instead of a cron expression: elapsed time, whatever the clock does; counted from the start.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(10),
                            django.core.validators.MaxValueValidator(31622400),
                        ],
                        verbose_name="interval (seconds)",
                    ),
                ),
                (
                    "timezone",
                    models.CharField(
                        default="UTC",
                        help_text="An IANA name such as Europe/Paris.",
                        max_length=64,
                        verbose_name="time zone",
                    ),
                ),
                (
                    "start_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="The first instant at which it may fire.",
                        null=True,
                        validators=[reportqueue.bounds.validate_instant],
                        verbose_name="start",
                    ),
                ),
                (
                    "end_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="The last instant at which it may fire.",
                        null=True,
                        validators=[reportqueue.bounds.validate_instant],
                        verbose_name="end",
                    ),
                ),
                (
                    "blackout",
                    models.CharField(
                        choices=[
                            ("skip", "Skip it"),
                            ("next_open_day", "Move it to the next open day"),
                            ("previous_open_day", "Move it to the previous open day"),
                        ],
                        default="skip",
                        max_length=20,
                        verbose_name="when the calendar is closed",
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("paused_at", models.DateTimeField(editable=False, null=True)),
                ("paused_by", models.CharField(blank=True, editable=False, max_length=150)),
                (
                    "pause_note",
                    models.CharField(
                        blank=True, editable=False, max_length=1000, validators=[reportqueue.bounds.validate_text]
                    ),
                ),
                (
                    "catch_up",
                    models.CharField(
                        choices=[("skip", "Skip them"), ("last", "Run the last one"), ("all", "Run all of them")],
                        default="all",
                        help_text="What becomes of instants that pass while no scheduler runs.",
                        max_length=10,
                        verbose_name="missed instants",
                    ),
                ),
                (
                    "catch_up_window_seconds",
                    models.PositiveIntegerField(
                        default=604800,
                        help_text="What was missed longer ago than this is skipped.",
                        validators=[
                            django.core.validators.MinValueValidator(60),
                            django.core.validators.MaxValueValidator(31622400),
                        ],
                        verbose_name="catch-up window (seconds)",
                    ),
                ),
                (
                    "catch_up_limit",
                    models.PositiveSmallIntegerField(
                        default=1000,
                        help_text="At most this many missed instants are made up for, the newest.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000),
                        ],
                        verbose_name="catch-up limit",
                    ),
                ),
                (
                    "overlap",
                    models.CharField(
                        choices=[
                            ("allow", "Queue it all the same"),
                            ("skip", "Skip it"),
                            ("queue_one", "Let one wait"),
                        ],
                        default="allow",
                        max_length=10,
                        verbose_name="while an earlier report is unfinished",
                    ),
                ),
                (
                    "jitter_seconds",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="Spreads the load: each firing is available up to this much later, always by the same amount.",
                        validators=[django.core.validators.MaxValueValidator(86400)],
                        verbose_name="jitter (seconds)",
                    ),
                ),
                (
                    "params",
                    models.JSONField(blank=True, default=dict, validators=[reportqueue.bounds.validate_json_object]),
                ),
                (
                    "priority",
                    models.SmallIntegerField(
                        default=0,
                        help_text="-100 to 100, higher first.",
                        validators=[
                            django.core.validators.MinValueValidator(-100),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "max_attempts",
                    models.PositiveSmallIntegerField(
                        default=3,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                ("next_run_at", models.DateTimeField(editable=False, null=True, verbose_name="next run (UTC)")),
                (
                    "planned_from",
                    models.DateTimeField(
                        editable=False, help_text="The anchor: the last firing, edit or resume.", null=True
                    ),
                ),
                ("plan_needed", models.BooleanField(db_default=True, default=True, editable=False)),
                (
                    "calendar_before",
                    models.JSONField(
                        editable=False,
                        help_text="Its calendar when it was planned, if that has changed since and moves its instants.",
                        null=True,
                    ),
                ),
                (
                    "timing_set_at",
                    models.DateTimeField(
                        db_default=reportqueue.clock.ClockTimestamp(),
                        editable=False,
                        help_text="The last edit of its timing, or resume: what fires until then is of the past.",
                    ),
                ),
                (
                    "version",
                    models.PositiveIntegerField(
                        db_default=1, default=1, editable=False, help_text="+1 at each edit; what If-Match compares."
                    ),
                ),
                (
                    "error",
                    models.TextField(
                        blank=True, editable=False, help_text="Why the scheduler disabled it; cleared by a good save."
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=reportqueue.clock.ClockTimestamp(), editable=False)),
                (
                    "calendar",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="schedules",
                        to="reportqueue.blackoutcalendar",
                        verbose_name="blackout calendar",
                    ),
                ),
            ],
            options={
                "verbose_name": "report schedule",
                "ordering": ["report_id", "modifier_id", "id"],
            },
        ),
        migrations.CreateModel(
            name="ReportQueue",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "report_id",
                    models.BigIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(9223372036854775807),
                        ],
                        verbose_name="report",
                    ),
                ),
                (
                    "modifier_id",
                    models.BigIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(9223372036854775807),
                        ],
                        verbose_name="modifier",
                    ),
                ),
                (
                    "trigger_time",
                    models.DateTimeField(help_text="The nominal instant; never changes.", verbose_name="due (UTC)"),
                ),
                (
                    "available_at",
                    models.DateTimeField(help_text="When it may first be claimed.", verbose_name="available (UTC)"),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("claimed", "Claimed"),
                            ("dispatched", "Dispatched"),
                            ("running", "Running"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("skipped", "Skipped"),
                        ],
                        default="queued",
                        max_length=10,
                    ),
                ),
                (
                    "processed",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Case(
                            models.When(
                                status__in=["cancelled", "failed", "skipped", "succeeded"], then=models.Value(True)
                            ),
                            default=models.Value(False),
                        ),
                        output_field=models.BooleanField(),
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("schedule", "Schedule"),
                            ("backfill", "Backfill"),
                            ("api", "API"),
                            ("code", "Code"),
                            ("admin", "Admin"),
                            ("webhook", "Webhook"),
                        ],
                        default="code",
                        max_length=10,
                    ),
                ),
                (
                    "concurrency_key",
                    models.BigIntegerField(
                        editable=False,
                        help_text="The id of the schedule whose reports take turns, also after the schedule is deleted; empty for a report that may overlap.",
                        null=True,
                    ),
                ),
                (
                    "waiting",
                    models.BooleanField(
                        db_default=False,
                        default=False,
                        editable=False,
                        help_text="Another report of its schedule is unfinished: neither handed out nor started before its turn.",
                    ),
                ),
                (
                    "params",
                    models.JSONField(blank=True, default=dict, validators=[reportqueue.bounds.validate_json_object]),
                ),
                (
                    "priority",
                    models.SmallIntegerField(
                        default=0,
                        validators=[
                            django.core.validators.MinValueValidator(-100),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "idempotency_key",
                    models.CharField(
                        blank=True,
                        max_length=200,
                        null=True,
                        validators=[django.core.validators.MinLengthValidator(1), reportqueue.bounds.validate_text],
                    ),
                ),
                (
                    "idempotency_scope",
                    models.CharField(
                        blank=True,
                        db_default="",
                        default="",
                        editable=False,
                        help_text="Whose key it is: an API user's, a webhook source's; empty: that of this project's code.",
                        max_length=300,
                    ),
                ),
                (
                    "idempotency_digest",
                    models.CharField(
                        editable=False,
                        help_text="Of the content that the key was first used with.",
                        max_length=64,
                        null=True,
                    ),
                ),
                (
                    "generation",
                    models.PositiveIntegerField(
                        default=0, help_text="+1 at each claim; names the run, so that no run is ever asked for twice."
                    ),
                ),
                (
                    "attempt",
                    models.PositiveSmallIntegerField(
                        default=0, help_text="+1 at each start; counted afresh by a requeue."
                    ),
                ),
                (
                    "max_attempts",
                    models.PositiveSmallIntegerField(
                        default=3,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "launch_failures",
                    models.PositiveSmallIntegerField(
                        default=0, help_text="Launches in a row that never started; they delay, but use up no attempt."
                    ),
                ),
                (
                    "unstarted_runs",
                    models.PositiveSmallIntegerField(
                        db_default=0,
                        default=0,
                        help_text="Runs in a row that ended without starting it; many of them end the report.",
                    ),
                ),
                (
                    "releases",
                    models.PositiveSmallIntegerField(
                        db_default=0,
                        default=0,
                        help_text="How often a run began the report and gave it back; counted afresh by a requeue.",
                    ),
                ),
                (
                    "alone",
                    models.BooleanField(
                        db_default=False,
                        default=False,
                        help_text="A run ended without an end of this report: its next run makes no other report beside it.",
                    ),
                ),
                ("claim_id", models.UUIDField(null=True)),
                ("claimed_by", models.CharField(blank=True, max_length=100)),
                (
                    "api_user",
                    models.CharField(
                        blank=True,
                        db_default="",
                        default="",
                        editable=False,
                        help_text="The key of the API user who claimed or started it; empty: code of this project did.",
                        max_length=255,
                    ),
                ),
                ("claimed_at", models.DateTimeField(null=True)),
                ("dispatched_at", models.DateTimeField(null=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("lease_expires_at", models.DateTimeField(null=True)),
                ("lease_token", models.UUIDField(null=True)),
                ("run_id", models.CharField(blank=True, max_length=100, verbose_name="run")),
                ("cancel_requested", models.BooleanField(default=False)),
                (
                    "error",
                    models.TextField(blank=True, help_text="Of the last attempt, or why it was cancelled or skipped."),
                ),
                ("result", models.JSONField(blank=True, null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=reportqueue.clock.ClockTimestamp(), editable=False, verbose_name="enqueued (UTC)"
                    ),
                ),
                (
                    "schedule",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="queue_rows",
                        to="reportqueue.reportschedule",
                    ),
                ),
            ],
            options={
                "verbose_name": "queued report",
                "verbose_name_plural": "report queue",
                "permissions": [
                    ("consume_reportqueue", "Can claim, run and finish queued reports"),
                    ("cancel_reportqueue", "Can cancel queued reports"),
                    ("requeue_reportqueue", "Can requeue finished reports"),
                ],
            },
        ),
        migrations.CreateModel(
            name="TriggerPeriod",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "pattern",
                    models.CharField(
                        choices=[
                            ("cron", "Cron sensor"),
                            ("asset", "Asset sensor"),
                            ("polling", "Polling of pending rows"),
                            ("queue", "Queue"),
                        ],
                        max_length=10,
                    ),
                ),
                ("since", models.DateTimeField(help_text="The first instant; empty: from the beginning.", null=True)),
                (
                    "until",
                    models.DateTimeField(
                        help_text="The first instant after it; empty: until further notice.", null=True
                    ),
                ),
                ("switched_by", models.CharField(blank=True, max_length=150)),
                ("created_at", models.DateTimeField(db_default=reportqueue.clock.ClockTimestamp(), editable=False)),
            ],
            options={
                "verbose_name": "trigger period",
                "ordering": [models.OrderBy(models.F("since"), nulls_first=True)],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("pattern__in", ["asset", "cron", "polling", "queue"])),
                        name="reportqueue_period_pattern",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("since", None), ("until", None), ("since__lt", models.F("until")), _connector="OR"
                        ),
                        name="reportqueue_period_not_empty",
                    ),
                    django.contrib.postgres.constraints.ExclusionConstraint(
                        expressions=[(reportqueue.models.period._Range("since", "until"), "&&")],
                        name="reportqueue_period_no_overlap",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="WebhookSource",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.SlugField(help_text="The last part of its address.", unique=True)),
                ("enabled", models.BooleanField(default=True)),
                (
                    "report_id",
                    models.BigIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(9223372036854775807),
                        ],
                        verbose_name="report",
                    ),
                ),
                (
                    "modifier_id",
                    models.BigIntegerField(
                        blank=True,
                        help_text="Of every delivery.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(9223372036854775807),
                        ],
                        verbose_name="modifier",
                    ),
                ),
                (
                    "modifier_path",
                    models.CharField(
                        blank=True,
                        help_text="Instead: where the payload holds the modifier, for instance data.customer.id",
                        max_length=200,
                        validators=[reportqueue.payloads.validate_path],
                    ),
                ),
                (
                    "params_paths",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text='Parameters and where the payload holds them: {"order": "data.order.id"}; "$" is all of it.',
                    ),
                ),
                (
                    "priority",
                    models.SmallIntegerField(
                        default=0,
                        help_text="-100 to 100, higher first.",
                        validators=[
                            django.core.validators.MinValueValidator(-100),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "max_attempts",
                    models.PositiveSmallIntegerField(
                        default=3,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                ("seed", models.CharField(default=reportqueue.models.webhook.new_seed, editable=False, max_length=43)),
                ("previous_seed", models.CharField(blank=True, editable=False, max_length=43)),
                (
                    "previous_until",
                    models.DateTimeField(
                        editable=False,
                        help_text="Until then, the secret before the last rotation is accepted too.",
                        null=True,
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=reportqueue.clock.ClockTimestamp(), editable=False)),
            ],
            options={
                "verbose_name": "webhook source",
                "ordering": ["name"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("modifier_id", None), models.Q(("modifier_path", ""), _negated=True)),
                            models.Q(("modifier_id__gte", 0), ("modifier_path", "")),
                            _connector="OR",
                        ),
                        name="reportqueue_webhook_modifier",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        help_text="Where it is used, for instance the host or the program.",
                        max_length=100,
                        validators=[reportqueue.bounds.validate_text],
                    ),
                ),
                ("identifier", models.CharField(editable=False, max_length=12, unique=True)),
                ("digest", models.CharField(editable=False, max_length=64)),
                (
                    "scopes",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="Which of its user's permissions it may use. Empty: all of them.",
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=reportqueue.clock.ClockTimestamp(), editable=False, verbose_name="created"
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Empty: never.",
                        null=True,
                        validators=[reportqueue.bounds.validate_instant],
                        verbose_name="expires",
                    ),
                ),
                ("revoked_at", models.DateTimeField(editable=False, null=True, verbose_name="revoked")),
                (
                    "last_used_at",
                    models.DateTimeField(
                        editable=False, help_text="Written at most once a minute.", null=True, verbose_name="last used"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="reportqueue_tokens",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "API token",
                "ordering": ["-pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("digest__regex", "^[0-9a-f]{64}$")), name="reportqueue_token_digest"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("expires_at", None), ("expires_at__gt", models.F("created_at")), _connector="OR"
                        ),
                        name="reportqueue_token_expires_later",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BlackoutDays",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("first_day", models.DateField()),
                ("last_day", models.DateField(help_text="Included; the same as the first for one day.")),
                ("every_year", models.BooleanField(default=False, help_text="On the same days of each year.")),
                (
                    "label",
                    models.CharField(blank=True, help_text="Why: shown where a firing is skipped.", max_length=100),
                ),
                (
                    "calendar",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="days",
                        to="reportqueue.blackoutcalendar",
                    ),
                ),
            ],
            options={
                "verbose_name": "closed days",
                "verbose_name_plural": "closed days",
                "ordering": ["first_day", "pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("last_day__gte", models.F("first_day"))),
                        name="reportqueue_blackout_days_order",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="BlackoutHours",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "weekday",
                    models.PositiveSmallIntegerField(
                        choices=[
                            (0, "Monday"),
                            (1, "Tuesday"),
                            (2, "Wednesday"),
                            (3, "Thursday"),
                            (4, "Friday"),
                            (5, "Saturday"),
                            (6, "Sunday"),
                        ],
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(6),
                        ],
                    ),
                ),
                ("start", models.TimeField(default=datetime.time(0, 0), help_text="By the schedule's own clock.")),
                ("end", models.TimeField(blank=True, help_text="Not included; empty: the end of the day.", null=True)),
                (
                    "label",
                    models.CharField(blank=True, help_text="Why: shown where a firing is skipped.", max_length=100),
                ),
                (
                    "calendar",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="hours",
                        to="reportqueue.blackoutcalendar",
                    ),
                ),
            ],
            options={
                "verbose_name": "closed hours",
                "verbose_name_plural": "closed hours",
                "ordering": ["weekday", "start", "pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("end", None), ("end__gt", models.F("start")), _connector="OR"),
                        name="reportqueue_blackout_hours_order",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("weekday__range", (0, 6))), name="reportqueue_blackout_weekday"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ReportAttempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("generation", models.PositiveIntegerField()),
                ("attempt", models.PositiveSmallIntegerField()),
                ("run_id", models.CharField(max_length=100, verbose_name="run")),
                ("parent_run_id", models.CharField(blank=True, max_length=100)),
                (
                    "worker",
                    models.CharField(blank=True, help_text="Where it ran: the host and the process.", max_length=100),
                ),
                (
                    "lease_token",
                    models.UUIDField(
                        editable=False, help_text="Kept after the end: it recognises a repeated call.", unique=True
                    ),
                ),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "outcome",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("released", "Released"),
                            ("expired", "Lease expired"),
                        ],
                        max_length=10,
                    ),
                ),
                ("progress", models.CharField(blank=True, max_length=200)),
                ("error", models.TextField(blank=True)),
                (
                    "queue",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="attempts",
                        to="reportqueue.reportqueue",
                    ),
                ),
            ],
            options={
                "verbose_name": "attempt",
                "ordering": ["id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("outcome__in", ["", "expired"])),
                        fields=["run_id"],
                        name="reportqueue_attempt_cut_off",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        models.F("queue"), models.F("run_id"), name="reportqueue_attempt_once_per_run"
                    ),
                    models.UniqueConstraint(
                        models.F("queue"), condition=models.Q(("outcome", "")), name="reportqueue_attempt_one_open"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("outcome", ""), ("finished_at", None)),
                            models.Q(
                                ("outcome__in", ["cancelled", "expired", "failed", "released", "succeeded"]),
                                ("finished_at__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="reportqueue_attempt_finished_iff_outcome",
                    ),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="reportschedule",
            index=models.Index(
                models.F("next_run_at"), condition=models.Q(("enabled", True)), name="reportqueue_schedule_next_run"
            ),
        ),
        migrations.AddIndex(
            model_name="reportschedule",
            index=models.Index(
                models.F("id"),
                condition=models.Q(("enabled", True), ("plan_needed", True)),
                name="reportqueue_schedule_unplanned",
            ),
        ),
        migrations.AddIndex(
            model_name="reportschedule",
            index=models.Index(models.F("report_id"), models.F("modifier_id"), name="reportqueue_schedule_report"),
        ),
        migrations.AddConstraint(
            model_name="reportschedule",
            constraint=models.CheckConstraint(
                condition=models.Q(("modifier_id__gte", 0), ("report_id__gte", 0)), name="reportqueue_schedule_ids"
            ),
        ),
        migrations.AddConstraint(
            model_name="reportschedule",
            constraint=models.CheckConstraint(
                condition=models.Q(("enabled", True), ("next_run_at", None), _connector="OR"),
                name="reportqueue_schedule_disabled_never_fires",
            ),
        ),
        migrations.AddConstraint(
            model_name="reportschedule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("cron", ""), ("interval_seconds__gte", 10)),
                    models.Q(models.Q(("cron", ""), _negated=True), ("interval_seconds", None)),
                    _connector="OR",
                ),
                name="reportqueue_schedule_cron_or_interval",
            ),
        ),
        migrations.AddConstraint(
            model_name="reportschedule",
            constraint=models.CheckConstraint(
                condition=models.Q(("priority__range", (-100, 100))), name="reportqueue_schedule_priority"
            ),
        ),
        migrations.AddConstraint(
            model_name="reportschedule",
            constraint=models.CheckConstraint(
                condition=models.Q(("max_attempts__range", (1, 100))), name="reportqueue_schedule_max_attempts"
            ),
        ),
        migrations.AddConstraint(
            model_name="reportschedule",
            constraint=models.CheckConstraint(
                condition=models.Q(("jitter_seconds__lte", 86400)), name="reportqueue_schedule_jitter"
            ),
        ),
        migrations.AddConstraint(
            model_name="reportschedule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("blackout__in", ["next_open_day", "previous_open_day", "skip"]),
                    ("catch_up__in", ["all", "last", "skip"]),
                    ("catch_up_limit__range", (1, 1000)),
                    ("overlap__in", ["allow", "queue_one", "skip"]),
                ),
                name="reportqueue_schedule_policies",
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.OrderBy(models.F("priority"), descending=True),
                models.F("available_at"),
                models.F("id"),
                condition=models.Q(("status", "queued"), ("waiting", False)),
                name="reportqueue_claim_order",
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.F("concurrency_key"), condition=models.Q(("waiting", True)), name="reportqueue_waiting"
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.F("schedule"),
                condition=models.Q(("status__in", ["claimed", "dispatched", "queued", "running"])),
                name="reportqueue_schedule_open",
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.F("lease_expires_at"),
                condition=models.Q(("lease_expires_at__isnull", False)),
                name="reportqueue_lease",
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.F("claimed_by"),
                models.F("api_user"),
                models.F("status"),
                condition=models.Q(("status__in", ["claimed", "dispatched", "running"])),
                name="reportqueue_held",
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.F("report_id"), models.F("modifier_id"), models.F("trigger_time"), name="reportqueue_report"
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.F("finished_at"),
                condition=models.Q(("status__in", ["cancelled", "failed", "skipped", "succeeded"])),
                name="reportqueue_finished",
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.F("trigger_time"),
                models.F("id"),
                condition=models.Q(("status__in", ["claimed", "dispatched", "queued", "running"])),
                name="reportqueue_unfinished",
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.F("status"),
                models.F("trigger_time"),
                models.F("id"),
                condition=models.Q(("status__in", ["cancelled", "failed", "skipped", "succeeded"])),
                name="reportqueue_ended_status",
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.F("source"),
                models.F("trigger_time"),
                models.F("id"),
                condition=models.Q(("status__in", ["cancelled", "failed", "skipped", "succeeded"])),
                name="reportqueue_ended_source",
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.F("report_id"),
                models.F("trigger_time"),
                models.F("id"),
                condition=models.Q(("status__in", ["cancelled", "failed", "skipped", "succeeded"])),
                name="reportqueue_ended_report",
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                models.F("modifier_id"),
                models.F("trigger_time"),
                models.F("id"),
                condition=models.Q(("status__in", ["cancelled", "failed", "skipped", "succeeded"])),
                name="reportqueue_ended_modifier",
            ),
        ),
        migrations.AddIndex(
            model_name="reportqueue",
            index=models.Index(
                condition=models.Q(("run_id", ""), _negated=True),
                fields=["run_id"],
                name="reportqueue_run",
                opclasses=["varchar_pattern_ops"],
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.UniqueConstraint(
                models.F("schedule"),
                models.F("trigger_time"),
                models.ExpressionWrapper(models.Q(("status", "skipped")), output_field=models.BooleanField()),
                name="reportqueue_once_per_schedule_and_instant",
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.UniqueConstraint(
                models.F("concurrency_key"),
                condition=models.Q(
                    ("concurrency_key__isnull", False),
                    ("status__in", ["claimed", "dispatched", "queued", "running"]),
                    ("waiting", False),
                ),
                name="reportqueue_one_in_turn",
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("waiting", False),
                    models.Q(
                        ("concurrency_key__isnull", False),
                        ("status__in", ["claimed", "dispatched", "queued", "running"]),
                    ),
                    _connector="OR",
                ),
                name="reportqueue_only_unfinished_wait",
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.UniqueConstraint(
                fields=("idempotency_key", "idempotency_scope"), name="reportqueue_idempotency_key"
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "status__in",
                        ["cancelled", "claimed", "dispatched", "failed", "queued", "running", "skipped", "succeeded"],
                    )
                ),
                name="reportqueue_status",
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(("modifier_id__gte", 0), ("report_id__gte", 0)), name="reportqueue_ids"
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(("priority__range", (-100, 100))), name="reportqueue_priority"
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(("max_attempts__range", (1, 100))), name="reportqueue_max_attempts"
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(("attempt__lte", models.F("max_attempts"))), name="reportqueue_attempts_bounded"
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("status__in", ["cancelled", "failed", "skipped", "succeeded"]), ("finished_at__isnull", False)
                    ),
                    models.Q(
                        models.Q(("status__in", ["cancelled", "failed", "skipped", "succeeded"]), _negated=True),
                        ("finished_at", None),
                    ),
                    _connector="OR",
                ),
                name="reportqueue_finished_iff_final",
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("status__in", ["claimed", "dispatched", "running"]), ("lease_expires_at__isnull", False)),
                    models.Q(
                        models.Q(("status__in", ["claimed", "dispatched", "running"]), _negated=True),
                        ("lease_expires_at", None),
                    ),
                    _connector="OR",
                ),
                name="reportqueue_lease_iff_leased",
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("status", "running"), ("lease_token__isnull", False), models.Q(("run_id", ""), _negated=True)
                    ),
                    models.Q(models.Q(("status", "running"), _negated=True), ("lease_token", None)),
                    _connector="OR",
                ),
                name="reportqueue_token_iff_running",
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("status__in", ["claimed", "dispatched"]), _negated=True),
                    models.Q(
                        ("claim_id__isnull", False), ("generation__gte", 1), models.Q(("claimed_by", ""), _negated=True)
                    ),
                    _connector="OR",
                ),
                name="reportqueue_claim_names_its_consumer",
            ),
        ),
        migrations.AddConstraint(
            model_name="reportqueue",
            constraint=models.CheckConstraint(
                condition=models.Q(("cancel_requested", False), ("status", "running"), _connector="OR"),
                name="reportqueue_cancel_asked_only_of_runs",
            ),
        ),
        migrations.RunSQL(
            sql="ALTER TABLE reportqueue_reportqueue SET ({})".format(
                ", ".join(f"{name} = {value}" for name, value in TABLE_CARE.items())
            ),
            reverse_sql="ALTER TABLE reportqueue_reportqueue RESET ({})".format(", ".join(TABLE_CARE)),
        ),
    ]
