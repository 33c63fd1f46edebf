"""Which rows a bulk action is about: filters as the API's list has them, checked, in words, as a query and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import OperationalError
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from psycopg.errors import QueryCanceled

from reportqueue import catalogue, database, keyset, modifiers, queue
from reportqueue.models import ReportQueue, lists
from reportqueue.models.queue import unfinished
from reportqueue.row_filters import QueueFilter
from reportqueue.states import TRANSITIONS, UNFINISHED, Source, Status, Verb

NAMES = tuple(QueueFilter.base_filters)
REPEATED = ("status", "source", "claimed_by", "route")
"""Filters that may have several values."""
MAX_VALUES = 100
"""Values of a filter. They are stored, and shown on each page of the action."""
COUNTED = 10_000
"""Rows of each status are counted up to here."""
COUNT_SECONDS = 2.0
"""How long a count may take: a filter without an index would read the whole history."""
SAMPLE = 10
_LABELS = {
    "status": _("status"),
    "source": _("source"),
    "processed": _("processed"),
    "claimed_by": _("consumer"),
    "route": _("route"),
    "report_id": _("report"),
    "report": _("report"),
    "modifier_id": _("modifier"),
    "schedule": _("schedule"),
    "failure": _("failure"),
    "trigger_time_after": _("due from"),
    "trigger_time_before": _("due before"),
}
_DONE = {Verb.REQUEUE: "requeued", Verb.CANCEL: "cancelled"}


@dataclass(frozen=True)
class Preview:
    """What a bulk action would do, without doing it."""

    verb: Verb
    filters: dict[str, Any]
    counts: dict[str, int | None]
    """Rows that match, by status; each at most `COUNTED`. None: counting them took too long."""
    more: bool
    """Whether there are more than were counted."""
    sample: list[ReportQueue]
    """Some of the rows, those that were due last first."""

    @property
    def total(self) -> int | None:
        """All rows that match, as far as they are counted, at most `COUNTED`; None if that took too long."""
        known = [count for count in self.counts.values() if count is not None]
        return min(sum(known), COUNTED) if len(known) == len(self.counts) else None


def checked(verb: Verb, given: Mapping[str, Any]) -> dict[str, Any]:
    """The filters as they are stored; values may be as in a body, or texts as in an address.

    Raises `ValidationError` naming each filter that is wrong, and for a status whose rows the verb does not take.
    """
    problems: dict[str, list[str]] = {}
    query = QueryDict(mutable=True)
    for name, value in given.items():
        values = list(value) if isinstance(value, list | tuple) else [value]
        if name not in NAMES:
            problems[str(name)[:100]] = [f"Unknown filter; the filters here are {', '.join(NAMES)}."]
        elif not values or any(one is None or one == "" for one in values):
            # An empty value would be no condition, and more rows would match than were meant.
            problems[name] = ["Must have a value; leave the filter out instead."]
        elif any(isinstance(one, bool) or not isinstance(one, str | int) for one in values):
            problems[name] = ["Must be a text, a whole number or a list of them."]
        elif len(values) > 1 and name not in REPEATED:
            problems[name] = ["Must have one value."]
        elif len(values) > MAX_VALUES:
            problems[name] = [f"Must have at most {MAX_VALUES} values."]
        else:
            query.setlist(name, [str(one) for one in values])
    chosen = QueueFilter(query, queryset=ReportQueue.objects.all())
    if not chosen.is_valid():
        problems = {name: [str(text) for text in texts] for name, texts in chosen.errors.items()} | problems
    if problems:
        raise ValidationError(dict(list(problems.items())[:10]))
    if not _statuses(verb, chosen):
        name = "status" if "status" in query else "processed"
        raise ValidationError({name: f"No report with this can be {_DONE[verb]}."})
    values = chosen.form.cleaned_data
    return {name: _stored(values[name]) for name in NAMES if name in query and values[name] != "any"}


def _stored(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return sorted(set(value)) if isinstance(value, list) else value


def _chosen(filters: Mapping[str, Any]) -> QueueFilter:
    """The checked filters."""
    query = QueryDict(mutable=True)
    for name, value in filters.items():
        query.setlist(name, [str(one) for one in (value if isinstance(value, list) else [value])])
    chosen = QueueFilter(query, queryset=ReportQueue.objects.all())
    if not chosen.is_valid() or query.keys() - set(NAMES):
        raise ValidationError(f"These filters are not valid any more: {dict(filters)}.")
    return chosen


def _statuses(verb: Verb, chosen: QueueFilter) -> set[Status]:
    return {status for status in TRANSITIONS[verb] if status in chosen.statuses()}


def statuses(verb: Verb, filters: Mapping[str, Any]) -> set[Status]:
    """The statuses of the rows that match: of those that the filters allow, the ones from which the verb leads away."""
    return _statuses(verb, _chosen(filters))


def rows(verb: Verb, filters: Mapping[str, Any]) -> QuerySet[ReportQueue]:
    """The rows that match."""
    chosen = _chosen(filters)
    wanted = _statuses(verb, chosen)
    found: QuerySet[ReportQueue] = chosen.qs.filter(status__in=sorted(wanted))
    if sources := chosen.form.cleaned_data["source"]:
        found = found.filter(source__in=sources)
    return found.filter(unfinished()) if wanted <= UNFINISHED else found  # as the conditions of the indexes are


def preview(verb: Verb, filters: Mapping[str, Any], *, sample: int = SAMPLE) -> Preview:
    """What the verb would be done to: counts, and some of the rows with the names of their reports and modifiers."""
    chosen = _chosen(filters)
    wanted = sorted(_statuses(verb, chosen))
    counts: dict[str, int | None] = {status: _count(_parts(chosen, {status})) for status in wanted}
    known = [count for count in counts.values() if count is not None]
    found = _first(_parts(chosen, set(wanted)), sample) if sample else []
    catalogue.name_rows(found)
    modifiers.name_rows(found)
    bounded = {status: None if count is None else min(count, COUNTED) for status, count in counts.items()}
    return Preview(verb, dict(filters), bounded, sum(known) > COUNTED, found)


def _parts(chosen: QueueFilter, wanted: set[Status]) -> list[QuerySet[ReportQueue]]:
    """The rows of these statuses, in parts that have an index; see `models.lists`."""
    sources = chosen.form.cleaned_data["source"]
    if wanted <= UNFINISHED:
        found = chosen.qs.filter(source__in=sources) if sources else chosen.qs
        return [found.filter(unfinished(), status__in=sorted(wanted))]
    return lists.by_trigger_time(chosen.qs, wanted, sources, narrowed=chosen.is_narrowed())


def _count(parts: list[QuerySet[ReportQueue]]) -> int | None:
    columns = [part.values("trigger_time") for part in parts]
    try:
        with database.quick(COUNT_SECONDS):
            return keyset.merged(columns, ["trigger_time"], COUNTED + 1).count()
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            return None
        raise


def _first(parts: list[QuerySet[ReportQueue]], most: int) -> list[ReportQueue]:
    columns = [part.values("id", "trigger_time") for part in parts]
    try:
        with database.quick(COUNT_SECONDS):
            pks = [row["id"] for row in keyset.merged(columns, ["-trigger_time", "-id"], most)]
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            return []
        raise
    return list(ReportQueue.objects.filter(pk__in=pks).defer("params", "result").order_by("-trigger_time", "-id"))


def words(filters: Mapping[str, Any], titles: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """The filters for people: the label and the value of each, with the names of report, modifier and failure.

    `titles`: as `queue.failure_titles` has them, for a caller that has looked them up for many filters.
    """
    if titles is None:
        titles = queue.failure_titles([filters["failure"]]) if "failure" in filters else {}
    return [(str(_LABELS[name]), _value(name, filters[name], titles)) for name in NAMES if name in filters]


def _value(name: str, value: Any, titles: Mapping[str, str]) -> str:
    if name == "failure":
        return f"{titles[value]} ({value})" if value in titles else str(value)
    if name == "report_id":
        return catalogue.label(value, catalogue.names([value]).get(value))
    if name == "modifier_id":
        return catalogue.label(value, modifiers.names([value]).get(value))
    if name.startswith("trigger_time"):
        return f"{datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if name == "processed":
        return gettext("yes") if value == "true" else gettext("no")
    labels = {"status": dict(Status.choices), "source": dict(Source.choices)}.get(name, {})
    shown = [str(labels.get(one, one)) for one in (value if isinstance(value, list) else [value])]
    return gettext(" or ").join(shown)
