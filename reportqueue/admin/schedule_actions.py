"""What people do to schedules in the admin: pause, resume and run now, one or a bounded many, each logged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import locks, schedules
from reportqueue.admin.changelists import ListAdmin
from reportqueue.admin.queue_actions import BUDGET_SECONDS, MAX_AT_ONCE, ReasonedActionForm, reason_of, some
from reportqueue.admin.waiting import EACH_SECONDS
from reportqueue.errors import ReportQueueError
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.states import Source

PAUSE, RESUME, RUN = "pause", "resume", "run"
LABELS = {PAUSE: _("Pause"), RESUME: _("Resume"), RUN: _("Run now")}
LOGGED = {PAUSE: "Paused in the admin", RESUME: "Resumed in the admin", RUN: "Report queued by hand in the admin"}
"""Kept, so not translated."""


@dataclass
class Done:
    """What came of one operation on several schedules."""

    count: int = 0
    same: int = 0
    """Were so already; nothing was changed."""
    refused: dict[str, list[int]] = field(default_factory=dict)
    row: ReportQueue | None = None
    """The last row that was queued."""


class SwitchableAdmin(ListAdmin):
    """The operations as actions on many schedules, and as buttons on a schedule's own page."""

    actions = ["pause_selected", "resume_selected", "run_selected"]
    action_form = ReasonedActionForm

    def has_enqueue_permission(self, request: HttpRequest) -> bool:
        """For what queues reports."""
        return request.user.has_perm("reportqueue.add_reportqueue")

    @admin.action(description=_("Pause the selected schedules"), permissions=["change"])
    def pause_selected(self, request: HttpRequest, selected: QuerySet[ReportSchedule]) -> None:
        """They fire no more, and show who paused them and why; what is queued already stays queued."""
        self._operate_on_selected(request, selected, PAUSE)

    @admin.action(description=_("Resume the selected schedules"), permissions=["change"])
    def resume_selected(self, request: HttpRequest, selected: QuerySet[ReportSchedule]) -> None:
        """Planned from now on: what passed while they were paused is not made up for."""
        self._operate_on_selected(request, selected, RESUME)

    @admin.action(description=_("Queue the selected schedules' reports now"), permissions=["enqueue"])
    def run_selected(self, request: HttpRequest, selected: QuerySet[ReportSchedule]) -> None:
        """Once, beside the planned firings, which stay as they are; paused ones too."""
        self._operate_on_selected(request, selected, RUN)

    def get_urls(self) -> list[Any]:
        """With an address for each operation on one schedule."""
        view = self.admin_site.admin_view(self.operate_view)
        own = [
            path(f"<int:pk>/{verb}/", view, {"verb": verb}, name=f"reportqueue_reportschedule_{verb}")
            for verb in LABELS
        ]
        return [*own, *super().get_urls()]

    def operate_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        """POST: do it to one schedule, and show the schedule again."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request) or not self._may(request, verb):
            raise PermissionDenied
        self._operate(request, [pk], verb)
        return HttpResponseRedirect(self.address("change", pk))

    def buttons_for(self, request: HttpRequest, schedule: ReportSchedule) -> list[tuple[Any, str]]:
        """What this person may do to this schedule now: each label with its address."""
        verbs = [PAUSE if schedule.enabled else RESUME, RUN]
        return [(LABELS[verb], self.address(verb, schedule.pk)) for verb in verbs if self._may(request, verb)]

    def _may(self, request: HttpRequest, verb: str) -> bool:
        return self.has_enqueue_permission(request) if verb == RUN else self.has_change_permission(request)

    def _operate_on_selected(self, request: HttpRequest, selected: QuerySet[ReportSchedule], verb: str) -> None:
        pks = self.selected_pks(request, selected, MAX_AT_ONCE + 1)
        if len(pks) <= MAX_AT_ONCE:
            self._operate(request, pks, verb)
            return
        text = gettext("More than %(max)s schedules are selected, as many as can be done at once. Nothing was changed.")
        self.message_user(request, text % {"max": f"{MAX_AT_ONCE:,}"}, messages.ERROR)

    def _operate(self, request: HttpRequest, pks: Sequence[int], verb: str) -> None:
        """Each schedule in its own transaction together with its log entry; says what was done and what was not."""
        done = Done()
        began = time.monotonic()
        for place, pk in enumerate(pks):
            if place and time.monotonic() - began > BUDGET_SECONDS:
                text = gettext(
                    "Stopped after %(time)s s: the other %(count)s were not tried; repeat the action for them."
                )
                values = {"time": round(time.monotonic() - began), "count": f"{len(pks) - place:,}"}
                self.message_user(request, text % values, messages.ERROR)
                break
            try:
                with locks.bounded(EACH_SECONDS if len(pks) > 1 else None):
                    self._operate_on_one(request, pk, verb, done)
            except ReportQueueError as error:
                done.refused.setdefault(str(error), []).append(pk)
            except ValidationError as error:
                done.refused.setdefault(" ".join(error.messages), []).append(pk)
        self._tell(request, done, verb)

    def _operate_on_one(self, request: HttpRequest, pk: int, verb: str, done: Done) -> None:
        note = reason_of(request)
        if verb == RUN:
            done.row = schedules.run_now(pk, source=Source.ADMIN)
            schedule = ReportSchedule.objects.get(pk=pk)
        else:
            # Under its lock: of two people who pause it at once, the second one's note must not replace the first's.
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

    def _tell(self, request: HttpRequest, done: Done, verb: str) -> None:
        count = {"count": f"{done.count:,}"}
        if done.count and verb == PAUSE:
            text = ngettext("%(count)s schedule paused.", "%(count)s schedules paused.", done.count) % count
            self.message_user(request, text, messages.SUCCESS)
        elif done.count and verb == RESUME:
            text = ngettext("%(count)s schedule resumed.", "%(count)s schedules resumed.", done.count) % count
            self.message_user(request, text, messages.SUCCESS)
        elif done.count:
            text = ngettext("%(count)s report queued.", "%(count)s reports queued.", done.count) % count
            if done.count == 1 and done.row is not None:
                text = format_html("{} {}", text, self._about_row(request, done.row))
            self.message_user(request, text, messages.SUCCESS)
        if done.same:
            text = ngettext("%(count)s was so already.", "%(count)s were so already.", done.same)
            self.message_user(request, text % {"count": f"{done.same:,}"}, messages.INFO)
        if done.refused:
            refused = sum(map(len, done.refused.values()))
            text = ngettext("%(count)s schedule refused: %(why)s", "%(count)s schedules refused: %(why)s", refused)
            why = " ".join(f"{reason} ({some(sorted(pks))})" for reason, pks in sorted(done.refused.items()))
            self.message_user(request, text % {"count": f"{refused:,}", "why": why}, messages.WARNING)

    def _about_row(self, request: HttpRequest, row: ReportQueue) -> str:
        """The row's number, as a link for those who may follow it; and what it waits for."""
        number = f"#{row.pk}"
        if sees_queue(request):
            page = reverse("admin:reportqueue_reportqueue_change", args=[row.pk], current_app=self.admin_site.name)
            number = format_html('<a href="{}">{}</a>', page, number)
        if row.waits_for_id is None:
            return number
        waits = gettext("waits until #%(id)s has ended") % {"id": row.waits_for_id}
        return format_html("{}, {}", number, waits)


def sees_queue(request: HttpRequest) -> bool:
    """Whether this person may look at the queue's rows."""
    return request.user.has_perm("reportqueue.view_reportqueue")
