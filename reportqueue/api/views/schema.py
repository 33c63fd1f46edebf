"""The endpoints of the API's own description: the document, and a page that shows it."""

from __future__ import annotations

from django.apps import apps
from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from reportqueue.api.base import ApiView
from reportqueue.api.openapi import document

SIDECAR = "drf_spectacular_sidecar"
"""The app that brings Swagger UI as static files: no other host is asked for a script or a style."""


class SchemaView(ApiView):
    """`schema/`: the API in OpenAPI 3.1. It needs credentials, as every call, and no permission."""

    scopes = {"GET": ()}

    def get(self, request: Request) -> Response:
        """The document, with this installation's address."""
        return Response(document.served(request.path.removesuffix("schema/").rstrip("/") or "/"))


class SchemaPage(ApiView):
    """`schema/ui/`: the document for people, and a way to try the calls."""

    scopes = {"GET": ()}

    def get(self, request: Request) -> HttpResponse:
        """The page. It holds no script and no style of its own, for projects with a content security policy."""
        if not apps.is_installed(SIDECAR):
            raise NotFound(
                f"This page needs Swagger UI: pip install 'reportqueue[openapi]', and add {SIDECAR!r} to "
                "INSTALLED_APPS. The document itself is at ../"
            )
        header = settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-")
        return render(request._request, "reportqueue/schema.html", {"csrf_header": header})
