"""System checks: find mistakes of an installation before its first request, each with its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from reportqueue.conf import conf


@checks.register
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """E001: the `REPORTQUEUE` dict makes sense. E003: the apps that the API needs are installed."""
    problems: list[checks.CheckMessage] = []
    try:
        conf()
    except ImproperlyConfigured as error:
        problems.append(checks.Error(str(error), hint="See docs/settings.md.", id="reportqueue.E001"))
    return problems + [
        checks.Error(
            f"reportqueue's API needs {name}.",
            hint=f'Add "{name}" to INSTALLED_APPS and run migrate.',
            id="reportqueue.E003",
        )
        for name in ("rest_framework", "rest_framework.authtoken")
        if not apps.is_installed(name)
    ]


@checks.register
def check_database(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """E002: the queue needs PostgreSQL, for SKIP LOCKED, advisory locks and partial indexes."""
    from reportqueue.models import ReportQueue

    alias = router.db_for_write(ReportQueue)
    vendor = connections[alias].vendor
    if vendor == "postgresql":
        return []
    return [
        checks.Error(
            f"reportqueue needs PostgreSQL; the database {alias!r} is {vendor}.",
            hint='Set "ENGINE": "django.db.backends.postgresql", or route reportqueue to such a database.',
            id="reportqueue.E002",
        )
    ]
