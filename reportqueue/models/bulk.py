"""Bulk actions: requeue or cancel all rows that match a filter, in the background; and which rows each has changed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from django.core.validators import MinLengthValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from reportqueue import bounds
from reportqueue.clock import ClockTimestamp
from reportqueue.models.audit import Via
from reportqueue.states import Verb

WAITS_SECONDS = 30
"""If nobody has worked on an open action for so long, it is said that it waits for the scheduler."""


class BulkVerb(models.TextChoices):
    """What is done to each row: a verb of the queue."""

    REQUEUE = Verb.REQUEUE.value, _("Requeue")
    CANCEL = Verb.CANCEL.value, _("Cancel")


class BulkStatus(models.TextChoices):
    """Where a bulk action is. Only `reportqueue.bulk` writes it."""

    WAITING = "waiting", _("Waiting")
    """Nobody has worked on it yet, or since it was resumed."""
    RUNNING = "running", _("Running")
    """The scheduler works on it, batch by batch."""
    PAUSED = "paused", _("Paused")
    """A person has paused it, or an error has. It goes on when it is resumed."""
    FINISHED = "finished", _("Finished")
    """Final: it has come to its last row."""
    CANCELLED = "cancelled", _("Stopped")
    """Final: a person has stopped it. What it has done stays done."""


OPEN = frozenset({BulkStatus.WAITING, BulkStatus.RUNNING})
"""Statuses in which the scheduler works on it."""
ENDED = frozenset({BulkStatus.FINISHED, BulkStatus.CANCELLED})
"""Final statuses."""


class BulkActionQuerySet(models.QuerySet["BulkAction"]):
    """Queries of bulk actions."""

    def next_first(self) -> Self:
        """Those to work on, in turn: first the one that has waited for longest."""
        open_ones = self.filter(status__in=sorted(OPEN), finished_at=None)  # as the condition of the index is
        return open_ones.order_by(F("worked_at").asc(nulls_first=True), "id")


class BulkAction(models.Model):
    """Requeue or cancel all rows that match, in the order of their ids. Change it only through `reportqueue.bulk`."""

    verb = models.CharField(_("what"), max_length=10, choices=BulkVerb.choices)
    filters = models.JSONField(default=dict, help_text=_("Names of the API's filters, and their values."))
    reason = models.CharField(max_length=bounds.MAX_REASON_LENGTH, blank=True, validators=[bounds.validate_text])
    requested_by = models.CharField(_("by"), max_length=bounds.MAX_USER_LENGTH, blank=True)
    requested_via = models.CharField(_("way"), max_length=10, choices=Via.choices, default=Via.CODE)
    status = models.CharField(max_length=10, choices=BulkStatus.choices, default=BulkStatus.WAITING)
    created_at = models.DateTimeField(_("since (UTC)"), db_default=ClockTimestamp(), editable=False)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    worked_at = models.DateTimeField(null=True, help_text=_("When its last batch was done, or when it was resumed."))
    first_id = models.BigIntegerField(default=0, help_text=_("The rows that it looks at have larger numbers."))
    last_id = models.BigIntegerField(default=0, help_text=_("Up to this row it is done."))
    until_id = models.BigIntegerField(default=0, help_text=_("Later rows did not exist when it was made."))
    total = models.PositiveIntegerField(
        null=True, help_text=_("Rows that matched when it was made; empty if counting them took too long.")
    )
    more = models.BooleanField(default=False, help_text=_("Whether more rows matched than were counted."))
    done = models.PositiveBigIntegerField(default=0, help_text=_("Rows that it has changed."))
    asked = models.PositiveBigIntegerField(default=0, help_text=_("Running rows among them that it has asked to end."))
    refused = models.JSONField(default=dict, help_text=_("Why rows were refused, and how many."))
    problem = models.TextField(blank=True, help_text=_("The error that has paused it."))
    undo_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="undos")
    idempotency_key = models.CharField(
        max_length=bounds.MAX_KEY_LENGTH,
        null=True,
        blank=True,
        validators=[MinLengthValidator(1), bounds.validate_text],
    )
    idempotency_scope = models.CharField(max_length=bounds.MAX_SCOPE_LENGTH, blank=True, default="", editable=False)

    objects = BulkActionQuerySet.as_manager()

    class Meta:
        verbose_name = _("bulk action")
        verbose_name_plural = _("bulk actions")
        default_permissions = ()  # The permissions of the queue's rows and verbs hold for it.
        indexes = [
            models.Index("worked_at", "id", name="reportqueue_bulk_open", condition=Q(finished_at=None)),
        ]
        constraints = [
            models.CheckConstraint(name="reportqueue_bulk_verb", condition=Q(verb__in=sorted(BulkVerb))),
            models.CheckConstraint(name="reportqueue_bulk_status", condition=Q(status__in=sorted(BulkStatus))),
            models.CheckConstraint(
                name="reportqueue_bulk_finished_iff_ended",
                condition=(Q(status__in=sorted(ENDED)) & Q(finished_at__isnull=False))
                | (~Q(status__in=sorted(ENDED)) & Q(finished_at=None)),
            ),
            models.CheckConstraint(name="reportqueue_bulk_asked", condition=Q(asked__lte=F("done"))),
            models.UniqueConstraint(
                fields=["idempotency_key", "idempotency_scope"], name="reportqueue_bulk_idempotency_key"
            ),
            models.UniqueConstraint(
                fields=["undo_of"],
                name="reportqueue_bulk_one_undo",
                condition=~Q(status=BulkStatus.CANCELLED),
            ),
        ]

    def __str__(self) -> str:
        return f"Bulk action {self.pk}"

    @property
    def bulk_id(self) -> int:
        """The id, as the API calls it."""
        return int(self.pk)

    @property
    def has_ended(self) -> bool:
        """Whether it does nothing any more."""
        return self.status in ENDED

    @property
    def refused_count(self) -> int:
        """How many rows were refused."""
        return sum(self.refused.values())

    def waits_for_scheduler(self, now: datetime) -> bool:
        """Whether it is open, and nobody has worked on it for `WAITS_SECONDS`."""
        since = self.worked_at or self.created_at
        return self.status in OPEN and now - since > timedelta(seconds=WAITS_SECONDS)


class BulkActionRow(models.Model):
    """A row that a bulk action has changed, as it left that row: whoever undoes the action compares it."""

    bulk_action = models.ForeignKey(
        BulkAction,
        on_delete=models.CASCADE,
        related_name="rows",
        db_index=False,  # the unique constraint begins with this field
    )
    # No foreign key: pruning a row must neither be prevented nor made slower.
    queue_id = models.BigIntegerField()
    generation = models.PositiveIntegerField()
    changed_at = models.DateTimeField()
    asked = models.BooleanField(default=False, help_text=_("It was running, and was asked to end."))

    class Meta:
        verbose_name = _("row of a bulk action")
        default_permissions = ()
        indexes = [models.Index("queue_id", name="reportqueue_bulk_of_row")]
        constraints = [
            models.UniqueConstraint(fields=["bulk_action", "queue_id"], name="reportqueue_bulk_once_per_row"),
        ]

    def __str__(self) -> str:
        return f"row {self.queue_id} of bulk action {self.bulk_action_id}"
