"""The refusals that a call may be answered with: the types of problems, their statuses, and when they come."""

from __future__ import annotations

from reportqueue.api import problems
from reportqueue.states import Status

WHEN = {
    "validation": "A field or a parameter is wrong; `errors` names it.",
    "malformed": "The body is not JSON.",
    "not-authenticated": "No token, or one that is not valid, has expired, was revoked, or whose user is not active.",
    "bad-signature": "No valid signature of the source, or a timestamp that is more than five minutes off.",
    "permission-denied": "The user lacks the permission that `detail` names, or the token's scopes do.",
    "held-by-another": "The row was handed out to another API user.",
    "not-found": "There is none; or no such path, which is then named in `path`.",
    "method-not-allowed": "The path has no such method.",
    "not-acceptable": "The answer is JSON, which the header `Accept` excludes.",
    "invalid-state": "The row's status does not allow it, or it is another report's turn.",
    "erased": "The row's data were erased with those of its modifier: it would run without its parameters.",
    "stale-lease": "The lease token, or the claim id, is no longer the row's.",
    "idempotency-key-reused": "This caller has used the key before with other content.",
    "bulk-action-refused": "The bulk action has ended, or cannot be undone.",
    "delivery-refused": "The subscription or the alert rule is not enabled, or the delivery is pending already.",
    "feed-too-large": "The schedules' parameters are too large for one list.",
    "firing-refused": "The schedule with its current settings has no such firing, or another pattern owns it.",
    "too-early": "The firing is still to come by the database's clock: repeat the call later.",
    "length-required": "The body came in chunks: send it with a `Content-Length`.",
    "precondition-failed": "It has another version than `If-Match` names.",
    "body-too-large": "The body is larger than `MAX_BODY_BYTES`.",
    "unsupported-media-type": "The body is not `application/json`.",
    "history-left": "Many finished rows belong to the schedule. Some were detached: repeat the call to go on.",
    "busy": "Another transaction has held the row for too long: repeat the call.",
    "unavailable": "The database does not answer, accepts no more connections, or is read-only: repeat the call.",
    "not-migrated": "The database lacks a table or a column of the app.",
}
"""Each type of problem. Nothing was changed."""
CODES = {kind: code for _, kind, code in problems.QUEUE_ERRORS} | {
    "validation": 400,
    "malformed": 400,
    "not-authenticated": 401,
    "permission-denied": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "not-acceptable": 406,
    "length-required": 411,
    "precondition-failed": 412,
    "body-too-large": 413,
    "unsupported-media-type": 415,
    "unavailable": 503,
    "not-migrated": 503,
}
"""The status of each type."""
ALWAYS = ("not-acceptable", "busy", "unavailable", "not-migrated")
OF_CALLERS = ("not-authenticated", "permission-denied")
OF_BODIES = ("validation", "malformed", "length-required", "body-too-large")


def by_code(kinds: list[str]) -> dict[int, list[str]]:
    """The types, grouped by their statuses, which are in order."""
    found: dict[int, list[str]] = {}
    for kind in WHEN:
        if kind in kinds:
            found.setdefault(CODES[kind], []).append(kind)
    return dict(sorted(found.items()))


def name_of(kinds: list[str]) -> str:
    """The name of the component: that of the types."""
    return "Or".join("".join(part.capitalize() for part in kind.split("-")) for kind in kinds)


def example(kind: str) -> dict[str, object]:
    """A problem document of this type."""
    document = {"type": kind, "title": problems.TITLES[kind], "status": CODES[kind], "detail": WHEN[kind]}
    if kind == "validation":
        text = "This field is required."
        return document | {"detail": f"report_id: {text}", "errors": {"report_id": [text]}}
    return document | ({"current_status": Status.SUCCEEDED.value} if kind == "invalid-state" else {})
