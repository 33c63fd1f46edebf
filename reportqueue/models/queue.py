"""The queue and the history of its attempts. The database's constraints hold their invariants."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Self

from django.core.validators import MaxValueValidator, MinLengthValidator, MinValueValidator
from django.db import models
from django.db.models import Case, ExpressionWrapper, F, OuterRef, Q, Subquery, When
from django.db.models.functions import Cast, Now
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, catalogue, modifiers, notices, tracing
from reportqueue.clock import ClockTimestamp
from reportqueue.models.failure import MutedFailure
from reportqueue.models.period import InPeriodsOf
from reportqueue.models.report import DEFAULT_ROUTE, validate_route
from reportqueue.models.schedule import ReportSchedule
from reportqueue.patterns import Pattern
from reportqueue.states import FINAL, LEASED, UNFINISHED, WITH_CONSUMER, Outcome, Source, Status


def _final() -> Q:
    return Q(status__in=sorted(FINAL))


def _grouped() -> Q:
    """The condition of failed rows that are in a group. Rows that an earlier version failed are in none."""
    return Q(status=Status.FAILED) & ~Q(fingerprint="")


def failed_like(fingerprint: str) -> Q:
    """The condition of the rows of one group, for their list: see the indexes."""
    return _grouped() & Q(report_id__gte=0, fingerprint=fingerprint)


def unfinished() -> Q:
    """The condition of rows that may still be run, for queries that are not a claim's: see the indexes."""
    return Q(status__in=sorted(UNFINISHED), report_id__gte=0)


class ReportQueueQuerySet(models.QuerySet["ReportQueue"]):
    """Queries of queue rows, named by what may happen to the rows."""

    def in_claim_order(self) -> Self:
        """Higher priority first, then what has been available longest; the order of the partial index."""
        return self.order_by("-priority", "available_at", "id")

    def due(self) -> Self:
        """Unclaimed rows that are due, in claim order."""
        return self._free().filter(available_at__lte=Now()).in_claim_order()

    def coming(self, after: datetime, within: timedelta) -> Self:
        """Queued rows that become due after `after` and `within` that time from now, the soonest first."""
        return self._free().filter(available_at__gt=after, available_at__lte=Now() + within).order_by("available_at")

    def ending(self, after: datetime, within: timedelta) -> Self:
        """Rows whose lease ends after `after` and `within` that time from now, the soonest first."""
        soon = self.filter(lease_expires_at__gt=after, lease_expires_at__lte=Now() + within)
        return soon.order_by("lease_expires_at")

    def _free(self) -> Self:
        return self.filter(status=Status.QUEUED, waiting=False)

    def claimable(self) -> Self:
        """Due rows but for those of periods that belong to `polling`: its sensor may have launched their runs already.

        The same condition as in `queue.claim_sql`. Pauses, limits and expiry are not looked at.
        """
        return self.due().exclude(InPeriodsOf(Pattern.POLLING, "available_at"))

    def pending(self) -> Self:
        """Due rows but for those of periods that belong to `queue`; each with its next generation."""
        ours = self.due().exclude(InPeriodsOf(Pattern.QUEUE, "available_at"))
        # As a bigint: a row at the end of its column would otherwise make the whole query fail.
        return ours.annotate(next_generation=Cast("generation", models.BigIntegerField()) + 1)

    def fired_by(self, schedule_id: int, trigger_time: datetime) -> Self:
        """The row of a schedule's firing, unless it was skipped."""
        return self.filter(schedule=schedule_id, trigger_time=trigger_time).exclude(status=Status.SKIPPED)

    def unfinished(self) -> Self:
        """Rows that may still be run."""
        return self.filter(status__in=UNFINISHED)

    def same_unfinished(self, report_id: int, modifier_id: int, params: Mapping[str, Any]) -> Self:
        """Unfinished rows of the same report with the same modifier and parameters."""
        return self.filter(unfinished(), report_id=report_id, modifier_id=modifier_id, params=params)

    def in_turn(self, key: int | OuterRef) -> Self:
        """The unfinished row of a schedule without overlaps that has its turn: none, or one."""
        return self.unfinished().filter(concurrency_key=key, waiting=False)

    def with_turn(self) -> Self:
        """The rows, each with the id of the row whose turn it is as `turn`: None unless the row waits for its own."""
        turn = ReportQueue.objects.in_turn(OuterRef("concurrency_key"))
        return self.annotate(turn=Case(When(waiting=True, then=Subquery(turn.values("pk")[:1]))))

    def lock_turn(self, key: int) -> int | None:
        """The id of the row that has its turn, locked so that it cannot end unseen; None if there is none."""
        while (pk := self.in_turn(key).values_list("pk", flat=True).first()) is not None:
            # It may have ended while this waited for its lock, and passed its turn on.
            if list(self.in_turn(key).filter(pk=pk).select_for_update(of=("self",)).values_list("pk", flat=True)):
                return pk
        return None

    def next_first(self) -> Self:
        """Rows that wait for their turn, in the order in which they get it.

        First those that were handed out while overlaps were still allowed: running ones, then launched ones. Then the
        queued ones, in claim order, those that are available before those that are not yet.
        """
        held = Case(When(status=Status.RUNNING, then=0), When(status__in=sorted(WITH_CONSUMER), then=1), default=2)
        early = Case(When(available_at__gt=Now(), then=1), default=0)
        return self.filter(waiting=True).order_by(held, early, "-priority", "available_at", "id")

    def line_up(self, key: int) -> None:
        """Let the unfinished rows of a schedule take turns, also if they were queued while overlaps were allowed.

        The caller holds the schedule's lock. A row that a run or a consumer holds stays with it.
        """
        # The row that has its turn is locked before the others, as `turns.pass_on` does: none waits in a circle.
        first = self.lock_turn(key)
        others = self.unfinished().filter(schedule=key, concurrency_key=None).order_by("pk")
        joining = list(others.select_for_update(of=("self",)).values_list("pk", flat=True))
        if joining:
            self.filter(pk__in=joining).update(concurrency_key=key, waiting=True)
        if first is None:
            following = self.filter(concurrency_key=key).next_first().values("pk")[:1]
            self.filter(pk__in=following).update(waiting=False)

    def stop_turns(self, key: int) -> None:
        """Let the unfinished rows of a schedule overlap from now on. The caller holds the schedule's lock."""
        self.lock_turn(key)
        taking_turns = self.unfinished().filter(schedule=key).exclude(concurrency_key=None)
        if taking_turns.update(concurrency_key=None, waiting=False):
            notices.notify(notices.ROWS)

    def unacknowledged_by(self, consumer: str, user: str = "") -> Self:
        """Rows handed to this user's consumer that it has not confirmed."""
        return self.filter(claimed_by=consumer, api_user=user, status=Status.CLAIMED)

    def expired(self) -> Self:
        """Rows whose lease has run out; only leased rows have one."""
        return self.filter(lease_expires_at__lt=Now())

    def too_late(self) -> Self:
        """Queued rows that are not to be run any more, since they should have started long ago."""
        return self.filter(status=Status.QUEUED, expires_at__lt=Now())

    def in_flight(self) -> Self:
        """Rows that a run or a consumer holds."""
        return self.filter(status__in=sorted(LEASED))

    def retrying(self) -> Self:
        """Queued rows that were handed out before and are not due yet."""
        return self._free().filter(available_at__gt=Now(), generation__gt=0)

    def failed_lately(self) -> Self:
        """Rows that failed in the last hour and are still failed, without those of a muted failure."""
        muted = MutedFailure.objects.values("fingerprint")
        lately = self.filter(status=Status.FAILED, finished_at__gte=Now() - timedelta(hours=1))
        return lately.exclude(fingerprint__in=muted)

    def past_deadline(self) -> Self:
        """Unfinished rows that should have succeeded by now."""
        return self.filter(status__in=sorted(UNFINISHED), deadline_at__lt=Now())


class ReportQueue(models.Model):
    """One report to run, from when it is enqueued to its end. Change it only through `reportqueue.queue`."""

    report_name = ""
    """The name of its report, once `catalogue.name_rows` has looked it up; empty if the catalogue has none."""
    modifier_name: str
    """The name of its modifier, once `modifiers.name_rows` has looked it up; empty without `MODIFIER_MODEL`."""

    report_id = models.BigIntegerField(_("report"), validators=bounds.id_validators())
    modifier_id = models.BigIntegerField(_("modifier"), validators=bounds.id_validators())
    route = models.CharField(
        max_length=bounds.MAX_ROUTE_LENGTH,
        default=DEFAULT_ROUTE,
        db_default=DEFAULT_ROUTE,
        validators=[validate_route],
        help_text=_("Which consumers get it; fixed when it is queued."),
    )
    trigger_time = models.DateTimeField(_("due (UTC)"), help_text=_("The nominal instant; never changes."))
    available_at = models.DateTimeField(_("available (UTC)"), help_text=_("When it may first be claimed."))
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    processed = models.GeneratedField(
        expression=models.Case(
            models.When(status__in=sorted(FINAL), then=models.Value(True)), default=models.Value(False)
        ),
        output_field=models.BooleanField(),
        db_persist=True,
    )
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.CODE)
    schedule = models.ForeignKey(
        ReportSchedule,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="queue_rows",
        db_index=False,  # the index of "once per schedule and instant" begins with this field
    )
    concurrency_key = models.BigIntegerField(
        null=True,
        editable=False,
        help_text=_(
            "The id of the schedule whose reports take turns, also after the schedule is deleted; "
            "empty for a report that may overlap."
        ),
    )
    waiting = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text=_("Another report of its schedule is unfinished: neither handed out nor started before its turn."),
    )
    expires_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text=_("If it has not started by then, it is skipped; empty once it has started."),
    )
    deadline_at = models.DateTimeField(
        null=True, editable=False, help_text=_("If it has not succeeded by then, it is late.")
    )
    params = models.JSONField(default=dict, blank=True, validators=[bounds.validate_json_object])
    priority = models.SmallIntegerField(
        default=0, validators=[MinValueValidator(bounds.MIN_PRIORITY), MaxValueValidator(bounds.MAX_PRIORITY)]
    )
    idempotency_key = models.CharField(
        max_length=bounds.MAX_KEY_LENGTH,
        null=True,
        blank=True,
        validators=[MinLengthValidator(1), bounds.validate_text],
    )
    idempotency_scope = models.CharField(
        max_length=bounds.MAX_SCOPE_LENGTH,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text=_("Whose key it is: an API user's, a webhook source's; empty: that of this project's code."),
    )
    idempotency_digest = models.CharField(
        max_length=64,
        null=True,
        editable=False,
        help_text=_("Of the content that the key was first used with."),
    )

    generation = models.PositiveIntegerField(
        default=0, help_text=_("+1 at each claim; names the run, so that no run is ever asked for twice.")
    )
    attempt = models.PositiveSmallIntegerField(default=0, help_text=_("+1 at each start; counted afresh by a requeue."))
    max_attempts = models.PositiveSmallIntegerField(
        default=bounds.DEFAULT_ATTEMPTS,
        validators=[MinValueValidator(bounds.MIN_ATTEMPTS), MaxValueValidator(bounds.MAX_ATTEMPTS)],
    )
    launch_failures = models.PositiveSmallIntegerField(
        default=0, help_text=_("Launches in a row that never started; they delay, but use up no attempt.")
    )
    unstarted_runs = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        help_text=_("Runs in a row that ended without starting it; many of them end the report."),
    )
    releases = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        help_text=_("How often a run began the report and gave it back; counted afresh by a requeue."),
    )
    alone = models.BooleanField(
        default=False,
        db_default=False,
        help_text=_("A run ended without an end of this report: its next run makes no other report beside it."),
    )

    claim_id = models.UUIDField(null=True)
    claimed_by = models.CharField(max_length=bounds.MAX_NAME_LENGTH, blank=True)
    api_user = models.CharField(
        max_length=bounds.MAX_API_USER_LENGTH,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text=_("The key of the API user who claimed or started it; empty: code of this project did."),
    )
    claimed_at = models.DateTimeField(null=True)
    dispatched_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True)
    run_id = models.CharField(_("run"), max_length=bounds.MAX_NAME_LENGTH, blank=True)
    cancel_requested = models.BooleanField(default=False)
    error = models.TextField(blank=True, help_text=_("Of the last attempt, or why it was cancelled or skipped."))
    fingerprint = models.CharField(
        max_length=16,
        default="",
        db_default="",
        blank=True,
        editable=False,
        help_text=_("Of a failed row: the same for all rows that failed alike."),
    )
    result = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(_("enqueued (UTC)"), db_default=ClockTimestamp(), editable=False)

    queued_by = models.CharField(
        max_length=bounds.MAX_USER_LENGTH,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text=_("Who asked for it; empty: a schedule, a webhook source or code did."),
    )

    traceparent = models.CharField(max_length=tracing.MAX_LENGTH, null=True, editable=False)
    """The W3C trace context of what queued it; empty if that belongs to no trace."""

    erased_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text=_("When its data were erased: its parameters are gone, and it cannot be run again."),
    )

    objects = ReportQueueQuerySet.as_manager()

    class Meta:
        verbose_name = _("queued report")
        verbose_name_plural = _("report queue")
        permissions = [
            ("consume_reportqueue", "Can claim, run and finish queued reports"),
            ("cancel_reportqueue", "Can cancel queued reports"),
            ("requeue_reportqueue", "Can requeue finished reports"),
        ]
        indexes = [
            # A claim reads this index only: its size follows the backlog, not the history.
            models.Index(
                F("priority").desc(),
                "available_at",
                "id",
                name="reportqueue_claim_order",
                condition=Q(status=Status.QUEUED, waiting=False),
            ),
            # The same for the claims of one route; and, of a route and a priority, whose rows there are: by report and
            # modifier where limits hold, otherwise by modifier. With these two a claim passes over a million rows of
            # one report or modifier at once.
            models.Index(
                "route",
                F("priority").desc(),
                "available_at",
                "id",
                name="reportqueue_route_order",
                condition=Q(status=Status.QUEUED, waiting=False),
            ),
            models.Index(
                "route",
                "priority",
                "report_id",
                "modifier_id",
                "available_at",
                "id",
                name="reportqueue_claim_groups",
                condition=Q(status=Status.QUEUED, waiting=False),
            ),
            models.Index(
                "route",
                "priority",
                "modifier_id",
                "available_at",
                "id",
                name="reportqueue_claim_turns",
                condition=Q(status=Status.QUEUED, waiting=False),
            ),
            models.Index(
                "expires_at",
                name="reportqueue_expiry",
                condition=Q(status=Status.QUEUED, expires_at__isnull=False),
            ),
            models.Index(
                "deadline_at",
                name="reportqueue_deadline",
                condition=Q(status__in=sorted(UNFINISHED), deadline_at__isnull=False),
            ),
            # For caps, what of a report is under way; for `unique`, whether the same report is unfinished. The second
            # part of this condition is always true. A query that does not repeat it cannot use the index: PostgreSQL
            # would otherwise read all of it for a claim, as long as it has no statistics of what is under way.
            models.Index(
                "report_id",
                "status",
                "modifier_id",
                name="reportqueue_open",
                condition=unfinished(),
            ),
            models.Index("concurrency_key", name="reportqueue_waiting", condition=Q(waiting=True)),
            models.Index(
                "schedule",
                name="reportqueue_of_schedule",
                condition=Q(status__in=sorted(UNFINISHED), schedule__isnull=False),
            ),
            # Every claim uses these two. They serve it however many rows are under way and whatever the statistics say:
            # only rows with a lease are in the first, and with the status in the second no dispatched row is read.
            models.Index("lease_expires_at", name="reportqueue_lease", condition=Q(lease_expires_at__isnull=False)),
            models.Index(
                "claimed_by", "api_user", "status", name="reportqueue_held", condition=Q(status__in=sorted(LEASED))
            ),
            models.Index("report_id", "modifier_id", "trigger_time", name="reportqueue_report"),
            models.Index("finished_at", name="reportqueue_finished", condition=_final()),
            models.Index("finished_at", name="reportqueue_failed", condition=Q(status=Status.FAILED)),
            # For the lists, see `models.lists`. A row enters the indexes of finished rows when it ends, and no earlier.
            models.Index(
                "trigger_time",
                "id",
                name="reportqueue_listed",
                condition=unfinished(),
            ),
            models.Index("status", "trigger_time", "id", name="reportqueue_ended_status", condition=_final()),
            models.Index("source", "trigger_time", "id", name="reportqueue_ended_source", condition=_final()),
            models.Index("report_id", "trigger_time", "id", name="reportqueue_ended_report", condition=_final()),
            models.Index("modifier_id", "trigger_time", "id", name="reportqueue_ended_modifier", condition=_final()),
            # For the groups of failed rows, and for the list of the rows of one group. The last parts of both
            # conditions are always true: without them, PostgreSQL would read one in the index of the other, and sort.
            models.Index(
                "fingerprint",
                "finished_at",
                name="reportqueue_failures",
                condition=_grouped() & Q(modifier_id__gte=0),
            ),
            models.Index(
                "fingerprint",
                "trigger_time",
                "id",
                name="reportqueue_failure_list",
                condition=_grouped() & Q(report_id__gte=0),
            ),
            # For the begin of a run's id. Most moves come before a row's first run.
            models.Index(
                fields=["run_id"], opclasses=["varchar_pattern_ops"], name="reportqueue_run", condition=~Q(run_id="")
            ),
        ]
        constraints = [
            # A skipped firing may be backfilled: its skipped row must not prevent the row that runs.
            models.UniqueConstraint(
                F("schedule"),
                F("trigger_time"),
                ExpressionWrapper(Q(status=Status.SKIPPED), output_field=models.BooleanField()),
                name="reportqueue_once_per_schedule_and_instant",
            ),
            # The rule itself: of a schedule without overlaps, one unfinished row has its turn, all others wait.
            models.UniqueConstraint(
                "concurrency_key",
                name="reportqueue_one_in_turn",
                condition=Q(concurrency_key__isnull=False, waiting=False, status__in=sorted(UNFINISHED)),
            ),
            models.CheckConstraint(
                name="reportqueue_only_unfinished_wait",
                condition=Q(waiting=False) | Q(concurrency_key__isnull=False, status__in=sorted(UNFINISHED)),
            ),
            # The key first: people search by it.
            models.UniqueConstraint(
                fields=["idempotency_key", "idempotency_scope"], name="reportqueue_idempotency_key"
            ),
            models.CheckConstraint(name="reportqueue_status", condition=Q(status__in=sorted(Status))),
            models.CheckConstraint(name="reportqueue_ids", condition=Q(report_id__gte=0, modifier_id__gte=0)),
            models.CheckConstraint(
                name="reportqueue_priority",
                condition=Q(priority__range=(bounds.MIN_PRIORITY, bounds.MAX_PRIORITY)),
            ),
            models.CheckConstraint(
                name="reportqueue_max_attempts",
                condition=Q(max_attempts__range=(bounds.MIN_ATTEMPTS, bounds.MAX_ATTEMPTS)),
            ),
            models.CheckConstraint(name="reportqueue_attempts_bounded", condition=Q(attempt__lte=F("max_attempts"))),
            models.CheckConstraint(
                name="reportqueue_finished_iff_final",
                condition=(_final() & Q(finished_at__isnull=False)) | (~_final() & Q(finished_at=None)),
            ),
            models.CheckConstraint(
                name="reportqueue_lease_iff_leased",
                condition=(Q(status__in=sorted(LEASED)) & Q(lease_expires_at__isnull=False))
                | (~Q(status__in=sorted(LEASED)) & Q(lease_expires_at=None)),
            ),
            models.CheckConstraint(
                name="reportqueue_token_iff_running",
                condition=(Q(status=Status.RUNNING) & Q(lease_token__isnull=False) & ~Q(run_id=""))
                | (~Q(status=Status.RUNNING) & Q(lease_token=None)),
            ),
            models.CheckConstraint(
                name="reportqueue_claim_names_its_consumer",
                condition=~Q(status__in=sorted(WITH_CONSUMER))
                | (Q(claim_id__isnull=False, generation__gte=1) & ~Q(claimed_by="")),
            ),
            # It would run without its parameters.
            models.CheckConstraint(name="reportqueue_erased_is_final", condition=Q(erased_at=None) | _final()),
            models.CheckConstraint(
                name="reportqueue_cancel_asked_only_of_runs",
                condition=Q(cancel_requested=False) | Q(status=Status.RUNNING),
            ),
        ]

    def __str__(self) -> str:
        report = catalogue.label(self.report_id, self.report_name)
        return f"#{self.pk}: report {report}, modifier {modifiers.label(self)}"

    @property
    def queue_id(self) -> int:
        """The id, as the API calls it."""
        return int(self.pk)

    @property
    def run_key(self) -> str | None:
        """The run key of the current generation, which Dagster remembers for ever; None before the first claim."""
        return f"{self.pk}:{self.generation}" if self.generation else None


class ReportAttempt(models.Model):
    """One start of a row: which run, when, and how it ended. A row's attempts are its history."""

    queue = models.ForeignKey(ReportQueue, on_delete=models.CASCADE, related_name="attempts")
    report_id = models.BigIntegerField(
        _("report"), null=True, editable=False, help_text=_("Of a report with a rate: its starts are counted.")
    )
    generation = models.PositiveIntegerField()
    attempt = models.PositiveSmallIntegerField()
    run_id = models.CharField(_("run"), max_length=bounds.MAX_NAME_LENGTH)
    parent_run_id = models.CharField(max_length=bounds.MAX_NAME_LENGTH, blank=True)
    worker = models.CharField(
        max_length=bounds.MAX_NAME_LENGTH, blank=True, help_text=_("Where it ran: the host and the process.")
    )
    lease_token = models.UUIDField(
        unique=True, editable=False, help_text=_("Kept after the end: it recognises a repeated call.")
    )
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, blank=True)
    progress = models.CharField(max_length=bounds.MAX_PROGRESS_LENGTH, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        verbose_name = _("attempt")
        ordering = ["id"]
        indexes = [
            # For `rescue`: which report a dead run was making, the first of its attempts that has not ended well.
            models.Index(
                fields=["run_id"],
                name="reportqueue_attempt_cut_off",
                condition=Q(outcome__in=["", Outcome.EXPIRED]),
            ),
            models.Index(
                "report_id",
                "started_at",
                name="reportqueue_attempt_starts",
                condition=Q(report_id__isnull=False),
            ),
        ]
        constraints = [
            models.UniqueConstraint("queue", "run_id", name="reportqueue_attempt_once_per_run"),
            models.UniqueConstraint("queue", name="reportqueue_attempt_one_open", condition=Q(outcome="")),
            models.CheckConstraint(
                name="reportqueue_attempt_finished_iff_outcome",
                condition=(Q(outcome="") & Q(finished_at=None))
                | (Q(outcome__in=sorted(Outcome)) & Q(finished_at__isnull=False)),
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.attempt} by run {self.run_id}"
