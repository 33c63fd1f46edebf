"""The form of an agenda: `serializers/agenda.py` puts it together."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from reportqueue.row_filters import InstantField


class _Minute(serializers.Serializer[Any]):
    instant = InstantField()
    local = serializers.CharField(help_text="The instant by the clock of the zone, with its offset.")
    firings = serializers.IntegerField()


class AgendaMinute(_Minute):
    """The minute with the most firings of its hour."""


class AgendaEntry(serializers.Serializer[Any]):
    """A schedule that is named."""

    schedule_id = serializers.IntegerField()
    report_id = serializers.IntegerField()
    modifier_id = serializers.IntegerField()


class AgendaLeftOutEntry(AgendaEntry):
    """A schedule that is in no number."""

    why = serializers.ChoiceField(["schedules", "firings", "time", "broken"])


class AgendaBusyMinute(_Minute):
    """One of the minutes with the most firings."""

    schedules = serializers.IntegerField()
    named = AgendaEntry(many=True)


class AgendaHour(serializers.Serializer[Any]):
    """An hour of the zone's clock."""

    start = InstantField()
    end = InstantField()
    local = serializers.CharField(help_text="The start by the clock of the zone, with its offset.")
    firings = serializers.IntegerField()
    schedules = serializers.IntegerField(help_text="How many of them fire.")
    work_minutes = serializers.FloatField(help_text="Firings times typical durations.")
    unmeasured = serializers.IntegerField(help_text="Firings whose report has no typical duration.")
    skipped = serializers.IntegerField()
    moved_away = serializers.IntegerField()
    moved_here = serializers.IntegerField()
    closures = serializers.ListField(child=serializers.CharField())
    busiest_minute = AgendaMinute(allow_null=True)


class AgendaClockChange(serializers.Serializer[Any]):
    """A change of the zone's clock."""

    instant = InstantField()
    local = serializers.CharField()
    day = serializers.DateField()
    day_hours = serializers.FloatField()


class AgendaNamed(serializers.Serializer[Any]):
    """Schedules, the first of which are named."""

    count = serializers.IntegerField()
    named = AgendaEntry(many=True)


class AgendaLeftOut(serializers.Serializer[Any]):
    """Schedules that are in no number, the first of which are named."""

    count = serializers.IntegerField()
    named = AgendaLeftOutEntry(many=True)


class AgendaPause(serializers.Serializer[Any]):
    """A pause that holds firings back."""

    scope = serializers.ChoiceField(["queue", "route", "report"])
    route = serializers.CharField()
    report_id = serializers.IntegerField(allow_null=True)
    since = InstantField()


class Agenda(serializers.Serializer[Any]):
    """What will run, hour by hour."""

    start = InstantField()
    end = InstantField()
    zone = serializers.CharField()
    firings = serializers.IntegerField()
    work_minutes = serializers.FloatField()
    unmeasured = serializers.IntegerField()
    measured = serializers.BooleanField(help_text="False if the durations could not be read in time.")
    schedules = serializers.IntegerField(help_text="How many are counted, also those that do not fire in this time.")
    hours = AgendaHour(many=True)
    busiest_minutes = AgendaBusyMinute(many=True)
    clock_changes = AgendaClockChange(many=True)
    left_out = AgendaLeftOut()
    disabled = AgendaNamed()
    paused = AgendaPause(many=True)
