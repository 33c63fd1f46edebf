"""Webhook subscriptions in the admin. A secret is shown once, when it is made or rotated, and never again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from reportqueue import outbox
from reportqueue.admin import formats, search
from reportqueue.admin.changelists import ListAdmin
from reportqueue.admin.filters import EnabledFilter, ProblemFilter
from reportqueue.admin.shown_once import show_once
from reportqueue.errors import DeliveryRefused, SubscriptionNotFound
from reportqueue.models import WebhookSubscription
from reportqueue.models.audit import Kind
from reportqueue.models.event import SUBSCRIBABLE

if TYPE_CHECKING:
    SubscriptionModelForm = forms.ModelForm[WebhookSubscription]
else:
    SubscriptionModelForm = forms.ModelForm


class SubscriptionForm(SubscriptionModelForm):
    """Which events go where."""

    event_types = forms.MultipleChoiceField(
        label=_("Events"),
        choices=[(one.value, one.label) for one in SUBSCRIBABLE],
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = WebhookSubscription
        fields = ["url", "description", "enabled", "event_types", "report_ids"]
        widgets = {"url": forms.URLInput(attrs={"class": "vURLField"})}


class DisabledFilter(ProblemFilter):
    """Whether a subscription was disabled by its failures."""

    title = _("disabled by its failures")
    field = "disabled_reason"


@admin.register(WebhookSubscription)
class WebhookSubscriptionAdmin(ListAdmin):
    """The receivers of events."""

    form = SubscriptionForm
    list_display = ["named", "enabled", "events", "reports", "state"]
    list_filter = [EnabledFilter, DisabledFilter]
    audited = Kind.SUBSCRIBER
    find = search.find_subscriptions
    search_fields = ["description"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _("A part of the description or of the address.")
    sortable_by = ()
    readonly_fields = ["state", "rotation", "deliveries"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Those that people have made."""
        return super().get_queryset(request).filter(of_alerts=False)

    def get_fieldsets(self, request: HttpRequest, obj: WebhookSubscription | None = None) -> Any:
        """The form; of one that is there also how it does."""
        asked = (None, {"fields": ["url", "description", "enabled", "event_types", "report_ids"]})
        return [asked] if obj is None else [asked, (_("How it goes"), {"fields": self.readonly_fields})]

    def get_urls(self) -> list[Any]:
        """Django's, and the addresses of the buttons."""
        orders = {"rotate": self.rotate_view, "test": self.test_view}
        own = [
            path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), name=f"reportqueue_webhooksubscription_{name}")
            for name, view in orders.items()
        ]
        return [*own, *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """With the buttons for who may change it."""
        one = kwargs.get("obj")
        if one is not None and self.has_change_permission(request, one):
            context["buttons"] = [
                (gettext("Send a test event"), self.address("test", one.pk)),
                (gettext("Rotate the secret"), self.address("rotate", one.pk)),
            ]
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: WebhookSubscription, form: Any, change: bool) -> None:
        """Save what was edited, and show a new one's secret once."""
        if change:
            obj.save(update_fields=form.changed_data or ["description"])
            return
        super().save_model(request, obj, form, change)
        show_once(request, obj, outbox.secret(obj))

    def rotate_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """POST: a new secret, shown once."""

        def rotate() -> None:
            secret = outbox.rotate(pk)
            one = WebhookSubscription.objects.get(pk=pk)
            self.log_change(request, one, "Secret rotated in the admin")
            show_once(request, one, secret)

        return self._ordered(request, pk, rotate)

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """POST: a test event."""

        def test() -> None:
            made = outbox.send_test(pk)
            page = reverse("admin:reportqueue_eventdelivery_change", args=[made.pk], current_app=self.admin_site.name)
            text = gettext("A test event is on its way. {page} says what comes of it.")
            link = format_html('<a href="{}">{}</a>', page, gettext("Its page"))
            messages.success(request, format_html(text, page=link))

        return self._ordered(request, pk, test)

    def _ordered(self, request: HttpRequest, pk: int, order: Callable[[], None]) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_change_permission(request):
            raise PermissionDenied
        try:
            with self.bounded():
                order()
        except SubscriptionNotFound:
            raise Http404 from None
        except DeliveryRefused as error:
            messages.error(request, str(error))
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        return HttpResponseRedirect(self.address("change", pk))

    @admin.display(description=_("subscription"))
    def named(self, one: WebhookSubscription) -> str:
        """The description, and below it the address."""
        return formats.two_lines(one.description, one.url) if one.description else one.url

    @admin.display(description=_("events"))
    def events(self, one: WebhookSubscription) -> str:
        """Their types."""
        return format_html_join("", '<span class="rq-line">{}</span>', ((kind,) for kind in one.event_types))

    @admin.display(description=_("reports"))
    def reports(self, one: WebhookSubscription) -> str:
        """Their numbers."""
        return ", ".join(map(str, one.report_ids)) or gettext("all")

    @admin.display(description=_("state"))
    def state(self, one: WebhookSubscription) -> str:
        """Whether it gets what is sent to it."""
        if not one.enabled:
            return formats.two_lines(gettext("not enabled"), one.disabled_reason)
        if one.failing_since is None:
            return gettext("all is delivered")
        return gettext("fails since %(since)s") % {"since": formats.instant_text(one.failing_since)}

    @admin.display(description=_("earlier secret used until"))
    def rotation(self, one: WebhookSubscription) -> str:
        """The end of the time in which both secrets sign."""
        return formats.instant(one.previous_until)

    @admin.display(description=_("deliveries"))
    def deliveries(self, one: WebhookSubscription) -> str:
        """A link to their list."""
        page = reverse("admin:reportqueue_eventdelivery_changelist", current_app=self.admin_site.name)
        return format_html('<a href="{}?subscription={}">{}</a>', page, one.pk, gettext("All deliveries to it"))
