"""A queue in memory, for tests of jobs and sensors: no web app, no database.

It answers the product's client as the API does, for the verbs of queue sensors and of runs, and refuses what the API
refuses. Nothing expires, nothing is delayed, and no schedule fires.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import RLock
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import requests
from requests.adapters import BaseAdapter

from dagster_reportqueue import bounds
from dagster_reportqueue.client import ReportQueueClient
from dagster_reportqueue.client.transport import RETRIES, TIME_HEADER
from dagster_reportqueue.refusals import Invalid, Refused, check_body, detail_of
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.tickets import Ticket

_URL = "http://in-memory"
_FINAL = ("succeeded", "failed", "cancelled")
_VERB = re.compile(r"/api/report-queue/(?:(\d+)/)?(?:(\w+)/)?")


@dataclass
class Row:
    """A row of an `InMemoryQueue`, as it is now."""

    queue_id: int
    report_id: int
    modifier_id: int
    params: Mapping[str, Any]
    trigger_time: datetime
    max_attempts: int
    priority: int
    status: str = "queued"
    generation: int = 0
    attempt: int = 0
    run_id: str = ""
    claimed_by: str = ""
    result: Mapping[str, Any] | None = None
    error: str = ""
    progress: str = ""
    cancel_requested: bool = False
    """Set it to True, and the next heartbeat of the row's run stops the report."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """How each attempt ended, by its run's id; empty for an attempt under way."""
    lease_token: UUID | None = field(default=None, repr=False)

    @property
    def ticket(self) -> Ticket:
        """What a run needs to start the row."""
        return Ticket(self.queue_id, max(1, self.generation))

    def tags(self) -> dict[str, str]:
        """The tags with which the queue sensor launches the row's run."""
        return self.ticket.tags()

    def run_config(self) -> dict[str, Any]:
        """The run config of the row's run, for a job of `build_report_job`."""
        return self.ticket.run_config(self.report_id, self.modifier_id)


class InMemoryQueue:
    """Rows in memory, and the resource `report_queue` that works with them."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        """By their ids."""
        self._claims: dict[str, UUID] = {}
        """Each consumer's claim that it has not acknowledged."""
        self._lock = RLock()  # a run sends heartbeats in a thread of its own
        self._key = uuid4().hex

    def add(
        self,
        report_id: int,
        modifier_id: int,
        params: Mapping[str, Any] | None = None,
        *,
        trigger_time: datetime | None = None,
        max_attempts: int = 3,
        priority: int = 0,
    ) -> Row:
        """Queue a report, due now. `trigger_time` is aware; without it, it is the present time, in UTC.

        Raises `ValueError` for what the API refuses; the text is the `detail` of its answer.
        """
        given = {} if params is None else params
        instant = datetime.now(UTC) if trigger_time is None else trigger_time
        numbers = {"report_id": report_id, "modifier_id": modifier_id}
        numbers |= {"priority": priority, "max_attempts": max_attempts}
        wrong = {"trigger_time": bounds.instant_problem(instant), "params": bounds.object_problem(given)}
        if found := bounds.problems(numbers) | {name: text for name, text in wrong.items() if text}:
            raise ValueError(detail_of(found))
        stored = json.loads(json.dumps(given))
        if text := bounds.depth_problem({"params": stored}):
            raise ValueError(text)
        row = Row(len(self.rows) + 1, report_id, modifier_id, stored, instant, max_attempts, priority)
        self.rows[row.queue_id] = row
        return row

    def resource(self) -> ReportQueueResource:
        """The resource `report_queue` for `execute_in_process`, or for a sensor that is called directly."""
        _QUEUES[self._key] = self
        return _InMemoryResource(url=_URL, token=self._key)

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Mapping[str, Any]) -> Any:
        """The answer of the API to a call, as JSON. Raises `Refused`."""
        found = _VERB.fullmatch(path)
        if found is None:
            raise Refused(404, "not-found", f"The queue in memory has no {path}.")
        pk, verb = found[1], found[2]
        check_body(body)
        with self._lock:
            if method == "GET":
                return self._listed(query) if pk is None else _shown(self._row(int(pk)))
            if pk is not None:
                return self._one(self._row(int(pk)), verb, body)
            if verb == "claim":
                return self._claim(body)
            shared = {name: value for name, value in body.items() if name != "rows"}
            return {"rows": [self._coded(verb, {**shared, **row}) for row in body["rows"]]}

    def _row(self, pk: int) -> Row:
        if pk not in self.rows:
            raise Refused(404, "not-found", f"There is no report {pk} in the queue.")
        return self.rows[pk]

    def _listed(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        wanted = query.get("status")
        rows = [_shown(row) for row in self._in_claim_order() if wanted is None or row.status in wanted]
        return {"queue": rows, "next": None, "previous": None}

    def _in_claim_order(self) -> list[Row]:
        return sorted(self.rows.values(), key=lambda row: (-row.priority, row.queue_id))

    def _claim(self, body: Mapping[str, Any]) -> dict[str, Any]:
        consumer = body["consumer"]
        mine = [row for row in self._in_claim_order() if row.claimed_by == consumer]
        if body.get("ack") == str(self._claims.get(consumer)):
            del self._claims[consumer]
            for row in mine:
                row.status = "dispatched" if row.status == "claimed" else row.status
        in_flight = sum(row.status in ("claimed", "dispatched", "running") for row in mine)
        unstarted = in_flight - sum(row.status == "running" for row in mine)
        if consumer not in self._claims:
            in_room = body.get("max_in_flight", len(self.rows)) - in_flight
            limit = min(body.get("limit", 25), in_room, body.get("max_unstarted", len(self.rows)) - unstarted)
            due = [row for row in self._in_claim_order() if row.status == "queued"][: max(0, limit)]
            for row in due:
                row.status, row.claimed_by, row.generation = "claimed", consumer, row.generation + 1
            if due:
                self._claims[consumer] = uuid4()
                in_flight, unstarted = in_flight + len(due), unstarted + len(due)
        held = [row for row in self._in_claim_order() if row.claimed_by == consumer and row.status == "claimed"]
        answer = {"claim_id": self._claims.get(consumer), "queue": [_shown(row) for row in held]}
        counted = {"max_in_flight", "max_unstarted"} & body.keys()
        return answer | ({"in_flight": in_flight, "unstarted": unstarted} if counted else {})

    def _coded(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer for one row of a call for several."""
        pk = body["queue_id"]
        try:
            return {"queue_id": pk, "code": 200, "answer": self._one(self._row(pk), verb, body)}
        except Refused as refused:
            return {"queue_id": pk, "code": refused.code, "answer": refused.problem}

    def _one(self, row: Row, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if verb == "start":
            self._start(row, body["run_id"], body["generation"])
            return _shown(row) | {"lease_token": row.lease_token}
        token = body.get("lease_token")
        if token is None:
            return self._before_start(row, verb, body)
        if row.status != "running" or str(row.lease_token) != token:
            text = "The lease token is not the row's: another owner, the rescuer or a cancel has taken the row."
            raise Refused(409, "stale-lease", text, row.status)
        if verb == "heartbeat":
            row.progress = body.get("progress", row.progress)
            return {"cancel_requested": row.cancel_requested}
        self._end(row, verb, body)
        return _shown(row)

    def _before_start(self, row: Row, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A heartbeat or a failure of a row that its run has not started."""
        if row.status not in ("claimed", "dispatched") or row.generation != body.get("generation"):
            raise Refused(409, "invalid-state", f"A {row.status} report cannot be changed so.", row.status)
        if verb == "heartbeat":
            return {"cancel_requested": False}
        row.status, row.error = "queued", bounds.last_bytes(body.get("error", ""))
        return _shown(row)

    def _start(self, row: Row, run_id: str, generation: int) -> None:
        if row.status == "running" and row.run_id == run_id:
            return
        if generation > max(1, row.generation):
            text = f"Generation {generation} was never handed out; the row is at {row.generation}."
            raise Refused(409, "invalid-state", text, row.status)
        if row.status == "running" or row.status in _FINAL:
            raise Refused(409, "invalid-state", f"A {row.status} report cannot be started by run {run_id}.", row.status)
        if run_id in row.outcomes:
            raise Refused(409, "invalid-state", f"Run {run_id} has had its attempt.", row.status)
        row.status, row.run_id, row.attempt = "running", run_id, row.attempt + 1
        row.generation, row.lease_token = max(1, row.generation), uuid4()
        row.outcomes[run_id] = ""

    def _end(self, row: Row, verb: str, body: Mapping[str, Any]) -> None:
        result = body.get("result")
        if result is not None and (text := bounds.object_problem(result)):
            raise Invalid({"result": text})
        row.error = bounds.last_bytes(str(body.get("error") or body.get("reason") or ""))
        if verb == "complete":
            row.status, row.result = "succeeded", result
        elif verb == "cancel" or row.cancel_requested:
            row.status = "cancelled"
        elif verb == "release":
            row.status, row.attempt = "queued", row.attempt - 1
        else:
            again = body.get("retryable", True) and row.attempt < row.max_attempts
            row.status = "queued" if again else "failed"
        row.outcomes[row.run_id] = {"complete": "succeeded", "release": "released", "cancel": "cancelled"}.get(
            verb, "failed"
        )
        row.lease_token = None


def _shown(row: Row) -> dict[str, Any]:
    """The row as the API writes it."""
    names = ("queue_id", "report_id", "modifier_id", "params", "max_attempts", "priority", "status", "generation")
    shown = {name: getattr(row, name) for name in (*names, "attempt", "run_id", "claimed_by", "cancel_requested")}
    return shown | {
        "trigger_time": row.trigger_time.isoformat(),
        "run_key": str(row.ticket),
        "dispatched_at": None,
        "attempts": [{"run_id": run_id, "outcome": outcome} for run_id, outcome in row.outcomes.items()],
    }


_QUEUES: dict[str, InMemoryQueue] = {}
"""By the token of their resource: Dagster copies resources, and a run's heartbeats have a client of their own. They
stay until the process ends, because nothing says when the last copy is gone."""


class _Adapter(BaseAdapter):
    """Carries a client's calls to the queue of its token."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """The queue's answer."""
        parts = urlsplit(request.url or "")
        body = json.loads(request.body or b"{}")
        if (queue := _QUEUES.get(self._key)) is None:
            raise RuntimeError(
                "This resource's InMemoryQueue is in another process: run the job in the process of the test, for "
                "instance with execute_in_process."
            )
        try:
            code, content = 200, queue.answer(request.method or "", parts.path, parse_qs(parts.query), body)
        except Refused as refused:
            code, content = refused.code, refused.problem
        response = requests.Response()
        response.status_code, response.request, response.url = code, request, request.url or ""
        response.headers[TIME_HEADER] = datetime.now(UTC).isoformat()
        response._content = json.dumps(content, default=str).encode()
        return response

    def close(self) -> None:
        """There is no connection."""


class _InMemoryClient(ReportQueueClient):
    def _adapter(self, retries: int, *, once: bool) -> BaseAdapter:
        return _Adapter(self._token)


class _InMemoryResource(ReportQueueResource):
    def client(self, *, retries: int = RETRIES) -> ReportQueueClient:
        """A client of the queue in memory."""
        return _InMemoryClient(self.url, self.token, retries=retries)
