"""Alerts: rules that people make, and what they have found."""

from __future__ import annotations

from typing import Any, Self

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds, locks
from reportqueue.clock import ClockTimestamp
from reportqueue.conf import conf
from reportqueue.models.event import MAX_REPORTS, MAX_SUBJECT_LENGTH, EventType, WebhookSubscription

MAX_RECIPIENTS = 20
MAX_CHANNEL_LENGTH = 50
MAX_EMAIL_LENGTH = 254
MIN_IN_A_ROW, MAX_IN_A_ROW = 2, 100
MIN_BACKLOG_SECONDS, MAX_BACKLOG_SECONDS = 60, 31 * 86_400
MAX_QUIET_SECONDS = 31 * 86_400
DEFAULT_QUIET_SECONDS = 3_600
MAX_LINE_LENGTH = 400


class Condition(models.TextChoices):
    """What an alert is about."""

    FAILED = "failed", _("A report failed for good")
    IN_A_ROW = "in_a_row", _("A report failed several times in a row")
    LATE = "late", _("A report missed its deadline")
    OVERDUE = "overdue", _("A schedule is overdue")
    BACKLOG = "backlog", _("Reports have waited for long")
    SILENT = "silent", _("Nobody claims reports")


EVENTS: dict[str, tuple[EventType, ...]] = {
    Condition.FAILED: (EventType.FAILED,),
    Condition.IN_A_ROW: (EventType.FAILED,),
    Condition.LATE: (EventType.LATE,),
    Condition.OVERDUE: (EventType.SCHEDULE_OVERDUE, EventType.SCHEDULE_ON_TIME),
    Condition.BACKLOG: (),
    Condition.SILENT: (EventType.SILENT, EventType.HEARD),
}
"""The events that tell of each condition. A backlog is looked for."""
LOCK = "reportqueue:alerts"
"""Held while rules are written."""


class AlertRuleQuerySet(models.QuerySet["AlertRule"]):
    """Queries of alert rules."""

    def failing(self) -> Self:
        """Enabled ones whose last message did not reach all of their recipients."""
        return self.filter(enabled=True).exclude(problem="")


class AlertRule(models.Model):
    """A rule of a person: when a message is sent, and to whom."""

    name = models.CharField(max_length=100, unique=True, validators=[bounds.validate_text])
    enabled = models.BooleanField(default=True)
    condition = models.CharField(max_length=10, choices=Condition.choices)
    in_a_row = models.PositiveSmallIntegerField(
        _("failures in a row"),
        default=3,
        validators=[MinValueValidator(MIN_IN_A_ROW), MaxValueValidator(MAX_IN_A_ROW)],
        help_text=_("For “A report failed several times in a row” only."),
    )
    waited_seconds = models.PositiveIntegerField(
        _("waited for (seconds)"),
        default=900,
        validators=[MinValueValidator(MIN_BACKLOG_SECONDS), MaxValueValidator(MAX_BACKLOG_SECONDS)],
        help_text=_("For “Reports have waited for long” only."),
    )
    report_ids = ArrayField(
        models.BigIntegerField(validators=bounds.id_validators()),
        verbose_name=_("reports"),
        size=MAX_REPORTS,
        default=list,
        blank=True,
        help_text=_("The numbers of the reports that it is about, with commas between them; empty: all."),
    )
    emails = ArrayField(
        models.EmailField(max_length=MAX_EMAIL_LENGTH),
        verbose_name=_("mail to"),
        size=MAX_RECIPIENTS,
        default=list,
        blank=True,
        help_text=_("Addresses, with commas between them."),
    )
    channels = ArrayField(
        models.CharField(max_length=MAX_CHANNEL_LENGTH),
        size=MAX_RECIPIENTS,
        default=list,
        blank=True,
        help_text=_("Names of the setting ALERT_CHANNELS, with commas between them."),
    )
    quiet_seconds = models.PositiveIntegerField(
        _("quiet period (seconds)"),
        default=DEFAULT_QUIET_SECONDS,
        validators=[MaxValueValidator(MAX_QUIET_SECONDS)],
        help_text=_("After a message about something, no other one about the same comes sooner, but for its end."),
    )
    test_wanted = models.BooleanField(default=False, db_default=False, editable=False)
    retry_at = models.DateTimeField(null=True, editable=False)
    problem = models.CharField(
        max_length=MAX_LINE_LENGTH, blank=True, default="", editable=False, help_text=_("Why a message was not sent.")
    )
    sent_at = models.DateTimeField(_("last message (UTC)"), null=True, editable=False)

    objects = AlertRuleQuerySet.as_manager()

    class Meta:
        verbose_name = _("alert rule")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(name="reportqueue_alert_condition", condition=Q(condition__in=sorted(Condition))),
        ]

    def __str__(self) -> str:
        return self.name

    def concerns(self, report_id: int | None) -> bool:
        """Whether it is about this report; what is about no report concerns every rule."""
        return not self.report_ids or report_id is None or report_id in self.report_ids

    def clean(self) -> None:
        """Refuse a rule that tells nobody, and unknown channels.

        The settings may have lost a channel that was stored before. It is refused again only when the rule is enabled:
        a rule can always be disabled.
        """
        if not isinstance(self.emails, list) or not isinstance(self.channels, list):
            return  # the fields refuse it
        problems: dict[str, Any] = {}
        if not self.emails and not self.channels:
            problems["emails"] = _("Give an address or a channel.")
        known = conf().alert_channels or {}
        stored = None if self.pk is None else AlertRule.objects.filter(pk=self.pk).first()
        kept = stored.channels if stored is not None and (stored.enabled or not self.enabled) else []
        if unknown := sorted(set(self.channels) - set(known) - set(kept)):
            there = ", ".join(sorted(known)) or "none"
            problems["channels"] = f"The setting ALERT_CHANNELS has no {', '.join(unknown)[:200]}; it has: {there}."
        if problems:
            raise ValidationError(problems)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Validate and save; subscribe the alerts to the events that the enabled rules need.

        A rule that is switched on or off, or is about something else now, forgets what it has found: it would not learn
        of its end.
        """
        self.full_clean(validate_unique=False, validate_constraints=False)
        with locks.bounded(lock=LOCK):
            about = {"enabled": self.enabled, "condition": self.condition, "report_ids": self.report_ids}
            if self.pk is not None and not AlertRule.objects.filter(pk=self.pk, **about).exists():
                self.alerts.all().delete()
            super().save(*args, **kwargs)
            _subscribe()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete, and subscribe the alerts to no more events than the others need."""
        with locks.bounded(lock=LOCK):
            deleted = super().delete(*args, **kwargs)
            _subscribe()
        return deleted


class Alert(models.Model):
    """What a rule has found about one thing, until it is over and that was told."""

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="alerts")
    subject = models.CharField(max_length=MAX_SUBJECT_LENGTH)
    report_id = models.BigIntegerField(null=True)
    since = models.DateTimeField(db_default=ClockTimestamp())
    last_at = models.DateTimeField(db_default=ClockTimestamp())
    untold = models.PositiveIntegerField(default=0, help_text=_("Times that no message has told of."))
    line = models.CharField(max_length=MAX_LINE_LENGTH, help_text=_("The last one, in words."))
    told_at = models.DateTimeField(null=True)
    over_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("alert")
        ordering = ["id"]
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["rule", "subject"], name="reportqueue_alert_once")]

    def __str__(self) -> str:
        return self.line


def _subscribe() -> None:
    """Have the events written that the enabled rules need, and no others. The caller holds the lock."""
    rules = list(AlertRule.objects.filter(enabled=True))
    types = sorted({kind.value for rule in rules for kind in EVENTS[rule.condition]})
    known = WebhookSubscription.objects.filter(of_alerts=True)
    if not types:
        known.update(enabled=False)
    elif not known.update(enabled=True, event_types=types):
        WebhookSubscription.objects.bulk_create([WebhookSubscription(of_alerts=True, url="", event_types=types)])
