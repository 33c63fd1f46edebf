"""One HTTP call to the web app: the answer's JSON, or an error whose one line says what to look at."""

from __future__ import annotations

import json
import os
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
RETRIES = 3
MAX_BODY_BYTES = 1024 * 1024
"""More than any verb takes. A larger body is not sent: its answer would be lost with the connection."""


class ApiError(Exception):
    """The queue's API did not do what was asked; the message is one line that says why and what to look at."""


class ApiUnreachable(ApiError):
    """No answer, or none of the API's own: it is down, restarting, or behind something that is. Worth repeating."""


class ApiRefused(ApiError):
    """The request is wrong: the token, a permission, or what it asks for; `kind` is the problem's type, if any."""

    def __init__(self, message: str, *, status: int, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind

    @property
    def moved_on(self) -> bool:
        """Whether the row is not what the caller takes it for: it is another's, has ended, or was deleted."""
        return self.status == 409 or (self.status == 404 and self.kind == "not-found")


class Conflict(ApiRefused):
    """409: the row has moved on; `kind` is `stale-lease` or `invalid-state`."""

    def __init__(self, message: str, *, kind: str, current_status: str | None) -> None:
        super().__init__(message, status=409, kind=kind)
        self.current_status = current_status


class Transport:
    """A session with the web app; for one thread (`clone()` makes another's)."""

    def __init__(self, url: str, token: str, *, retries: int = RETRIES, read_timeout: float = READ_TIMEOUT) -> None:
        """`url` is the web app's address, with or without `/api`; both may end in a newline, as files do.

        Raises `ValueError` for what cannot be one; its message does not repeat the value, which may be a secret.
        """
        self.url = _checked_url(url)
        self._token = _checked_token(token)
        self._retries = retries
        self._read_timeout = read_timeout
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Token {self._token}"
        # The environment may name a proxy or a .netrc for the outside world; the token goes to this URL alone.
        self._session.trust_env = False
        self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        retry = Retry(
            total=retries,
            backoff_factor=0.2,
            status_forcelist=[502, 503, 504],
            allowed_methods=None,  # POST too: every verb may be repeated
            raise_on_status=False,
            respect_retry_after_header=False,  # a lease does not wait for as long as a proxy likes
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def clone(self, *, retries: int | None = None, read_timeout: float | None = None) -> Self:
        """Another session with the same API, for another thread or another patience."""
        return type(self)(
            self.url,
            self._token,
            retries=self._retries if retries is None else retries,
            read_timeout=self._read_timeout if read_timeout is None else read_timeout,
        )

    def close(self) -> None:
        """Close the session's connections."""
        self._session.close()

    def request(self, method: str, path: str, *, read_timeout: float | None = None, **options: Any) -> Any:
        """Any call to the web app with the client's token: the answer's JSON. Raises `ApiError`s.

        With an `If-None-Match` among the headers, None says that what the caller has still holds. `options` are those
        of `requests`; a body is best given as `data`.
        """
        url = f"{self.url}{path}"
        seconds = self._read_timeout if read_timeout is None else read_timeout
        options.setdefault("timeout", (min(CONNECT_TIMEOUT, seconds), seconds))
        try:
            response = self._session.request(method, url, allow_redirects=False, **options)
        except (OSError, HTTPError) as error:  # requests' own errors are OSErrors
            raise ApiUnreachable(f"{url} does not answer ({_reason(error)}); is the web app running?") from None
        if response.status_code == 304 and "If-None-Match" in options.get("headers", {}):
            return None
        if 200 <= response.status_code < 300:
            try:
                return response.json()
            except (ValueError, RecursionError):
                raise ApiUnreachable(f"{url} answered something that is not JSON; is it the queue's API?") from None
        raise _refusal(response, url)

    def post(self, path: str, body: dict[str, Any], *, read_timeout: float | None = None) -> Any:
        """POST a JSON body. A body that is not JSON is refused here, as the API would refuse it."""
        try:
            data = json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ApiRefused(
                f"The body for {path} is not JSON: {_one_line(error)}.", status=400, kind="validation"
            ) from None
        if len(data) > MAX_BODY_BYTES:
            raise ApiRefused(
                f"The body for {path} has {len(data):,} bytes; the queue's API takes less than {MAX_BODY_BYTES:,}.",
                status=413,
                kind="body-too-large",
            )
        headers = {"Content-Type": "application/json"}
        return self.request("POST", path, data=data, headers=headers, read_timeout=read_timeout)


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fine = False
    # With credentials in the URL, those would go out instead of the token, and would be shown in every message.
    if not fine or parts.query or parts.fragment or "@" in parts.netloc or any(map(str.isspace, parts.path)):
        raise ValueError(
            "REPORTQUEUE_URL must be the web app's address, with http:// or https:// and without credentials or query: "
            "for instance http://127.0.0.1:8000."
        )
    return parts.geturl().rstrip("/").removesuffix("/api")


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
    kind = _string(problem.get("type")) or ""
    said = _one_line(problem.get("detail") or response.reason or "no reason given")
    if status == 409 and kind:
        return Conflict(said, kind=kind, current_status=_string(problem.get("current_status")))
    hint = {
        401: "; check REPORTQUEUE_TOKEN",
        403: "; the token's user lacks a permission of reportqueue",
        404: "" if kind else "; check REPORTQUEUE_URL",
    }.get(status, "; redirects are not followed, check REPORTQUEUE_URL" if 300 <= status < 400 else "")
    text = f"{url} answered {status}: {said}{hint}"
    # A 409 without a type, a redirect or a gateway's timeout is not the API's own answer.
    if status < 400 or status >= 500 or status in (408, 409, 429):
        return ApiUnreachable(text)
    return ApiRefused(text, status=status, kind=kind)


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words: requests and urllib3 wrap it several times over."""
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
        text = text.rsplit(": ", 1)[-1]  # urllib3 begins with the connection's repr
    return text or type(cause).__name__


def _one_line(said: object) -> str:
    return " ".join(str(said).split())[:500]


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
