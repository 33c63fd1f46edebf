"""The outbox: events, who subscribes to them, and their deliveries."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Self
from uuid import UUID, uuid4

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from reportqueue import addresses, bounds
from reportqueue.clock import ClockTimestamp
from reportqueue.webhook_secrets import SEED_LENGTH, new_seed

MAX_TYPE_LENGTH = 40
MAX_SUBJECT_LENGTH = 80
MAX_URL_LENGTH = 500
MAX_REPORTS = 100
"""Reports that one subscription may name."""
MAX_ANSWER_LENGTH = 500
MAX_PROBLEM_LENGTH = 300
LATELY = timedelta(days=3)
"""For so long people are told of a delivery that was given up: a weekend, and the day after it."""


class EventType(models.TextChoices):
    """What happened."""

    SUCCEEDED = "report.succeeded", _("A report succeeded")
    FAILED = "report.failed", _("A report failed for good")
    LATE = "report.late", _("A report missed its deadline")
    SKIPPED = "report.skipped", _("A report was skipped")
    CANCELLED = "report.cancelled", _("A report was cancelled")
    SCHEDULE_DISABLED = "schedule.disabled", _("A schedule was paused or disabled")
    SCHEDULE_OVERDUE = "schedule.overdue", _("A schedule is overdue")
    SCHEDULE_ON_TIME = "schedule.on_time", _("A schedule is no longer overdue")
    PAUSED = "queue.paused", _("The queue, a route or a report was paused")
    RESUMED = "queue.resumed", _("The queue, a route or a report was resumed")
    SILENT = "consumers.silent", _("Nobody claims reports")
    HEARD = "consumers.heard", _("Reports are claimed again")
    SUBSCRIPTION_DISABLED = "webhook.disabled", _("A webhook subscription was disabled by its failures")
    TEST = "webhook.test", _("A test, sent by a person")
    """It goes to the one subscription that it tests: nobody can subscribe to it."""


SUBSCRIBABLE = [one for one in EventType if one is not EventType.TEST]


def message_id(pk: int, uid: UUID) -> str:
    """The header `webhook-id` of an event: the same for all its deliveries.

    The number finds the event. Without the random part, a database that was restored would use known numbers again.
    """
    return f"evt_{pk}_{uid.hex}"


def pk_of(message_id: str) -> int | None:
    """The number of the event with this `webhook-id`; None for a text that is none."""
    match = re.fullmatch(r"evt_([0-9]{1,18})_[0-9a-f]{32}", message_id)
    return None if match is None else int(match[1])


class OutboxEvent(models.Model):
    """One event, written in the transaction of what it tells, if anybody subscribes to it. It never changes."""

    uid = models.UUIDField(default=uuid4, help_text=_("The random part of the header webhook-id."))
    type = models.CharField(max_length=MAX_TYPE_LENGTH, choices=EventType.choices)
    subject = models.CharField(
        max_length=MAX_SUBJECT_LENGTH, help_text=_("What it is about, such as row:17. Its events stay in their order.")
    )
    report_id = models.BigIntegerField(_("report"), null=True)
    at = models.DateTimeField(_("at (UTC)"), db_default=ClockTimestamp())
    data = models.JSONField(default=dict)

    class Meta:
        verbose_name = _("event")
        default_permissions = ()
        indexes = [
            # For people, who look for the events of a row; for missed deadlines that are told already; and for the
            # earlier events that hold back a delivery.
            models.Index("subject", name="reportqueue_event_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.subject}"

    @property
    def message_id(self) -> str:
        """Its header `webhook-id`."""
        return message_id(self.pk, self.uid)


class SubscriptionQuerySet(models.QuerySet["WebhookSubscription"]):
    """Queries of subscriptions."""

    def of_people(self) -> Self:
        """Those that people have made: all but the one of the alert rules."""
        return self.filter(of_alerts=False)

    def disabled_by_failures(self) -> Self:
        """Those that were disabled by their failures or by an answer 410, and not by a person."""
        return self.of_people().filter(enabled=False).exclude(disabled_reason="")


class WebhookSubscription(models.Model):
    """An address that gets signed events. The table holds no secret: see `webhook_secrets`."""

    url = models.CharField(_("address"), max_length=MAX_URL_LENGTH, validators=[addresses.validate_url])
    of_alerts = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text=_("The one subscription of the alert rules: its events are counted, and sent nowhere."),
    )
    description = models.CharField(max_length=200, blank=True, validators=[bounds.validate_text])
    enabled = models.BooleanField(default=True)
    event_types = ArrayField(
        models.CharField(max_length=MAX_TYPE_LENGTH, choices=[(one.value, one.label) for one in SUBSCRIBABLE]),
        verbose_name=_("events"),
        size=len(SUBSCRIBABLE),
    )
    report_ids = ArrayField(
        models.BigIntegerField(validators=bounds.id_validators()),
        verbose_name=_("reports"),
        size=MAX_REPORTS,
        default=list,
        blank=True,
        help_text=_(
            "The numbers of the reports whose events it gets, with commas between them; empty: of all. Events that "
            "are not of one report come in any case."
        ),
    )
    seed = models.CharField(max_length=SEED_LENGTH, default=new_seed, editable=False)
    previous_seed = models.CharField(max_length=SEED_LENGTH, blank=True, editable=False)
    previous_until = models.DateTimeField(
        null=True, editable=False, help_text=_("Until then, events are signed with the earlier secret, too.")
    )
    created_at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)

    failures = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text=_("Attempts that have failed since the last success.")
    )
    failing_since = models.DateTimeField(null=True, editable=False)
    retry_at = models.DateTimeField(
        null=True, editable=False, help_text=_("While it fails, nothing is sent to it before this.")
    )
    disabled_reason = models.CharField(max_length=MAX_PROBLEM_LENGTH, blank=True, default="", editable=False)

    objects = SubscriptionQuerySet.as_manager()

    class Meta:
        verbose_name = _("webhook subscription")
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(name="reportqueue_subscription_events", condition=~Q(event_types=[])),
            models.UniqueConstraint(
                fields=["of_alerts"], name="reportqueue_subscription_alerts", condition=Q(of_alerts=True)
            ),
        ]

    def __str__(self) -> str:
        # The path of an address is often a secret. This text is in the log, in the audit, and in the lists of others.
        return self.description or f"#{self.pk} {addresses.origin(self.url)}"

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Refuse wrong values. The settings may have come to refuse an address that was stored before.

        So a stored address is checked again only when the subscription is enabled: it can always be disabled.
        """
        if self.pk is not None:
            before = WebhookSubscription.objects.filter(pk=self.pk, url=self.url)
            if before.filter(enabled=True).exists() or (not self.enabled and before.exists()):
                exclude = {*(exclude or ()), "url"}
        super().clean_fields(exclude)

    def clean(self) -> None:
        """Refuse unknown types, and name each type and report once."""
        if not isinstance(self.event_types, list) or not isinstance(self.report_ids, list):
            return  # the fields refuse it
        if unknown := sorted({str(one)[:100] for one in self.event_types} - {str(one) for one in SUBSCRIBABLE}):
            raise ValidationError({"event_types": f"There is no event {', '.join(unknown[:10])}."})
        self.event_types = sorted(set(self.event_types))
        self.report_ids = sorted(set(self.report_ids))

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Validate and save. What a person enables, and what gets another address, begins without failures."""
        self.full_clean(validate_unique=False, validate_constraints=False)
        only = kwargs.get("update_fields")
        if self.enabled and (self.disabled_reason or "url" in (only or ())):
            self.failures, self.failing_since, self.retry_at, self.disabled_reason = 0, None, None, ""
            if only is not None:
                kwargs["update_fields"] = {*only, "failures", "failing_since", "retry_at", "disabled_reason"}
        super().save(*args, **kwargs)


class DeliveryStatus(models.TextChoices):
    """How far a delivery is."""

    PENDING = "pending", _("Pending")
    """To be sent, or sent again, from `due_at` on. A deliverer that takes it sets `due_at` to the end of its lease."""
    DELIVERED = "delivered", _("Delivered")
    DEAD = "dead", _("Given up")
    """All attempts of a day have failed. A person can have it sent again."""


class DeliveryQuerySet(models.QuerySet["EventDelivery"]):
    """Queries of deliveries."""

    def to_people(self) -> Self:
        """Those that are sent: the alert rules' are counted only."""
        return self.filter(subscription__of_alerts=False)

    def given_up_lately(self) -> Self:
        """Those that were given up within `LATELY`, and that nobody has had sent again."""
        return self.to_people().filter(status=DeliveryStatus.DEAD, finished_at__gte=Now() - LATELY)


class EventDelivery(models.Model):
    """One event on its way to one subscription. It has few indexes: there are several deliveries for each event.

    No foreign key is checked by the database: it would lock the subscription's row in each transaction that writes an
    event. A delivery without its subscription is never sent, and is pruned.
    """

    event = models.ForeignKey(
        OutboxEvent, on_delete=models.CASCADE, related_name="deliveries", db_constraint=False, db_index=False
    )
    subscription = models.ForeignKey(
        WebhookSubscription, on_delete=models.DO_NOTHING, related_name="deliveries", db_constraint=False, db_index=False
    )
    status = models.CharField(max_length=10, choices=DeliveryStatus.choices, default=DeliveryStatus.PENDING)
    attempts = models.PositiveIntegerField(default=0, db_default=0)
    first_attempt_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(_("next attempt (UTC)"), db_default=ClockTimestamp())
    lease_token = models.UUIDField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        default_permissions = ("view",)
        permissions = [("redeliver_eventdelivery", "Can have webhook deliveries sent again")]
        ordering = ["-id"]
        indexes = [
            models.Index(
                "subscription",
                "due_at",
                "event",
                name="reportqueue_delivery_due",
                condition=Q(status=DeliveryStatus.PENDING),
            ),
            models.Index("id", name="reportqueue_delivery_dead", condition=Q(status=DeliveryStatus.DEAD)),
            models.Index("finished_at", name="reportqueue_delivery_given_up", condition=Q(status=DeliveryStatus.DEAD)),
            models.Index("finished_at", name="reportqueue_delivery_ended", condition=Q(finished_at__isnull=False)),
        ]
        constraints = [
            models.UniqueConstraint(fields=["event", "subscription"], name="reportqueue_delivery_once"),
            models.CheckConstraint(name="reportqueue_delivery_status", condition=Q(status__in=sorted(DeliveryStatus))),
            models.CheckConstraint(
                name="reportqueue_delivery_finished",
                condition=Q(status=DeliveryStatus.PENDING, finished_at=None)
                | (~Q(status=DeliveryStatus.PENDING) & Q(finished_at__isnull=False, lease_token=None)),
            ),
        ]

    def __str__(self) -> str:
        return f"#{self.pk}"


class DeliveryAttempt(models.Model):
    """One request, and what was answered."""

    delivery = models.ForeignKey(EventDelivery, on_delete=models.CASCADE, related_name="log", db_constraint=False)
    at = models.DateTimeField(_("at (UTC)"), db_default=ClockTimestamp())
    status_code = models.PositiveSmallIntegerField(null=True, help_text=_("Of the answer; empty without one."))
    milliseconds = models.PositiveIntegerField()
    answer = models.CharField(max_length=MAX_ANSWER_LENGTH, blank=True, help_text=_("The begin of the answer."))
    problem = models.CharField(max_length=MAX_PROBLEM_LENGTH, blank=True, help_text=_("Why it did not succeed."))

    class Meta:
        verbose_name = _("attempt to deliver")
        default_permissions = ()
        ordering = ["id"]


class Trouble(models.Model):
    """What lasts and has been told of, until it is over: an overdue schedule, silent consumers."""

    type = models.CharField(max_length=MAX_TYPE_LENGTH)
    subject = models.CharField(max_length=MAX_SUBJECT_LENGTH)
    report_id = models.BigIntegerField(null=True)
    since = models.DateTimeField(db_default=ClockTimestamp())

    class Meta:
        verbose_name = _("trouble")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["type", "subject"], name="reportqueue_trouble_once")]

    def __str__(self) -> str:
        return f"{self.type} {self.subject}"
