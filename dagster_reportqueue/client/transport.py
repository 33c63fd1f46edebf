"""One HTTP call to the web app: returns the answer's JSON, or raises an error of one line that says what to check."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from dagster_reportqueue import counters, tracing

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
RETRIES = 3
TIME_HEADER = "Reportqueue-Time"
DEFAULT_PATH = "/api"
"""The path of the API for an address that has none."""
MAX_BODY_BYTES = 1024 * 1024
"""More than any verb needs for one row. A larger body is not sent: its answer could be lost with the connection."""


CALLS = ("claim", "start", "heartbeat", "complete", "fail", "release", "cancel", "start-firing", "queue-firing")
"""The calls that the counters name; all others are one."""


class ApiError(Exception):
    """The API call failed; the message is one line that says why and what to check."""


class ApiUnreachable(ApiError):
    """The API, or a proxy in front of it, is down or restarting: no answer of the API. Repeat the call later."""


class TooEarly(ApiUnreachable):
    """The firing is still to come by the database's clock. Repeat the call later."""


class ApiRefused(ApiError):
    """The API refused the request: its token, permission or content; `kind` is the problem's type, or empty."""

    def __init__(self, message: str, *, status: int, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind

    @property
    def moved_on(self) -> bool:
        """Whether the row has changed since the caller read it: another run owns it, it has ended, or was deleted."""
        return self.status == 409 or (self.status == 404 and self.kind == "not-found")

    @property
    def held_by_another(self) -> bool:
        """Whether the row was handed out to another API user: this token's user cannot go on with it."""
        return self.status == 403 and self.kind == "held-by-another"


class Conflict(ApiRefused):
    """409: the row has changed since the caller read it; `kind` is `stale-lease` or `invalid-state`.

    It is `erased` if the row's data were erased, and `idempotency-key-reused` if the key of a new report is known with
    other content."""

    def __init__(self, message: str, *, kind: str, current_status: str | None) -> None:
        super().__init__(message, status=409, kind=kind)
        self.current_status = current_status


@dataclass(frozen=True)
class Answer:
    """An answer of the web app."""

    content: Any
    """Its JSON; None if nothing has changed, or if it has none."""
    url: str
    _time: str | None

    @property
    def time(self) -> datetime:
        """The database's time when it was made, aware UTC. Raises `ApiUnreachable` for an answer without one."""
        try:
            found = datetime.fromisoformat(self._time or "")
            if found.tzinfo is not None:
                return found.astimezone(UTC)
        except ValueError:
            pass
        raise ApiUnreachable(
            f"{self.url} answered without a valid {TIME_HEADER} header: is REPORTQUEUE_URL the address of the queue's "
            "API, and does a proxy let the header through?"
        )


class Transport:
    """A session with the web app, for one thread; `clone()` makes one for another thread."""

    def __init__(self, url: str, token: str, *, retries: int = RETRIES, read_timeout: float = READ_TIMEOUT) -> None:
        """`url` is the API's address: where the web app includes `reportqueue.api.urls`. No path means `/api`.

        `url` and `token` may end in a newline, as files do. Raises `ValueError` for an invalid value; the message does
        not contain the value, which may be secret.
        """
        self.url = _checked_url(url)
        self._host = urljoin(self.url, "/")
        self._token = _checked_token(token)
        self._retries = retries
        self._read_timeout = read_timeout
        self._session = self._new_session(once=False)
        self._once = self._new_session(once=True)

    def _new_session(self, *, once: bool) -> requests.Session:
        session = requests.Session()
        session.headers["Authorization"] = f"Token {self._token}"
        session.headers["User-Agent"] = USER_AGENT
        # Ignore proxies and .netrc of the environment: the token must be sent to this URL only.
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        for scheme in ("http://", "https://"):
            session.mount(scheme, self._adapter(self._retries, once=once))
        return session

    def _adapter(self, retries: int, *, once: bool) -> BaseAdapter:
        """What carries a session's calls; a subclass may carry them in another way than over a socket.

        Calls that may not be done twice are sent `once`: only the connection is tried again.
        """
        if once:
            return HTTPAdapter(max_retries=Retry(total=None, connect=retries, read=0, other=0, backoff_factor=0.2))
        retry = Retry(
            total=retries,
            backoff_factor=0.2,
            status_forcelist=[502, 503, 504],
            allowed_methods=None,  # also POST: every verb may be repeated
            raise_on_status=False,
            respect_retry_after_header=False,  # a proxy could ask for a wait longer than the lease
        )
        return HTTPAdapter(max_retries=retry)

    def clone(self, *, retries: int | None = None, read_timeout: float | None = None) -> Self:
        """Another session with the same API, for another thread or with other limits."""
        return type(self)(
            self.url,
            self._token,
            retries=self._retries if retries is None else retries,
            read_timeout=self._read_timeout if read_timeout is None else read_timeout,
        )

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        self._once.close()

    def request(self, method: str, path: str, *, read_timeout: float | None = None, **options: Any) -> Any:
        """Call the web app with the client's token and return the answer's JSON. Raises `ApiError`s.

        `path` is resolved against the API's address, as a link on a page is: `reports/` is below it, `/files/` is at
        the root of the same host. With an `If-None-Match` header, returns None if nothing has changed. `options` are
        those of `requests`; pass a body as `data`.
        """
        return self.answer(method, path, read_timeout=read_timeout, **options).content

    def answer(
        self, method: str, path: str, *, read_timeout: float | None = None, once: bool = False, **options: Any
    ) -> Answer:
        """As `request`, for an answer that tells the time.

        A call that may not be done twice is sent `once`: after `ApiUnreachable` it may have been done.
        """
        url = urljoin(f"{self.url}/", path)
        if not url.startswith(self._host):
            raise ValueError(f"{path} is on another host than the API: the token must not be sent there.")
        seconds = self._read_timeout if read_timeout is None else read_timeout
        options.setdefault("timeout", (min(CONNECT_TIMEOUT, seconds), seconds))
        if joins := tracing.headers():
            options["headers"] = {**options.get("headers", {}), **joins}
        call = _call(path)
        try:
            session = self._once if once else self._session
            with counters.timed(counters.CALL_SECONDS, call=call):
                response = session.request(method, url, allow_redirects=False, **options)
        except (OSError, HTTPError) as error:  # requests' own errors are OSErrors
            counters.count("call_failures_total", call=call, kind="unreachable")
            raise ApiUnreachable(f"{url} does not answer ({_reason(error)}); is the web app running?") from None
        time = response.headers.get(TIME_HEADER)
        if response.status_code == 304 and "If-None-Match" in options.get("headers", {}):
            return Answer(None, url, time)
        if response.status_code == 204:
            return Answer(None, url, time)
        if 200 <= response.status_code < 300:
            try:
                return Answer(response.json(), url, time)
            except (ValueError, RecursionError):
                raise ApiUnreachable(
                    f"{url} answered something that is not JSON; is REPORTQUEUE_URL the address of the queue's API?"
                ) from None
        refusal = _refusal(response, url)
        kind = "unreachable" if isinstance(refusal, ApiUnreachable) else "refused"
        counters.count("call_failures_total", call=call, kind=kind)
        raise refusal

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | Sequence[Any],
        *,
        method: str = "POST",
        most: int = MAX_BODY_BYTES,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Any:
        """Send a JSON body of at most `most` bytes. Refuses a body that is not JSON, as the API would.

        `options` are those of `answer`.
        """
        try:
            data = json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ApiRefused(
                f"The body for {path} is not JSON: {_one_line(error)}.", status=400, kind="validation"
            ) from None
        if len(data) > most:
            raise ApiRefused(
                f"The body for {path} has {len(data):,} bytes; the queue's API takes less than {most:,}.",
                status=413,
                kind="body-too-large",
            )
        headers = {"Content-Type": "application/json", **(headers or {})}
        return self.request(method, path, data=data, headers=headers, **options)


def _user_agent() -> str:
    """What the web app's access log shows of a caller. A checkout is not installed, so it has no version."""
    try:
        name = f"reportqueue/{version('reportqueue')}"
    except PackageNotFoundError:
        name = "reportqueue"
    return f"{name} {requests.utils.default_user_agent()}"


USER_AGENT = _user_agent()


def _call(path: str) -> str:
    """What is called, as a label: the last part of the path, if that is a verb of the queue."""
    name = path.partition("?")[0].rstrip("/").rpartition("/")[2]
    return name if name in CALLS else "other"


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fine = False
    # Credentials in the URL would replace the token in requests, and every message would show them.
    if not fine or parts.query or parts.fragment or "@" in parts.netloc or any(map(str.isspace, parts.path)):
        raise ValueError(
            "REPORTQUEUE_URL must be the web app's address, with http:// or https:// and without credentials or query, "
            f"and with the path of the API unless that is {DEFAULT_PATH}: for instance http://127.0.0.1:8000."
        )
    address = parts.geturl().rstrip("/")
    return address if parts.path.strip("/") else f"{address}{DEFAULT_PATH}"


def _checked_token(token: str) -> str:
    token = token.strip()
    if not token:
        raise ValueError("REPORTQUEUE_TOKEN is empty.")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("REPORTQUEUE_TOKEN has characters that no token has: blanks, control or non-ASCII characters.")
    return token


def _refusal(response: requests.Response, url: str) -> ApiError:
    try:
        problem = response.json()
    except (ValueError, RecursionError):
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    status = response.status_code
    # The API names the path if it has no such address. Then the client's address is wrong, and no row is gone.
    kind = "" if "path" in problem else _string(problem.get("type")) or ""
    detail = _one_line(problem.get("detail") or response.reason or "no reason given")
    if status == 409 and kind == "too-early":
        return TooEarly(detail)
    if status == 409 and kind:
        return Conflict(detail, kind=kind, current_status=_string(problem.get("current_status")))
    if hint := _hint(status, kind):
        detail = f"{detail.rstrip('.')}; {hint}"
    text = f"{url} answered {status}: {detail}"
    # A 409 without a type, a redirect and a gateway's timeout do not come from the API itself.
    if status < 400 or status >= 500 or status in (408, 409, 429):
        return ApiUnreachable(text)
    return ApiRefused(text, status=status, kind=kind)


def _hint(status: int, kind: str) -> str:
    """What to check, if the answer shows it; empty otherwise. `kind` is empty if the API has not answered itself."""
    if kind == "not-authenticated":  # 401, or 403 if no authentication class of the web app has a scheme
        return "check REPORTQUEUE_TOKEN"
    if kind == "permission-denied":
        return "REPORTQUEUE_TOKEN must be of a user that manage.py create_consumer has made, or that has the permission"
    if status == 400 and not kind:
        return "the API did not answer this: is the host of REPORTQUEUE_URL in the web app's ALLOWED_HOSTS?"
    if 300 <= status < 400:
        return "redirects are not followed, check REPORTQUEUE_URL"
    if status in (401, 403) and not kind:
        return "the API did not answer this: check REPORTQUEUE_URL and the proxy in front of the web app"
    if status == 404 and not kind:
        return "reportqueue.api.urls is not included at this address: check REPORTQUEUE_URL"
    return ""


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words; requests and urllib3 wrap it several times."""
    cause: BaseException = error
    while True:
        inner = getattr(cause, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((part for part in reversed(cause.args) if isinstance(part, BaseException)), None)
        if inner is None or inner is cause:
            break
        cause = inner
    if "Timeout" in type(cause).__name__:
        return "no answer in time"
    text = _one_line(cause)
    if isinstance(cause, HTTPError):
        text = text.rsplit(": ", 1)[-1]  # urllib3's text begins with the connection's repr
    return text or type(cause).__name__


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:500]


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
