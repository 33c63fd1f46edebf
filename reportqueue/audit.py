"""Who acts, and what they did: the actor of a request or a command, and the entries about what is done in its name.

What a person does to a row is written in the transaction that does it. An edit of a schedule, a report, a calendar or a
webhook source is written when the model is saved, so it does not matter from where.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from django.db.models import Model
from django.db.models.signals import post_delete, post_save, pre_save

from reportqueue import addresses, bounds
from reportqueue.models import (
    AlertRule,
    AuditEntry,
    BlackoutCalendar,
    BlackoutDays,
    BlackoutHours,
    Report,
    ReportQueue,
    ReportSchedule,
    WebhookSource,
    WebhookSubscription,
)
from reportqueue.models.audit import MAX_LABEL_LENGTH, Kind, Via

MAX_VALUE = 2_000
"""Characters of a value before or after; a longer one is cut."""
ADD, CHANGE, DELETE = "add", "change", "delete"
ROTATE = "rotate"
"""A webhook got another secret."""
C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Actor:
    """In whose name things are done."""

    by: str = ""
    via: Via = Via.CODE


CODE = Actor()
"""Code of the project, without a request or a command around it."""
_actor: ContextVar[Actor] = ContextVar("reportqueue_actor", default=CODE)


def actor() -> Actor:
    """The current one; without a request or a command, code of the project."""
    return _actor.get()


@contextmanager
def acting(by: str, via: Via) -> Iterator[None]:
    """Do what is done inside in this name. `by` is a user's name, or what stands for one."""
    token = _actor.set(Actor(by[: bounds.MAX_USER_LENGTH], via))
    try:
        yield
    finally:
        _actor.reset(token)


def identify(by: str) -> None:
    """Name the actor of the current request, once its caller is known."""
    _actor.set(Actor(by[: bounds.MAX_USER_LENGTH], _actor.get().via))


def by_command(command: C) -> C:
    """Have a management command act in the name of the operating system's user."""
    handle = command.handle  # type: ignore[attr-defined]

    @wraps(handle)
    def acts(self: Any, *args: Any, **options: Any) -> Any:
        with acting(_system_user(), Via.COMMAND):
            return handle(self, *args, **options)

    command.handle = acts  # type: ignore[attr-defined]
    return command


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return ""


def record(
    action: str,
    kind: Kind,
    object_id: object,
    *,
    label: str = "",
    changes: Mapping[str, Any] | None = None,
    reason: str = "",
) -> None:
    """Write what the current actor has just done; in the caller's transaction."""
    _write([_entry(action, kind, object_id, label=label, changes=changes or {}, reason=reason)])


def record_rows(action: str, rows: Iterable[ReportQueue], *, reason: str = "") -> None:
    """Write what the current actor has just done to each of these rows."""
    _write([_entry(action, Kind.ROW, row.pk, label=str(row), changes={}, reason=reason) for row in rows])


def record_each(action: str, kind: Kind, object_ids: Iterable[object]) -> None:
    """Write what the current actor has just done to each of several things."""
    _write([_entry(action, kind, one, label="", changes={}, reason="") for one in object_ids])


def _entry(
    action: str, kind: Kind, object_id: object, *, label: str, changes: Mapping[str, Any], reason: str
) -> AuditEntry:
    now = actor()
    return AuditEntry(
        action=action,
        by=now.by,
        via=now.via,
        kind=kind,
        object_id=str(object_id),
        label=label[:MAX_LABEL_LENGTH],
        changes=dict(changes),
        reason=reason[: bounds.MAX_REASON_LENGTH],
    )


def _write(entries: list[AuditEntry]) -> None:
    AuditEntry.objects.bulk_create(entries)


# Edits

_BOOKKEEPING = {
    "version",
    "updated_at",
    "created_at",
    "next_run_at",
    "planned_from",
    "plan_needed",
    "timing_set_at",
    "failures",
    "failing_since",
    "retry_at",
    "test_wanted",
    "problem",
    "sent_at",
}
"""Fields that follow from others, or from the edit itself."""
_SECRET = {"seed", "previous_seed", "digest"}
"""Fields whose values nobody may read. An entry says that they have changed."""
_EDITED: dict[type[Model], Kind] = {
    ReportSchedule: Kind.SCHEDULE,
    Report: Kind.REPORT,
    BlackoutCalendar: Kind.CALENDAR,
    WebhookSource: Kind.WEBHOOK,
    WebhookSubscription: Kind.SUBSCRIBER,
    AlertRule: Kind.ALERT,
}
_PARTS: tuple[type[Model], ...] = (BlackoutDays, BlackoutHours)
"""Models whose edits are edits of their calendar."""


def connect() -> None:
    """Write an entry for each edit of the models that people edit."""
    for model in (*_EDITED, *_PARTS):
        uid = f"reportqueue.audit.{model.__name__}"
        pre_save.connect(_before, sender=model, dispatch_uid=f"{uid}.before")
        post_save.connect(_saved, sender=model, dispatch_uid=f"{uid}.saved")
        post_delete.connect(_deleted, sender=model, dispatch_uid=f"{uid}.deleted")


def _fields(model: type[Model]) -> dict[str, str]:
    """The names of the columns that people edit, each with the name of its field."""
    fields = model._meta.concrete_fields
    return {field.attname: field.name for field in fields if field.name not in _BOOKKEEPING}


def was(instance: Model, **values: Any) -> None:
    """Say what the next save of an object replaces, where a stand-in is stored meanwhile."""
    instance.__dict__["_stood_before"] = values


def _before(sender: type[Model], instance: Any, **options: Any) -> None:
    """Note what is stored, for `_saved`."""
    found, known = None, instance.__dict__.pop("_stood_before", {})
    if instance.pk is not None and not options.get("raw"):
        found = sender._base_manager.filter(pk=instance.pk).values(*_fields(sender)).first()
    instance._stored_before = found and found | known


def _saved(sender: type[Model], instance: Any, created: bool, update_fields: Any, **options: Any) -> None:
    if options.get("raw"):  # a fixture
        return
    before = instance.__dict__.pop("_stored_before", None) or {}
    changes = {
        name: _change(name, before.get(name), getattr(instance, name))
        for name, field in _fields(sender).items()
        if (update_fields is None or field in update_fields) and _differs(before.get(name), getattr(instance, name))
    }
    if not created and "seed" in changes:
        until = changes.pop("previous_until", None)
        _record_edit(ROTATE, sender, instance, {} if until is None else {"previous_until": until})
        changes = {name: change for name, change in changes.items() if name not in _SECRET}
    if created or changes:
        _record_edit(ADD if created else CHANGE, sender, instance, changes)


def _deleted(sender: type[Model], instance: Any, **options: Any) -> None:
    changes = {name: _change(name, getattr(instance, name), None) for name in _fields(sender)}
    _record_edit(DELETE, sender, instance, changes)


def _record_edit(action: str, sender: type[Model], instance: Any, changes: dict[str, Any]) -> None:
    if sender in _EDITED:
        record(action, _EDITED[sender], instance.pk, label=str(instance), changes=changes)
        return
    # The calendar may be deleted with its parts: its own entry says so.
    label = f"{sender._meta.verbose_name} {instance}"
    what = "days" if sender is BlackoutDays else "hours"
    record(f"{action} {what}", Kind.CALENDAR, instance.calendar_id, label=label, changes=changes)


def _differs(before: Any, after: Any) -> bool:
    return before != after and not (before is None and after in ("", [], {}))


def _change(name: str, before: Any, after: Any) -> list[Any]:
    """The value before and after, as JSON."""
    if name == "url":  # its path may be a secret
        return [url and f"{addresses.origin(url)}/…" for url in (before, after)]
    return ["…", "…"] if name in _SECRET else [_json(before), _json(after)]


def _json(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= MAX_VALUE else f"{value[: MAX_VALUE - 1]}…"
    if isinstance(value, dict | list):
        text = json.dumps(value, ensure_ascii=False, default=str)
        return value if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"
    return str(value)
