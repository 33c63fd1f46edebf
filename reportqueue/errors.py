"""The errors of the queue, as one family: the API maps them to answers in one place."""

from __future__ import annotations


class ReportQueueError(Exception):
    """The report queue refused; nothing was changed."""

    def __init__(self, detail: str = "", *, current_status: str | None = None) -> None:
        super().__init__(detail or (self.__doc__ or "").strip().splitlines()[0])
        self.current_status = current_status
        """The row's status, if that is the reason."""


class RowNotFound(ReportQueueError):
    """There is no such report in the queue."""


class ScheduleNotFound(ReportQueueError):
    """There is no such schedule."""


class ReportNotFound(ReportQueueError):
    """There is no such report in the catalogue."""


class SourceNotFound(ReportQueueError):
    """There is no such webhook source."""


class BulkActionNotFound(ReportQueueError):
    """There is no such bulk action."""


class BulkActionRefused(ReportQueueError):
    """The status of the bulk action does not allow this."""


class BadSignature(ReportQueueError):
    """The delivery is not signed by its source."""


class TokenRefused(ReportQueueError):
    """The token is not valid."""


class UserRefused(ReportQueueError):
    """There cannot be such an API user."""


class InvalidTransition(ReportQueueError):
    """The row's status does not allow this."""


class RowErased(ReportQueueError):
    """The data of the report were erased: it would run without its parameters."""


class LeaseLost(ReportQueueError):
    """The lease token is not the row's: another owner, the rescuer or a cancel has taken the row."""


class HeldByAnother(ReportQueueError):
    """The row was handed out to another API user. That user alone may go on with it, until its lease ends."""


class HistoryLeft(ReportQueueError):
    """Many finished reports belong to the schedule, and not all could be detached yet. Delete it again to go on."""


class RowBusy(ReportQueueError):
    """Another transaction holds its lock and did not release it in time: try again soon."""


class IdempotencyKeyReused(ReportQueueError):
    """The idempotency key is known, with other content."""


class HandoverRefused(ReportQueueError):
    """The firings cannot go to another pattern like this."""


class FeedTooLarge(ReportQueueError):
    """The schedules' parameters are too large for one list."""


class FiringTooEarly(ReportQueueError):
    """The firing's instant has not come yet by the database's clock: try again then."""


class FiringRefused(ReportQueueError):
    """The schedule has no such firing, or the firing does not belong to this caller."""


class SubscriptionNotFound(ReportQueueError):
    """There is no webhook subscription with this id."""


class AlertRuleNotFound(ReportQueueError):
    """There is no alert rule with this id."""


class DeliveryNotFound(ReportQueueError):
    """There is no webhook delivery with this id."""


class DeliveryRefused(ReportQueueError):
    """Nothing can be sent now."""


class ErasureRefused(ReportQueueError):
    """Something of the modifier goes on."""
