"""A project's own router, which does for the queue what `reportqueue.routers` does, without a setting."""

from __future__ import annotations

from typing import Any


def place_of(app_label: str, model_name: str | None) -> str:
    return "reports" if app_label == "reportqueue" and model_name != "apitoken" else "default"


class Router:
    """The queue in `reports`, everything else in `default`."""

    def db_for_read(self, model: type[Any], **hints: Any) -> str:
        return place_of(model._meta.app_label, model._meta.model_name)

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
        return db == place_of(app_label, model_name)
