"""The messages of alerts: in words, with links to the admin, by mail and by apprise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.translation import override

from reportqueue import catalogue
from reportqueue.clock import minute
from reportqueue.conf import conf
from reportqueue.lines import cut
from reportqueue.models import Alert, AlertRule
from reportqueue.models.alert import MAX_LINE_LENGTH, Condition

logger = logging.getLogger("reportqueue")
SHOWN, NAMED = 20, 3
"""Things that a message names, and reports that its subject names; the others are counted."""
MAIL_SECONDS = 10.0
"""How long each answer of the mail server may take, if the setting EMAIL_TIMEOUT does not say so."""
_ROWS = "reportqueue_reportqueue_changelist"
PAGES: dict[str, tuple[str, str]] = {
    Condition.FAILED: (_ROWS, "?status=failed&q=report:{number}"),
    Condition.IN_A_ROW: (_ROWS, "?status=failed&q=report:{number}"),
    Condition.LATE: (_ROWS, "?now=late&q=report:{number}"),
    Condition.BACKLOG: (_ROWS, "?now=waiting"),
    Condition.SILENT: (_ROWS, ""),
}
"""The list that shows what an alert of each condition is about."""


class ChannelMissing(Exception):
    """A rule names a channel that the setting lacks, or that cannot be used; the message says why."""


def send(rule: AlertRule, found: Sequence[Alert], over: Sequence[Alert]) -> str:
    """Send one message to all of the rule's recipients; why some of them did not get it, empty if all did.

    Raises what sending raises if nobody got it: only then may it be sent again.
    """
    subject, body = written(rule, found, over)
    ways: list[Callable[[], None]] = [partial(_notify, name, subject, body) for name in rule.channels]
    if rule.emails:
        ways.append(partial(_mail, rule.emails, subject, body))
    failed: list[Exception] = []
    for way in ways:
        try:
            way()
        except Exception as error:  # the others are told all the same
            failed.append(error)
            logger.exception("A message of the alert rule %s could not be sent in one of its ways.", rule)
    if len(failed) == len(ways):
        raise failed[0]
    return said(failed[0]) if failed else ""


def said(error: Exception) -> str:
    """An error in one line."""
    return cut(" ".join(f"{type(error).__name__}: {error}".split()), MAX_LINE_LENGTH)


def written(rule: AlertRule, found: Sequence[Alert], over: Sequence[Alert]) -> tuple[str, str]:
    """The subject and the text, from templates that a project may override, in the project's language."""
    context: dict[str, Any] = {
        "rule": rule,
        "reports": _reports(found or over),
        "found": [(one, address(one)) for one in found[:SHOWN]],
        "more": max(0, len(found) - SHOWN),
        "over": [(one, address(one), minute(one.over_at) if one.over_at else "") for one in over[:SHOWN]],
        "more_over": max(0, len(over) - SHOWN),
        "test": not found and not over,
        "settings_page": _absolute("reportqueue_alertrule_change", rule.pk),
    }
    with override(settings.LANGUAGE_CODE):
        context["condition"] = str(rule.get_condition_display())
        subject = " ".join(render_to_string("reportqueue/alert_subject.txt", context).split())
        return subject[:200], render_to_string("reportqueue/alert_body.txt", context).strip() + "\n"


def _reports(alerts: Sequence[Alert]) -> str:
    """The reports that a message is about, for its subject: some by name, the others counted."""
    numbers = sorted({one.report_id for one in alerts if one.report_id is not None})
    names = catalogue.names(numbers[:NAMED])
    shown = [catalogue.label(number, names[number]) if number in names else f"#{number}" for number in numbers[:NAMED]]
    return ", ".join([*shown, *([f"+{len(numbers) - NAMED}"] if len(numbers) > NAMED else [])])


def address(one: Alert) -> str:
    """The page of the admin about it; empty without `SITE_URL`."""
    number = one.subject.partition(":")[2]
    if one.rule.condition == Condition.OVERDUE:
        return _absolute("reportqueue_reportschedule_change", number)
    page, query = PAGES[one.rule.condition]
    return f"{found}{query.format(number=number)}" if (found := _absolute(page)) else ""


def _absolute(page: str, *arguments: object) -> str:
    if not (site := conf().site_url):
        return ""
    try:
        return site.rstrip("/") + reverse(f"admin:{page}", args=arguments)
    except NoReverseMatch:  # a project without the admin
        return ""


def _mail(addresses: Sequence[str], subject: str, body: str) -> None:
    link: Any = get_connection()  # each backend has attributes of its own
    # Without a limit, a server that does not answer would hold the process for ever, also one that is told to stop.
    if getattr(link, "timeout", MAIL_SECONDS) is None:
        link.timeout = MAIL_SECONDS
    EmailMessage(subject, body, to=list(addresses), connection=link).send()


def _notify(channel: str, subject: str, body: str) -> None:
    try:
        import apprise
    except ImportError:
        raise ChannelMissing("Channels need the package apprise: pip install reportqueue[alerts].") from None
    known = conf().alert_channels or {}
    if channel not in known:
        raise ChannelMissing(f"The setting ALERT_CHANNELS has no {channel}.")
    service = apprise.Apprise()
    if not service.add(known[channel]):
        raise ChannelMissing(f"The address of {channel} in ALERT_CHANNELS is none that apprise knows.")
    # As plain text: an error such as `<class 'str'>` is no markup, and `<!channel>` calls nobody.
    if not service.notify(title=subject, body=body, body_format=apprise.NotifyFormat.TEXT):
        raise ChannelMissing(f"{channel} did not take the message; the log of apprise says more.")
