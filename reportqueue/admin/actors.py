"""In whose name a page of the admin acts."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest

from reportqueue import audit
from reportqueue.models.audit import Via


def with_actor(view: Callable[..., Any]) -> Callable[..., Any]:
    """The view, acting in the name of the person who is logged in."""

    @wraps(view)
    def acting(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with audit.acting(str(request.user.get_username()), Via.PAGE):
            return view(request, *args, **kwargs)

    return acting
