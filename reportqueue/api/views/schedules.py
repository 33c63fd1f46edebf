"""The endpoints of schedules: each parses the request, calls the model or a function of `schedules`, and answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

import reportcron
from reportqueue import bounds, locks, schedules
from reportqueue.api import filters, pagination, preconditions
from reportqueue.api.base import ApiView
from reportqueue.api.serializers import schedules as shapes
from reportqueue.api.serializers.agenda import agenda_shown
from reportqueue.api.serializers.queue import Body, all_shown, item, shown
from reportqueue.clock import database_now
from reportqueue.errors import HistoryLeft
from reportqueue.models import ReportSchedule
from reportqueue.models.schedule import DETACH_SECONDS
from reportqueue.row_filters import InstantField
from reportqueue.states import Source


class _SchedulesView(ApiView):
    """The base of the endpoints of schedules."""

    def handle_exception(self, exc: Exception) -> Response:
        """As DRF does, with the model's field `calendar` under its name in the API, `calendar_id`."""
        if isinstance(exc, ValidationError) and "calendar" in getattr(exc, "error_dict", {}):
            found = exc.message_dict
            exc = ValidationError({"calendar_id": found.pop("calendar"), **found})
        return super().handle_exception(exc)


class SchedulesView(_SchedulesView):
    """`schedules/`: list and add schedules."""

    scopes = {"GET": "view_reportschedule", "POST": "add_reportschedule"}
    parameters = filters.SCHEDULE_PARAMETERS

    def get(self, request: Request) -> Response:
        """A page, by id."""
        page = filters.schedule_page(request)
        return Response(page.answer("schedules", all_shown(shapes.ScheduleSerializer, page.rows)))

    def post(self, request: Request) -> Response:
        """201 with the schedule and its first firing."""
        form = shapes.ScheduleSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return _answer(form.save_as(request.user.get_username()), status=201)


class ScheduleView(_SchedulesView):
    """`schedules/{id}/`: one schedule."""

    scopes = {
        "GET": "view_reportschedule",
        "PATCH": "change_reportschedule",
        "DELETE": "delete_reportschedule",
    }

    def get(self, request: Request, pk: int) -> Response:
        """The schedule; 304 if the caller has this version already."""
        schedule = get_object_or_404(ReportSchedule, pk=pk)
        tag = preconditions.tag_of(schedule)
        return preconditions.not_modified(tag) if preconditions.is_known(request, tag) else _answer(schedule)

    def patch(self, request: Request, pk: int) -> Response:
        """The schedule as changed; a change of its timing counts from now."""
        with _matching(request, pk) as schedule:
            form = shapes.ScheduleSerializer(schedule, data=request.data, partial=True)
            form.is_valid(raise_exception=True)
            return _answer(form.save_as(request.user.get_username()))

    def delete(self, request: Request, pk: int) -> Response:
        """204; rows that it has enqueued stay. 503 while many finished rows are still detached from it."""
        with _matching(request, pk):
            pass  # a call that is refused detaches nothing
        if not ReportSchedule.objects.filter(pk=pk).detach_history(seconds=DETACH_SECONDS):
            raise HistoryLeft
        with _matching(request, pk) as schedule:
            schedule.delete()
        return Response(status=204)


class PauseView(_SchedulesView):
    """`schedules/{id}/pause/`: the schedule does not fire until it is resumed."""

    scopes = {"POST": "change_reportschedule"}

    def post(self, request: Request, pk: int) -> Response:
        """The schedule, paused by the caller, or unchanged if it was paused already."""
        asked = self.body(request, shapes.PauseBody)
        with _matching(request, pk):
            return _answer(schedules.pause(pk, by=request.user.get_username(), **asked))


class ResumeView(_SchedulesView):
    """`schedules/{id}/resume/`: the schedule fires again, from now on."""

    scopes = {"POST": "change_reportschedule"}

    def post(self, request: Request, pk: int) -> Response:
        """The schedule with its next firing."""
        self.body(request, Body)
        with _matching(request, pk):
            return _answer(schedules.resume(pk))


class RunView(_SchedulesView):
    """`schedules/{id}/run/`: queue the schedule's report now; its planned firings stay."""

    scopes = {"POST": "add_reportqueue"}

    def post(self, request: Request, pk: int) -> Response:
        """201 with the row."""
        self.body(request, Body)
        return Response(item(schedules.run_now(pk, source=Source.API)), status=201)


class BackfillView(_SchedulesView):
    """`schedules/{id}/backfill/`: queue the schedule's firings of a past time range."""

    scopes = {"POST": ("add_reportqueue", "view_reportschedule")}

    def post(self, request: Request, pk: int) -> Response:
        """The counts of what was queued, or would be: `dry_run` is true by default."""
        asked = self.body(request, shapes.BackfillBody)
        done = schedules.backfill(pk, **asked)
        ends = [InstantField().to_representation(instant) for instant in (done.instants[:1] + done.instants[-1:])]
        first, last = ends or (None, None)
        return Response(
            {
                "count": len(done.instants),
                "already_queued": done.known,
                "enqueued": done.enqueued,
                "first": first,
                "last": last,
                "dry_run": asked["dry_run"],
            }
        )


class NewPreviewView(_SchedulesView):
    """`schedules/preview/`: the next firings of a schedule that is not saved."""

    scopes = {"POST": "view_reportschedule"}

    def post(self, request: Request) -> Response:
        """Its next firings. An invalid schedule is refused as if it were to be saved."""
        form = shapes.PreviewBody(data=request.data)
        form.is_valid(raise_exception=True)
        return _preview(*form.unsaved())


class PreviewView(_SchedulesView):
    """`schedules/{id}/preview/`: the next firings of a schedule."""

    scopes = {"GET": "view_reportschedule"}
    parameters = ["count"]

    def get(self, request: Request, pk: int) -> Response:
        """Its next firings."""
        count = pagination.whole_number(request, "count", default=shapes.FIRINGS, most=schedules.MAX_FORECAST)
        return _preview(get_object_or_404(ReportSchedule, pk=pk), count)


class AgendaView(_SchedulesView):
    """`schedules/agenda/`: what all schedules fire, hour by hour."""

    scopes = {"GET": "view_reportschedule"}
    parameters = ["hours", "report_id", "zone"]

    def get(self, request: Request) -> Response:
        """The hours from now on. Raises `ValidationError` naming the parameter."""
        hours = pagination.whole_number(request, "hours", default=24, most=schedules.MAX_AGENDA_HOURS)
        zone = request.query_params.get("zone", "UTC")
        wanted = ReportSchedule.objects.all()
        if (report := request.query_params.get("report_id")) is not None:
            if (report_id := bounds.as_id(report)) is None:
                raise ValidationError({"report_id": f"Must be a whole number from 0 to {bounds.MAX_ID}."})
            wanted = wanted.filter(report_id=report_id)
        try:
            found = schedules.agenda(database_now(), hours, zone, schedules=wanted)
        except reportcron.UnknownTimezone as error:
            raise ValidationError({"zone": str(error)}) from None
        return Response(agenda_shown(found))


@contextmanager
def _matching(request: Request, pk: int) -> Iterator[ReportSchedule]:
    """The schedule, locked, at the version of the request's `If-Match`. Raises `Http404`, `PreconditionFailed`."""
    with locks.bounded():
        schedule = get_object_or_404(ReportSchedule.objects.select_for_update(), pk=pk)
        preconditions.require_match(request, schedule)
        yield schedule


def _answer(schedule: ReportSchedule, status: int = 200) -> Response:
    headers = {"ETag": preconditions.tag_of(schedule)}
    return Response(shown(shapes.ScheduleSerializer, schedule), status=status, headers=headers)


def _preview(schedule: ReportSchedule, count: int) -> Response:
    try:
        found = schedules.forecast(schedule, count)
        said = {"words": schedule.in_words, "note": schedule.day_note}
    except reportcron.CronError as error:
        raise ValidationError({error.field: str(error)}) from None
    occurrences = all_shown(shapes.ForecastSerializer, found.instants)
    return Response({**said, "occurrences": occurrences, "complete": found.complete})
