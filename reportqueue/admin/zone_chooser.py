"""The page on which a person chooses the time zone of all pages. It works without script."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext

import reportcron
from reportqueue.admin import viewer_zone
from reportqueue.admin.changelists import ListAdmin

LONGEST = 64
"""Characters of a zone's name that the page repeats."""
LONGEST_ADDRESS = 2_000
"""Characters of the address of the page from which a person came."""


class ZoneChoosingAdmin(ListAdmin):
    """The page, for the queue's list: everybody who may see anything of this app may choose."""

    def get_urls(self) -> list[Any]:
        """Django's, and the address of this page."""
        view = self.admin_site.admin_view(self.zone_view)
        return [path("zone/", view, name="reportqueue_reportqueue_zone"), *super().get_urls()]

    def zone_view(self, request: HttpRequest) -> HttpResponse:
        """GET: the form. POST: remember the zone, or forget it if it is empty, and go back to the page in `next`."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        if not request.user.has_module_perms(self.opts.app_label):
            raise PermissionDenied
        back = self._back(request)
        asked, problem = viewer_zone.of(request), ""
        if request.method == "POST":
            asked = request.POST.get("zone", "").strip()
            zone = viewer_zone.known(asked)
            if zone or not asked:
                return self._remembered(request, zone, back)
            text = gettext("“%(zone)s” is not a time zone. Enter a name such as Europe/Paris. Nothing was changed.")
            problem = text % {"zone": asked[:LONGEST]}
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Time zone of the pages"),
            "opts": self.opts,
            "media": self.media,
            "has_view_permission": True,
            "back": back,
            "zone": asked[:LONGEST],
            "problem": problem,
            "zones": sorted(reportcron.zone_names()),
            "chosen": viewer_zone.COOKIE in request.COOKIES,
        }
        request.current_app = self.admin_site.name  # as Django's own admin views do
        status = 400 if problem else 200
        return TemplateResponse(request, "admin/reportqueue/zone.html", context, status=status)

    def _remembered(self, request: HttpRequest, zone: str, back: str) -> HttpResponse:
        response = HttpResponseRedirect(back)
        viewer_zone.remember(request, response, zone)
        if zone:
            text = gettext("Times are shown in %(zone)s from now on.") % {"zone": zone}
        else:
            text = gettext("Times are shown in the time zone of the project from now on.")
        self.message_user(request, text, messages.SUCCESS)
        return response

    def _back(self, request: HttpRequest) -> str:
        """The page from which the person came; the overview if the address is too long, or not one of this host."""
        given = (request.POST if request.method == "POST" else request.GET).get("next", "")
        hosts, secure = {request.get_host()}, request.is_secure()
        if len(given) <= LONGEST_ADDRESS and url_has_allowed_host_and_scheme(given, hosts, require_https=secure):
            return given
        return reverse("admin:app_list", args=[self.opts.app_label], current_app=self.admin_site.name)


def address(request: HttpRequest) -> str:
    """The page's address, for a link on the page of this request, to which it leads back."""
    page = reverse("admin:reportqueue_reportqueue_zone", current_app=getattr(request, "current_app", None))
    return f"{page}?{urlencode({'next': request.get_full_path()})}"
