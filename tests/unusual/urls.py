"""The API under a long prefix."""

from __future__ import annotations

from typing import Any, NoReturn

from django.contrib import admin
from django.urls import include, path

PREFIX = "back-office/reports/v7"


def no_answer(error: Exception, context: dict[str, Any]) -> NoReturn:
    """An exception handler of the project's own views."""
    raise AssertionError("the project's exception handler was asked")


urlpatterns = [
    path("staff/", admin.site.urls),
    path(f"{PREFIX}/", include("reportqueue.api.urls")),
    path("health/", include("reportqueue.health")),
]
