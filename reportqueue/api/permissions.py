"""Who may do what: Django's model permissions, within the scopes of the caller's token."""

from __future__ import annotations

from collections.abc import Iterable

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from reportqueue.models import ApiToken


class Scopes(BasePermission):
    """Each view names, per method, the permission that it needs, or all of several:
    `scopes = {"POST": "consume_reportqueue"}`."""

    message = ""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether the caller is authenticated and has the permissions. A method without scopes is refused."""
        user = request.user
        if user is None or not user.is_authenticated:
            return False
        scopes: dict[str, str | tuple[str, ...]] = getattr(view, "scopes", {})
        method = {"HEAD": "GET"}.get(str(request.method), str(request.method))
        if method not in scopes:
            # For a method that the view does not have: let it through, and DRF answers 405.
            return method not in {name.upper() for name in view.http_method_names if hasattr(view, name)}
        needed = scopes[method]
        self.message = _refusal(request, (needed,) if isinstance(needed, str) else needed)
        return not self.message


def may(request: Request, codename: str) -> bool:
    """Whether the caller's user has the permission, and the caller's token may use it."""
    return _has(request, codename) and _may_use(request, codename)


def _refusal(request: Request, needed: Iterable[str]) -> str:
    """Which permissions are missing, and of whom; empty if none is."""
    lacking = [codename for codename in needed if not _has(request, codename)]
    unused = [codename for codename in needed if codename not in lacking and not _may_use(request, codename)]
    parts = []
    if lacking:
        parts.append(f"This call needs {_named(lacking)}, which this user does not have.")
    if unused:
        parts.append(f"This call needs {_named(unused)}, which is not among the scopes of this token.")
    return " ".join(parts)


def _named(codenames: list[str]) -> str:
    return "the permission " + " and ".join(f"reportqueue.{codename}" for codename in codenames)


def _has(request: Request, codename: str) -> bool:
    return bool(request.user.has_perm(f"reportqueue.{codename}"))


def _may_use(request: Request, codename: str) -> bool:
    return not isinstance(request.auth, ApiToken) or request.auth.allows(codename)
