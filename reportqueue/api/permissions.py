"""Who may do what: Django's model permissions are the API's scopes."""

from __future__ import annotations

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView


class Scopes(BasePermission):
    """Each view names, per method, the permission that it needs, or all of several:
    `scopes = {"POST": "consume_reportqueue"}`."""

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
        needed = (needed,) if isinstance(needed, str) else needed
        return all(user.has_perm(f"reportqueue.{scope}") for scope in needed)
