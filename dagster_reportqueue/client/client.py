"""A typed HTTP client for the queue's API.

Every verb is idempotent: a claim until it is acknowledged, a start by its run id, an end by its lease token. So every
call may be repeated when its answer was lost. Times are aware UTC; durations are in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from dagster_reportqueue import counters
from dagster_reportqueue.client.parsing import boolean, given, pages, parsed, storable, unexpected
from dagster_reportqueue.client.plan import Plan, PlanReading
from dagster_reportqueue.client.producing import Producing
from dagster_reportqueue.client.responses import Claim, Content, HeldRow, PendingReport, QueueItem, Started
from dagster_reportqueue.client.scheduling import Scheduling
from dagster_reportqueue.client.transport import ApiRefused, ApiUnreachable, Conflict

ANSWER_SECONDS = 10.0
"""How much longer than its wait a waiting claim may take."""
T = TypeVar("T")
MAX_BATCH_ROWS = 100
"""Rows in one call: the API's bound."""
Results = dict[int, T | ApiRefused | ApiUnreachable]
"""The results of a call for several rows, by row id: the row's answer, or the error for this row alone."""


class ReportQueueClient(Producing, Scheduling):
    """The API's verbs: those of consumers and runs, of producers (`Producing`) and of schedules (`Scheduling`).

    A client is one session for one thread; `clone()` makes a client for another thread.
    """

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
        max_unstarted: int | None = None,
        deployment: str | None = None,
        routes: Collection[str] | None = None,
    ) -> Claim:
        """Acknowledge the claim `ack`, then claim up to `limit` due rows; an unacknowledged claim is returned again.

        The rows are of the `routes`, or of all without them.
        `deployment` says where the consumer is: the claim has a `warning` if it claims from two places at once.
        """
        body: dict[str, Any] = {
            "consumer": consumer,
            "ack": str(ack) if ack else None,
            "limit": limit,
            "wait_seconds": wait_seconds,
            "lease_seconds": lease_seconds,
            "dispatch_lease_seconds": dispatch_lease_seconds,
            "max_in_flight": max_in_flight,
            "max_unstarted": max_unstarted,
            "deployment": deployment,
            "routes": None if routes is None else sorted(routes),
        }
        answer = self._post("claim/", body, read_timeout=wait_seconds + ANSWER_SECONDS)
        claim = parsed(
            "a claim",
            lambda: Claim(
                UUID(answer["claim_id"]) if answer["claim_id"] is not None else None,
                [QueueItem.parse(item) for item in answer["queue"]],
                answer.get("in_flight"),
                answer.get("unstarted"),
                str(answer.get("warning", "")),
            ),
        )
        counters.count("claims_total", brought="rows" if claim.items else "nothing")
        counters.count("claimed_rows_total", len(claim.items))
        return claim

    def rows(self, status: str, *, claimed_by: Collection[str] = ()) -> Iterator[HeldRow]:
        """All rows of a status, read in pages of 1,000; unfinished ones in claim order. Needs permission to view.

        With `claimed_by`, those of these consumers; only rows that are not finished can be asked for like that.
        """
        return self._rows({"status": status, "claimed_by": sorted(claimed_by)})

    def rows_at(self, report_id: int, modifier_id: int, trigger_time: datetime) -> Iterator[HeldRow]:
        """The rows of a report and modifier that are due at `trigger_time`. Needs the permission to view."""
        instants = {
            "trigger_time_after": trigger_time.isoformat(),
            "trigger_time_before": (trigger_time + timedelta(microseconds=1)).isoformat(),
        }
        return self._rows({"report_id": report_id, "modifier_id": modifier_id, "processed": "any", **instants})

    def _rows(self, chosen: Mapping[str, Any]) -> Iterator[HeldRow]:
        return pages(
            self, "report-queue/", chosen, lambda page: [HeldRow.parse(row, page.time) for row in page.content["queue"]]
        )

    def row(self, queue_id: int) -> HeldRow:
        """One row as it is now. Needs the permission to view."""
        answer = self.request("GET", f"report-queue/{queue_id}/")
        return parsed("a row", lambda: HeldRow.parse(answer))

    def content(self, queue_id: int) -> Content:
        """A row's parameters and trigger time. Needs the permission to view."""
        answer = self.request("GET", f"report-queue/{queue_id}/")
        return parsed("a row", lambda: Content(datetime.fromisoformat(answer["trigger_time"]), dict(answer["params"])))

    def plan(self, pattern: str, *, known: Plan | None = None) -> PlanReading:
        """The schedules that a sensor of this pattern (`cron` or `asset`) fires, and the time.

        The plan is `known` if nothing has changed. Needs the permission to view schedules.
        """
        headers = {} if known is None else {"If-None-Match": f'W/"{known.version}"'}
        answer = self.answer("GET", f"reports/?pattern={pattern}", headers=headers)
        if answer.content is None and known is not None:
            return PlanReading(known, answer.time)
        return parsed("a list of schedules", lambda: PlanReading(Plan.parse(answer.content), answer.time))

    def pending(self) -> list[PendingReport]:
        """Due rows that are unclaimed, in claim order; at most 1,000. Needs the permission to view."""
        answer = self.request("GET", "pending-reports/")
        return parsed("a list of pending reports", lambda: [PendingReport.parse(row) for row in answer["pending"]])

    def mark_processed(self, row_id: int) -> None:
        """Mark a row as processed once its run is launched. Raises `Conflict` if a run owns the row."""
        answer = self.post(f"reports/{row_id}/mark-processed/", {})

        if not isinstance(answer, dict) or (answer.get("id"), answer.get("processed")) != (row_id, True):
            raise unexpected("this row")

    def queue_firing(self, schedule_id: int, *, trigger_time: datetime) -> int:
        """Queue a firing whose run ended before it started the row; return the row's id, new or existing.

        Raises `Conflict` if the firing does not belong to a sensor.
        """
        body = {"trigger_time": trigger_time.isoformat()}
        answer = self.post(f"schedules/{schedule_id}/queue-firing/", body)
        return parsed("a row", lambda: int(answer["queue_id"]))

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
        """Make the run the row's owner; `worker` says where it runs. Raises `Conflict` if it must not do the work."""
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
        """As `start`, for a firing whose row may not exist yet. Raises `Conflict` if another run owns the firing."""
        body = {
            "trigger_time": trigger_time.isoformat(),
            "run_id": run_id,
            "parent_run_id": parent_run_id,
            "worker": worker,
            "lease_seconds": lease_seconds,
        }
        return _started(self.post(f"schedules/{schedule_id}/start-firing/", given(body)))

    def heartbeat(
        self,
        queue_id: int,
        *,
        lease_token: UUID,
        lease_seconds: int | None = None,
        progress: str | None = None,
    ) -> bool:
        """Renew the lease; return whether the run should stop. Raises `Conflict` if the run no longer owns the row."""
        body = {
            "lease_token": str(lease_token),
            "lease_seconds": lease_seconds,
            "progress": progress if progress is None else storable(progress),
        }
        answer = self._post(f"{queue_id}/heartbeat/", body)
        return parsed("a heartbeat", lambda: boolean(answer["cancel_requested"]))

    def complete(self, queue_id: int, *, lease_token: UUID, result: Mapping[str, Any] | None = None) -> None:
        """Report success. Raises `Conflict` if the run no longer owns the row, `ApiRefused` for an invalid result."""
        self._post_for_row(queue_id, "complete", {"lease_token": str(lease_token), "result": result})

    def start_many(
        self,
        generations: Mapping[int, int],
        *,
        run_id: str,
        parent_run_id: str | None = None,
        worker: str | None = None,
        lease_seconds: int | None = None,
    ) -> Results[Started]:
        """As `start`, for one or more rows; `generations` by row id."""
        run = {"run_id": run_id, "parent_run_id": parent_run_id, "worker": worker, "lease_seconds": lease_seconds}
        rows = [{"queue_id": pk, "generation": generation} for pk, generation in generations.items()]
        return self._post_for_rows("start", rows, Started.parse, **run)

    def heartbeat_many(
        self, tokens: Mapping[int, UUID], *, progress: Mapping[int, str], lease_seconds: int | None = None
    ) -> Results[bool]:
        """As `heartbeat`, for one or more rows; `tokens` by row id, `progress` for rows that have new progress."""
        rows = [
            {"queue_id": pk, "lease_token": str(token)}
            | ({"progress": storable(progress[pk])} if pk in progress else {})
            for pk, token in tokens.items()
        ]
        return self._post_for_rows(
            "heartbeat", rows, lambda beat: boolean(beat["cancel_requested"]), lease_seconds=lease_seconds
        )

    def renew_dispatch_many(
        self, generations: Mapping[int, int], *, run_id: str, lease_seconds: int | None = None
    ) -> Results[bool]:
        """Renew the leases of dispatched rows of one run that waits to start; `generations` by row id.

        The result is True for a renewed row, and a `Conflict` for a row that is no longer dispatched to the run.
        """
        rows = [{"queue_id": pk, "generation": generation} for pk, generation in generations.items()]
        return self._post_for_rows(
            "heartbeat",
            rows,
            lambda beat: not boolean(beat["cancel_requested"]),
            run_id=run_id,
            lease_seconds=lease_seconds,
        )

    def complete_many(
        self, tokens: Mapping[int, UUID], *, results: Mapping[int, Mapping[str, Any] | None]
    ) -> Results[str]:
        """As `complete`, for one or more rows; `tokens` and `results` by row id. Returns the status of each row."""
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
        """Report that the attempt failed; return the row's new status (queued, failed or cancelled)."""
        body = {
            "lease_token": str(lease_token),
            "error": storable(error),
            "retryable": retryable,
            "retry_after_seconds": retry_after_seconds,
        }
        return self._post_for_row(queue_id, "fail", body)

    def fail_launch(self, queue_id: int, *, generation: int, run_id: str, error: str, counts: bool = True) -> str:
        """Report that a run ended, or could not be made, before it started the row; return the row's new status.

        After `MAX_UNSTARTED_RUNS` reports in a row that count, the row fails. `counts` is False if no run has failed.
        """
        body = {"generation": generation, "run_id": run_id, "error": storable(error), "counts": counts}
        status = self._post_for_row(queue_id, "fail", body)
        counters.count("launch_failures_total")
        return status

    def release(
        self, queue_id: int, *, lease_token: UUID, delay_seconds: int = 0, reason: str = "", begun: bool = True
    ) -> None:
        """Return the row to the queue for another run; `begun` says whether this run had begun the report."""
        body = {
            "lease_token": str(lease_token),
            "delay_seconds": delay_seconds,
            "reason": storable(reason),
            "begun": begun,
        }
        self._post_for_row(queue_id, "release", body)

    def cancel(self, queue_id: int, *, lease_token: UUID | None = None, reason: str = "") -> str:
        """Cancel a row; return its status. Raises `Conflict` if it has ended in another way.

        Without the token a running row is asked to stop, and is `running` until its run has stopped; this needs the
        permission to cancel. A run cancels its own row with its `lease_token`, because a person requested it.
        """
        token = None if lease_token is None else str(lease_token)
        return self._post_for_row(queue_id, "cancel", given({"lease_token": token, "reason": storable(reason)}))

    def _post_for_row(self, queue_id: int, verb: str, body: Mapping[str, Any]) -> str:
        """Post a verb and return the row's status. An answer with status 200 that does not name the row is refused."""
        answer = self._post(f"{queue_id}/{verb}/", body)
        if not isinstance(answer, dict) or answer.get("queue_id") != queue_id:
            raise unexpected("this row")
        return parsed("this row", lambda: str(answer["status"]))

    def _post_for_rows(
        self, verb: str, rows: list[dict[str, Any]], parse: Callable[[Any], T], **shared: Any
    ) -> Results[T]:
        """Post a verb for all rows, at most `MAX_BATCH_ROWS` in a call.

        If a call fails, the results of those before it are lost. The verbs may be repeated.
        """
        results: Results[T] = {}
        for first in range(0, len(rows), MAX_BATCH_ROWS):
            results |= self._post_once_for_rows(verb, rows[first : first + MAX_BATCH_ROWS], parse, shared)
        return results

    def _post_once_for_rows(
        self, verb: str, rows: list[dict[str, Any]], parse: Callable[[Any], T], shared: Mapping[str, Any]
    ) -> Results[T]:
        answer = self._post(f"{verb}/", {**shared, "rows": rows})

        def by_row() -> Results[T]:
            found = {
                row["queue_id"]: parse(row["answer"]) if row["code"] == 200 else _row_refusal(row)
                for row in answer["rows"]
            }
            return {row["queue_id"]: found[row["queue_id"]] for row in rows}

        return parsed("an answer for each row", by_row)

    def _post(self, path: str, body: Mapping[str, Any], *, read_timeout: float | None = None) -> Any:
        """POST to a path below `report-queue/`."""
        return self.post(f"report-queue/{path}", given(body), read_timeout=read_timeout)


def _started(answer: Any) -> Started:
    return parsed("a started row", lambda: Started.parse(answer))


def _row_refusal(row: Mapping[str, Any]) -> ApiRefused | ApiUnreachable:
    detail, kind, code = str(row["answer"]["detail"]), str(row["answer"]["type"]), int(row["code"])
    if code == 409:
        return Conflict(detail, kind=kind, current_status=row["answer"].get("current_status"))
    text = f"row {row['queue_id']}: {detail}"
    return ApiUnreachable(text) if code >= 500 else ApiRefused(text, status=code, kind=kind)
