"""The verbs of schedules: list, add, change, pause, resume, run now, delete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dagster_reportqueue.client.parsing import as_json, fields_of, given, pages, parsed, storable
from dagster_reportqueue.client.rows import QueueRow
from dagster_reportqueue.client.transport import Transport


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule, with every field of the API. Instants are aware UTC."""

    schedule_id: int
    report_id: int
    modifier_id: int
    cron: str
    """Empty for a schedule by an interval."""
    interval_seconds: int | None
    timezone: str
    words: str
    """The timing in English."""
    start_at: datetime | None
    end_at: datetime | None
    calendar_id: int | None
    blackout: str
    enabled: bool
    paused_at: datetime | None
    paused_by: str
    pause_note: str
    catch_up: str
    catch_up_window_seconds: int
    catch_up_limit: int
    overlap: str
    jitter_seconds: int
    unique: bool
    priority: int
    max_attempts: int
    params: Mapping[str, Any] = field(repr=False)  # params may be confidential: never log them
    next_run_at: datetime | None
    error: str
    """Why the scheduler has disabled it; mostly empty."""
    version: int
    """It changes with each edit."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Schedule:
        """Parse the API's JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        return cls(**fields_of(cls, data))


class Scheduling(Transport):
    """A call that names the schedule's `version` is refused with 412 if somebody has changed the schedule since.

    Calls that would do something else if they were repeated are sent once: after `ApiUnreachable`, look whether they
    were done before you repeat them. They are `add_schedule`, `run_schedule`, `delete_schedule`, and every call with a
    `version`.
    """

    def schedules(
        self, *, report: int | str | None = None, modifier_id: int | None = None, enabled: bool | None = None
    ) -> Iterator[Schedule]:
        """The schedules that match, by id, read page by page; `report` is a number, or a name in the catalogue.

        Needs the permission to view schedules.
        """
        chosen = {
            "report": report,
            "modifier_id": modifier_id,
            "enabled": None if enabled is None else str(enabled).lower(),
        }
        return pages(
            self,
            "schedules/",
            given(chosen),
            lambda page: [Schedule.parse(one) for one in page.content["schedules"]],
        )

    def schedule(self, schedule_id: int) -> Schedule:
        """One schedule. Needs the permission to view schedules."""
        answer = self.request("GET", f"schedules/{schedule_id}/")
        return parsed("a schedule", lambda: Schedule.parse(answer))

    def add_schedule(
        self,
        report_id: int,
        modifier_id: int,
        *,
        cron: str | None = None,
        interval_seconds: int | None = None,
        timezone: str | None = None,
        params: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Schedule:
        """Add a schedule by a cron expression, or by an interval. `more` are other fields of the API.

        Needs the permission to add schedules. Raises `ApiRefused` for wrong values, naming them.
        """
        fields = {
            "report_id": report_id,
            "modifier_id": modifier_id,
            "cron": cron,
            "interval_seconds": interval_seconds,
            "timezone": timezone,
            "params": params,
        }
        answer = self.post("schedules/", as_json({**given(fields), **more}), once=True)
        return parsed("a schedule", lambda: Schedule.parse(answer))

    def change_schedule(self, schedule_id: int, changes: Mapping[str, Any], *, version: int | None = None) -> Schedule:
        """Change the fields that `changes` names; None empties one. A change of the timing counts from now.

        Needs the permission to change schedules. Raises `ApiRefused` for wrong values, naming them, and if it has
        another `version`.
        """
        return self._changed("PATCH", f"schedules/{schedule_id}/", changes, version)

    def pause_schedule(self, schedule_id: int, *, note: str = "", version: int | None = None) -> Schedule:
        """Pause it; a paused one is not changed. Needs the permission to change schedules."""
        return self._changed("POST", f"schedules/{schedule_id}/pause/", {"note": storable(note)}, version)

    def resume_schedule(self, schedule_id: int, *, version: int | None = None) -> Schedule:
        """Let it fire again, from now on. Needs the permission to change schedules."""
        return self._changed("POST", f"schedules/{schedule_id}/resume/", {}, version)

    def run_schedule(self, schedule_id: int) -> QueueRow:
        """Queue its report now, beside its planned firings; returns the row. Needs the permission to add rows."""
        answer = self.post(f"schedules/{schedule_id}/run/", {}, once=True)
        return parsed("a row", lambda: QueueRow.parse(answer))

    def delete_schedule(self, schedule_id: int, *, version: int | None = None) -> None:
        """Delete it; the rows that it has enqueued stay. Needs the permission to delete schedules.

        If very many finished rows belong to it, this raises `ApiUnreachable`, whose text says so: call it again.
        """
        self.answer("DELETE", f"schedules/{schedule_id}/", headers=_if_match(version), once=True)

    def _changed(self, method: str, path: str, body: Mapping[str, Any], version: int | None) -> Schedule:
        answer = self.post(path, as_json(body), method=method, headers=_if_match(version), once=version is not None)
        return parsed("a schedule", lambda: Schedule.parse(answer))


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}
