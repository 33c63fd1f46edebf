"""The admin's operations on schedules: pause, resume and run now, for one or many, each logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import queue, schedules
from reportqueue.admin import actions as shared
from reportqueue.admin.actions import ActionsAdmin
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Source

PAUSE, RESUME, RUN = "pause", "resume", "run"
LABELS = {PAUSE: _("Pause"), RESUME: _("Resume"), RUN: _("Run now")}
LOGGED = {PAUSE: "Paused in the admin", RESUME: "Resumed in the admin", RUN: "Report queued by hand in the admin"}
"""Stored in the log: not translated."""


@dataclass
class Done:
    """What came of one operation on several schedules."""

    count: int = 0
    same: int = 0
    """Schedules that were paused or enabled already; they are not changed."""
    row: ReportQueue | None = None
    """The last row that was queued."""


class SwitchableAdmin(ActionsAdmin):
    """The operations on schedules."""

    actions = ["pause_selected", "resume_selected", "run_selected"]
    operations = tuple(LABELS)

    def may(self, request: HttpRequest, name: str) -> bool:
        """Pause and resume are changes of the schedule; a run adds to the queue."""
        return self.has_enqueue_permission(request) if name == RUN else self.has_change_permission(request)

    def has_enqueue_permission(self, request: HttpRequest) -> bool:
        """The permission for operations that queue reports."""
        return request.user.has_perm("reportqueue.add_reportqueue")

    @admin.action(description=_("Pause the selected schedules"), permissions=["change"])
    def pause_selected(self, request: HttpRequest, selected: QuerySet[ReportSchedule]) -> None:
        """They do not fire until they are resumed, and show who paused them and why. Queued reports stay queued."""
        self._operate_on_selected(request, selected, PAUSE)

    @admin.action(description=_("Resume the selected schedules"), permissions=["change"])
    def resume_selected(self, request: HttpRequest, selected: QuerySet[ReportSchedule]) -> None:
        """They fire from now on. Firings that passed while they were paused are not queued."""
        self._operate_on_selected(request, selected, RESUME)

    @admin.action(description=_("Queue the selected schedules' reports now"), permissions=["enqueue"])
    def run_selected(self, request: HttpRequest, selected: QuerySet[ReportSchedule]) -> None:
        """Queue one report of each, also of paused ones. Their planned firings stay as they are."""
        self._operate_on_selected(request, selected, RUN)

    def buttons_for(self, request: HttpRequest, schedule: ReportSchedule) -> list[tuple[Any, str]]:
        """The operations that this person may do to this schedule now: each label with its URL."""
        verbs = [PAUSE if schedule.enabled else RESUME, RUN]
        return [(LABELS[verb], self.address(verb, schedule.pk)) for verb in verbs if self.may(request, verb)]

    def _operate_on_selected(self, request: HttpRequest, selected: QuerySet[ReportSchedule], verb: str) -> None:
        pks = self.selected_pks(request, selected, shared.MAX_AT_ONCE + 1)
        if len(pks) <= shared.MAX_AT_ONCE:
            self.operate(request, pks, verb)
            return
        text = gettext("More than %(max)s schedules are selected, as many as can be done at once. Nothing was changed.")
        self.message_user(request, text % {"max": f"{shared.MAX_AT_ONCE:,}"}, messages.ERROR)

    def operate(self, request: HttpRequest, pks: Sequence[int], name: str) -> None:
        """Each schedule in its own transaction together with its log entry."""
        done = Done()
        refused = self.for_each(request, pks, lambda pk: self._operate_on_one(request, pk, name, done))
        self._say_what_was_done(request, name, done, refused)

    def _operate_on_one(self, request: HttpRequest, pk: int, verb: str, done: Done) -> None:
        note = shared.reason_of(request)
        if verb == RUN:
            done.row = schedules.run_now(pk, source=Source.ADMIN)
            schedule = ReportSchedule.objects.get(pk=pk)
        else:
            # Locked first: if two people pause it at once, the second note must not replace the first.
            enabled = ReportSchedule.objects.select_for_update().filter(pk=pk).values_list("enabled", flat=True).first()
            if enabled == (verb == RESUME):
                done.same += 1
                return
            if verb == RESUME:
                schedule = schedules.resume(pk)
            else:
                schedule = schedules.pause(pk, by=request.user.get_username(), note=note)
        self.log_change(request, schedule, LOGGED[verb] + (f": {note}" if note else ""))
        done.count += 1

    def _say_what_was_done(self, request: HttpRequest, verb: str, done: Done, refused: dict[str, list[int]]) -> None:
        count = done.count
        if count and verb == PAUSE:
            self.say(request, ngettext("%(count)s schedule paused.", "%(count)s schedules paused.", count), count)
        elif count and verb == RESUME:
            self.say(request, ngettext("%(count)s schedule resumed.", "%(count)s schedules resumed.", count), count)
        elif count:
            text = ngettext("%(count)s report queued.", "%(count)s reports queued.", count) % {"count": f"{count:,}"}
            if count == 1 and done.row is not None:
                text = format_html("{} {}", text, self._about_row(request, done.row))
            self.message_user(request, text, messages.SUCCESS)
        if done.same:
            text = ngettext("%(count)s was in that state already.", "%(count)s were in that state already.", done.same)
            self.say(request, text, done.same, messages.INFO)
        if refused:
            count = sum(map(len, refused.values()))
            text = ngettext("%(count)s schedule refused: %(why)s", "%(count)s schedules refused: %(why)s", count)
            self.say(request, text, count, messages.WARNING, why=shared.why_refused(refused))

    def _about_row(self, request: HttpRequest, row: ReportQueue) -> str:
        """The row's number, as a link for people who may see it; and the report for which it waits."""
        number = f"#{row.pk}"
        if sees_queue(request):
            page = reverse("admin:reportqueue_reportqueue_change", args=[row.pk], current_app=self.admin_site.name)
            number = format_html('<a href="{}">{}</a>', page, number)
        if (turn := queue.turn_before(row)) is None:
            return number
        waits = gettext("waits until #%(id)s has ended") % {"id": turn}
        return format_html("{}, {}", number, waits)


def sees_queue(request: HttpRequest) -> bool:
    """Whether this person may see the queue's rows."""
    return request.user.has_perm("reportqueue.view_reportqueue")
