"""Who calls: the app's own tokens, as an authentication class of Django REST framework."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from reportqueue import credentials, tokens
from reportqueue.errors import TokenRefused
from reportqueue.models import ApiToken

_SCHEMES = ("token", "bearer")


class ApiTokenAuthentication(BaseAuthentication):
    """`Authorization: Token rq_...`, or `Bearer rq_...`. It leaves tokens of other kinds to the next class."""

    def authenticate(self, request: Request) -> tuple[Any, ApiToken] | None:
        """The token's user, and the token. Raises `AuthenticationFailed`, which says why."""
        scheme, _, key = get_authorization_header(request).decode("latin-1").strip().partition(" ")
        key = key.strip()
        if scheme.lower() not in _SCHEMES or not key.startswith(credentials.PREFIX):
            return None
        try:
            token = tokens.authenticate(key)
        except TokenRefused as error:
            raise AuthenticationFailed(str(error)) from None
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """For `WWW-Authenticate`."""
        return "Token"
