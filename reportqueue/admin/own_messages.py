"""The messages of a live page's own requests: a refresh must not take those that a person's next page is to show."""

from __future__ import annotations

from typing import Any

from django.contrib.messages.storage.base import BaseStorage, Message
from django.http import HttpRequest

REFRESH = "reportqueue-live"
"""The value of `X-Requested-With` in the script's requests."""


class OwnMessages(BaseStorage):
    """The messages of one request alone."""

    def _get(self, *args: Any, **kwargs: Any) -> tuple[list[Message], bool]:
        return [], True

    def _store(self, messages: Any, response: Any, *args: Any, **kwargs: Any) -> list[Message]:
        return []


def keep_messages(request: HttpRequest) -> None:
    """Call it before a view adds messages: in a request of the script, those of other pages are left for them."""
    if request.headers.get("X-Requested-With") == REFRESH:
        request._messages = OwnMessages(request)  # type: ignore[attr-defined]
