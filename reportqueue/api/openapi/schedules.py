"""The calls of schedules."""

from __future__ import annotations

from reportqueue import bounds
from reportqueue import schedules as work
from reportqueue.api.filters import ScheduleFilter
from reportqueue.api.openapi import answers as forms
from reportqueue.api.openapi import examples
from reportqueue.api.openapi.agenda import Agenda
from reportqueue.api.openapi.operations import (
    CONDITIONAL,
    DELETED,
    ETAG,
    IF_MATCH,
    IF_NONE_MATCH,
    NOT_MODIFIED,
    PAGES,
    Answer,
    Operation,
    Operations,
    Parameter,
    page_of,
)
from reportqueue.api.openapi.parameters import of_filters
from reportqueue.api.serializers import queue as rows
from reportqueue.api.serializers import schedules as shapes
from reportqueue.api.views import schedules

FILTERS = {
    "report_id": "The report's number.",
    "report": "A number, or the name in the catalogue. A name that no report has is refused.",
    "modifier_id": "The modifier's number.",
    "enabled": "`true` or `false`.",
}
NEW = {"report_id": 3, "modifier_id": 17, "cron": "0 8 * * MON", "timezone": "Europe/Paris"}
SCHEDULE = Answer("The schedule.", (shapes.ScheduleSerializer,), examples.SCHEDULE, (ETAG,))
FIRINGS = Answer(
    "The next firings; none if the schedule has none left.",
    (forms.Preview,),
    {"words": "At 08:00, only on Monday", "note": "", "occurrences": [examples.OCCURRENCE], "complete": True},
)
OPERATIONS: Operations = {
    schedules.SchedulesView: {
        "GET": Operation(
            name="list_schedules",
            tag="Schedules",
            summary="List schedules",
            parameters=(*of_filters(ScheduleFilter, FILTERS), *PAGES),
            answers={200: page_of("schedules", examples.SCHEDULE, "A page, by id.", forms.SchedulePage)},
        ),
        "POST": Operation(
            name="add_schedule",
            tag="Schedules",
            summary="Add a schedule",
            text="It has either `cron` or `interval_seconds`. It fires from now on.",
            bodies=(shapes.ScheduleSerializer,),
            examples={"by an expression": NEW, "by an interval": {**NEW, "cron": "", "interval_seconds": 3600}},
            answers={201: SCHEDULE},
        ),
    },
    schedules.ScheduleView: {
        "GET": Operation(
            name="get_schedule",
            tag="Schedules",
            summary="Read a schedule",
            text="A change of `next_run_at` does not change the `ETag`.",
            parameters=(IF_NONE_MATCH,),
            answers={200: SCHEDULE, 304: NOT_MODIFIED},
        ),
        "PATCH": Operation(
            name="change_schedule",
            tag="Schedules",
            summary="Change a schedule",
            text=(
                "Only the fields that the body names are changed. A change of the timing counts from now. To change "
                "from an expression to an interval or back, send both fields."
            ),
            bodies=(shapes.ScheduleSerializer,),
            examples={"another hour": {"cron": "0 9 * * MON"}},
            parameters=(IF_MATCH,),
            answers={200: SCHEDULE},
            refusals=(CONDITIONAL,),
        ),
        "DELETE": Operation(
            name="delete_schedule",
            tag="Schedules",
            summary="Delete a schedule",
            text=(
                "The rows that it has enqueued stay, without its id. If there are very many finished ones, some are "
                "detached and the answer is 503 `history-left`: repeat the call."
            ),
            parameters=(IF_MATCH,),
            answers={204: DELETED},
            refusals=(CONDITIONAL, "history-left"),
        ),
    },
    schedules.PauseView: {
        "POST": Operation(
            name="pause_schedule",
            tag="Schedules",
            summary="Pause a schedule",
            text="A paused schedule is not changed.",
            bodies=(shapes.PauseBody,),
            examples={"with a note": {"note": "Stocktaking"}},
            parameters=(IF_MATCH,),
            answers={200: Answer("The schedule.", (shapes.ScheduleSerializer,), examples.PAUSED, (ETAG,))},
            refusals=(CONDITIONAL,),
        ),
    },
    schedules.ResumeView: {
        "POST": Operation(
            name="resume_schedule",
            tag="Schedules",
            summary="Resume a schedule",
            text="It fires from now on; nothing that it has missed is made up for.",
            bodies=(rows.Body,),
            examples={"nothing": {}},
            parameters=(IF_MATCH,),
            answers={200: SCHEDULE},
            refusals=(CONDITIONAL,),
        ),
    },
    schedules.RunView: {
        "POST": Operation(
            name="run_schedule",
            tag="Schedules",
            summary="Queue a schedule's report now",
            text="Beside the planned firings; also for a paused schedule. Each call queues one more row.",
            bodies=(rows.Body,),
            examples={"nothing": {}},
            answers={201: Answer("The row.", (rows.ItemSerializer,), examples.ROW | {"schedule_id": 12})},
        ),
    },
    schedules.BackfillView: {
        "POST": Operation(
            name="backfill_schedule",
            tag="Schedules",
            summary="Queue a schedule's firings of a past time range",
            text=(
                "Both instants included, not in the future, at most 1,000 firings. **`dry_run` is true by default**: "
                "the call only counts. Firings that have a row already are not queued again."
            ),
            bodies=(shapes.BackfillBody,),
            examples={"a week": {"start": "2026-11-16T00:00:00Z", "end": "2026-11-22T23:59:59Z", "dry_run": False}},
            answers={
                200: Answer(
                    "What was queued, or would be.",
                    (forms.Backfilled,),
                    {
                        "count": 1,
                        "already_queued": 0,
                        "enqueued": 1,
                        "first": "2026-11-16T07:00:00Z",
                        "last": "2026-11-16T07:00:00Z",
                        "dry_run": False,
                    },
                )
            },
        ),
    },
    schedules.NewPreviewView: {
        "POST": Operation(
            name="preview_new_schedule",
            tag="Schedules",
            summary="Show the next firings of a schedule that is not saved",
            text="A schedule that `POST schedules/` would refuse is refused.",
            bodies=(shapes.PreviewBody,),
            examples={"three firings": {**NEW, "count": 3}},
            answers={200: FIRINGS},
        ),
    },
    schedules.PreviewView: {
        "GET": Operation(
            name="preview_schedule",
            tag="Schedules",
            summary="Show a schedule's next firings",
            parameters=(
                Parameter(
                    "count",
                    {"type": "integer", "minimum": 1, "maximum": work.MAX_FORECAST, "default": shapes.FIRINGS},
                    "How many firings.",
                ),
            ),
            answers={200: FIRINGS},
        ),
    },
    schedules.AgendaView: {
        "GET": Operation(
            name="get_agenda",
            tag="Schedules",
            summary="Show what will run, hour by hour",
            text="The firings of all schedules from now on.",
            parameters=(
                Parameter(
                    "hours",
                    {"type": "integer", "minimum": 1, "maximum": work.MAX_AGENDA_HOURS, "default": 24},
                    "How many hours.",
                ),
                Parameter(
                    "report_id",
                    {"type": "integer", "format": "int64", "minimum": 0, "maximum": bounds.MAX_ID},
                    "Only the schedules of this report.",
                ),
                Parameter("zone", {"type": "string", "default": "UTC"}, "An IANA name: whose hours they are."),
            ),
            answers={
                200: Answer(
                    "The agenda.",
                    (Agenda,),
                    {
                        "start": "2026-11-23T07:12:00Z",
                        "end": "2026-11-23T08:00:00Z",
                        "zone": "UTC",
                        "firings": 0,
                        "work_minutes": 0.0,
                        "unmeasured": 0,
                        "measured": True,
                        "schedules": 1,
                        "hours": [
                            {
                                "start": "2026-11-23T07:12:00Z",
                                "end": "2026-11-23T08:00:00Z",
                                "local": "2026-11-23T07:12:00+00:00",
                                "firings": 0,
                                "schedules": 0,
                                "work_minutes": 0.0,
                                "unmeasured": 0,
                                "skipped": 0,
                                "moved_away": 0,
                                "moved_here": 0,
                                "closures": [],
                                "busiest_minute": None,
                            }
                        ],
                        "busiest_minutes": [],
                        "clock_changes": [],
                        "left_out": {"count": 0, "named": []},
                        "disabled": {"count": 0, "named": []},
                        "paused": [],
                    },
                )
            },
        ),
    },
}
