"""Alert rules in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path
from django.utils.html import format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue import outbox
from reportqueue.admin import formats, search
from reportqueue.admin.changelists import ListAdmin
from reportqueue.admin.filters import EnabledFilter, ProblemFilter
from reportqueue.errors import AlertRuleNotFound, DeliveryRefused
from reportqueue.models import AlertRule
from reportqueue.models.audit import Kind

SHOWN = 20


class UnsentFilter(ProblemFilter):
    """Whether a rule's last message did not reach all of its recipients."""

    field = "problem"


@admin.register(AlertRule)
class AlertRuleAdmin(ListAdmin):
    """The alert rules: when a message is sent, and to whom."""

    list_display = ["name", "enabled", "condition", "recipients", "state"]
    list_filter = [EnabledFilter, UnsentFilter]
    audited = Kind.ALERT
    find = search.find_by_name
    search_fields = ["name"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _("A part of the name.")
    sortable_by = ()
    readonly_fields = ["state", "lasting"]

    def get_fieldsets(self, request: HttpRequest, obj: AlertRule | None = None) -> Any:
        """The form; of one that is there also what it has found."""
        sets: list[Any] = [
            (None, {"fields": ["name", "enabled", "condition", "in_a_row", "waited_seconds", "report_ids"]}),
            (_("Whom it tells"), {"fields": ["emails", "channels", "quiet_seconds"]}),
        ]
        return sets if obj is None else [*sets, (_("How it goes"), {"fields": self.readonly_fields})]

    def get_urls(self) -> list[Any]:
        """Django's, and the address of the button."""
        view = self.admin_site.admin_view(self.test_view)
        return [path("<int:pk>/test/", view, name="reportqueue_alertrule_test"), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """With the button for who may change it."""
        one = kwargs.get("obj")
        if one is not None and one.enabled and self.has_change_permission(request, one):
            context["buttons"] = [(gettext("Send a test message"), self.address("test", one.pk))]
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: AlertRule, form: Any, change: bool) -> None:
        """Save what was edited: the scheduler writes the rest."""
        if change:
            obj.save(update_fields=form.changed_data or ["name"])
        else:
            super().save_model(request, obj, form, change)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Delete the rules one by one: each deletion finds out which events the other rules still need."""
        for one in queryset:
            one.delete()

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """POST: have a test message sent."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_change_permission(request):
            raise PermissionDenied
        try:
            with self.bounded():
                outbox.request_test(pk)
        except AlertRuleNotFound:
            raise Http404 from None
        except DeliveryRefused as error:
            messages.error(request, str(error))
        else:
            text = gettext("The scheduler sends a test message within seconds. If it cannot, this page says why.")
            messages.success(request, text)
        return HttpResponseRedirect(self.address("change", pk))

    @admin.display(description=_("recipients"))
    def recipients(self, rule: AlertRule) -> str:
        """The addresses and channels."""
        return format_html_join(
            "", '<span class="rq-line">{}</span>', ((one,) for one in [*rule.emails, *rule.channels])
        )

    @admin.display(description=_("state"))
    def state(self, rule: AlertRule) -> str:
        """When it last sent a message, and why it could not."""
        sent = gettext("last message at %(at)s") % {"at": formats.instant_text(rule.sent_at)} if rule.sent_at else ""
        return formats.two_lines(rule.problem or sent or gettext("no message yet"), sent if rule.problem else "")

    @admin.display(description=_("what lasts"))
    def lasting(self, rule: AlertRule) -> str:
        """What it has found and is not over."""
        found = rule.alerts.filter(over_at=None).order_by(F("id").desc())[:SHOWN]
        lines = [(formats.sentence(one.line), formats.instant_text(one.since)) for one in found]
        shown = format_html_join("", '<span class="rq-line">{}, {}</span>', lines)
        return shown or formats.EMPTY
