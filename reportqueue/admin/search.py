"""The search box: ids, numbers and names that an index can find. Queue rows are never scanned by `LIKE %x%`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from django.contrib.auth import get_user_model
from django.db.models import Model, Q, QuerySet
from django.utils.text import smart_split, unescape_string_literal
from django.utils.translation import gettext

from reportqueue import bounds, credentials
from reportqueue.models import Report
from reportqueue.models.audit import Kind
from reportqueue.models.event import pk_of

M = TypeVar("M", bound=Model)
Named = Callable[[str], Iterable[int]]
"""The modifiers that a part of a name means, for one person."""

OF_SCHEDULES = {"id": "pk"}
OF_ROWS = {**OF_SCHEDULES, "schedule": "schedule_id"}
"""Names before a colon whose value is a number, and their fields."""
REPORT, MODIFIER = "report", "modifier"
"""Names before a colon whose value is a number or a part of a name."""
MAX_NAMED = 200
"""Reports that one part of a name may mean."""
SHOWN_RUN_ID = 8
"""How many characters of a run's id the list shows: a number of that length may be the begin of one."""


class NotUnderstood(ValueError):
    """The search text is invalid; `str()` tells a person why."""


def find_rows(rows: QuerySet[M], text: str, modifiers: Named) -> QuerySet[M]:
    """Queue rows that match every word, such as `report:3 modifier:2014 route:finance schedule:5 id:7 run:0b1f key:a`.

    A bare number is a row or a report; another word is a part of a report's name, the begin of a run's id, or an
    idempotency key.
    Raises `NotUnderstood`.
    """
    for name, word in _words(text, {*OF_ROWS, REPORT, MODIFIER, "route", "run", "key"}):
        if name == REPORT:
            rows = rows.filter(report_id__in=reports(word))
        elif name == MODIFIER:
            rows = rows.filter(modifier_id__in=_modifiers(word, modifiers))
        elif name in OF_ROWS:
            rows = rows.filter(**{OF_ROWS[name]: number(word, name)})
        elif name == "route":
            rows = rows.filter(route=word)
        elif name == "run":
            rows = rows.filter(_run(word))
        elif name == "key":
            rows = rows.filter(idempotency_key=word)
        else:
            meant = Q()
            if (given := bounds.as_id(word.removeprefix("#"))) is not None:
                meant = Q(pk=given) | Q(report_id=given)
            if given is None or len(word) >= SHOWN_RUN_ID:
                meant |= _run(word) | Q(idempotency_key=word)
            if given is None and (named := _named(word)):
                meant |= Q(report_id__in=named)
            rows = rows.filter(meant)
    return rows


def find_schedules(schedules: QuerySet[M], text: str, modifiers: Named) -> QuerySet[M]:
    """Schedules that match every word: `report:3 modifier:2014`, a bare number for either, or a part of the timing.

    Raises `NotUnderstood`.
    """
    for name, word in _words(text, {*OF_SCHEDULES, REPORT, MODIFIER}):
        if name == REPORT:
            schedules = schedules.filter(report_id__in=reports(word))
        elif name == MODIFIER:
            schedules = schedules.filter(modifier_id__in=_modifiers(word, modifiers))
        elif name in OF_SCHEDULES:
            schedules = schedules.filter(**{OF_SCHEDULES[name]: number(word, name)})
        else:
            meant = Q(cron__icontains=word) | Q(timezone__icontains=word) | Q(report_id__in=_named(word))
            if (given := bounds.as_id(word)) is not None:
                meant |= Q(report_id=given) | Q(modifier_id=given)
            schedules = schedules.filter(meant)
    return schedules


def find_reports(entries: QuerySet[M], text: str, _modifiers: Named) -> QuerySet[M]:
    """Entries of the catalogue whose number, name, owner or route matches every word; there are few."""
    for _name, word in _words(text, set()):
        meant = Q(name__icontains=word) | Q(owner__icontains=word) | Q(route=word)
        if (given := bounds.as_id(word)) is not None:
            meant |= Q(pk=given)
        entries = entries.filter(meant)
    return entries


def find_pauses(pauses: QuerySet[M], text: str, _modifiers: Named) -> QuerySet[M]:
    """Pauses whose note, maker or route matches every word; there are few."""
    for _name, word in _words(text, set()):
        pauses = pauses.filter(Q(note__icontains=word) | Q(paused_by__icontains=word) | Q(route=word))
    return pauses


def find_entries(entries: QuerySet[M], text: str, _modifiers: Named) -> QuerySet[M]:
    """Audit entries that match every word, such as `by:anna action:cancel row:7`; a bare word is a user."""
    for name, word in _words(text, {"by", "action", *Kind.values}):
        if name in Kind.values:
            entries = entries.filter(kind=name, object_id=word)
        else:
            entries = entries.filter(**{name or "by": word})
    return entries


def find_bulk_actions(actions: QuerySet[M], text: str, _modifiers: Named) -> QuerySet[M]:
    """Bulk actions whose number, reason or maker matches every word; there are few."""
    for _name, word in _words(text, set()):
        meant = Q(reason__icontains=word) | Q(requested_by__icontains=word)
        if (given := bounds.as_id(word.removeprefix("#"))) is not None:
            meant |= Q(pk=given)
        actions = actions.filter(meant)
    return actions


def find_by_name(named: QuerySet[M], text: str, _modifiers: Named) -> QuerySet[M]:
    """Calendars or webhook sources whose name contains every word; there are few."""
    for _name, word in _words(text, set()):
        named = named.filter(name__icontains=word)
    return named


def find_subscriptions(subscriptions: QuerySet[M], text: str, _modifiers: Named) -> QuerySet[M]:
    """Webhook subscriptions whose description or address contains every word; there are few."""
    for _name, word in _words(text, set()):
        subscriptions = subscriptions.filter(Q(description__icontains=word) | Q(url__icontains=word))
    return subscriptions


def find_deliveries(deliveries: QuerySet[M], text: str, _modifiers: Named) -> QuerySet[M]:
    """Webhook deliveries of `row:17`, of `schedule:3`, or with a `webhook-id`; a bare number is a row.

    Raises `NotUnderstood`.
    """
    for name, word in _words(text, {"row", "schedule"}):
        if name or bounds.as_id(word) is not None:
            deliveries = deliveries.filter(event__subject=f"{name or 'row'}:{number(word, name or 'row')}")
        elif (event := pk_of(word)) is not None:
            deliveries = deliveries.filter(event=event)
        else:
            raise NotUnderstood(gettext("Type the number of a row, or a webhook-id."))
    return deliveries


def find_tokens(tokens: QuerySet[M], text: str, _modifiers: Named) -> QuerySet[M]:
    """API tokens that match every word: a part of the name or of the user's name, or the beginning of the token."""
    user_name = f"user__{get_user_model().USERNAME_FIELD}__icontains"
    for _name, word in _words(text, set()):
        meant = Q(name__icontains=word) | Q((user_name, word))
        if word.startswith(credentials.PREFIX):
            meant |= Q(identifier=word.removeprefix(credentials.PREFIX)[: credentials.IDENTIFIER_LENGTH])
        tokens = tokens.filter(meant)
    return tokens


def reports(text: str) -> list[int]:
    """The reports with this number, or with a name that contains the text. Raises `NotUnderstood` if there is none."""
    if (given := bounds.as_id(text)) is not None:
        return [given]
    if not (found := _named(text)):
        raise NotUnderstood(
            gettext("“%(text)s” is neither a report's number nor a part of a name in the catalogue.")
            % {"text": text[:30]}
        )
    return found


def _modifiers(text: str, named: Named) -> list[int]:
    """The modifiers with this number, or that the text means by name. Raises `NotUnderstood` if there is none."""
    if not text or text.isdigit():
        return [number(text, MODIFIER)]
    if not (found := list(named(text))):
        raise NotUnderstood(
            gettext("“%(text)s” is neither a modifier's number nor a part of a name that you may look for.")
            % {"text": text[:30]}
        )
    return found


def _named(text: str) -> list[int]:
    return list(Report.objects.filter(name__icontains=text).values_list("pk", flat=True)[:MAX_NAMED]) if text else []


def number(text: str, name: str) -> int:
    """An id. Raises `NotUnderstood`."""
    if (given := bounds.as_id(text)) is None:
        raise NotUnderstood(
            gettext("“%(text)s” is not a %(name)s's number: a whole number from 0 to %(max)s is wanted.")
            % {"text": text[:30], "name": name, "max": bounds.MAX_ID}
        )
    return given


def _run(begin: str) -> Q:
    """Rows whose run's id begins so; none if that is empty. The index has only rows with a run, so the condition says
    that."""
    return Q(run_id__startswith=begin) & ~Q(run_id="") if begin else Q(pk__in=[])


def _words(text: str, names: set[str]) -> list[tuple[str, str]]:
    """The words, each with the name before its colon if that is one of `names`; quotes keep spaces together."""
    found = []
    for bit in smart_split(text):
        name, colon, word = bit.partition(":")
        if not colon or name.lower() not in names:
            name, word = "", bit
        if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'":
            word = unescape_string_literal(word)
        found.append((name.lower(), word))
    return found
