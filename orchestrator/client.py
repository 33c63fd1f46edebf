"""The queue's protocol from the consumer's side: a typed HTTP client.

Every verb is idempotent by design (a claim until acknowledged, a start by its run id, an end by its token), so every
call may be repeated when its answer was lost; urllib3 does that. Times are aware UTC, durations in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
RETRIES = 3
T = TypeVar("T")


class ApiError(Exception):
    """The queue's API did not do what was asked; the message is one line that says why and what to look at."""


class ApiUnreachable(ApiError):
    """No answer, or none of the API's own: it is down, restarting, or behind something that is. Worth repeating."""


class ApiRefused(ApiError):
    """The API answered that the request is wrong: the token, a permission, or the request itself."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Conflict(ApiRefused):
    """409: the row has moved on; `kind` is the problem's type (`stale-lease`, `invalid-state`)."""

    def __init__(self, message: str, *, kind: str, current_status: str | None) -> None:
        super().__init__(message, status=409)
        self.kind = kind
        self.current_status = current_status


@dataclass(frozen=True)
class QueueItem:
    """A row as a consumer and a run need it."""

    queue_id: int
    report_id: int
    modifier_id: int
    trigger_time: datetime
    generation: int
    attempt: int
    max_attempts: int
    run_key: str
    priority: int
    params: Mapping[str, Any] = field(repr=False)  # params may be confidential: never in a log line

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> QueueItem:
        """From an answer's JSON. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            queue_id=int(data["queue_id"]),
            report_id=int(data["report_id"]),
            modifier_id=int(data["modifier_id"]),
            trigger_time=datetime.fromisoformat(data["trigger_time"]),
            generation=int(data["generation"]),
            attempt=int(data["attempt"]),
            max_attempts=int(data["max_attempts"]),
            run_key=str(data["run_key"]),
            priority=int(data["priority"]),
            params=dict(data["params"]),
        )


@dataclass(frozen=True)
class Claim:
    """Rows handed out under one id; `claim_id` is None and `items` empty when nothing was due."""

    claim_id: UUID | None
    items: list[QueueItem]


@dataclass(frozen=True)
class Started:
    """The row that a run now owns, and the token that proves it."""

    item: QueueItem
    lease_token: UUID = field(repr=False)


class ReportQueueClient:
    """One session with the API; for one thread (`clone()` makes another's)."""

    def __init__(self, url: str, token: str, *, retries: int = RETRIES, read_timeout: float = READ_TIMEOUT) -> None:
        """`url` is the web app's address, with or without `/api`. Raises `ValueError` for another scheme."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"REPORTQUEUE_URL must be an http(s) URL such as http://127.0.0.1:8000; it is {url!r}.")
        self.url = url.rstrip("/").removesuffix("/api")
        self._token = token
        self._retries = retries
        self._read_timeout = read_timeout
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Token {token}"
        # The environment may name a proxy or a .netrc for the outside world; the token goes to this URL alone.
        self._session.trust_env = False
        retry = Retry(
            total=retries,
            backoff_factor=0.2,
            status_forcelist=[502, 503, 504],
            allowed_methods=None,  # POST too: see the module's docstring
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def clone(self, *, retries: int | None = None, read_timeout: float | None = None) -> ReportQueueClient:
        """Another session with the same API, for another thread or another patience."""
        return ReportQueueClient(
            self.url,
            self._token,
            retries=self._retries if retries is None else retries,
            read_timeout=self._read_timeout if read_timeout is None else read_timeout,
        )

    def close(self) -> None:
        """Close the session's connections."""
        self._session.close()

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
        body = {
            "consumer": consumer,
            "ack": str(ack) if ack else None,
            "limit": limit,
            "wait_seconds": wait_seconds,
            "lease_seconds": lease_seconds,
            "dispatch_lease_seconds": dispatch_lease_seconds,
            "max_in_flight": max_in_flight,
        }
        answer = self._post("claim/", body, read_timeout=wait_seconds + self._read_timeout)
        return _parsed(
            "a claim",
            lambda: Claim(
                UUID(answer["claim_id"]) if answer["claim_id"] is not None else None,
                [QueueItem.parse(item) for item in answer["queue"]],
            ),
        )

    def start(
        self,
        queue_id: int,
        *,
        generation: int,
        run_id: str,
        parent_run_id: str | None = None,
        lease_seconds: int | None = None,
    ) -> Started:
        """Make the run the row's owner. Raises `Conflict` if it is not to do the work."""
        body = {
            "generation": generation,
            "run_id": run_id,
            "parent_run_id": parent_run_id,
            "lease_seconds": lease_seconds,
        }
        answer = self._post(f"{queue_id}/start/", body)
        return _parsed("a started row", lambda: Started(QueueItem.parse(answer), UUID(answer["lease_token"])))

    def heartbeat(
        self,
        queue_id: int,
        *,
        lease_token: UUID,
        lease_seconds: int | None = None,
        progress: str | None = None,
    ) -> bool:
        """Renew the lease; whether the run is asked to stop. Raises `Conflict` if the row is no longer its own."""
        body = {"lease_token": str(lease_token), "lease_seconds": lease_seconds, "progress": progress}
        answer = self._post(f"{queue_id}/heartbeat/", body)
        return _parsed("a heartbeat", lambda: bool(answer["cancel_requested"]))

    def complete(self, queue_id: int, *, lease_token: UUID, result: Mapping[str, Any] | None = None) -> None:
        """The report is made. Raises `Conflict` if the row is no longer the run's."""
        self._post(f"{queue_id}/complete/", {"lease_token": str(lease_token), "result": result})

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
            "error": error,
            "retryable": retryable,
            "retry_after_seconds": retry_after_seconds,
        }
        answer = self._post(f"{queue_id}/fail/", body)
        return _parsed("a row", lambda: str(answer["status"]))

    def release(self, queue_id: int, *, lease_token: UUID, delay_seconds: int = 0, reason: str = "") -> None:
        """Give the row back unharmed, for another run."""
        body = {"lease_token": str(lease_token), "delay_seconds": delay_seconds, "reason": reason}
        self._post(f"{queue_id}/release/", body)

    def cancel(self, queue_id: int, *, lease_token: UUID, reason: str = "") -> None:
        """End the run's own row because somebody asked for it."""
        self._post(f"{queue_id}/cancel/", {"lease_token": str(lease_token), "reason": reason})

    def _post(self, path: str, body: Mapping[str, Any], *, read_timeout: float | None = None) -> Any:
        """POST below `report-queue/`; fields that are None are left out, which every verb reads as its default."""
        return self.request(
            "POST",
            f"/api/report-queue/{path}",
            json={name: value for name, value in body.items() if value is not None},
            timeout=(CONNECT_TIMEOUT, read_timeout or self._read_timeout),
        )

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Any call to the web app with the client's token: the answer's JSON. Raises `ApiError`s."""
        url = f"{self.url}{path}"
        options.setdefault("timeout", (CONNECT_TIMEOUT, self._read_timeout))
        try:
            response = self._session.request(method, url, allow_redirects=False, **options)
        except requests.RequestException as error:
            raise ApiUnreachable(f"{url} does not answer ({_reason(error)}); is the web app running?") from None
        if 200 <= response.status_code < 300:
            try:
                return response.json()
            except ValueError:
                raise ApiUnreachable(f"{url} answered something that is not JSON; is it the queue's API?") from None
        raise _refusal(response, url)


def _refusal(response: requests.Response, url: str) -> ApiError:
    try:
        problem = dict(response.json())
    except ValueError:
        problem = {}
    status = response.status_code
    said = str(problem.get("detail") or response.reason or "no reason given").splitlines()[0][:500]
    if status == 409:
        return Conflict(said, kind=str(problem.get("type", "")), current_status=problem.get("current_status"))
    if status >= 500 or status == 429 or status < 400:
        return ApiUnreachable(f"{url} answered {status}: {said}")
    hint = {
        401: "; check REPORTQUEUE_TOKEN",
        403: "; the token's user lacks a permission of reportqueue",
    }.get(status, "")
    return ApiRefused(f"{url} answered {status}: {said}{hint}", status=status)


def _reason(error: requests.RequestException) -> str:
    """The innermost cause in a few words: urllib3 wraps it several times over."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    cause: Any = error.args[0] if error.args else error
    cause = getattr(cause, "reason", cause)
    text = str(cause).rsplit(": ", 1)[-1]
    return text.strip("()'\" ")[:200] or type(error).__name__


def _parsed(what: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ApiUnreachable(f"The queue's API answered something that is not {what}; do the versions match?") from None
