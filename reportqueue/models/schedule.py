"""Schedules: when which report is due, as people set it. The database's constraints hold their invariants."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Case, F, Q, When
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

import reportcron
from reportqueue import bounds, catalogue, database, locks, modifiers, notices
from reportqueue.clock import ClockTimestamp, database_now
from reportqueue.errors import ScheduleNotFound
from reportqueue.models.calendars import BlackoutCalendar
from reportqueue.models.period import TriggerPeriod
from reportqueue.states import FINAL
from reportqueue.timing import MAX_MOVED_A_DAY, NeverFires, Timing, words
from reportqueue.timing.policies import Blackout, CatchUp, Overlap

DETACHED_AT_ONCE = 1_000
"""Finished reports that one transaction takes from a schedule that is to be deleted."""
DETACH_SECONDS = 5.0
"""How long a call of the API or a page of the admin may do that."""


class ReportScheduleQuerySet(models.QuerySet["ReportSchedule"]):
    """Queries of schedules."""

    def locked(self, pk: int) -> ReportSchedule:
        """The schedule, locked until the end of the transaction. Raises `ScheduleNotFound`."""
        schedule = self.select_for_update(of=("self",)).filter(pk=pk).first()
        if schedule is None:
            raise ScheduleNotFound(f"There is no schedule {pk}.")
        return schedule

    def due(self, now: datetime) -> Self:
        """Enabled schedules whose next firing has come by `now`."""
        return self.filter(enabled=True, next_run_at__lte=now)

    def coming(self, after: datetime, within: timedelta) -> Self:
        """Enabled schedules that fire after `after` and `within` that time from now, the soonest first."""
        soon = self.filter(enabled=True, next_run_at__gt=after, next_run_at__lte=Now() + within)
        return soon.order_by("next_run_at")

    def unplanned(self) -> Self:
        """Enabled schedules that need a plan: they were written without `save()`, or their calendar has changed."""
        # A schedule with a due firing is left out: it fires by its old plan first, which plans it anew.
        return self.filter(Q(next_run_at=None) | Q(next_run_at__gt=Now()), enabled=True, plan_needed=True)

    def plain(self) -> Self:
        """Schedules that their cron expression and time zone describe in full."""
        return self.filter(**ReportSchedule.PLAIN)

    def queue_only(self) -> Self:
        """The other schedules: a sensor that evaluates only the cron expression would fire them wrongly."""
        return self.exclude(**ReportSchedule.PLAIN)

    def update(self, **values: Any) -> int:
        """Update as Django does. A change of the timing drops the planned firing: an edit never fires past instants."""
        if ReportSchedule.changes_timing(values) and "next_run_at" not in values:
            values |= {"next_run_at": None, "plan_needed": True}
        if values.keys() - ReportSchedule.PLANNED:
            # At the end of its column it begins again at 1: it only has to change.
            values.setdefault("version", Case(When(version__gte=bounds.MAX_COUNT, then=1), default=F("version") + 1))
        changed = self._update_overlap(values) if "overlap" in values else super().update(**values)
        if "version" in values:
            notices.schedules_changed()
        else:
            notices.notify(notices.SCHEDULES)
        return changed

    def _update_overlap(self, values: dict[str, Any]) -> int:
        with locks.bounded():
            named = list(self._to_lock().values_list("pk", flat=True))
            changed = super(ReportScheduleQuerySet, self.filter(pk__in=named)).update(**values)
            for schedule in ReportSchedule.objects.filter(pk__in=named).order_by("pk"):
                schedule.apply_overlap()
            return changed

    def detach_history(self, *, seconds: float | None = None) -> bool:
        """Take the finished reports from these schedules, in batches with a commit each; whether none is left.

        For schedules that are to be deleted: a deletion takes all reports from a schedule, in one transaction. That of
        100,000 reports takes ten seconds, and holds their locks until its end. After about so many `seconds` this ends
        and returns False: call it again.
        """
        until = None if seconds is None else time.monotonic() + seconds
        return all(schedule.detach_history(until) for schedule in self.order_by("pk"))

    def _to_lock(self) -> Self:
        """These schedules, locked in one order. A later statement may find others: name the locked ones in it."""
        return self.order_by("pk").select_for_update(of=("self",))

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete as Django does, and notify the schedulers and sensors. Finished reports are detached before."""
        self.detach_history()
        with locks.bounded():
            locked = list(self._to_lock())
            for schedule in locked:
                schedule.lock_turn()
            named = [schedule.pk for schedule in locked]
            deleted = super(ReportScheduleQuerySet, self.filter(pk__in=named)).delete()
            notices.schedules_changed()
        return deleted


class ReportSchedule(models.Model):
    """When a report is due: a cron expression in the schedule's own time zone, or an interval."""

    report_name = ""
    """The name of its report, once `catalogue.name_rows` has looked it up; empty if the catalogue has none."""
    modifier_name: str
    """The name of its modifier, once `modifiers.name_rows` has looked it up; empty without `MODIFIER_MODEL`."""

    TIMING = (
        "cron",
        "interval_seconds",
        "timezone",
        "enabled",
        "start_at",
        "end_at",
        "calendar_id",
        "blackout",
    )
    """The fields that decide when it fires. A change of one moves the anchor to now: it never fires past instants."""
    PLANNED = frozenset({"next_run_at", "planned_from", "plan_needed", "calendar_before", "error"})
    """The fields that only the scheduler changes."""
    PLAIN = {
        "interval_seconds": None,
        "end_at": None,
        "calendar": None,
        "overlap": Overlap.ALLOW,
        "jitter_seconds": 0,
        "unique": False,
    }
    """The values with which a cron expression and a time zone describe the schedule in full."""

    report_id = models.BigIntegerField(_("report"), validators=bounds.id_validators())
    modifier_id = models.BigIntegerField(
        _("modifier"), validators=bounds.id_validators(), help_text=_("The variant: a customer, a year, a region.")
    )
    cron = models.CharField(
        max_length=200,
        blank=True,
        help_text=_(
            "Five fields: minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, "
            "@monthly, @yearly. Example: 0 8 * * MON"
        ),
    )
    interval_seconds = models.PositiveIntegerField(
        _("interval (seconds)"),
        null=True,
        blank=True,
        validators=[
            MinValueValidator(bounds.MIN_INTERVAL_SECONDS),
            MaxValueValidator(bounds.MAX_INTERVAL_SECONDS),
        ],
        help_text=_("Instead of a cron expression: elapsed time, whatever the clock does; counted from the start."),
    )
    timezone = models.CharField(
        _("time zone"), max_length=64, default="UTC", help_text=_("An IANA name such as Europe/Paris.")
    )
    start_at = models.DateTimeField(
        _("start"),
        null=True,
        blank=True,
        validators=[bounds.validate_instant],
        help_text=_("The first instant at which it may fire."),
    )
    end_at = models.DateTimeField(
        _("end"),
        null=True,
        blank=True,
        validators=[bounds.validate_instant],
        help_text=_("The last instant at which it may fire."),
    )
    calendar = models.ForeignKey(
        BlackoutCalendar,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="schedules",
        verbose_name=_("blackout calendar"),
    )
    blackout = models.CharField(
        _("when the calendar is closed"), max_length=20, choices=Blackout.choices, default=Blackout.SKIP
    )
    enabled = models.BooleanField(default=True)
    paused_at = models.DateTimeField(null=True, editable=False)
    paused_by = models.CharField(max_length=bounds.MAX_USER_LENGTH, blank=True, editable=False)
    pause_note = models.CharField(
        max_length=bounds.MAX_REASON_LENGTH, blank=True, validators=[bounds.validate_text], editable=False
    )

    catch_up = models.CharField(
        _("missed instants"),
        max_length=10,
        choices=CatchUp.choices,
        default=CatchUp.ALL,
        help_text=_("What becomes of instants that pass while no scheduler runs."),
    )
    catch_up_window_seconds = models.PositiveIntegerField(
        _("catch-up window (seconds)"),
        default=bounds.DEFAULT_CATCH_UP_SECONDS,
        validators=[
            MinValueValidator(bounds.MIN_CATCH_UP_SECONDS),
            MaxValueValidator(bounds.MAX_CATCH_UP_SECONDS),
        ],
        help_text=_("What was missed longer ago than this is skipped."),
    )
    catch_up_limit = models.PositiveSmallIntegerField(
        _("catch-up limit"),
        default=bounds.DEFAULT_CATCH_UP,
        validators=[MinValueValidator(1), MaxValueValidator(bounds.MAX_CATCH_UP)],
        help_text=_("At most this many missed instants are made up for, the newest."),
    )
    overlap = models.CharField(
        _("while an earlier report is unfinished"), max_length=10, choices=Overlap.choices, default=Overlap.ALLOW
    )
    jitter_seconds = models.PositiveIntegerField(
        _("jitter (seconds)"),
        default=0,
        validators=[MaxValueValidator(bounds.MAX_JITTER_SECONDS)],
        help_text=_("Spreads the load: each firing is available up to this much later, always by the same amount."),
    )
    unique = models.BooleanField(
        _("only if it is not unfinished already"),
        default=False,
        db_default=False,
        help_text=_(
            "A firing is skipped while the same report with the same modifier and parameters is unfinished, whoever "
            "has queued it."
        ),
    )
    params = models.JSONField(default=dict, blank=True, validators=[bounds.validate_json_object])
    priority = models.SmallIntegerField(
        default=0,
        validators=[MinValueValidator(bounds.MIN_PRIORITY), MaxValueValidator(bounds.MAX_PRIORITY)],
        help_text=_("-100 to 100, higher first."),
    )
    max_attempts = models.PositiveSmallIntegerField(
        default=bounds.DEFAULT_ATTEMPTS,
        validators=[MinValueValidator(bounds.MIN_ATTEMPTS), MaxValueValidator(bounds.MAX_ATTEMPTS)],
    )

    next_run_at = models.DateTimeField(_("next run (UTC)"), null=True, editable=False)
    planned_from = models.DateTimeField(
        null=True, editable=False, help_text=_("The anchor: the last firing, edit or resume.")
    )
    plan_needed = models.BooleanField(default=True, db_default=True, editable=False)
    calendar_before = models.JSONField(
        null=True,
        editable=False,
        help_text=_("Its calendar when it was planned, if that has changed since and moves its instants."),
    )
    timing_set_at = models.DateTimeField(
        db_default=ClockTimestamp(),
        editable=False,
        help_text=_("The last edit of its timing, or resume: what fires until then is of the past."),
    )
    version = models.PositiveIntegerField(
        default=1, db_default=1, editable=False, help_text=_("+1 at each edit; what If-Match compares.")
    )
    error = models.TextField(
        blank=True, editable=False, help_text=_("Why the scheduler disabled it; cleared by a good save.")
    )
    created_at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)

    objects = ReportScheduleQuerySet.as_manager()

    class Meta:
        verbose_name = _("report schedule")
        ordering = ["report_id", "modifier_id", "id"]
        indexes = [
            models.Index("next_run_at", name="reportqueue_schedule_next_run", condition=Q(enabled=True)),
            models.Index("id", name="reportqueue_schedule_unplanned", condition=Q(enabled=True, plan_needed=True)),
            models.Index("report_id", "modifier_id", name="reportqueue_schedule_report"),
        ]
        constraints = [
            models.CheckConstraint(name="reportqueue_schedule_ids", condition=Q(report_id__gte=0, modifier_id__gte=0)),
            models.CheckConstraint(
                name="reportqueue_schedule_disabled_never_fires",
                condition=Q(enabled=True) | Q(next_run_at=None),
            ),
            models.CheckConstraint(
                name="reportqueue_schedule_cron_or_interval",
                condition=(Q(cron="") & Q(interval_seconds__gte=bounds.MIN_INTERVAL_SECONDS))
                | (~Q(cron="") & Q(interval_seconds=None)),
            ),
            # The same as the queue's own constraints: a schedule beyond them would make its whole batch fail.
            models.CheckConstraint(
                name="reportqueue_schedule_priority",
                condition=Q(priority__range=(bounds.MIN_PRIORITY, bounds.MAX_PRIORITY)),
            ),
            models.CheckConstraint(
                name="reportqueue_schedule_max_attempts",
                condition=Q(max_attempts__range=(bounds.MIN_ATTEMPTS, bounds.MAX_ATTEMPTS)),
            ),
            models.CheckConstraint(
                name="reportqueue_schedule_jitter", condition=Q(jitter_seconds__lte=bounds.MAX_JITTER_SECONDS)
            ),
            models.CheckConstraint(
                name="reportqueue_schedule_policies",
                condition=Q(
                    catch_up__in=sorted(CatchUp),
                    overlap__in=sorted(Overlap),
                    blackout__in=sorted(Blackout),
                    catch_up_limit__range=(1, bounds.MAX_CATCH_UP),
                ),
            ),
        ]

    def __str__(self) -> str:
        report = catalogue.label(self.report_id, self.report_name)
        return f"report {report}, modifier {modifiers.label(self)}: {self.rule} ({self.timezone})"

    @classmethod
    def changes_timing(cls, names: Iterable[str]) -> bool:
        """Whether a change of these fields or columns, given by name, requires a new plan."""
        return any((f"{name}_id" if name == "calendar" else name) in cls.TIMING for name in names)

    @property
    def rule(self) -> str:
        """The expression, or the interval in words."""
        return self.cron if self.interval_seconds is None else words.describe_interval(self.interval_seconds)

    @property
    def in_words(self) -> str:
        """When it fires, in words. Raises `reportcron.CronError` for an expression written past the checks."""
        if self.interval_seconds is not None:
            return words.describe_interval(self.interval_seconds)
        return words.describe(self.cron)

    @property
    def day_note(self) -> str:
        """What to know where cron implementations disagree about its days; mostly empty. Raises as `in_words` does."""
        return words.day_note(self.cron) if self.interval_seconds is None else ""

    def timing(self) -> Timing:
        """Its timing, with its calendar read from the database."""
        calendars = BlackoutCalendar.values_of([self.calendar_id]) if self.calendar_id is not None else {}
        return Timing.of(self, calendars)

    @property
    def fires_after(self) -> datetime:
        """It has firings only after this instant: its last edit, or just before its start."""
        before_start = self.start_at and self.start_at - timedelta(microseconds=1)
        return max(filter(None, (self.timing_set_at, before_start)))

    def queue_only_fields(self) -> list[str]:
        """The names of the fields that a sensor which evaluates cron expressions ignores."""
        # The calendar's id: a calendar that does not exist is refused elsewhere, and must not be looked up here.
        return [name for name, plain in self.PLAIN.items() if self.serializable_value(name) != plain]

    def clean(self) -> None:
        """Refuse a schedule that cannot fire, and params that are no object, naming the field."""
        problems: dict[str, Any] = {}
        if self.params is None:
            self.params = {}  # an emptied form field
        try:
            bounds.validate_json_object(self.params)  # Django skips a field's validators for an empty list
            self._require_schema()
        except ValidationError as error:
            problems["params"] = error.messages
        problems |= self._timing_problems()
        wrong = self.queue_only_fields() if self.enabled and not problems else []
        if wrong and TriggerPeriod.objects.fired_by_sensors().exists():
            text = _("Dagster's sensors fire the schedules now, and they know cron expressions alone: leave this out.")
            problems |= dict.fromkeys(wrong, text)
        if problems:
            raise ValidationError(problems)

    def _require_schema(self) -> None:
        """Refuse parameters that do not fit the report's schema, unless they are those that are stored already.

        The schema may have changed since: such a schedule can still be paused.
        """
        if not bounds.is_whole(self.report_id):
            return  # the field refuses it
        terms = catalogue.terms([self.report_id])[self.report_id]
        if terms.params_schema is None:
            return
        stored = (
            ReportSchedule.objects.filter(pk=self.pk).values_list("report_id", "params").first() if self.pk else None
        )
        if stored != (self.report_id, self.params):
            terms.params(self.params)

    def _timing_problems(self) -> dict[str, Any]:
        if self.cron and self.interval_seconds is not None:
            return {"interval_seconds": "Leave it empty, or leave the cron expression empty: one of them decides."}
        try:
            # An empty expression without an interval is refused here: the schedule has no rule.
            reportcron.validate(self.cron if self.interval_seconds is None else "@daily", self.timezone)
        except reportcron.CronError as error:
            return {error.field: str(error)}
        # Django calls `clean` also if a field is wrong: the validators refuse ends that are naive or no instants.
        if bounds.is_instant(self.start_at) and bounds.is_instant(self.end_at) and self.end_at < self.start_at:
            return {"end_at": "Must not lie before the start."}
        if self.blackout in (Blackout.NEXT_DAY, Blackout.PREVIOUS_DAY) and self.calendar_id is not None:
            # An interval of 0, or one that is no number, is refused by the field, but Django calls `clean` too.
            step = self.interval_seconds
            if step is None:
                often: float = reportcron.times_a_day(self.cron)
            else:
                often = 86_400 / max(step, 1) if isinstance(step, int) else 0
            if often > MAX_MOVED_A_DAY:
                return {
                    "blackout": f"A schedule that fires more than {MAX_MOVED_A_DAY} times a day cannot be moved "
                    "to another day; skip it instead."
                }
        return {}

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Validate, plan the next firing, and save. If the timing is unchanged, the plan in the database stays.

        Raises `ValidationError` naming the field, whether or not the caller uses `full_clean`; `ScheduleNotFound` for a
        schedule that was deleted since it was read, whose reports no longer belong to it. The row is locked meanwhile,
        so that an edit and the scheduler cannot overwrite each other's `next_run_at`.
        """
        self.paused_by = self.paused_by[: bounds.MAX_USER_LENGTH]
        self.full_clean(validate_unique=False, validate_constraints=False)
        with locks.bounded():
            stored = ReportSchedule.objects.select_for_update().filter(pk=self.pk).first() if self.pk else None
            if stored is None and not self._state.adding:
                raise ScheduleNotFound("The schedule was deleted meanwhile.")
            own = {*self.PLANNED, "timing_set_at", "version", "paused_at", "paused_by", "pause_note"}
            if stored is None or any(getattr(self, name) != getattr(stored, name) for name in self.TIMING):
                self._plan(database_now(), was_enabled=stored is None or stored.enabled)
            else:
                for name in own - {"version", "pause_note"}:
                    setattr(self, name, getattr(stored, name))
            self.version = 1 if stored is None or stored.version >= bounds.MAX_COUNT else stored.version + 1
            if (only := kwargs.get("update_fields")) is not None:
                kwargs["update_fields"] = {*only, *own}
            super().save(*args, **kwargs)
            if stored is not None and stored.overlap != self.overlap and (only is None or "overlap" in only):
                self.apply_overlap()
            if stored is not None and stored.enabled and not self.enabled:
                notices.schedule_disabled.send(sender=None, schedule=self)
            notices.schedules_changed()

    def lock_turn(self) -> None:
        """Lock the report whose turn it is before the others are locked, as its end does. The schedule is locked."""
        if self.overlap != Overlap.ALLOW:
            self.queue_rows.lock_turn(self.pk)

    def apply_overlap(self) -> None:
        """Let the schedule's unfinished reports take turns, or no longer. The caller holds the schedule's lock."""
        if self.overlap == Overlap.ALLOW:
            self.queue_rows.stop_turns(self.pk)
        else:
            self.queue_rows.line_up(self.pk)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete as Django does, and notify the schedulers and sensors. Finished reports are detached before."""
        self.detach_history()
        with locks.bounded():
            stored = ReportSchedule.objects.select_for_update(of=("self",)).filter(pk=self.pk).first()
            if stored is not None:
                stored.lock_turn()
            deleted = super().delete(*args, **kwargs)
            notices.schedules_changed()
        return deleted

    def detach_history(self, until: float | None = None) -> bool:
        """As that of the queryset does, until this instant of `time.monotonic()`."""
        finished = self.queue_rows.filter(status__in=sorted(FINAL)).order_by("trigger_time")
        left = finished
        while True:
            with locks.bounded(), database.in_index_order():
                free = left.select_for_update(skip_locked=True, no_key=True, of=("self",))
                found = list(free.values_list("pk", "trigger_time")[:DETACHED_AT_ONCE])
                # By their ids alone: otherwise PostgreSQL may go through the index of the schedule's rows once more.
                self.queue_rows.model.objects.filter(pk__in=[pk for pk, _ in found]).update(schedule=None)
            if len(found) < DETACHED_AT_ONCE:
                return True
            # Go on behind the last one: until a vacuum, the index still has entries of the detached reports.
            left = finished.filter(trigger_time__gte=found[-1][1])
            if until is not None and time.monotonic() > until:
                return False

    def _plan(self, now: datetime, *, was_enabled: bool) -> None:
        self.error, self.planned_from, self.plan_needed, self.timing_set_at = "", now, False, now
        self.calendar_before = None
        if not self.enabled:
            self.next_run_at = None
            if was_enabled:
                self.paused_at = now
            return
        self.paused_at, self.paused_by, self.pause_note = None, "", ""
        self.next_run_at = self.next_firing(now)

    def next_firing(self, after: datetime) -> datetime | None:
        """The first firing after an instant; None if there is none before its end.

        Raises `ValidationError` naming the field if its calendar closes every firing.
        """
        try:
            return self.timing().next_firing(after)
        except NeverFires as error:
            raise ValidationError({"calendar": str(error)}) from None
