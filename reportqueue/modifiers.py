"""Modifiers as rows of the project's own model, such as its customers, if `MODIFIER_MODEL` names one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db.models import IntegerField, Model

from reportqueue import catalogue
from reportqueue.conf import conf

MAX_NAME = 200
"""Characters of a name that are shown."""


def model() -> type[Model] | None:
    """The model that the setting names; None without the setting.

    Raises `ImproperlyConfigured` if there is no such model, or if its key is no whole number.
    """
    if not (path := conf().modifier_model):
        return None
    try:
        found = apps.get_model(path)
    except LookupError as error:
        raise ImproperlyConfigured(
            f"REPORTQUEUE['MODIFIER_MODEL'] names {path!r}, which does not exist: {error} Write it as app_label.Model."
        ) from None
    key: Any = found._meta.pk
    if not isinstance(getattr(key, "target_field", key), IntegerField):
        raise ImproperlyConfigured(
            f"REPORTQUEUE['MODIFIER_MODEL'] names {path!r}, whose primary key {key.name!r} is no whole number. "
            "modifier_id is one: name a model with such a key, or leave the setting out."
        )
    return found


def names(modifier_ids: Collection[int]) -> dict[int, str]:
    """`str()` of those of the modifiers that the model has; hidden ones, too, as Django does for foreign keys."""
    found = model()
    if found is None:
        return {}
    known = found._base_manager.in_bulk(set(modifier_ids))
    return {pk: str(one)[:MAX_NAME] for pk, one in known.items()}


def label(row: Any) -> str:
    """The modifier of a row for people: with its name, if `name_rows` has looked it up."""
    return catalogue.label(row.modifier_id, getattr(row, "modifier_name", ""))


def name_rows(rows: Iterable[Any]) -> None:
    """Give each row, or another object with a `modifier_id`, the name of its modifier, as `modifier_name`."""
    named = list(rows)
    known = names({row.modifier_id for row in named if row.modifier_id is not None})
    for row in named:
        row.modifier_name = known.get(row.modifier_id, "")
