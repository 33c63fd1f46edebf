"""Text for instants, durations, statuses and links in the admin; it is complete without colour or script."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext

import reportcron
from reportqueue import lines, tracing
from reportqueue.admin import viewer_zone
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
    """An instant in UTC without saying so: for a column of UTC, and for texts that are stored."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if instant else EMPTY


def instant(moment: datetime | None, *, minutes: bool = False) -> str:
    """An instant by the viewer's clock; below it in UTC, as logs and Dagster have it. For a cell; see `viewer_zone`.

    `minutes`: without the seconds.
    """
    return two_lines(*_both(moment, minutes=minutes)) if moment else EMPTY


def instant_text(moment: datetime | None, *, minutes: bool = False) -> str:
    """The same as plain text, for a sentence: `2027-06-07 10:00:00+02:00 (2027-06-07 08:00:00 UTC)`."""
    if moment is None:
        return EMPTY
    own, in_utc = _both(moment, minutes=minutes)
    return f"{own} ({in_utc})" if in_utc else own


def viewer_clock(moment: datetime, *, minutes: bool = False) -> str:
    """An instant by the viewer's clock alone, with its offset: in an hour that comes twice, the clock is not enough."""
    return _both(moment, minutes=minutes)[0]


def _both(moment: datetime, *, minutes: bool) -> tuple[str, str]:
    """By the viewer's clock, and in UTC if that is another."""
    timespec, zone = "minutes" if minutes else "seconds", viewer_zone.current()
    in_utc = f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(' ', timespec)} UTC"
    if zone == "UTC":
        return in_utc, ""
    return reportcron.local(zone, moment).isoformat(" ", timespec), in_utc


def sentence(text: object) -> str:
    """A text of the queue, whose instants are in UTC as they are in its logs, with the viewer's clock beside them."""
    return _IN_UTC.sub(_by_viewer_clock, str(text))


def _by_viewer_clock(found: re.Match[str]) -> str:
    try:
        moment = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
        return instant_text(moment, minutes=len(found[1]) == len("2027-06-07 10:00"))
    except (ValueError, OverflowError):  # a person's note has something else in this form
        return found[0]


_IN_UTC = re.compile(r"\b(\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?) UTC\b", re.ASCII)


def clocks(zone: str) -> list[str]:
    """The zones of a table of instants, each once: the viewer's, UTC, and the schedule's own."""
    return list(dict.fromkeys((viewer_zone.current(), "UTC", zone)))


def by_clocks(moment: datetime, zones: list[str]) -> list[str]:
    """An instant by each of the zones of `clocks`."""
    return [utc(moment) if zone == "UTC" else _by_clock(moment, zone) for zone in zones]


def _by_clock(moment: datetime, zone: str) -> str:
    return viewer_clock(moment) if zone == viewer_zone.current() else local(moment, zone)


def local(moment: datetime | None, zone_name: str) -> str:
    """The instant as a clock in that zone shows it; empty for UTC itself and for a zone this machine lacks."""
    if moment is None or zone_name == "UTC":
        return ""
    try:
        zone = ZoneInfo(zone_name)
    except (KeyError, ValueError, OSError):  # a row written past the checks must not break the page
        return ""
    return f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def schedule_clock(moment: datetime, zone_name: str) -> str:
    """The same for below `instant`; empty for the viewer's own zone, too."""
    return "" if zone_name == viewer_zone.current() else local(moment, zone_name)


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


def trace_link(traceparent: str | None) -> str:
    """The id of a row's trace, as a link to its page if `TRACE_URL` is set."""
    if not traceparent:
        return EMPTY
    found = tracing.trace_id(traceparent)
    if not (pattern := conf().trace_url):
        return found
    return format_html('<a href="{}">{}</a>', pattern.replace("{trace_id}", found), found)


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
