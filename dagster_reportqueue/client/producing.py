"""The verbs of programs that enqueue, and of people: enqueue, list, show, requeue."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from dagster_reportqueue.client.parsing import as_json, given, pages, parsed, storable
from dagster_reportqueue.client.rows import NewReport, QueueRow, RowHistory
from dagster_reportqueue.client.transport import Transport

MAX_BULK = 1_000
"""Reports in one call: the API's bound."""
MAX_BULK_BYTES = 8 * 1024 * 1024
"""Of a call's body: the API's default."""


class Producing(Transport):
    """Calls are repeated if their answer is lost. A report is enqueued under a key, so that it is one row.

    A `requeue` whose answer was lost may so raise `Conflict`, although it was done: look at the row.
    """

    def enqueue(
        self,
        report_id: int,
        modifier_id: int,
        *,
        params: Mapping[str, Any] | None = None,
        trigger_time: datetime | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        route: str | None = None,
        unique: bool = False,
        idempotency_key: str | None = None,
    ) -> QueueRow:
        """Enqueue a report; the arguments are those of `NewReport`. Needs the permission to add.

        The row may be an earlier one: of the same key, or the one that `unique` has found. Raises `Conflict` for a key
        that is known with other content, `ApiRefused` for wrong values, naming them.
        """
        new = NewReport(
            report_id=report_id,
            modifier_id=modifier_id,
            params=params,
            trigger_time=trigger_time,
            priority=priority,
            max_attempts=max_attempts,
            route=route,
            unique=unique,
            idempotency_key=idempotency_key,
        )
        answer = self.post("report-queue/", new.body(_new_key()))
        return parsed("a row", lambda: QueueRow.parse(answer))

    def enqueue_many(self, reports: Sequence[NewReport]) -> list[QueueRow]:
        """Enqueue up to 1,000 reports as a whole or not at all; returns their rows in the same order.

        Raises as `enqueue` does, and `ValueError` for more. No reports are no call.
        """
        if len(reports) > MAX_BULK:
            raise ValueError(f"At most {MAX_BULK:,} reports in a call; these are {len(reports):,}. Split them.")
        if not reports:
            return []
        answer = self.post("report-queue/", [one.body(_new_key()) for one in reports], most=MAX_BULK_BYTES)
        rows = parsed("a list of rows", lambda: [QueueRow.parse(row) for row in answer])
        return parsed("a row for each report", lambda: [row for row, _ in zip(rows, reports, strict=True)])

    def list_rows(
        self,
        *,
        status: Collection[str] = (),
        source: Collection[str] = (),
        claimed_by: Collection[str] = (),
        route: Collection[str] = (),
        processed: bool | None = None,
        report: int | str | None = None,
        modifier_id: int | None = None,
        schedule: int | None = None,
        failure: str | None = None,
        trigger_time_after: datetime | None = None,
        trigger_time_before: datetime | None = None,
    ) -> Iterator[QueueRow]:
        """The rows that match, read page by page. Needs the permission to view.

        `processed` None is finished and unfinished ones. `report` is a number, or a name in the catalogue. The instant
        `trigger_time_after` is included, `trigger_time_before` is not. Raises `ApiRefused` for wrong values.
        """
        chosen = {
            "status": sorted(status),
            "source": sorted(source),
            "claimed_by": sorted(claimed_by),
            "route": sorted(route),
            "processed": "any" if processed is None else str(processed).lower(),
            "report": report,
            "modifier_id": modifier_id,
            "schedule": schedule,
            "failure": failure,
            "trigger_time_after": trigger_time_after,
            "trigger_time_before": trigger_time_before,
        }
        return pages(
            self,
            "report-queue/",
            as_json(given(chosen)),
            lambda page: [QueueRow.parse(row) for row in page.content["queue"]],
        )

    def show(self, queue_id: int) -> RowHistory:
        """A row with its attempts, and why it waits. Needs the permission to view."""
        answer = self.request("GET", f"report-queue/{queue_id}/")
        return parsed("a row", lambda: RowHistory.parse(answer))

    def requeue(self, queue_id: int, *, reason: str = "") -> QueueRow:
        """Queue a finished row again; returns it. Needs the permission to requeue.

        Raises `Conflict` if it is not finished, or was skipped. Its attempts and failed launches are
        counted from the beginning.
        """
        answer = self.post(f"report-queue/{queue_id}/requeue/", {"reason": storable(reason)})
        return parsed("a row", lambda: QueueRow.parse(answer))


def _new_key() -> str:
    return f"client-{uuid4()}"
