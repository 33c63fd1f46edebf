"""Live pages: lists and rows that the script `live.js` refreshes, and the two addresses that it asks."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path, reverse
from django.views.decorators.http import require_GET, require_safe

from reportqueue.admin.changelists import ListAdmin
from reportqueue.models import ReportQueue, ReportSchedule
from reportqueue.wakeup import pages
from reportqueue.wakeup.budget import budget, spend_request

REFRESH = "reportqueue-live"
"""What the script says that it is, in the header `X-Requested-With`."""
BUSY_SECONDS = 60
"""After so long, a page that got no stream may ask for one again."""


def addresses(request: HttpRequest, site: str | None) -> dict[str, str]:
    """What the template `live.html` needs, in the admin site of this name. A refresh is counted from here on."""
    if request.headers.get("X-Requested-With") == REFRESH:
        spend_request()
    names = ("events", "changed")
    asked = {name: reverse(f"admin:reportqueue_reportqueue_{name}", current_app=site) for name in names}
    return {**asked, "marker": pages.marker()}


class LiveAdmin(ListAdmin):
    """The base of live pages. They say so with `live` in the context of their templates."""

    class Media:
        """Refreshes the elements with `data-live`."""

        js = ["reportqueue/live.js"]

    def live(self, request: HttpRequest) -> dict[str, Any]:
        """The context of a live page. Call it before the page is read from the database, or it may miss a change."""
        return {"live": addresses(request, self.admin_site.name)} if request.method == "GET" else {}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list is live."""
        return super().changelist_view(request, {**self.live(request), **(extra_context or {})})


class NotifyingAdmin(LiveAdmin):
    """The two addresses, for all live pages. They say that something has changed, and nothing of what it is."""

    def get_urls(self) -> list[Any]:
        """Django's, and these two."""
        views = {"events": require_GET(self.events_view), "changed": require_safe(self.changed_view)}
        own = [
            path(f"{name}/", self.admin_site.admin_view(view), name=f"reportqueue_reportqueue_{name}")
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def events_view(self, request: HttpRequest) -> HttpResponseBase:
        """A stream of server-sent events: `changed`. 503 if there is no thread for it; the page then polls."""
        self._check_sight(request)
        # A stream holds a thread. A server with one thread, or with an event loop, has none for it.
        if not request.META.get("wsgi.multithread"):
            return _no_stream()
        try:
            stream = pages.Stream()
        except pages.NoRoom:
            return _no_stream()
        # The proxy in front must not collect events, and Django's GZipMiddleware must not either.
        headers = {"X-Accel-Buffering": "no", "Content-Encoding": "identity"}
        return StreamingHttpResponse(stream, content_type="text/event-stream", headers=headers)

    def changed_view(self, request: HttpRequest) -> HttpResponse:
        """Whether something has changed since the marker `since` of a page, and how many seconds it has to `wait`.

        A page that is `behind` knows that something has.
        """
        spend_request()
        self._check_sight(request)
        changed = "behind" in request.GET or request.GET.get("since") != pages.marker()
        return JsonResponse({"changed": changed, "wait": round(budget.wait(), 1)})

    def _check_sight(self, request: HttpRequest) -> None:
        """Raise `PermissionDenied` for a person who sees neither the queue nor the schedules."""
        site = self.admin_site
        shown = [site.get_model_admin(model) for model in (ReportQueue, ReportSchedule) if site.is_registered(model)]
        if not any(page.has_view_or_change_permission(request) for page in shown):
            raise PermissionDenied


def _no_stream() -> HttpResponse:
    text = "No further page can be notified by this process. The page polls."
    return HttpResponse(text, status=503, headers={"Retry-After": str(BUSY_SECONDS)}, content_type="text/plain")
