"""The forms of answers that are put together by hand, and of problem documents. They describe; nothing uses them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from reportqueue.api.openapi.refusals import WHEN
from reportqueue.api.serializers.alerts import AlertRuleSerializer
from reportqueue.api.serializers.bulk import BulkSerializer
from reportqueue.api.serializers.catalogue import ReportSerializer
from reportqueue.api.serializers.outbox import AttemptSerializer, DeliverySerializer, SubscriptionSerializer
from reportqueue.api.serializers.queue import (
    FailureGroupSerializer,
    HeartbeatSerializer,
    ItemSerializer,
    PauseSerializer,
    PendingSerializer,
    StartedInBatchSerializer,
)
from reportqueue.api.serializers.schedules import ForecastSerializer, ScheduleSerializer
from reportqueue.models.bulk import BulkVerb
from reportqueue.patterns import SENSOR_FIRED
from reportqueue.queue.failure_groups import PERIODS
from reportqueue.row_filters import InstantField
from reportqueue.states import Status


class Problem(serializers.Serializer[Any]):
    """Why a call was refused, as RFC 9457 has it. Branch on `type`; `detail` is for people."""

    type = serializers.ChoiceField(sorted(WHEN))
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    current_status = serializers.ChoiceField(
        Status.choices, required=False, help_text="The row's status, if that is the reason."
    )
    errors = serializers.DictField(  # type: ignore[assignment]  # a serializer has a property of this name
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="What is wrong, by the field or the parameter; problems of no field are under the empty name.",
    )
    path = serializers.CharField(required=False, help_text="The address, if the API has no such one.")


class _Page(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True, help_text="The address of the next page; null on the last one.")
    previous = serializers.URLField(allow_null=True, help_text="The address of the page before; null on the first one.")


class RowPage(_Page):
    """Rows of the queue. A page ends early once its rows have 8 MiB of parameters, results and errors."""

    queue = ItemSerializer(many=True)


class SubscriptionPage(_Page):
    """Webhook subscriptions, in the order in which they were added."""

    subscriptions = SubscriptionSerializer(many=True)


class AlertRulePage(_Page):
    """Alert rules, in the order in which they were added."""

    alert_rules = AlertRuleSerializer(many=True)


class NewSecret(SubscriptionSerializer):
    """A subscription with its new secret, which is not shown again."""

    secret = serializers.CharField(help_text="`whsec_...`, for the receiver.")

    class Meta(SubscriptionSerializer.Meta):
        fields = [*SubscriptionSerializer.Meta.fields, "secret"]


class DeliveryPage(_Page):
    """Webhook deliveries, the newest first."""

    deliveries = DeliverySerializer(many=True)


class DeliveryWithLog(DeliverySerializer):
    """A delivery with what is sent, and its attempts."""

    data = serializers.JSONField(help_text="The event's data, as it is sent.")  # type: ignore[assignment]  # a property
    log = AttemptSerializer(many=True)

    class Meta(DeliverySerializer.Meta):
        fields = [*DeliverySerializer.Meta.fields, "data", "log"]


class SchedulePage(_Page):
    """Schedules, by id."""

    schedules = ScheduleSerializer(many=True)


class CataloguePage(_Page):
    """Entries of the catalogue, by number."""

    reports = ReportSerializer(many=True)


class BulkPage(_Page):
    """Bulk actions, the newest first."""

    bulk_actions = BulkSerializer(many=True)


class Claimed(serializers.Serializer[Any]):
    """What a consumer gets. Until it is acknowledged, the next claim gets it again."""

    claim_id = serializers.UUIDField(allow_null=True, help_text="What acknowledges the claim; null if nothing is due.")
    queue = ItemSerializer(many=True)
    in_flight = serializers.IntegerField(
        required=False, help_text="The consumer's unfinished rows, if the claim has bounded them."
    )
    unstarted = serializers.IntegerField(required=False, help_text="Those of them that no run has started.")
    warning = serializers.CharField(required=False, help_text="What people should know of the consumer.")


class FailureGroups(serializers.Serializer[Any]):
    """Failed rows, grouped by their error: those with the most rows first, the muted ones last."""

    period = serializers.ChoiceField(list(PERIODS))
    failures = FailureGroupSerializer(many=True)
    complete = serializers.BooleanField(help_text="False if there are more.")
    counted_up_to = serializers.IntegerField()


class Pauses(serializers.Serializer[Any]):
    """What is paused, the oldest first."""

    pauses = PauseSerializer(many=True)


class Resumed(serializers.Serializer[Any]):
    """Whether it was paused."""

    resumed = serializers.BooleanField()


class BulkPreview(serializers.Serializer[Any]):
    """What a bulk action would be done to."""

    verb = serializers.ChoiceField(BulkVerb.choices)
    filters = serializers.DictField()
    total = serializers.IntegerField(allow_null=True, help_text="Rows that match; null if counting took too long.")
    more = serializers.BooleanField(help_text="Whether more rows match than were counted.")
    counts = serializers.DictField(
        child=serializers.IntegerField(allow_null=True), help_text="By status; null where counting took too long."
    )


class Pending(serializers.Serializer[Any]):
    """Due, unclaimed rows in claim order."""

    pending = PendingSerializer(many=True)


class Processed(serializers.Serializer[Any]):
    """The row has succeeded as far as the queue can know."""

    id = serializers.IntegerField()
    processed = serializers.BooleanField()


class Backfilled(serializers.Serializer[Any]):
    """What was queued, or would be."""

    count = serializers.IntegerField(help_text="Firings in the range.")
    already_queued = serializers.IntegerField()
    enqueued = serializers.IntegerField()
    first = InstantField(allow_null=True)
    last = InstantField(allow_null=True)
    dry_run = serializers.BooleanField()


class Preview(serializers.Serializer[Any]):
    """The next firings of a schedule."""

    words = serializers.CharField(help_text="The timing in English.")
    note = serializers.CharField(help_text="By which rule two restricted day fields are combined; mostly empty.")
    occurrences = ForecastSerializer(many=True)
    complete = serializers.BooleanField(help_text="False if the search ended early, as the calendar closes so much.")


class Delivered(serializers.Serializer[Any]):
    """The row of a delivery."""

    queue_id = serializers.IntegerField()
    status = serializers.ChoiceField(Status.choices)


class Document(serializers.Serializer[Any]):
    """The API in OpenAPI 3.1."""

    openapi = serializers.CharField()
    info = serializers.DictField()
    paths = serializers.DictField()


class FeedPeriod(serializers.Serializer[Any]):
    """A period whose firings are the sensor's."""

    since = InstantField(allow_null=True, help_text="Its first instant; null means no limit.")
    until = InstantField(allow_null=True, help_text="The first instant after it; null means no limit.")


class FeedSchedule(serializers.Serializer[Any]):
    """A schedule, for a client that evaluates its expression."""

    schedule_id = serializers.IntegerField()
    report_id = serializers.IntegerField()
    modifier_id = serializers.IntegerField()
    cron = serializers.CharField()
    timezone = serializers.CharField()
    enabled = serializers.BooleanField()
    priority = serializers.IntegerField()
    params = serializers.DictField()
    next_run_at = InstantField(allow_null=True)
    fires_after = InstantField(
        required=False, help_text="With `pattern` alone: later instants are firings, earlier ones are not."
    )


class Feed(serializers.Serializer[Any]):
    """Every schedule with a cron expression, by id."""

    version = serializers.CharField(help_text="It changes with every edit.")
    periods = FeedPeriod(many=True, required=False, help_text=f"With `pattern` ({', '.join(sorted(SENSOR_FIRED))}).")
    reports = FeedSchedule(many=True)


class _OneRow(serializers.Serializer[Any]):
    queue_id = serializers.IntegerField()
    code = serializers.IntegerField(help_text="The status that a call for this row alone would have had.")


class OneStarted(_OneRow):
    """The row with its `lease_token`, or the problem."""

    answer = StartedInBatchSerializer()


class OneBeaten(_OneRow):
    """The end of the lease, or the problem."""

    answer = HeartbeatSerializer()


class StatusOfRow(serializers.Serializer[Any]):
    """Where the row is now."""

    status = serializers.ChoiceField(Status.choices)


class OneCompleted(_OneRow):
    """The row's status, or the problem."""

    answer = StatusOfRow()


class StartedRows(serializers.Serializer[Any]):
    """An answer for each row, in the order of the request."""

    rows = OneStarted(many=True)


class BeatenRows(serializers.Serializer[Any]):
    """An answer for each row, in the order of the request."""

    rows = OneBeaten(many=True)


class CompletedRows(serializers.Serializer[Any]):
    """An answer for each row, in the order of the request."""

    rows = OneCompleted(many=True)


OF_EACH_ROW = (OneStarted, OneBeaten, OneCompleted)
"""In these, `answer` may be a problem document instead."""
