"""The queue's protocol from the consumer's side: a typed HTTP client.

Every verb is idempotent by design (a claim until acknowledged, a start by its run id, an end by its token), so every
call may be repeated when its answer was lost. Times are aware UTC, durations in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from dagster_reportqueue.client.plan import Plan
from dagster_reportqueue.client.responses import Claim, Content, HeldRow, PendingReport, QueueItem, Started
from dagster_reportqueue.client.transport import ApiRefused, ApiUnreachable, Conflict, Transport

ANSWER_SECONDS = 10.0
"""How long a waiting claim may take beyond its wait."""
T = TypeVar("T")
MAX_ROWS = 100
"""Of a call for several rows: the API's bound."""
Answers = dict[int, T | ApiRefused | ApiUnreachable]
"""What a call for several rows did, by the row's id: each row's own answer, or why that row alone was refused, or could
not be reached just now."""


class ReportQueueClient(Transport):
    """The verbs; one session with the API, for one thread (`clone()` makes another's)."""

    def claim(
        self,
        consumer: str,
        *,
        ack: UUID | None = None,
        limit: int = 25,
        wait_seconds: float = 0,
        lease_seconds: int | None = None,
        dispatch_lease_seconds: int | None = None,
        max_in_flight: int | None = None,
    ) -> Claim:
        """Acknowledge `ack` and take up to `limit` due rows, or again those not acknowledged yet."""
        body: dict[str, Any] = {
            "consumer": consumer,
            "ack": str(ack) if ack else None,
            "limit": limit,
            "wait_seconds": wait_seconds,
            "lease_seconds": lease_seconds,
            "dispatch_lease_seconds": dispatch_lease_seconds,
            "max_in_flight": max_in_flight,
        }
        answer = self._post("claim/", body, read_timeout=wait_seconds + ANSWER_SECONDS)
        return _parsed(
            "a claim",
            lambda: Claim(
                UUID(answer["claim_id"]) if answer["claim_id"] is not None else None,
                [QueueItem.parse(item) for item in answer["queue"]],
                answer.get("in_flight"),
            ),
        )

    def rows(self, status: str, *, pages: int) -> Iterator[HeldRow]:
        """Rows of a status in claim order, at most `pages` of 1,000. Needs the permission to view."""
        return self._rows({"status": status}, pages)

    def rows_at(self, report_id: int, modifier_id: int, trigger_time: datetime) -> Iterator[HeldRow]:
        """The rows of a report and modifier that are due at an instant. Needs the permission to view."""
        instants = {
            "trigger_time_after": trigger_time.isoformat(),
            "trigger_time_before": (trigger_time + timedelta(microseconds=1)).isoformat(),
        }
        return self._rows({"report_id": report_id, "modifier_id": modifier_id, "processed": "any", **instants}, 1)

    def _rows(self, chosen: Mapping[str, Any], pages: int) -> Iterator[HeldRow]:
        path: str | None = f"/api/report-queue/?{urlencode({**chosen, 'limit': 1000})}"
        while path is not None and pages > 0:
            answer = self.request("GET", path)
            pages -= 1
            yield from _parsed("a list of rows", partial(_held_rows, answer))
            following = urlsplit(answer["next"] or "")
            path = f"/api/report-queue/?{following.query}" if following.query else None

    def row(self, queue_id: int) -> HeldRow:
        """One row as it is now. Needs the permission to view."""
        answer = self.request("GET", f"/api/report-queue/{queue_id}/")
        return _parsed("a row", lambda: HeldRow.parse(answer))

    def content(self, queue_id: int) -> Content:
        """What a row asks for. Needs the permission to view."""
        answer = self.request("GET", f"/api/report-queue/{queue_id}/")
        return _parsed("a row", lambda: Content(datetime.fromisoformat(answer["trigger_time"]), dict(answer["params"])))

    def plan(self, pattern: str, *, known: Plan | None = None) -> Plan:
        """The schedules that a sensor of this pattern (`cron` or `asset`) fires by itself; `known` if it still holds.

        Needs the permission to view schedules.
        """
        headers = {} if known is None else {"If-None-Match": f'W/"{known.version}"'}
        answer = self.request("GET", f"/api/reports/?pattern={pattern}", headers=headers)
        if answer is None and known is not None:
            return known
        return _parsed("a list of schedules", lambda: Plan.parse(answer))

    def pending(self) -> list[PendingReport]:
        """Due rows that nobody holds, in claim order; at most 1,000. Needs the permission to view."""
        answer = self.request("GET", "/api/pending-reports/")
        return _parsed("a list of pending reports", lambda: [PendingReport.parse(row) for row in answer["pending"]])

    def mark_processed(self, row_id: int) -> None:
        """Note that the row's run is launched; a repeat is answered alike. Raises `Conflict` if a run owns the row."""
        answer = self.post(f"/api/reports/{row_id}/mark-processed/", {})
        _parsed("this row", lambda: {(row_id, True): None}[answer["id"], answer["processed"]])

    def queue_firing(self, schedule_id: int, *, trigger_time: datetime) -> int:
        """Have a firing queued whose run ended before it took its row; the row's id, also if there was one already.

        Raises `Conflict` if it is no firing that a sensor had to make.
        """
        body = {"trigger_time": trigger_time.isoformat()}
        answer = self.post(f"/api/schedules/{schedule_id}/queue-firing/", body)
        return _parsed("a row", lambda: int(answer["queue_id"]))

    def start(
        self,
        queue_id: int,
        *,
        generation: int,
        run_id: str,
        parent_run_id: str | None = None,
        worker: str | None = None,
        lease_seconds: int | None = None,
    ) -> Started:
        """Make the run the row's owner; `worker` says where it runs. Raises `Conflict` if it is not to do the work."""
        body = {
            "generation": generation,
            "run_id": run_id,
            "parent_run_id": parent_run_id,
            "worker": worker,
            "lease_seconds": lease_seconds,
        }
        return _started(self._post(f"{queue_id}/start/", body))

    def start_firing(
        self,
        schedule_id: int,
        *,
        trigger_time: datetime,
        run_id: str,
        parent_run_id: str | None = None,
        worker: str | None = None,
        lease_seconds: int | None = None,
    ) -> Started:
        """As `start`, for a schedule's firing that need not have a row yet. Raises `Conflict` if it is another's."""
        body = {
            "trigger_time": trigger_time.isoformat(),
            "run_id": run_id,
            "parent_run_id": parent_run_id,
            "worker": worker,
            "lease_seconds": lease_seconds,
        }
        return _started(self.post(f"/api/schedules/{schedule_id}/start-firing/", _given(body)))

    def heartbeat(
        self,
        queue_id: int,
        *,
        lease_token: UUID,
        lease_seconds: int | None = None,
        progress: str | None = None,
    ) -> bool:
        """Renew the lease; whether the run is asked to stop. Raises `Conflict` if the row is no longer its own."""
        body = {
            "lease_token": str(lease_token),
            "lease_seconds": lease_seconds,
            "progress": progress if progress is None else storable(progress),
        }
        answer = self._post(f"{queue_id}/heartbeat/", body)
        return _parsed("a heartbeat", lambda: _boolean(answer["cancel_requested"]))

    def complete(self, queue_id: int, *, lease_token: UUID, result: Mapping[str, Any] | None = None) -> None:
        """The report is made. Raises `Conflict` if the row is no longer the run's, `ApiRefused` for a bad result."""
        self._post_for_row(queue_id, "complete", {"lease_token": str(lease_token), "result": result})

    def start_many(
        self,
        generations: Mapping[int, int],
        *,
        run_id: str,
        parent_run_id: str | None = None,
        worker: str | None = None,
        lease_seconds: int | None = None,
    ) -> Answers[Started]:
        """As `start`, for 1 to 100 rows given with their generations."""
        run = {"run_id": run_id, "parent_run_id": parent_run_id, "worker": worker, "lease_seconds": lease_seconds}
        rows = [{"queue_id": pk, "generation": generation} for pk, generation in generations.items()]
        return self._post_for_rows("start", rows, Started.parse, **run)

    def heartbeat_many(
        self, tokens: Mapping[int, UUID], *, progress: Mapping[int, str], lease_seconds: int | None = None
    ) -> Answers[bool]:
        """As `heartbeat`, for 1 to 100 rows given with their tokens; `progress` is of those that have something new."""
        rows = [
            {"queue_id": pk, "lease_token": str(token)}
            | ({"progress": storable(progress[pk])} if pk in progress else {})
            for pk, token in tokens.items()
        ]
        return self._post_for_rows(
            "heartbeat", rows, lambda beat: _boolean(beat["cancel_requested"]), lease_seconds=lease_seconds
        )

    def keep_waiting_many(
        self, generations: Mapping[int, int], *, run_id: str, lease_seconds: int | None = None
    ) -> Answers[bool]:
        """Renew the leases of 1 to 100 rows whose one run exists but waits to start, given with their generations.

        True for each; a `Conflict` if it is not so any more.
        """
        rows = [{"queue_id": pk, "generation": generation} for pk, generation in generations.items()]
        return self._post_for_rows(
            "heartbeat",
            rows,
            lambda beat: not _boolean(beat["cancel_requested"]),
            run_id=run_id,
            lease_seconds=lease_seconds,
        )

    def complete_many(
        self, tokens: Mapping[int, UUID], *, results: Mapping[int, Mapping[str, Any] | None]
    ) -> Answers[str]:
        """As `complete`, for 1 to 100 rows given with their tokens; the status of each."""
        rows = [{"queue_id": pk, "lease_token": str(token), "result": results[pk]} for pk, token in tokens.items()]
        return self._post_for_rows("complete", rows, lambda row: str(row["status"]))

    def fail(
        self,
        queue_id: int,
        *,
        lease_token: UUID,
        error: str,
        retryable: bool = True,
        retry_after_seconds: int | None = None,
    ) -> str:
        """The attempt failed; the row's status now (queued, failed or cancelled)."""
        body = {
            "lease_token": str(lease_token),
            "error": storable(error),
            "retryable": retryable,
            "retry_after_seconds": retry_after_seconds,
        }
        return self._post_for_row(queue_id, "fail", body)

    def fail_launch(self, queue_id: int, *, generation: int, run_id: str, error: str) -> str:
        """A run ended, or could not be made, before it started the row; the row's status now."""
        body = {"generation": generation, "run_id": run_id, "error": storable(error)}
        return self._post_for_row(queue_id, "fail", body)

    def release(
        self, queue_id: int, *, lease_token: UUID, delay_seconds: int = 0, reason: str = "", begun: bool = True
    ) -> None:
        """Give the row back unharmed, for another run; `begun` says whether this one had begun the report."""
        body = {
            "lease_token": str(lease_token),
            "delay_seconds": delay_seconds,
            "reason": storable(reason),
            "begun": begun,
        }
        self._post_for_row(queue_id, "release", body)

    def cancel(self, queue_id: int, *, lease_token: UUID, reason: str = "") -> None:
        """End the run's own row because somebody asked for it."""
        self._post_for_row(queue_id, "cancel", {"lease_token": str(lease_token), "reason": storable(reason)})

    def _post_for_row(self, queue_id: int, verb: str, body: Mapping[str, Any]) -> str:
        """Only the row itself, as it is now, says that the verb was done: not whatever else answers 200."""
        answer = self._post(f"{queue_id}/{verb}/", body)
        return _parsed("this row", lambda: {queue_id: str(answer["status"])}[answer["queue_id"]])

    def _post_for_rows(
        self, verb: str, rows: list[dict[str, Any]], parse: Callable[[Any], T], **shared: Any
    ) -> Answers[T]:
        answer = self._post(f"{verb}/", {**shared, "rows": rows})

        def parsed() -> Answers[T]:
            given = {
                row["queue_id"]: parse(row["answer"]) if row["code"] == 200 else _row_refusal(row)
                for row in answer["rows"]
            }
            return {row["queue_id"]: given[row["queue_id"]] for row in rows}

        return _parsed("an answer for each row", parsed)

    def _post(self, path: str, body: Mapping[str, Any], *, read_timeout: float | None = None) -> Any:
        """POST below `report-queue/`."""
        return self.post(f"/api/report-queue/{path}", _given(body), read_timeout=read_timeout)


def _given(body: Mapping[str, Any]) -> dict[str, Any]:
    """Without the fields that are None, which every verb reads as its default."""
    return {name: value for name, value in body.items() if value is not None}


def _started(answer: Any) -> Started:
    return _parsed("a started row", lambda: Started.parse(answer))


def _held_rows(answer: Any) -> list[HeldRow]:
    urlsplit(answer["next"] or "")
    return [HeldRow.parse(item) for item in answer["queue"]]


def _row_refusal(row: Mapping[str, Any]) -> ApiRefused | ApiUnreachable:
    said, kind, code = str(row["answer"]["detail"]), str(row["answer"]["type"]), int(row["code"])
    if code == 409:
        return Conflict(said, kind=kind, current_status=row["answer"].get("current_status"))
    text = f"row {row['queue_id']}: {said}"
    return ApiUnreachable(text) if code >= 500 else ApiRefused(text, status=code, kind=kind)


def storable(text: str) -> str:
    """The text without what the queue refuses in one: NUL characters and halves of characters."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _parsed(what: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ApiUnreachable(f"The queue's API answered something that is not {what}; do the versions match?") from None
