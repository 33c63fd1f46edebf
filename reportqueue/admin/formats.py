"""Text for instants, durations, statuses and links in the admin; it is complete without colour or script."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext

from reportqueue import lines
from reportqueue.conf import conf
from reportqueue.durations import duration as duration
from reportqueue.models import ReportQueue
from reportqueue.states import FINAL, Outcome, Status

EMPTY = "-"
LATE_SECONDS = 60
"""A waiting report that is later than this is shown as late."""
MAX_LINKS = 5
"""How many artifacts are linked; the others are counted."""

SYMBOLS: dict[str, str] = {
    Status.QUEUED: "○",
    Status.CLAIMED: "◔",
    Status.DISPATCHED: "◑",
    Status.RUNNING: "▶\ufe0e",  # as text: some systems would show a picture
    Status.SUCCEEDED: "✓",
    Status.FAILED: "✗",
    Status.CANCELLED: "⊘",
    Status.SKIPPED: "»",
    Outcome.RELEASED: "↩\ufe0e",
    Outcome.EXPIRED: "✗",
}


def utc(instant: datetime | None) -> str:
    """An instant in UTC, whatever zone the project uses: operators compare it with logs and with Dagster."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if instant else EMPTY


def local(instant: datetime | None, zone_name: str) -> str:
    """The instant as a clock in that zone shows it; empty for UTC itself and for a zone this machine lacks."""
    if instant is None or zone_name == "UTC":
        return ""
    try:
        zone = ZoneInfo(zone_name)
    except (KeyError, ValueError, OSError):  # a row written past the checks must not break the page
        return ""
    return f"{instant.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def offset(length: timedelta) -> str:
    """A signed duration."""
    return ("-" if length < timedelta(0) else "+") + duration(length)


def relative(instant: datetime, now: datetime) -> str:
    """`in 3 min`, or `2 min 5 s ago`."""
    text = gettext("in %(time)s") if instant > now else gettext("%(time)s ago")
    return text % {"time": duration(instant - now)}


def lateness(row: ReportQueue, now: datetime) -> tuple[str, str]:
    """How late the report is, or was when it started (`due in 3 min` before it is due), and what came after."""
    due = row.trigger_time
    if row.status in FINAL:
        ended = row.finished_at or now
        if row.started_at is None:
            text = (
                gettext("ended %(time)s before it was due")
                if ended < due
                else gettext("ended %(time)s after it was due")
            )
            return gettext("never started"), text % {"time": duration(ended - due)}
        return _late(row.started_at - due), gettext("took %(time)s") % {"time": duration(ended - row.started_at)}
    if row.started_at is not None:
        return _late(row.started_at - due), gettext("running for %(time)s") % {"time": duration(now - row.started_at)}
    if due > now:
        return gettext("due in %(time)s") % {"time": duration(due - now)}, ""
    waits = row.status == Status.QUEUED and row.available_at > now
    return _late(now - due), gettext("next try in %(time)s") % {
        "time": duration(row.available_at - now)
    } if waits else ""


def _late(length: timedelta) -> str:
    return (
        gettext("%(time)s late") % {"time": duration(length)} if length >= timedelta(seconds=1) else gettext("on time")
    )


def is_late(row: ReportQueue, now: datetime) -> bool:
    """Whether the row waits for too long. A row that waits for an earlier report does not."""
    waits = row.status not in FINAL and row.started_at is None and not row.waiting
    return waits and (now - max(row.trigger_time, row.available_at)).total_seconds() > LATE_SECONDS


def missed_deadline(row: ReportQueue, now: datetime) -> str:
    """By how much the row has missed its deadline; empty if it has not, or there is none."""
    if row.deadline_at is None:
        return ""
    over = (row.finished_at or now) - row.deadline_at
    return gettext("deadline missed by %(time)s") % {"time": duration(over)} if over > timedelta() else ""


def badge(status: str, label: Any) -> str:
    """A status or an outcome as a word and a sign; colour only repeats that."""
    return format_html(
        '<span class="rq-status rq-{}"><span aria-hidden="true">{}</span> {}</span>',
        status,
        SYMBOLS.get(status, "•"),
        label,
    )


def run_link(run_id: str, consumer: str) -> str:
    """A run's id as a link to its page, by the `RUN_URL` setting; `consumer` has claimed its row."""
    if not run_id:
        return EMPTY
    if not (pattern := conf().run_url):
        return run_id
    # Quoted: both are a consumer's free text, and must stay one segment of the path.
    address = pattern.replace("{consumer}", quote(consumer, safe="")).replace("{run_id}", quote(run_id, safe=""))
    return format_html('<a href="{}" title="{}">{}</a>', address, run_id, run_id[:8])


def is_safe_address(address: object) -> bool:
    """Whether a run's artifact may become a link: http(s) with a host, or a path on this site; nothing else.

    Browsers drop tabs and newlines and read `\\` as `/`: what contains one could lead to another site, or be a script.
    """
    if not isinstance(address, str) or any(character <= " " or character in "\\\x7f" for character in address):
        return False
    if address.startswith("/"):
        return not address.startswith("//")
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def artifact_links(found: object) -> str:
    """Links to a run's artifacts, by its result's `artifacts`: names to URLs. An unsafe URL leaves just the name."""
    if not isinstance(found, dict) or not found:
        return EMPTY
    links = [
        format_html('<a href="{}" rel="noopener">{}</a>', address, name[:50]) if is_safe_address(address) else name[:50]
        for name, address in list(found.items())[:MAX_LINKS]
    ]
    if len(found) > MAX_LINKS:
        links.append(f"+{len(found) - MAX_LINKS}")
    return format_html_join(" ", "{}", ((link,) for link in links))


def preformatted(text: str) -> str:
    """A traceback, as lines."""
    return format_html('<pre class="rq-pre">{}</pre>', text) if text else EMPTY


def traceback(text: str, *, unfolded: bool) -> str:
    """A traceback under its last line, which says what happened."""
    if "\n" not in text.strip():
        return preformatted(text)
    opening = "<details open>" if unfolded else "<details>"
    inside = '<summary>{}</summary><pre class="rq-pre">{}</pre></details>'
    return format_html(opening + inside, last_line(text, 200), text)


def last_line(text: str, limit: int) -> str:
    """The last line of a traceback, at most `limit` characters of its begin."""
    return lines.cut(lines.last_line(text), limit)


def json_block(value: Any) -> str:
    """JSON, indented."""
    return preformatted(json.dumps(value, indent=2, ensure_ascii=False)) if value not in (None, {}) else EMPTY


def two_lines(first: str, second: str) -> str:
    """A value, and a smaller one below it if there is one."""
    return format_html('{}<span class="rq-below">{}</span>', first, second) if second else first
