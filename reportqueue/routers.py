"""The database router that puts the queue into the database of the setting `DATABASE`."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db import DEFAULT_DB_ALIAS, router

from reportqueue.conf import chosen_database
from reportqueue.database import APP

TOKENS = "apitoken"
"""The model that has a foreign key to the users. Its table is in their database."""


class ReportQueueRouter:
    """All tables of the app are in the database `DATABASE`, but for the API tokens: they are beside the users.

    If that database is not `default`, other apps' tables are not made there, unless a router before this one allows it.
    """

    def db_for_read(self, model: type[Any], **hints: Any) -> str | None:
        """The database of a model of the app; None for other apps."""
        if model._meta.app_label != APP:
            return None
        return _place_of(model._meta.model_name)

    db_for_write = db_for_read

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool | None:
        """Allow relations within the queue's database, and of tokens to users; None for all others."""
        labels = {one._meta.label_lower, other._meta.label_lower}
        ours = {label for label in labels if label.startswith(f"{APP}.")}
        if f"{APP}.{TOKENS}" in ours:
            return True if labels - ours == {get_user_model()._meta.label_lower} else None
        return True if ours == labels else None

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        """Make each table in its own database alone; SQL and code of the migrations are for the queue's."""
        if app_label == APP:
            return db == _place_of(model_name)
        return False if db == chosen_database() and db not in (DEFAULT_DB_ALIAS, _users_database()) else None


def _place_of(model_name: str | None) -> str:
    return _users_database() if model_name == TOKENS else chosen_database()


def _users_database() -> str:
    """The other routers say where the users are, or else it is `default`."""
    return router.db_for_write(get_user_model())
