"""The files of erased rows: the project deletes those that it stores itself. The app knows only their addresses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from reportqueue.conf import conf


@dataclass(frozen=True)
class RowFiles:
    """A row whose files are to be deleted."""

    queue_id: int
    report_id: int
    modifier_id: int
    run_ids: tuple[str, ...]
    """Of all its attempts: an attempt that failed may have left files, too."""
    artifacts: Mapping[str, str]
    """Names and addresses, of the row's result."""


Delete = Callable[[RowFiles], Collection[str]]
"""Deletes the files of a row, and returns the addresses of its artifacts that are gone. It may be called again."""


def deleter() -> Delete | None:
    """The function that the setting `DELETE_ARTIFACTS` names; None without it. Raises `ImproperlyConfigured`."""
    if not (path := conf().delete_artifacts):
        return None
    try:
        found = import_string(path)
    except Exception as error:  # a module may raise anything
        raise _wrong(path, str(error)) from None
    if not callable(found):
        raise _wrong(path, "it is no function")
    return found  # type: ignore[no-any-return]


def artifacts_of(found: Any) -> dict[str, str]:
    """The artifacts of a result, `{"artifacts": {name: address}}`; without those that are no texts."""
    if not isinstance(found, Mapping):
        return {}
    return {str(name): address for name, address in found.items() if isinstance(address, str)}


def _wrong(path: str, why: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(
        f"REPORTQUEUE['DELETE_ARTIFACTS'] names {path!r}, which is no function: {why}. It takes a RowFiles of "
        "reportqueue.erasure, and returns the addresses that it has deleted."
    )
