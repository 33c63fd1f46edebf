"""Turn a periodic task into an unsaved schedule, or say why that is impossible."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

import reportcron
from reportqueue import bounds
from reportqueue.celery_beat import crontabs
from reportqueue.celery_beat.firings import CrontabRule, IntervalRule, Outlook, Rule, whole_second
from reportqueue.celery_beat.tables import BeatCrontab, BeatInterval, BeatTask
from reportqueue.models import ReportSchedule
from reportqueue.timing.policies import CatchUp

PAUSED_BY = "import_schedules"
_SECONDS = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
_TICK = timedelta(microseconds=1)


class NotImportable(ValueError):
    """The task cannot become a schedule; `str()` says why, and what to do instead."""


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Where a schedule's report and modifier come from: a fixed id, or else a keyword argument of the task."""

    report_id: int | None = None
    report_kwarg: str = "report_id"
    modifier_id: int | None = None
    modifier_kwarg: str = "modifier_id"
    args_as: tuple[str, ...] = ()
    """The names of the positional arguments, which become keyword arguments."""


@dataclass(frozen=True)
class Draft:
    """A task and its schedule, which is valid and not saved."""

    task: BeatTask
    schedule: ReportSchedule
    rule: Rule
    outlook: Outlook
    now: datetime
    """The instant, a whole second, after which the firings of both are computed."""

    @classmethod
    def of(cls, task: BeatTask, mapping: Mapping, *, now: datetime, paused: bool) -> Draft:
        """The draft of a task. Raises `NotImportable`."""
        now = whole_second(now)
        _refuse_strange_times(task)
        _refuse_what_ends(task, now)
        rule = _rule(task)
        outlook = Outlook.of(task, rule, now)
        schedule = ReportSchedule(
            **_content(task, mapping),
            **_timing(task, rule, outlook),
            # Beat fires once for all that it has missed.
            catch_up=CatchUp.LAST,
            enabled=task.enabled and not paused,
        )
        if not schedule.enabled:
            schedule.paused_by = PAUSED_BY
            schedule.pause_note = (
                f"Imported from the periodic task {task.name!r}, which beat still fired then: disable that first."
                if task.enabled
                else f"Imported from the periodic task {task.name!r}, which was disabled."
            )
        try:
            schedule.full_clean(validate_unique=False, validate_constraints=False)
        except ValidationError as error:
            raise NotImportable(in_words(error)) from None
        return cls(task, schedule, rule, outlook, now)


def in_words(error: ValidationError) -> str:
    """A model's errors on one line, each with its field."""
    return " ".join(
        " ".join(messages) if field == NON_FIELD_ERRORS else f"{field}: {' '.join(messages)}"
        for field, messages in error.message_dict.items()
    )


def _refuse_strange_times(task: BeatTask) -> None:
    for name in ("start_time", "last_run_at", "date_changed"):
        if (value := getattr(task, name)) is not None:
            try:
                bounds.validate_instant(value)
            except ValidationError as error:
                raise NotImportable(f"{name}: {' '.join(error.messages)}") from None


def _refuse_what_ends(task: BeatTask, now: datetime) -> None:
    if task.one_off:
        # After it has run, beat disables it and forgets that it ran.
        if task.enabled and not task.total_run_count and not task.last_run_at:
            raise NotImportable(
                "a one-off that has not run yet: enqueue the report with its trigger_time instead of a schedule"
            )
        raise NotImportable("a one-off that has run, or is disabled: nothing is left of it to fire")
    if task.expires is not None and task.expires <= now:
        raise NotImportable(f"it expired at {whole_second(task.expires):%Y-%m-%d %H:%M:%SZ}")


def _rule(task: BeatTask) -> Rule:
    # In beat's order, if a task has two by mistake.
    if task.interval is not None:
        return _interval(task.interval)
    if task.crontab is not None:
        return _crontab(task.crontab)
    if task.other == "solar":
        raise NotImportable("a solar schedule: there is no counterpart; give it a cron expression close to it")
    if task.other == "clocked":
        raise NotImportable("a clocked schedule fires once: enqueue the report with its trigger_time instead")
    raise NotImportable("it has neither an interval nor a crontab")


def _interval(interval: BeatInterval) -> IntervalRule:
    shown = f"an interval of {interval.every} {interval.period}"
    seconds = interval.every * _SECONDS.get(interval.period, 0)
    if interval.period == "microseconds":
        seconds, fraction = divmod(interval.every, 1_000_000)
        if fraction:
            raise NotImportable(f"{shown} is not a whole number of seconds")
    elif interval.period not in _SECONDS:
        raise NotImportable(f"its interval is in {interval.period!r}, a unit that is not known")
    if seconds < bounds.MIN_INTERVAL_SECONDS:
        raise NotImportable(f"{shown} is shorter than {bounds.MIN_INTERVAL_SECONDS} seconds, the shortest here")
    if seconds > bounds.MAX_INTERVAL_SECONDS:
        raise NotImportable(f"{shown} is longer than {bounds.MAX_INTERVAL_SECONDS // 86_400} days, the longest here")
    return IntervalRule(timedelta(seconds=seconds))


def _crontab(crontab: BeatCrontab) -> CrontabRule:
    try:
        parsed = crontabs.parse(crontab)
        reportcron.validate("@daily", crontab.timezone)
    except crontabs.Unreadable as error:
        raise NotImportable(f"{error}: beat may pass over it") from None
    except reportcron.UnknownTimezone as error:
        raise NotImportable(f"timezone: {error}") from None
    if not parsed.expression:
        days, weekdays = crontab.fields[2], crontab.fields[4]
        raise NotImportable(
            f"day_of_month {days!r} and day_of_week {weekdays!r} must both match in celery, and a cron expression can "
            "require that only with day 1 or with Sunday: make a schedule with one of the two, and let a blackout "
            "calendar close the other days"
        )
    return CrontabRule(parsed, crontab.timezone)


def _timing(task: BeatTask, rule: Rule, outlook: Outlook) -> dict[str, Any]:
    timing: dict[str, Any] = {"start_at": task.start_time}
    if isinstance(rule, IntervalRule):
        # What it counts from: the run that beat counts from, unless that comes with the start.
        start = task.start_time and whole_second(task.start_time)
        from_start = start and (task.last_run_at is None or outlook.late == start)
        timing["start_at"] = start if from_start else outlook.last
        timing["interval_seconds"] = int(rule.length.total_seconds())
    else:
        timing |= {"cron": rule.crontab.expression, "timezone": rule.timezone}
    if task.expires is not None and task.expires < bounds.LATEST:
        # Beat does not fire at that instant itself; what fires here does so at whole seconds.
        timing["end_at"] = whole_second(task.expires - _TICK)
    return timing


def _content(task: BeatTask, mapping: Mapping) -> dict[str, Any]:
    kwargs = _arguments(task, mapping.args_as)
    report_id = _id(kwargs, mapping.report_id, mapping.report_kwarg, "report")
    modifier_id = _id(kwargs, mapping.modifier_id, mapping.modifier_kwarg, "modifier")
    taken = {mapping.report_kwarg} if mapping.report_id is None else set()
    taken |= {mapping.modifier_kwarg} if mapping.modifier_id is None else set()
    params = {name: value for name, value in kwargs.items() if name not in taken}
    return {"report_id": report_id, "modifier_id": modifier_id, "params": params}


def _arguments(task: BeatTask, names: tuple[str, ...]) -> dict[str, Any]:
    args, kwargs = _json(task.args or "[]", "args"), _json(task.kwargs or "{}", "kwargs")
    if not isinstance(args, list):
        raise NotImportable("its args are not a JSON array")
    if not isinstance(kwargs, dict):
        raise NotImportable("its kwargs are not a JSON object")
    if args and not names:
        raise NotImportable(f"its {len(args)} positional arguments have no names: give them with --args-as NAME,NAME")
    if len(args) > len(names):
        raise NotImportable(f"it has {len(args)} positional arguments, and --args-as names {len(names)}")
    named = dict(zip(names, args, strict=False))
    if twice := sorted(named.keys() & kwargs.keys()):
        raise NotImportable(f"{', '.join(twice)}: given in its args, by --args-as, and in its kwargs too")
    return named | kwargs


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise NotImportable(f"its {name} are not JSON: beat does not fire it") from None


def _id(kwargs: dict[str, Any], given: int | None, name: str, kind: str) -> int:
    if given is not None:
        return given
    if name not in kwargs:
        raise NotImportable(f"it has no keyword argument {name!r}: see --{kind}-id and --{kind}-kwarg")
    value = kwargs[name]
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise NotImportable(f"its keyword argument {name!r} is not a whole number")
    return value
